"""Docker's packages from both sources: what is refused, what is trusted, which versions come, and that they stay."""

from __future__ import annotations

import base64
import hashlib
import importlib
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

common = importlib.import_module("ansible.module_utils.docker_daemon_common")
vendor = importlib.import_module("ansible.module_utils.docker_daemon_vendor")
apt_module = importlib.import_module("ansible.module_utils.docker_daemon_apt")
packages_module = importlib.import_module("ansible.modules.docker_daemon_packages")

DEBIAN = common.System("debian", "13", "Debian GNU/Linux 13 (trixie)")
URL = "https://mirror.test/docker"
REPOSITORY = f"{URL}/debian"


# -- a key, made as RFC 9580 says


def packet(kind: int, body: bytes, *, old: bool = False) -> bytes:
    if old:
        return bytes([0x80 | kind << 2 | 1]) + len(body).to_bytes(2, "big") + body
    size = len(body)
    if size < 192:
        return bytes([0xC0 | kind, size]) + body
    if size < 8384:
        return bytes([0xC0 | kind, ((size - 192) >> 8) + 192, (size - 192) & 0xFF]) + body
    return bytes([0xC0 | kind, 255]) + size.to_bytes(4, "big") + body


def armored(data: bytes, kind: str = "PUBLIC KEY BLOCK") -> str:
    """A block as programs write it who add a header and no checksum."""
    body = "\n".join(textwrap.wrap(base64.b64encode(data).decode(), 60))
    return f"some words\n-----BEGIN PGP {kind}-----\nComment: a fake\n\n{body}\n-----END PGP {kind}-----\n"


def public_key(number: int, *, version: int = 4) -> bytes:
    return bytes([version]) + b"\x5e\0\0\0\x01" + b"\x08\0" + number.to_bytes(256, "big") + b"\0\x11\1\0\1"


def fingerprint(body: bytes) -> str:
    return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()  # noqa: S324


BODY = public_key(1 << 2047 | 12345)
NAMES = packet(13, b"Fake (not a secret) <fake@lab.test>") + packet(2, b"\x04" + b"s" * 300)
KEY = packet(6, BODY, old=True) + NAMES + packet(14, public_key(1 << 2047 | 7)) + packet(2, b"\x04" + b"t" * 100)
PINNED = fingerprint(BODY)
WRITTEN = vendor.checked_key(armored(KEY), PINNED, "here")


def test_fingerprint_of_a_key() -> None:
    assert vendor.fingerprint_of(armored(KEY)) == PINNED
    assert vendor.fingerprint_of(armored(packet(6, BODY) + NAMES).replace("\n", "\r\n")) == PINNED


def test_the_key_for_apt_is_what_was_compared() -> None:
    assert "a fake" not in WRITTEN
    assert "some words" not in WRITTEN
    assert vendor.fingerprint_of(WRITTEN) == PINNED
    # a second look takes it as it is
    assert vendor.checked_key(WRITTEN, f"{PINNED[:20]} {PINNED[20:].lower()}", "there") == WRITTEN
    assert vendor.is_trusted(WRITTEN, PINNED)


@pytest.mark.parametrize(
    "text",
    [None, "", armored(KEY), WRITTEN + WRITTEN, WRITTEN + "\n", WRITTEN.replace("BF4", "BF5", 1)],
    ids=["missing", "empty", "other form", "twice", "one more line", "one changed"],
)
def test_a_key_file_that_is_not_exactly_ours_is_not_trusted(text: str | None) -> None:
    assert not vendor.is_trusted(text, PINNED)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (armored(packet(6, public_key(99))), "has the fingerprint"),
        (armored(KEY + packet(6, public_key(99)) + NAMES), "exactly one public key"),
        (armored(NAMES + KEY), "exactly one public key"),
        (armored(KEY + packet(11, b"x")), "exactly one public key"),
        (armored(packet(5, BODY)), "holds a secret key"),
        (armored(packet(6, BODY) + packet(7, BODY)), "holds a secret key"),
        (armored(packet(6, public_key(99, version=6))), "no key of version 4"),
        (armored(KEY) + armored(KEY), "not exactly one block"),
        (armored(KEY[:-1]), "cut off"),
        (armored(KEY + b"\x01"), "no packet"),
        (armored(b"\x9b" + KEY), "without a length"),
        (armored(b"\xc6\xe1" + KEY), "in pieces"),
        (armored(b"\xc6"), "damaged"),
        ("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n###\n-----END PGP PUBLIC KEY BLOCK-----", "damaged"),
        (armored(KEY, "PRIVATE KEY BLOCK"), "not exactly one block"),
        ("<html>404</html>", "not exactly one block"),
    ],
)
def test_another_key_is_refused(text: str, message: str) -> None:
    with pytest.raises(common.DockerDaemonError, match=message) as refused:
        vendor.checked_key(text, PINNED, "https://mirror.test/gpg")
    assert "https://mirror.test/gpg" in str(refused.value)


@given(st.binary(max_size=60))
def test_rubbish_is_never_a_key(data: bytes) -> None:
    with pytest.raises(common.DockerDaemonError):
        vendor.checked_key(armored(data), PINNED, "here")


@pytest.mark.parametrize("short", ["", "0EBFCD88", "8D81803C0EBFCD88", "G" * 40, "A" * 41])
def test_a_short_fingerprint_is_refused(short: str) -> None:
    with pytest.raises(common.DockerDaemonError, match="all forty"):
        vendor.checked_key(armored(KEY), short, "here")


# -- versions and the source file


@pytest.mark.parametrize(
    ("version", "plain"),
    [
        ("5:28.5.2-1~debian.13~trixie", "28.5.2"),
        ("5:28.0.0~rc.1-1~ubuntu.24.04~noble", "28.0.0~rc.1"),
        ("1.7.29-1", "1.7.29"),
        ("2.40.3", "2.40.3"),
    ],
)
def test_upstream_version(version: str, plain: str) -> None:
    assert vendor.upstream(version) == plain
    assert vendor.is_pinned(version, plain)
    assert vendor.is_pinned(version, version)
    assert not vendor.is_pinned(version, plain[:-1])
    assert not vendor.is_pinned("", plain)


MADISON = f"""\
 docker-ce | 5:28.5.2-1~debian.13~trixie | {REPOSITORY} trixie/stable amd64 Packages
 docker-ce | 5:28.5.1-2~debian.13~trixie | {REPOSITORY} trixie/stable amd64 Packages
 docker-ce | 5:28.5.1-1~debian.13~trixie | {REPOSITORY} trixie/stable amd64 Packages
 docker-ce | 5:99.0.0-1~debian.13~trixie | https://elsewhere.test/debian trixie/stable amd64 Packages
containerd.io |   1.7.29-1 | {REPOSITORY} trixie/stable amd64 Packages
containerd.io |   1.7.29-1 | {REPOSITORY} trixie/stable Sources
"""


def test_only_the_repositorys_own_versions_count() -> None:
    assert vendor.parse_madison(MADISON, REPOSITORY) == {
        "docker-ce": [f"5:28.5.{number}~debian.13~trixie" for number in ("2-1", "1-2", "1-1")],
        "containerd.io": ["1.7.29-1"],
    }


def test_a_pin_becomes_a_whole_version() -> None:
    offered = vendor.parse_madison(MADISON, REPOSITORY)
    chosen = vendor.choose({"docker-ce": "28.5.1", "containerd.io": "1.7.29-1"}, offered, REPOSITORY)
    # the newest package of that version
    assert chosen == {"docker-ce": "5:28.5.1-2~debian.13~trixie", "containerd.io": "1.7.29-1"}
    with pytest.raises(common.DockerDaemonError, match=r"no docker-ce 28\.5\.\. It has 28\.5\.2, 28\.5\.1: set"):
        vendor.choose({"docker-ce": "28.5."}, offered, REPOSITORY)
    with pytest.raises(common.DockerDaemonError, match="It has none at all"):
        vendor.choose({"docker-compose-plugin": "2.40.3"}, offered, REPOSITORY)


@pytest.mark.parametrize("pin", ["v28.5.2", "28.5.2 ", "latest", "28 5", "28.5.2=1", "--help"])
def test_a_pin_that_is_no_version_is_refused(pin: str) -> None:
    with pytest.raises(common.DockerDaemonError, match="docker-ce is none"):
        vendor.check_pins({**dict.fromkeys(vendor.REQUIRED, "1.2"), "docker-ce": pin})


def test_a_pin_that_is_left_out_is_refused() -> None:
    with pytest.raises(common.DockerDaemonError, match=r"containerd\.io has no version.*only buildx"):
        vendor.check_pins({**dict.fromkeys(vendor.REQUIRED, "1.2"), "containerd.io": ""})


@pytest.mark.parametrize(
    ("identity", "version", "suite"),
    [
        ("debian", "12", "bookworm"),
        ("debian", "13", "trixie"),
        ("ubuntu", "22.04", "jammy"),
        ("ubuntu", "24.04", "noble"),
    ],
)
def test_source_file(identity: str, version: str, suite: str) -> None:
    lines = vendor.source_text(URL, common.System(identity, version, "x")).splitlines()
    assert lines[0].startswith("# Managed by Ansible")
    assert lines[1:] == [
        "Types: deb",
        f"URIs: {URL}/{identity}",
        f"Suites: {suite}",
        "Components: stable",
        "Signed-By: /etc/apt/keyrings/docker.asc",
    ]


def test_system_without_a_repository_is_refused() -> None:
    with pytest.raises(
        common.DockerDaemonError, match=r"Fedora 42 is not supported .*Debian 12, Debian 13, Ubuntu 22.04"
    ):
        vendor.source_text(URL, common.System("fedora", "42", "Fedora 42"))


@pytest.mark.parametrize(
    "url", ["", "mirror.test", "ftp://mirror.test", "https://", "https://mirror.test/a b", "http://["]
)
def test_bad_url_is_refused(url: str) -> None:
    with pytest.raises(common.DockerDaemonError, match="no http or https URL"):
        vendor.check_url(url)


def test_login_in_the_url_is_refused_and_not_shown() -> None:
    with pytest.raises(common.DockerDaemonError, match=r"auth\.conf\.d") as refused:
        vendor.check_url("https://me:fake-password@mirror.test")
    assert "fake-password" not in str(refused.value)
    assert vendor.check_url("https://mirror.test/docker/") == URL


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (f"deb [signed-by=/x] {REPOSITORY} trixie stable", True),
        (f"URIs: {REPOSITORY}/", True),
        (f"Types: deb\nURIs: https://other.test\n  {REPOSITORY}", True),
        (f"# deb {REPOSITORY} trixie stable", False),
        (f"deb {REPOSITORY}-old trixie stable", False),
        ("deb https://debian.test/debian trixie main", False),
    ],
)
def test_another_entry_for_the_repository(line: str, found: bool) -> None:
    assert bool(vendor.other_entries({"/etc/apt/sources.list.d/x.list": line}, REPOSITORY)) is found


def test_an_entry_that_is_switched_off_names_nothing() -> None:
    on, off = f"Types: deb\nURIs: {REPOSITORY}\n", f"Enabled: no\nTypes: deb\nURIs: {REPOSITORY}\n"
    path = "/etc/apt/sources.list.d/x.sources"
    assert vendor.other_entries({path: off}, REPOSITORY) == []
    assert vendor.other_entries({path: f"{off}\n{on}"}, REPOSITORY) == [path]


# -- the module


class FakeApt:
    """An apt whose packages are given; remembers what it was told to do."""

    def __init__(self, installed: dict[str, str], offered: dict[str, str], versions: dict[str, list[str]]) -> None:
        self.present, self.offers, self.of_vendor = dict(installed), offered, versions
        self.calls = list[str]()
        self.held: set[str] = set()
        self.on_hold: set[str] = set()
        self.complaints = "W: no way to the mirror"
        self.downloads = {f"{REPOSITORY}/gpg": armored(KEY)}
        self.entries: dict[str, str] = {}

    def installed(self, packages: Iterable[str]) -> dict[str, str]:
        self.held = self.on_hold & set(packages)
        return {name: version for name, version in self.present.items() if name in packages}

    def imagine(self, source: str = "", key: str = "") -> None:
        self.calls.append("imagine")
        assert (key == WRITTEN) is bool(source)

    def back_to_earth(self) -> None:
        self.calls.append("back to earth")

    def refresh(self) -> None:
        self.calls.append("refresh")

    def candidates(self, packages: list[str]) -> dict[str, str]:
        return {name: version for name, version in self.offers.items() if name in packages}

    def offered(self, packages: Iterable[str], url: str) -> dict[str, list[str]]:
        assert url == REPOSITORY
        return {name: self.of_vendor[name] for name in packages if name in self.of_vendor}

    def install(self, packages: list[str], *, simulate: bool, held: bool = False) -> None:
        self.calls.append(("simulate " if simulate else "install ") + " ".join(packages))
        for name, _, version in (package.partition("=") for package in packages):
            assert name not in self.on_hold or held
            if not simulate:
                self.present[name] = version or self.offers[name]

    def hold(self, packages: Iterable[str]) -> None:
        self.calls.append("hold")
        self.on_hold |= set(packages)

    def download(self, url: str) -> str:
        self.calls.append("download")
        return self.downloads[url]

    def source_files(self) -> dict[str, str]:
        return self.entries


class FakeModule:
    """As much of AnsibleModule as `run` uses."""

    def __init__(self, *, check: bool = False, **parameters: Any) -> None:
        self.params = {
            "source": "distribution",
            "engine_min_version": "25.0",
            "compose_min_version": "2.26.0",
            "allow_container_restart": False,
            **parameters,
        }
        self.check_mode = check
        self.warnings = list[str]()

    def warn(self, text: str) -> None:
        self.warnings.append(text)


OFFERED = {
    **dict.fromkeys(common.SUPPORTED["debian", "13"], "1"),
    "docker.io": "26.1.5+dfsg1-9+b11",
    "docker-compose": "2.26.1-4",
}
OF_VENDOR = {
    "docker-ce": ["5:28.5.2-1~debian.13~trixie", "5:28.5.1-1~debian.13~trixie"],
    "docker-ce-cli": ["5:28.5.2-1~debian.13~trixie", "5:28.5.1-1~debian.13~trixie"],
    "containerd.io": ["1.7.29-1~debian.13~trixie"],
    "docker-compose-plugin": ["2.40.3-1~debian.13~trixie"],
}
PINS = {
    "docker-ce": "28.5.1",
    "docker-ce-cli": "28.5.1",
    "containerd.io": "1.7.29",
    "docker-compose-plugin": "2.40.3",
    "docker-buildx-plugin": "",
}


@pytest.fixture(autouse=True)
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A server with Debian 13, whose files for apt are in the returned folder."""
    monkeypatch.setattr(packages_module, "parse_os_release", lambda _text: DEBIAN)
    monkeypatch.setattr(packages_module, "SOURCE_FILE", str(tmp_path / "docker.sources"))
    monkeypatch.setattr(packages_module, "KEY_FILE", str(tmp_path / "docker.asc"))
    return tmp_path


class FakeDaemon:
    """The engine, with its running containers and whether they live through a restart."""

    running: tuple[str, ...] = ()
    live_restore = True
    version = "28.5.1"
    applied: tuple[str, ...] = ()

    def __init__(self, _module: Any) -> None:
        pass

    def running_containers(self) -> list[str]:
        return list(self.running)

    def api(self, path: str) -> Any:
        if not self.version:
            raise ConnectionRefusedError
        return {"/info": {"LiveRestoreEnabled": self.live_restore}, "/version": {"Version": self.version}}[path]

    def apply(self, action: str) -> None:
        type(self).applied += (action,)


@pytest.fixture(autouse=True)
def daemon(monkeypatch: pytest.MonkeyPatch) -> type[FakeDaemon]:
    class Daemon(FakeDaemon):
        """One for each test."""

    monkeypatch.setattr(packages_module, "Daemon", Daemon)
    return Daemon


def of_vendor(*, check: bool = False, **parameters: Any) -> FakeModule:
    settings = {
        "source": "vendor",
        "vendor_url": URL,
        "vendor_key_fingerprint": PINNED,
        "vendor_key": "",
        "vendor_versions": PINS,
    }
    return FakeModule(check=check, **{**settings, **parameters})


def bare() -> FakeApt:
    return FakeApt({"ca-certificates": "1"}, OFFERED, OF_VENDOR)


def set_up() -> FakeApt:
    """A server that the role has made with Docker's packages."""
    apt = bare()
    packages_module.run(of_vendor(), apt)
    apt.calls.clear()
    return apt


def test_packages_are_installed_once() -> None:
    apt = FakeApt({}, OFFERED, {})
    first = packages_module.run(FakeModule(), apt)
    assert first["changed"]
    assert set(first["installed"]) == set(OFFERED)
    assert apt.calls[0] == "refresh"
    again = FakeApt(apt.present, {}, {})
    assert packages_module.run(FakeModule(), again)["changed"] is False
    assert again.calls == []


def test_check_mode_only_imagines() -> None:
    apt = FakeApt({}, OFFERED, {})
    result = packages_module.run(FakeModule(check=True), apt)
    assert result["changed"]
    assert apt.calls[:2] == ["imagine", "refresh"]
    assert [call.split()[0] for call in apt.calls[2:]] == ["simulate"]
    assert apt.present == {}


@pytest.mark.parametrize(
    ("installed", "offered", "message"),
    [
        ({}, {**OFFERED, "docker.io": "24.0.7-1"}, "docker.io 24.0.7-1 .* is older than 25.0"),
        ({}, {**OFFERED, "docker-compose": "1.29.2-3"}, "docker-compose 1.29.2-3 .* is older than 2.26.0"),
        ({**OFFERED, "docker.io": "20.10.24"}, {}, "docker.io 20.10.24 .* is older"),
        (
            {"docker-ce": "5:28.0"},
            OFFERED,
            "has docker-ce, from another source.*keep it instead: docker_source: vendor",
        ),
        ({}, {}, "offers no package docker.io.*no way to the mirror"),
    ],
)
def test_refusals_come_before_the_installation(
    installed: dict[str, str], offered: dict[str, str], message: str
) -> None:
    apt = FakeApt(installed, offered, {})
    with pytest.raises(common.DockerDaemonError, match=message):
        packages_module.run(FakeModule(), apt)
    assert not any("install" in call for call in apt.calls)


def test_vendors_packages_are_pinned_and_held(etc: Path) -> None:
    apt = bare()
    result = packages_module.run(of_vendor(), apt)
    assert result["changed"]
    assert result["versions"]["docker-ce"] == "5:28.5.1-1~debian.13~trixie"
    assert apt.present["docker-ce-cli"] == "5:28.5.1-1~debian.13~trixie"
    assert apt.on_hold == {name for name, pin in PINS.items() if pin}
    assert (etc / "docker.asc").read_text() == WRITTEN
    assert (etc / "docker.sources").read_text() == vendor.source_text(URL, DEBIAN)
    assert (etc / "docker.asc").stat().st_mode & 0o777 == 0o644
    # tried in a temporary folder before it was written
    steps = [call.split()[0] for call in apt.calls]
    assert steps == ["download", "imagine", "refresh", "simulate", "back", "refresh", "install", "hold"]


def test_vendors_second_run_asks_nobody() -> None:
    apt = set_up()
    result = packages_module.run(of_vendor(), apt)
    assert (result["changed"], result["installed"], result["diff"]) == (False, [], [])
    assert apt.calls == []


def test_vendors_check_mode_writes_nothing(etc: Path) -> None:
    apt = bare()
    result = packages_module.run(of_vendor(check=True), apt)
    assert result["changed"]
    assert result["versions"]["docker-ce"] == "5:28.5.1-1~debian.13~trixie"
    assert [file["before_header"] for file in result["diff"]] == [str(etc / "docker.asc"), str(etc / "docker.sources")]
    assert list(etc.iterdir()) == []
    assert apt.present == {"ca-certificates": "1"}
    assert not any(call.startswith(("install", "hold", "back")) for call in apt.calls)


def test_a_changed_pin_upgrades_and_holds_again() -> None:
    apt = set_up()
    pins = {**PINS, "docker-ce": "28.5.2", "docker-ce-cli": "28.5.2"}
    foretold = packages_module.run(of_vendor(check=True, vendor_versions=pins), apt)
    assert apt.present["docker-ce"] == "5:28.5.1-1~debian.13~trixie"
    apt.calls.clear()
    result = packages_module.run(of_vendor(vendor_versions=pins), apt)
    assert result["installed"] == foretold["installed"] == ["docker-ce", "docker-ce-cli"]
    assert apt.present["docker-ce"] == "5:28.5.2-1~debian.13~trixie"
    assert [call.split()[0] for call in apt.calls] == ["refresh", "simulate", "back", "install", "hold"]
    assert packages_module.run(of_vendor(vendor_versions=pins), apt)["changed"] is False


def test_a_lost_hold_comes_back() -> None:
    apt = set_up()
    apt.on_hold.discard("containerd.io")
    assert packages_module.run(of_vendor(check=True), apt)["changed"]
    assert apt.calls == []
    result = packages_module.run(of_vendor(), apt)
    assert (result["changed"], result["installed"]) == (True, [])
    assert apt.calls == ["hold"]


def test_a_key_changed_by_somebody_is_put_right(etc: Path) -> None:
    apt = set_up()
    (etc / "docker.asc").write_bytes(packet(6, public_key(99)))
    result = packages_module.run(of_vendor(), apt)
    assert (result["changed"], result["installed"]) == (True, [])
    assert (etc / "docker.asc").read_text() == WRITTEN


def test_a_given_key_is_not_fetched(etc: Path) -> None:
    apt = bare()
    packages_module.run(of_vendor(vendor_key=armored(KEY)), apt)
    assert "download" not in apt.calls
    assert (etc / "docker.asc").read_text() == WRITTEN


def spoiled(**changes: Any) -> FakeApt:
    apt = bare()
    for name, value in changes.items():
        setattr(apt, name, value)
    return apt


@pytest.mark.parametrize(
    ("apt", "parameters", "message"),
    [
        (bare(), {"vendor_key_fingerprint": "B" * 40}, f"fingerprint {PINNED}, .* is {'B' * 40}"),
        (bare(), {"vendor_key": armored(packet(6, public_key(99)))}, "docker_vendor_key has the fingerprint"),
        (spoiled(downloads={f"{REPOSITORY}/gpg": "<html>"}), {}, f"from {REPOSITORY}/gpg cannot be used"),
        (spoiled(of_vendor={}), {}, f"not signed by the key {PINNED}. apt-get update said: W: no way to the mirror"),
        (
            bare(),
            {"vendor_versions": {**PINS, "docker-ce": "28.4.0"}},
            "offers no docker-ce 28.4.0. It has 28.5.2, 28.5.1",
        ),
        (bare(), {"vendor_versions": {**PINS, "docker-ce": "24.0.7"}}, "docker-ce 24.0.7 .*older than 25.0.*Raise"),
        (bare(), {"vendor_versions": {**PINS, "docker-compose-plugin": "2.20.0"}}, "older than 2.26.0"),
        (spoiled(entries={"/etc/apt/x.list": f"deb {REPOSITORY} trixie stable"}), {}, "rm /etc/apt/x.list"),
        (
            spoiled(present={"ca-certificates": "1", "docker.io": "26.1.5", "containerd": "1.7"}),
            {},
            "has docker.io, containerd, .*apt-get remove .* docker.io containerd, .*/var/lib/docker stay.*distribution",
        ),
        (
            spoiled(present={"ca-certificates": "1", "docker-ce": "5:29.0.0-1~debian.13~trixie"}),
            {},
            "Newer than pinned is installed: docker-ce 29.0.0",
        ),
    ],
)
def test_vendors_refusals_leave_nothing_behind(
    etc: Path, apt: FakeApt, parameters: dict[str, Any], message: str
) -> None:
    before = dict(apt.present)
    with pytest.raises(common.DockerDaemonError, match=message):
        packages_module.run(of_vendor(**parameters), apt)
    assert list(etc.iterdir()) == []
    assert apt.present == before
    assert apt.on_hold == set()


def test_an_upgrade_that_would_stop_containers_is_refused(daemon: type[FakeDaemon]) -> None:
    apt = set_up()
    daemon.running, daemon.live_restore = ("edge",), False
    newer = {**PINS, "docker-ce": "28.5.2", "docker-ce-cli": "28.5.2"}
    for check in (True, False):
        with pytest.raises(common.DockerDaemonError, match=r"would stop 1 running containers \(edge\)"):
            packages_module.run(of_vendor(check=check, vendor_versions=newer), apt)
    assert apt.present["docker-ce"] == "5:28.5.1-1~debian.13~trixie"
    assert packages_module.run(of_vendor(), apt)["changed"] is False  # nothing that restarts
    allowed = of_vendor(vendor_versions=newer, allow_container_restart=True)
    assert packages_module.run(allowed, apt)["changed"]


def test_live_containers_do_not_hinder_an_upgrade(daemon: type[FakeDaemon]) -> None:
    apt = set_up()
    daemon.running = ("edge",)
    assert packages_module.run(of_vendor(vendor_versions={**PINS, "docker-ce": "28.5.2"}), apt)["changed"]


@pytest.mark.parametrize(("running", "applied"), [("28.5.1", ("restart",)), ("28.5.2", ()), ("", ())])
def test_the_installed_engine_is_the_one_that_runs(
    daemon: type[FakeDaemon], running: str, applied: tuple[str, ...]
) -> None:
    apt = set_up()
    daemon.version = running
    packages_module.run(of_vendor(vendor_versions={**PINS, "docker-ce": "28.5.2"}), apt)
    assert daemon.applied == applied


def test_https_without_certificates_of_authorities(etc: Path) -> None:
    apt = FakeApt({}, OFFERED, OF_VENDOR)
    check = of_vendor(check=True)
    foretold = packages_module.run(check, apt)
    assert foretold["changed"]
    assert "ca-certificates" in check.warnings[0]
    assert apt.calls == []
    result = packages_module.run(of_vendor(), apt)
    assert apt.calls[:2] == ["refresh", "install ca-certificates"]
    assert sorted(result["installed"]) == sorted(foretold["installed"])
    assert (etc / "docker.sources").exists()


def test_a_refusal_after_certificates_came_says_so() -> None:
    apt = FakeApt({}, OFFERED, OF_VENDOR)
    with pytest.raises(common.DockerDaemonError, match=r"not trusted. Nothing but ca-certificates has been") as refused:
        packages_module.run(of_vendor(vendor_key_fingerprint="B" * 40), apt)
    assert "ca-certificates" in str(refused.value)


def test_back_to_the_distribution_takes_the_repository_away(etc: Path) -> None:
    set_up()
    apt = FakeApt({}, OFFERED, {})
    foretold = packages_module.run(FakeModule(check=True), apt)
    assert (etc / "docker.asc").exists()
    result = packages_module.run(FakeModule(), apt)
    assert len(result["diff"]) == len(foretold["diff"]) == 2
    assert list(etc.iterdir()) == []
    assert packages_module.run(FakeModule(), apt)["changed"] is False


def test_a_repository_set_up_by_hand_stays(etc: Path) -> None:
    (etc / "docker.sources").write_text("Types: deb\n")
    (etc / "docker.asc").write_text("by hand")
    packages_module.run(FakeModule(), FakeApt({}, OFFERED, {}))
    assert len(list(etc.iterdir())) == 2


# -- apt


class Commands:
    """An AnsibleModule that only runs commands, which it remembers; answers by the command's last word."""

    def __init__(self, tmpdir: Path) -> None:
        self.tmpdir = str(tmpdir)
        self.commands: list[list[str]] = []
        self.out = ""

    def run_command(self, command: list[str], environ_update: dict[str, str]) -> tuple[int, str, str]:
        assert environ_update["LC_ALL"] == "C.UTF-8"
        self.commands.append(command)
        if "download-file" in command:
            if "absent" in command[-2]:
                return 100, "", "E: Failed to fetch  404  Not Found"
            Path(command[-1]).write_bytes(b"\x99\xff" if "binary" in command[-2] else b"a key")
        return 0, self.out, ""


@pytest.fixture
def apt_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "apt"
    (folder / "sources.list.d").mkdir(parents=True)
    (folder / "sources.list").write_text("deb https://debian.test/debian trixie main\n")
    (folder / "sources.list.d/debian.sources").write_text("Types: deb\n")
    (folder / "sources.list.d/docker.sources").write_text("an older one\n")
    monkeypatch.setattr(apt_module, "SOURCES", folder)
    return folder


def test_imagined_sources_are_a_copy(tmp_path: Path, apt_folder: Path) -> None:
    module = Commands(tmp_path)
    apt = apt_module.Apt(module)
    apt.imagine(vendor.source_text(URL, DEBIAN), WRITTEN)
    apt.refresh()
    options = dict(word.split("=", 1) for word in module.commands[0] if "::" in word)
    parts = Path(options["Dir::Etc::SourceParts"])
    text = (parts / "docker.sources").read_text()
    key = text.split("Signed-By: ")[1].strip()
    assert Path(key).read_text() == WRITTEN
    assert Path(key).parent == parts.parent
    assert (parts / "debian.sources").read_text() == "Types: deb\n"
    assert (apt_folder / "sources.list.d/docker.sources").read_text() == "an older one\n"
    assert options["Dir::State::Lists"].startswith(str(parts.parent))
    apt.back_to_earth()
    apt.refresh()
    assert module.commands[1] == ["apt-get", "-q", "update"]
    apt.close()
    assert not parts.parent.exists()


def test_source_files_but_for_our_own(tmp_path: Path, apt_folder: Path) -> None:
    found = apt_module.Apt(Commands(tmp_path)).source_files()
    assert [Path(path).name for path in found] == ["sources.list", "debian.sources"]


def test_download(tmp_path: Path) -> None:
    apt = apt_module.Apt(Commands(tmp_path))
    assert apt.download("https://mirror.test/gpg") == "a key"
    assert apt.download("https://mirror.test/binary") == ""
    with pytest.raises(
        common.DockerDaemonError, match=r"absent cannot be fetched: .*404 Not Found .*docker_vendor_key"
    ):
        apt.download("https://mirror.test/absent")


def test_installed_and_held(tmp_path: Path) -> None:
    module = Commands(tmp_path)
    module.out = (
        "docker-ce 5:28.5.1-1 hold installed\ncontainerd.io 1.7.29-1 install installed\nrunc 1 deinstall config-files\n"
    )
    apt = apt_module.Apt(module)
    assert apt.installed(["docker-ce", "containerd.io", "runc"]) == {
        "docker-ce": "5:28.5.1-1",
        "containerd.io": "1.7.29-1",
    }
    assert apt.held == {"docker-ce"}


def test_only_a_pinned_installation_may_touch_what_is_held(tmp_path: Path) -> None:
    module = Commands(tmp_path)
    apt = apt_module.Apt(module)
    apt.install(["docker.io"], simulate=True)
    apt.install(["docker-ce=1"], simulate=False, held=True)
    assert "--simulate" in module.commands[0]
    assert "--allow-change-held-packages" not in module.commands[0]
    assert "--simulate" not in module.commands[1]
    assert "--allow-change-held-packages" in module.commands[1]
