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
packages_module = importlib.import_module("ansible.modules.docker_daemon_packages")

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


@pytest.mark.parametrize(("identity", "version"), [("debian", "12"), ("ubuntu", "22.04"), ("fedora", "42")])
def test_unsupported_system_is_refused_by_name(identity: str, version: str) -> None:
    with pytest.raises(common.DockerDaemonError, match=r"Some OS is not supported .*Debian 13, Ubuntu 24.04"):
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


class FakeApt:
    """An apt whose packages are given; remembers what it was told to do."""

    def __init__(self, installed: dict[str, str], offered: dict[str, str]) -> None:
        self.present, self.offered, self.calls = installed, offered, list[str]()
        self.complaints = "W: no way to the mirror"

    def installed(self, packages: tuple[str, ...]) -> dict[str, str]:
        return {name: version for name, version in self.present.items() if name in packages}

    def refresh(self, *, imagined: bool) -> None:
        self.calls.append(f"refresh imagined={imagined}")

    def candidates(self, packages: list[str]) -> dict[str, str]:
        return {name: version for name, version in self.offered.items() if name in packages}

    def run(self, _program: str, *arguments: str) -> str:
        self.calls.append(" ".join(argument for argument in arguments if not argument.startswith("-q")))
        if "--simulate" not in arguments:
            self.present |= self.candidates([argument for argument in arguments if not argument.startswith("-")])
        return ""


class FakeModule:
    """As much of AnsibleModule as `run` uses."""

    def __init__(self, *, check: bool = False) -> None:
        self.params = {"engine_min_version": "25.0", "compose_min_version": "2.26.0"}
        self.check_mode = check


OFFERED = {
    **dict.fromkeys(common.SUPPORTED["debian", "13"], "1"),
    "docker.io": "26.1.5+dfsg1-9+b11",
    "docker-compose": "2.26.1-4",
}


@pytest.fixture
def debian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages_module, "parse_os_release", lambda _text: common.parse_os_release(DEBIAN))


@pytest.mark.usefixtures("debian")
def test_packages_are_installed_once() -> None:
    apt = FakeApt({}, OFFERED)
    first = packages_module.run(FakeModule(), apt)
    assert first["changed"]
    assert set(first["installed"]) == set(OFFERED)
    assert apt.calls[0] == "refresh imagined=False"
    again = FakeApt(apt.present, {})
    assert packages_module.run(FakeModule(), again)["changed"] is False
    assert again.calls == []


@pytest.mark.usefixtures("debian")
def test_check_mode_only_imagines() -> None:
    apt = FakeApt({}, OFFERED)
    result = packages_module.run(FakeModule(check=True), apt)
    assert result["changed"]
    assert apt.calls[0] == "refresh imagined=True"
    assert all("--simulate" in call for call in apt.calls[1:])
    assert apt.present == {}


@pytest.mark.usefixtures("debian")
@pytest.mark.parametrize(
    ("installed", "offered", "message"),
    [
        ({}, {**OFFERED, "docker.io": "24.0.7-1"}, "docker.io 24.0.7-1 .* is older than 25.0"),
        ({}, {**OFFERED, "docker-compose": "1.29.2-3"}, "docker-compose 1.29.2-3 .* is older than 2.26.0"),
        ({**OFFERED, "docker.io": "20.10.24"}, {}, "docker.io 20.10.24 .* is older"),
        ({"docker-ce": "5:28.0"}, OFFERED, "has docker-ce, from another source"),
        ({}, {}, "offers no package docker.io.*no way to the mirror"),
    ],
)
def test_refusals_come_before_the_installation(
    installed: dict[str, str], offered: dict[str, str], message: str
) -> None:
    apt = FakeApt(installed, offered)
    with pytest.raises(common.DockerDaemonError, match=message):
        packages_module.run(FakeModule(), apt)
    assert not any("install" in call for call in apt.calls)
