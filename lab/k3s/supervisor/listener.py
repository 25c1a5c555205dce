"""The certificate that port 6443 shows: k3s' listener (rancher/dynamiclistener) keeps it in `dynamic-cert.json`.

Unlike every other leaf certificate it is signed again only for a name that it lacks, near its end, or after `k3s
certificate rotate`. Who signed it is never looked at.
"""

import base64
import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from . import faults, logs, pki

COMMON_NAME = ORGANIZATION = "k3s"
_NAME_KEY = "listener.cattle.io/cn-"
_FINGERPRINT_KEY = "listener.cattle.io/fingerprint"


@dataclass(frozen=True)
class Listener:
    """The files of one server's listener.

    Attributes:
        store: `server/tls/dynamic-cert.json`, a Secret of Kubernetes as JSON.
        trigger: makes the next start sign a new certificate.
        certificate, key: what the API server is given; written from `store`.
    """

    store: Path
    trigger: Path
    certificate: Path
    key: Path

    @classmethod
    def of(cls, tls: Path) -> "Listener":
        """Return the listener of a server whose certificates are in `tls`."""
        used = tls / "temporary-certs"
        store, trigger = tls / "dynamic-cert.json", tls / "dynamic-cert-regenerate"
        return cls(store, trigger, used / "listener.crt", used / "listener.key")

    def prepare(self, names: pki.Names, ca_certificate: Path, ca_key: Path) -> None:
        """Have a certificate for these names and those that it had before, and write the API server's files.

        Raises:
            FatalError: the CA cannot be read.
        """
        known = self._load()
        wanted = {*names.dns, *(str(ipaddress.ip_address(address)) for address in names.addresses)}
        before = {value for name, value in known.get("metadata", {}).get("annotations", {}).items() if _is_name(name)}
        if faults.take(faults.FOREIGN_LISTENER_CERTIFICATE):
            known = self._sign_by_another_ca(wanted | before)
        elif self.trigger.exists():
            self.trigger.unlink()
            known = self._sign(wanted | before, ca_certificate, ca_key)
        elif not wanted <= before or self._ends_soon(known):
            known = self._sign(wanted | before, ca_certificate, ca_key, known)
        pki.write_private(self.certificate, base64.b64decode(known["data"]["tls.crt"]), 0o644)
        pki.write_private(self.key, base64.b64decode(known["data"]["tls.key"]))

    def _load(self) -> dict[str, Any]:
        try:
            known: dict[str, Any] = json.loads(self.store.read_text())
            x509.load_pem_x509_certificate(base64.b64decode(known["data"]["tls.crt"]))
            base64.b64decode(known["data"]["tls.key"])
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError) as error:
            logs.warning(f"Failed to load cached certificate from {self.store}: {error}")
            return {}
        return known

    @staticmethod
    def _ends_soon(known: dict[str, Any]) -> bool:
        if not known:
            return False
        present = x509.load_pem_x509_certificate(base64.b64decode(known["data"]["tls.crt"]))
        return pki.ends_soon(present)

    def _sign(
        self, names: Iterable[str], ca_certificate: Path, ca_key: Path, known: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        certificate, key = self.certificate.with_suffix(".new"), self.key.with_suffix(".new.key")
        if known:
            pki.write_private(key, base64.b64decode(known["data"]["tls.key"]))
        try:
            pki.sign_leaf(_names(names), certificate, key, ca_certificate, ca_key)
            secret = _secret(sorted(set(names)), certificate.read_bytes(), key.read_bytes())
        finally:
            certificate.unlink(missing_ok=True)
            key.unlink(missing_ok=True)
        pki.write_private(self.store, json.dumps(secret).encode())
        issuer = pki.load_certificate(ca_certificate).subject.rfc4514_string()
        logs.info(f"certificate CN={COMMON_NAME},O={ORGANIZATION} signed by {issuer}")
        return secret

    def _sign_by_another_ca(self, names: Iterable[str]) -> dict[str, Any]:
        certificate, key = self.certificate.with_name("foreign-ca.crt"), self.key.with_name("foreign-ca.key")
        pki.ensure_ca("k3s-server", certificate, key)
        try:
            return self._sign(names, certificate, key)
        finally:
            certificate.unlink()
            key.unlink()


def _is_name(annotation: str) -> bool:
    return annotation.startswith(_NAME_KEY)


def _names(values: Iterable[str]) -> pki.Names:
    dns, addresses = [], []
    for value in sorted(set(values)):
        try:
            addresses.append(str(ipaddress.ip_address(value)))
        except ValueError:
            dns.append(value)
    return pki.Names(COMMON_NAME, ORGANIZATION, tuple(dns), tuple(addresses))


def _secret(names: list[str], certificate: bytes, key: bytes) -> dict[str, Any]:
    fingerprint = x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303
    annotations = {_NAME_KEY + name: name for name in names} | {_FINGERPRINT_KEY: f"SHA1={fingerprint}"}
    data = {"tls.crt": base64.b64encode(certificate).decode(), "tls.key": base64.b64encode(key).decode()}
    return {
        "kind": "Secret",
        "apiVersion": "v1",
        "metadata": {"name": "k3s-serving", "namespace": "kube-system", "annotations": annotations},
        "data": data,
        "type": "kubernetes.io/tls",
    }
