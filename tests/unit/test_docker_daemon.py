"""The docker_daemon_* modules: what is refused, what is written, and how the daemon is made to take it over."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

common = importlib.import_module("ansible.module_utils.docker_daemon_common")
daemon_module = importlib.import_module("ansible.modules.docker_daemon")
engine = importlib.import_module("ansible.module_utils.docker_daemon_engine")

SETTINGS: dict[str, Any] = {
    "log_max_size": "10m",
    "log_max_file": 3,
    "address_pools": [{"base": "172.24.0.0/14", "size": 24}],
    "bridge_address": "172.17.0.1/16",
    "live_restore": True,
    "registry_mirrors": [],
    "default_ulimits": {},
    "options": {},
}
DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DEBIAN, ("debian", "13", "Debian GNU/Linux 13 (trixie)")),
        ("ID=ubuntu\nVERSION_ID='24.04'\n# a comment=1\n", ("ubuntu", "24.04", "ubuntu")),
        ("", ("unknown", "", "an unknown system")),
    ],
)
def test_os_release(text: str, expected: tuple[str, str, str]) -> None:
    system = common.parse_os_release(text)
    assert (system.id, system.version, system.name) == expected


def test_packages_of_supported_systems() -> None:
    debian = common.packages_for(common.System("debian", "13", "Debian 13"))
    ubuntu = common.packages_for(common.System("ubuntu", "24.04", "Ubuntu 24.04"))
    assert {"docker.io", "docker-cli", "docker-compose"} <= set(debian)
    assert {"docker.io", "docker-compose-v2"} <= set(ubuntu)
    assert "docker-cli" not in ubuntu


@pytest.mark.parametrize(("identity", "version"), [("debian", "11"), ("ubuntu", "20.04"), ("fedora", "42")])
def test_unsupported_system_is_refused_by_name(identity: str, version: str) -> None:
    with pytest.raises(common.DockerDaemonError, match=r"Some OS is not supported .*Debian 13, Ubuntu 24.04"):
        common.packages_for(common.System(identity, version, "Some OS"))


@pytest.mark.parametrize(("identity", "version"), [("debian", "12"), ("ubuntu", "22.04")])
def test_system_without_compose_2_is_refused_with_the_way_out(identity: str, version: str) -> None:
    with pytest.raises(common.DockerDaemonError, match=r"Some OS has no Compose 2 .*docker_source: vendor"):
        common.packages_for(common.System(identity, version, "Some OS"))


@pytest.mark.parametrize(
    ("version", "minimum", "older"),
    [
        ("26.1.5+dfsg1-9+b11", "25.0", False),
        ("24.0.7-0ubuntu4.1", "25.0", True),
        ("2.26.1-4", "2.26.0", False),
        ("2.24.6+ds1-0ubuntu2", "2.26.0", True),
        ("1:2.26-1", "2.26.0", False),
        ("v2.40.3", "2.26.0", False),
        ("25", "25.0.0", False),
    ],
)
def test_is_older(version: str, minimum: str, older: bool) -> None:
    assert common.is_older(version, minimum) is older


def test_version_without_a_number() -> None:
    with pytest.raises(ValueError, match="does not begin with a version number"):
        common.version_tuple("unknown")


def test_apt_policy() -> None:
    text = (
        "docker.io:\n  Installed: (none)\n  Candidate: 26.1.5+dfsg1-9+b11\n  Version table:\n"
        "     26.1.5+dfsg1-9+b11 500\n        500 http://mirror/debian trixie/main amd64 Packages\n"
        "docker-cli:\n  Installed: 26.1.5+dfsg1-9\n  Candidate: 26.1.5+dfsg1-9\n"
        "docker-ce:\n  Installed: (none)\n  Candidate: (none)\n"
    )
    assert common.parse_apt_policy(text) == {
        "docker.io": ("", "26.1.5+dfsg1-9+b11"),
        "docker-cli": ("26.1.5+dfsg1-9", "26.1.5+dfsg1-9"),
        "docker-ce": ("", ""),
    }


def test_config_from_settings() -> None:
    config = common.build_config(**{**SETTINGS, "default_ulimits": {"nofile": {"soft": 1, "hard": 2}}})
    assert config == {
        "log-driver": "json-file",
        "log-opts": {"max-size": "10m", "max-file": "3"},
        "live-restore": True,
        "registry-mirrors": [],
        "default-address-pools": [{"base": "172.24.0.0/14", "size": 24}],
        "bip": "172.17.0.1/16",
        "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}},
    }


def test_options_win_and_null_removes() -> None:
    config = common.build_config(**{**SETTINGS, "options": {"live-restore": False, "bip": None, "mtu": 1400}})
    assert config["live-restore"] is False
    assert "bip" not in config
    assert config["mtu"] == 1400


def test_ulimit_without_hard_is_refused() -> None:
    with pytest.raises(common.DockerDaemonError, match="nofile needs both soft and hard"):
        common.build_config(**{**SETTINGS, "default_ulimits": {"nofile": {"soft": 1}}})


PROXY = "http://me:fake%40password@proxy.test:3128"


def test_proxies() -> None:
    config = common.build_config(
        **SETTINGS, http_proxy=PROXY, https_proxy="socks5://proxy.test:1080", no_proxy=["registry.test", "10.0.0.0/8"]
    )
    assert config["proxies"] == {
        "http-proxy": PROXY,
        "https-proxy": "socks5://proxy.test:1080",
        "no-proxy": "registry.test,10.0.0.0/8",
    }
    assert "proxies" not in common.build_config(**SETTINGS)


@pytest.mark.parametrize(
    "url",
    [
        "proxy.test:3128",
        "ftp://proxy.test",
        "http://",
        "http://proxy.test:port",
        "http://proxy.test/path",
        "http://me:sec/ret@proxy.test",
        "http://me:sec#ret@proxy.test",
        "http://me:sec@ret@proxy.test",
        "http://me:sec%ret@proxy.test",
        "http://me:sec ret@proxy.test",
        'http://me:sec"ret@proxy.test',
        "http://me:sec'ret@proxy.test",
        "http://me:sec\\ret@proxy.test",
        "http://me:secret@proxy.test\n",
        "http://[::1",
    ],
)
def test_what_is_no_proxy_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(common.DockerDaemonError, match="docker_https_proxy is no proxy's address") as refused:
        common.build_config(**SETTINGS, https_proxy=url)
    assert "sec" not in str(refused.value)
    assert "ret" not in str(refused.value)


@pytest.mark.parametrize("hosts", [["a.test,b.test"], [""], ["a b"]])
def test_hosts_without_a_proxy_stand_one_by_one(hosts: list[str]) -> None:
    with pytest.raises(common.DockerDaemonError, match="docker_no_proxy"):
        common.build_config(**SETTINGS, no_proxy=hosts)


def test_proxies_among_the_options_are_refused() -> None:
    with pytest.raises(common.DockerDaemonError, match="Use docker_http_proxy"):
        common.build_config(**{**SETTINGS, "options": {"proxies": {"http-proxy": PROXY}}})


@pytest.mark.parametrize(
    ("old", "new", "keys", "action"),
    [
        (None, {"debug": True}, {"debug"}, "reload"),
        ('{"debug": true}', {"debug": True}, set(), "none"),
        ('{"debug": true}', {"debug": False}, {"debug"}, "reload"),
        ('{"debug": true, "bip": "a"}', {"debug": True, "bip": "b"}, {"bip"}, "restart"),
        # a reload leaves what is no longer in the file as it was
        ('{"registry-mirrors": ["a"]}', {}, {"registry-mirrors"}, "restart"),
        ("not json", {"debug": True}, {"debug"}, "reload"),
        ("[]", {"bip": "a"}, {"bip"}, "restart"),
    ],
)
def test_least_disturbance(old: str | None, new: dict[str, Any], keys: set[str], action: str) -> None:
    assert common.changed_keys(old, new) == keys
    assert common.action_for(keys, new) == action


@given(st.dictionaries(st.text(max_size=8), st.one_of(st.booleans(), st.integers(), st.text()), max_size=5))
def test_rendered_config_is_read_back(config: dict[str, Any]) -> None:
    text = common.render_config(config)
    assert json.loads(text) == config
    assert common.changed_keys(text, config) == set()


ROUTES = (
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    "eth0\t00000000\t0100D50A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    "eth0\t0000D50A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    "docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
)


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("10.213.0.1/24", ["10.213.0.0/24 on eth0"]),
        ("10.0.0.1/8", ["10.213.0.0/24 on eth0"]),
        ("172.17.0.1/16", []),
        ("192.168.0.1/24", []),
    ],
)
def test_overlapping_routes(address: str, found: list[str]) -> None:
    assert common.overlapping_routes(ROUTES, address) == found


def test_diff_shows_no_password_of_a_url() -> None:
    assert engine.mask('"http-proxy": "http://me:pw@proxy:1"') == '"http-proxy": "http://***@proxy:1"'
    assert engine.mask(json.dumps('http://me:p"w\\@proxy:1')) == '"http://***@proxy:1"'
    assert engine.mask('"http://me:p/w@x@proxy:1", "http://a"') == '"http://***@proxy:1", "http://a"'


def test_a_token_of_a_log_driver_is_in_no_diff_and_known_as_a_secret() -> None:
    options = {"log-driver": "splunk", "log-opts": {"splunk-token": 'a"token', "tag": "x"}, "dns": ["192.0.2.1"]}
    shown = engine.mask(json.dumps(options))
    assert json.loads(shown) == {**options, "log-opts": {"splunk-token": "***", "tag": "x"}}
    assert engine.secret_texts(options) == {'a"token'}
    assert engine.secret_texts({"passwords": ["one", {"x": "two"}], "log-level": "info", "debug": True}) == {
        "one",
        "two",
    }


def test_changed_proxy_password_is_a_change_and_stays_hidden() -> None:
    old, new = (common.build_config(**SETTINGS, https_proxy=f"http://me:{word}@proxy.test") for word in ("one", "two"))
    assert common.changed_keys(common.render_config(old), new) == {"proxies"}
    assert common.action_for({"proxies"}, new) == "restart"
    shown = daemon_module.make_diff(common.render_config(old), common.render_config(new), {})
    assert len(shown) == 1
    assert "http://***@proxy.test" in shown[0]["after"]
    assert not {"one", "two"} & set(str(shown).replace("@", ":").split(":"))


PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"


@pytest.fixture
def certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(daemon_module, "CERTIFICATES", str(tmp_path))
    return tmp_path


def test_certificates_come_and_go(certificates: Path) -> None:
    by_hand = certificates / "other" / "ca.crt"
    by_hand.parent.mkdir()
    by_hand.write_text("by hand")
    plan = daemon_module.plan_certificates({"registry:5000": f"text before\n{PEM}\n"})
    daemon_module.apply_certificates(plan)
    written = certificates / "registry:5000" / "ca.crt"
    assert written.read_text() == common.CA_MARK + PEM + "\n"
    assert daemon_module.plan_certificates({"registry:5000": PEM}) == {}
    daemon_module.apply_certificates(daemon_module.plan_certificates({}))
    assert not written.parent.exists()
    assert by_hand.read_text() == "by hand"


@pytest.mark.parametrize(("registry", "pem"), [("https://a", PEM), ("../x", PEM), ("a.test", "none"), ("a.test", "")])
def test_bad_certificates_are_refused(certificates: Path, registry: str, pem: str) -> None:
    with pytest.raises(common.DockerDaemonError):
        daemon_module.plan_certificates({registry: pem})
    assert list(certificates.iterdir()) == []
