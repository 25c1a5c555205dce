"""Which Debian mirror a machine uses: sources.list(5) in both styles, as Debian's installers and clouds write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import apt
from lab.settings import LabError

ONE_LINE = """
# deb cdrom:[Debian]/ bookworm main
deb http://mirror.example/debian/ bookworm main contrib # the nearest
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/etc/keys/a.gpg] http://security.example/debian-security bookworm-security main
deb http://mirror.example/debian bookworm-updates main
deb https://packages.example/vendor stable tools
deb http://flat.example/ ./
"""

DEB822 = """# written by the installer
Types: deb deb-src
URIs: http://mirror.example/debian http://other.example/debian
Suites: trixie trixie-updates
# a comment inside
Components: main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://security.example/debian-security/
Suites: trixie-security
Components: main
Enabled: yes

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trixie
Components: main

Types: deb-src
URIs: http://source.example/debian
Suites: trixie
Components: main
"""


def test_one_line_style() -> None:
    found = apt.parse_one_line(ONE_LINE)
    assert found[0] == apt.Source("http://mirror.example/debian", ("bookworm",), ("main", "contrib"))
    assert found[1].uri == "http://security.example/debian-security"
    assert [one.uri for one in found].count("http://mirror.example/debian") == 2
    assert all("flat" not in one.uri for one in found)


def test_deb822_style() -> None:
    found = apt.parse_deb822(DEB822)
    assert found == [
        apt.Source("http://mirror.example/debian", ("trixie", "trixie-updates"), ("main", "contrib")),
        apt.Source("http://other.example/debian", ("trixie", "trixie-updates"), ("main", "contrib")),
        apt.Source("http://security.example/debian-security", ("trixie-security",), ("main",)),
    ]


@pytest.mark.parametrize("style", ["one-line", "deb822"])
def test_mirror_of_a_machine(tmp_path: Path, style: str) -> None:
    (tmp_path / "sources.list.d").mkdir()
    if style == "one-line":
        (tmp_path / "sources.list").write_text(ONE_LINE)
    else:
        (tmp_path / "sources.list.d" / "debian.sources").write_text(DEB822)
    mirror = apt.find_mirror(apt.read_sources(tmp_path), ['Acquire::Retries "3";'])
    assert mirror.main == "http://mirror.example/debian"
    assert mirror.security == "http://security.example/debian-security"
    assert mirror.options == ('Acquire::Retries "3";',)
    assert not mirror.needs_certificates


def test_lines_are_of_the_servers_release_not_of_the_machines() -> None:
    lines = apt.Mirror("https://mirror.example/debian", "https://security.example/debian-security").lines()
    signed = f"[signed-by={apt.KEYRING}]"
    assert lines == [
        f"deb {signed} https://mirror.example/debian trixie main",
        f"deb {signed} https://mirror.example/debian trixie-updates main",
        f"deb {signed} https://security.example/debian-security trixie-security main",
    ]


def test_https_mirror_needs_certificates_in_the_image() -> None:
    assert apt.Mirror("http://mirror.example/debian", "https://security.example/debian-security").needs_certificates


def test_mirror_list_of_a_cloud_image(tmp_path: Path) -> None:
    listed = tmp_path / "debian.list"
    listed.write_text(
        "# first that answers\nhttps://cloud.example/debian/\thpriority:1\nhttps://other.example/debian\n"
    )
    source = apt.Source(f"mirror+file://{listed}", ("bookworm",), ("main",))
    assert apt.find_mirror([source]).main == "https://cloud.example/debian"


def test_a_mirror_list_that_is_missing_is_no_mirror() -> None:
    with pytest.raises(LabError, match="LAB_DEBIAN_MIRROR"):
        apt.find_mirror([apt.Source("mirror+file:///no/such/file", ("bookworm",), ("main",))])


def test_ubuntu_is_refused_with_the_cure() -> None:
    source = apt.Source("http://archive.example/ubuntu", ("noble", "noble-updates"), ("main", "universe"))
    with pytest.raises(LabError, match="LAB_DEBIAN_MIRROR"):
        apt.find_mirror([source])


def test_mirror_by_variable() -> None:
    mirror = apt.host_mirror({"LAB_DEBIAN_MIRROR": "http://mine.example/debian/"})
    assert (mirror.main, mirror.security) == ("http://mine.example/debian", "")


def test_carried_options_leave_out_what_only_works_on_this_machine() -> None:
    dump = """
Acquire::Check-Valid-Until "false";
Acquire::http::Proxy "http://127.0.0.1:3142";
Acquire::https::Proxy "http://proxy.example:3128";
Acquire::http::Proxy::mirror.example "DIRECT";
APT::Install-Recommends "1";
Acquire::Languages "none";
"""
    assert apt.carried_options(dump) == [
        'Acquire::Check-Valid-Until "false";',
        'Acquire::https::Proxy "http://proxy.example:3128";',
        'Acquire::http::Proxy::mirror.example "DIRECT";',
    ]
