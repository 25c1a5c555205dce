"""Makes, reads and judges certificates, with `cryptography` 3.4.8 (Ubuntu 22.04) and newer."""

from __future__ import annotations

import ipaddress
import re
from datetime import datetime, timedelta, timezone
from typing import Any

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    HAS_CRYPTOGRAPHY = True
except ImportError:
    HAS_CRYPTOGRAPHY = False

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

PEM_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
DNS_NAME = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*\Z")
# a server's clock may be a little ahead of its clients'
BACKDATE = timedelta(minutes=10)
COMMON_NAME_BYTES = 64  # ub-common-name of RFC 5280, appendix A.1


def now() -> datetime:
    """The time by which certificates are judged, in UTC; tests put another function here."""
    return datetime.now(timezone.utc)


def valid_from(certificate: x509.Certificate) -> datetime:
    """The begin of its validity, in UTC. Since cryptography 42 the old attribute warns."""
    if hasattr(certificate, "not_valid_before_utc"):
        return certificate.not_valid_before_utc
    return certificate.not_valid_before.replace(tzinfo=timezone.utc)


def valid_until(certificate: x509.Certificate) -> datetime:
    """The end of its validity, in UTC."""
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_after_utc
    return certificate.not_valid_after.replace(tzinfo=timezone.utc)


def life_left(certificate: x509.Certificate) -> float:
    """Which part of its life is left: 1.0 when just made, 0 or less when expired."""
    begin, end = valid_from(certificate), valid_until(certificate)
    return (end - now()) / (end - begin) if end > begin else 0.0


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate, in hex digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def shorten(common_name: str) -> str:
    """`common_name`, cut to the 64 bytes that a certificate can hold. Clients look at the alternative names alone."""
    return common_name.encode()[:COMMON_NAME_BYTES].decode(errors="ignore")


def parse_names(dns_names: list[str], ip_addresses: list[str]) -> frozenset[str | IpAddress]:
    """The alternative names that are asked for; an address among the DNS names counts as the address that it is.

    Raises ValueError for what is neither, and when there are none: no client would accept such a certificate.
    """
    names: set[str | IpAddress] = set()
    for name in dns_names:
        try:
            names.add(ipaddress.ip_address(name))
        except ValueError:
            lower = name.lower().rstrip(".")
            if not DNS_NAME.match(lower):
                raise ValueError(
                    f"{name!r} is not a DNS name. Letters, digits, - and . are; names in other scripts need their "
                    "xn--… form."
                ) from None
            names.add(lower)
    for address in ip_addresses:
        try:
            names.add(ipaddress.ip_address(address))
        except ValueError:
            raise ValueError(f"{address!r} is not an IP address. Names belong to dns_names.") from None
    if not names:
        raise ValueError("it has no name. Give it dns_names or ip_addresses.")
    return frozenset(names)


def names_of(certificate: x509.Certificate) -> frozenset[str | IpAddress]:
    """The DNS names and addresses that a certificate is for."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    dns = [name.lower() for name in extension.get_values_for_type(x509.DNSName)]
    addresses: list[Any] = list(extension.get_values_for_type(x509.IPAddress))
    return frozenset([*dns, *addresses])


def not_covered(wanted: frozenset[str | IpAddress], certificate: x509.Certificate) -> list[str]:
    """Which of the names `certificate` is not for; `*.` covers one label, as RFC 6125 has it."""
    covered = names_of(certificate)
    missing = []
    for name in wanted:
        wildcard = f"*.{name.partition('.')[2]}" if isinstance(name, str) else None
        if name not in covered and wildcard not in covered:
            missing.append(str(name))
    return sorted(missing)


def common_name_of(certificate: x509.Certificate) -> str:
    """The common name of its subject, or nothing."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign other certificates."""
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False


def load_chain(pem: bytes) -> list[x509.Certificate]:
    """The certificates in `pem`, in its order. Raises ValueError where there is none or one is broken."""
    blocks = PEM_CERTIFICATE.findall(pem)
    if not blocks:
        raise ValueError("it holds no PEM block BEGIN CERTIFICATE")
    try:
        return [x509.load_pem_x509_certificate(block) for block in blocks]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"a certificate in it cannot be read ({error})") from error


def load_key(pem: bytes) -> Any:
    """The private key in `pem`. Raises ValueError, which shows no part of it, for what is not one or is encrypted."""
    try:
        return serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        raise ValueError("it is encrypted. Decrypt it (openssl pkey -in server.key) and keep it in the vault") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("it is not a private key in PEM form") from None


def _public(key: Any) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)  # type: ignore[no-any-return]


def fits(key: Any, certificate: x509.Certificate) -> bool:
    """Whether `key` is the private key of `certificate`."""
    return _public(key.public_key()) == _public(certificate.public_key())


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer` is named in `certificate` and has really signed it."""
    if certificate.issuer != issuer.subject:
        return False
    key: Any = issuer.public_key()
    signed = (certificate.signature, certificate.tbs_certificate_bytes)
    try:
        if hasattr(certificate, "verify_directly_issued_by"):
            certificate.verify_directly_issued_by(issuer)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(*signed, ec.ECDSA(_hash_of(certificate)))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(*signed, padding.PKCS1v15(), _hash_of(certificate))
        else:
            key.verify(*signed)
    except (InvalidSignature, TypeError, ValueError, UnsupportedAlgorithm):
        return False
    return True


def _hash_of(certificate: x509.Certificate) -> hashes.HashAlgorithm:
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None:
        raise ValueError("signed without a hash")
    return algorithm


def new_key() -> ec.EllipticCurvePrivateKey:
    """A new private key on P-256, which nginx, HAProxy, gunicorn and every client of today accept."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key in PEM form, not encrypted: a server starts without a person."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """The certificate in PEM form."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def _usage(**given: bool) -> x509.KeyUsage:
    every = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign "
        "encipher_only decipher_only"
    )
    return x509.KeyUsage(**{name: given.get(name, False) for name in every.split()})


def _builder(common_name: str, issuer: x509.Name | None, public_key: Any, end: datetime) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, shorten(common_name))])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - BACKDATE)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def make_ca(key: ec.EllipticCurvePrivateKey, common_name: str, valid_days: int) -> x509.Certificate:
    """A self-signed certificate of an authority that signs servers' certificates and no other authority's."""
    return (
        _builder(common_name, None, key.public_key(), now() + timedelta(days=valid_days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def make_leaf(
    key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    ca_key: Any,
    *,
    common_name: str,
    names: frozenset[str | IpAddress],
    end: datetime,
) -> x509.Certificate:
    """A server's certificate for `names`, signed by `ca`."""
    alternatives = [x509.DNSName(name) if isinstance(name, str) else x509.IPAddress(name) for name in names]
    alternatives.sort(key=lambda name: str(name.value))
    identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        _builder(common_name, ca.subject, key.public_key(), end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
