"""Keys, known hosts and the CA: made once, private, and good for real clients."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from lab import settings, state
from lab.settings import Settings


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    made = Settings(tmp_path_factory.mktemp("lab"))
    state.make(made)
    return made


def test_private_keys_are_private(lab: Settings) -> None:
    private = [lab.state / "id_ed25519", lab.state / "ca.key", lab.state / "registry.key", state.host_key_path(lab, 1)]
    assert [stat.S_IMODE(path.stat().st_mode) for path in private] == [0o600] * 4
    assert stat.S_IMODE(lab.state.stat().st_mode) == 0o700


def test_keys_are_in_opensshs_format_and_belong_together(lab: Settings) -> None:
    private = load_ssh_private_key((lab.state / "id_ed25519").read_bytes(), None)
    public = load_ssh_public_key((lab.state / "id_ed25519.pub").read_bytes())
    assert private.public_key() == public


def test_known_hosts_pins_the_key_that_the_server_gets(lab: Settings) -> None:
    lines = (lab.state / "known_hosts").read_text().splitlines()
    assert len(lines) == settings.MAX_INDEX
    address, kind, key = lines[0].split()
    assert address == "[127.0.0.1]:22110"
    assert state.host_key_path(lab, 1).with_suffix(".pub").read_text().split()[:2] == [kind, key]
    assert len({line.split()[2] for line in lines}) == settings.MAX_INDEX


def test_registry_certificate_is_trusted_by_the_ca_and_by_nothing_less(lab: Settings) -> None:
    verify = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", settings.REGISTRY_HOST]
    good = subprocess.run(
        [*verify, "-CAfile", lab.state / "ca.crt", lab.state / "registry.crt"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert good.returncode == 0, good.stderr
    leaf = x509.load_pem_x509_certificate((lab.state / "registry.crt").read_bytes())
    ca = x509.load_pem_x509_certificate((lab.state / "ca.crt").read_bytes())
    leaf.verify_directly_issued_by(ca)
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is True


def test_nothing_is_made_twice(lab: Settings) -> None:
    before = {path: path.read_bytes() for path in lab.state.rglob("*") if path.is_file()}
    state.make(lab)
    assert {path: path.read_bytes() for path in lab.state.rglob("*") if path.is_file()} == before


def test_known_hosts_follow_the_ports(lab: Settings) -> None:
    moved = Settings(lab.home, port_base=30000)
    keys = {1: "ssh-ed25519 AAAA comment"}
    assert state.known_hosts(moved, keys) == "[127.0.0.1]:30010 ssh-ed25519 AAAA\n"


def test_write_replaces_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    state.write(path, "one", 0o600)
    state.write(path, "two")
    assert path.read_text() == "two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [one.name for one in path.parent.iterdir()] == ["file"]
