"""What belongs to one lab: keys, known hosts, the CA and its certificates. All obvious fakes, all in LAB_HOME/state."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.settings import MAX_INDEX, REGISTRY_HOST, Settings

VALID_DAYS = 825
"""Longest life of a server certificate that common clients accept."""


def write(path: Path, data: bytes | str, mode: int = 0o644) -> None:
    """Write a file whole or not at all, never readable by more than ``mode`` says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data.encode() if isinstance(data, str) else data)
    temporary.chmod(mode)
    temporary.replace(path)


def ssh_key(path: Path, comment: str) -> str:
    """Make an ed25519 key pair in OpenSSH's format unless it is there. Returns the public line."""
    public = path.with_name(f"{path.name}.pub")
    if not (path.exists() and public.exists()):
        key = ed25519.Ed25519PrivateKey.generate()
        formats = (serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
        line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        write(path, key.private_bytes(*formats), 0o600)
        write(public, f"{line.decode()} {comment}\n")
    return public.read_text("utf-8").strip()


def host_key_path(settings: Settings, index: int) -> Path:
    """Private host key of the server with that ``lab_index``; made before the server is."""
    return settings.state / "hosts" / str(index) / "ssh_host_ed25519_key"


def known_hosts(settings: Settings, keys: dict[int, str]) -> str:
    """Text of the known_hosts file: every server's address and key, pinned before the first connection."""
    lines = [f"[127.0.0.1]:{settings.server_port(index)} {' '.join(key.split()[:2])}" for index, key in keys.items()]
    return "".join(f"{line}\n" for line in lines)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    formats = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*formats)


def make_ca(settings: Settings) -> None:
    """Make the lab's CA (``ca.crt``, ``ca.key``) and the registry's certificate unless they are there."""
    state = settings.state
    wanted = [state / name for name in ("ca.crt", "ca.key", "registry.crt", "registry.key")]
    if all(path.exists() for path in wanted):
        return
    now = dt.datetime.now(dt.UTC)
    # a machine that was suspended, or whose clock lags a little, must not find it "not yet valid"
    start, end = now - dt.timedelta(hours=24), now + dt.timedelta(days=VALID_DAYS - 1)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("integr8scode lab CA (not a secret)")
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    ca = (
        x509.CertificateBuilder()
        .subject_name(ca_name)
        .issuer_name(ca_name)
        .public_key(ca_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    names = [x509.DNSName(REGISTRY_HOST), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = (
        x509.CertificateBuilder()
        .subject_name(_name(REGISTRY_HOST))
        .issuer_name(ca_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    write(state / "ca.key", _pem(ca_key), 0o600)
    write(state / "registry.key", _pem(key), 0o600)
    write(state / "registry.crt", leaf.public_bytes(serialization.Encoding.PEM))
    # last: whoever finds it finds the rest
    write(state / "ca.crt", ca.public_bytes(serialization.Encoding.PEM))


def make(settings: Settings) -> None:
    """Make whatever of the lab's state is not there yet."""
    settings.state.mkdir(parents=True, exist_ok=True)
    settings.state.chmod(0o700)
    ssh_key(settings.state / "id_ed25519", "integr8scode-lab")
    indices = range(1, MAX_INDEX + 1)
    keys = {index: ssh_key(host_key_path(settings, index), f"lab-server-{index}") for index in indices}
    write(settings.state / "known_hosts", known_hosts(settings, keys), 0o600)
    make_ca(settings)
