"""Certificates and keys as k3s makes them: CAs and `service.key` only when missing, leaf certificates when they no
longer fit (`pkg/daemons/control/deps`).
"""

import datetime as dt
import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from . import logs
from .logs import FatalError

CA_LIFETIME = dt.timedelta(days=3650)
LEAF_LIFETIME = dt.timedelta(days=365)
# k3s signs again at start what ends sooner than this (CertificateRenewDays, 120 since 2025)
RENEW_BEFORE = dt.timedelta(days=120)

_Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Names:
    """What a certificate is issued for."""

    common_name: str
    organization: str = ""
    dns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()

    @property
    def is_server(self) -> bool:
        """Server certificates have alternative names, client certificates have none."""
        return bool(self.dns or self.addresses)


def write_private(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file in one step, never readable by others in between."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as sink:
        sink.write(data)
    temporary.replace(path)


def _pem_of_key(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _load_key(path: Path) -> _Key:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except ValueError as error:
        raise FatalError(f"Error: preparing server: {path}: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise FatalError(f"Error: preparing server: {path}: not an elliptic curve key")
    return key


def load_certificate(path: Path) -> x509.Certificate:
    """Return the first certificate of a PEM file.

    Raises:
        FatalError: it is not a certificate.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise FatalError(f"Error: preparing server: {path}: {error}") from error


def common_name(path: Path) -> str:
    """Return the common name of a certificate's subject.

    Raises:
        FatalError: it is not a certificate.
    """
    values = load_certificate(path).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(values[0].value) if values else ""


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def ensure_ca(name: str, certificate: Path, key: Path) -> None:
    """Make a self-signed CA called `name` unless both of its files exist."""
    if certificate.exists() and key.exists():
        return
    private = ec.generate_private_key(ec.SECP256R1())
    now = _now()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name}-ca@{int(now.timestamp())}")])
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=True, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(private, hashes.SHA256())
    )
    write_private(key, _pem_of_key(private))
    write_private(certificate, signed.public_bytes(serialization.Encoding.PEM), 0o644)


def ensure_service_key(path: Path, current: Path) -> None:
    """Make the key that signs service accounts' tokens, unless it exists."""
    if not path.exists():
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        write_private(path, _pem_of_key(private))
    write_private(current, path.read_bytes())


def alternative_names(certificate: x509.Certificate) -> tuple[set[str], set[str]]:
    """Return a certificate's DNS names and addresses."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set(), set()
    addresses = {str(address) for address in extension.get_values_for_type(x509.IPAddress)}
    return set(extension.get_values_for_type(x509.DNSName)), addresses


def ends_soon(certificate: x509.Certificate) -> bool:
    """Say whether k3s signs this certificate again at its next start because of its age."""
    return certificate.not_valid_after_utc - _now() < RENEW_BEFORE


def reason_to_sign(certificate: Path, key: Path, ca: x509.Certificate, names: Names) -> str | None:
    """Say why a certificate must be signed (again), or None when it is good."""
    if not (certificate.exists() and key.exists()):
        return "missing"
    present = load_certificate(certificate)
    try:
        present.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return "signed by another CA"
    if ends_soon(present):
        return f"expires at {present.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
    dns, addresses = alternative_names(present)
    wanted = {str(ipaddress.ip_address(address)) for address in names.addresses}
    missing = sorted((set(names.dns) - dns) | (wanted - addresses))
    return f"lacks {', '.join(missing)}" if missing else None


def ensure_leaf(names: Names, certificate: Path, key: Path, ca_certificate: Path, ca_key: Path) -> bool:
    """Sign a certificate when it is missing, issued by another CA, near its end, or lacks a name.

    An existing key is kept.

    Returns:
        Whether it was signed now.
    """
    ca = load_certificate(ca_certificate)
    reason = reason_to_sign(certificate, key, ca, names)
    if reason is None:
        return False
    sign_leaf(names, certificate, key, ca_certificate, ca_key)
    if reason != "missing":
        logs.info(f"certificate CN={names.common_name} signed by {ca.subject.rfc4514_string()}: {reason}")
    return True


def sign_leaf(names: Names, certificate: Path, key: Path, ca_certificate: Path, ca_key: Path) -> None:
    """Sign a certificate now, for the key that is there or a new one.

    Raises:
        FatalError: the CA or the key cannot be read.
    """
    ca = load_certificate(ca_certificate)
    private = _load_key(key) if key.exists() else ec.generate_private_key(ec.SECP256R1())
    now = _now()
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, names.common_name)]
    if names.organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, names.organization))
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if names.is_server else ExtendedKeyUsageOID.CLIENT_AUTH
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=True, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(attributes))
        .issuer_name(ca.subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(min(now + LEAF_LIFETIME, ca.not_valid_after_utc))
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(_load_key(ca_key).public_key()), critical=False
        )
    )
    if names.is_server:
        builder = builder.add_extension(_subject_alternative_name(names), critical=False)
    signed = builder.sign(_load_key(ca_key), hashes.SHA256())
    write_private(key, _pem_of_key(private))
    chain = signed.public_bytes(serialization.Encoding.PEM) + ca.public_bytes(serialization.Encoding.PEM)
    write_private(certificate, chain, 0o644)


def _subject_alternative_name(names: Names) -> x509.SubjectAlternativeName:
    entries: list[x509.GeneralName] = [x509.DNSName(name) for name in _unique(names.dns)]
    entries += [x509.IPAddress(ipaddress.ip_address(address)) for address in _unique(names.addresses)]
    return x509.SubjectAlternativeName(entries)


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
