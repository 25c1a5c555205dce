"""k3s' serving certificates, judged as its clients judge them: by a TLS handshake that trusts this server's CA alone.

The standard library suffices: a server where only ssh works may lack python3-cryptography and openssl.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AUTHORITY = "server/tls/server-ca.crt"
AUTHORITIES = (AUTHORITY, "server/tls/client-ca.crt")
PAIRS = ("server/tls/serving-kube-apiserver", "agent/serving-kubelet")
LISTENER = "server/tls/dynamic-cert.json"
# OpenSSL's numbers for why a certificate is not accepted
_EARLY, _EXPIRED = 9, 10


@dataclass(frozen=True)
class Certificate:
    """A certificate of this server. `problem` is empty, `expired`, `early` or `foreign` (of another CA).

    Times are seconds since 1970, 0 where a certificate that is refused does not tell them; `words` are OpenSSL's.
    """

    place: str
    problem: str = ""
    words: str = ""
    subject: str = ""
    names: tuple[str, ...] = ()
    not_before: float = 0.0
    not_after: float = 0.0


def _accepted(place: str, told: dict[str, Any]) -> Certificate:
    subject = ", ".join(f"{key}={value}" for part in told.get("subject", ()) for key, value in part)
    names = tuple(str(value) for _kind, value in told.get("subjectAltName", ()))
    begin, end = (ssl.cert_time_to_seconds(told[key]) for key in ("notBefore", "notAfter"))
    return Certificate(place, "", "", subject, names, begin, end)


def _refused(place: str, error: ssl.SSLCertVerificationError) -> Certificate:
    problem = {_EARLY: "early", _EXPIRED: "expired"}.get(error.verify_code, "foreign")
    return Certificate(place, problem, error.verify_message)


def _trusting(authority: Path) -> ssl.SSLContext:
    """A client that trusts one authority. Raises OSError, ssl.SSLError where that file is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # an authority may be an intermediate one
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(authority)
    return context


def judge(place: str, certificate: str, key: str, authority: Path) -> Certificate | None:
    """Let a server with this certificate and key (paths) meet a client that trusts `authority`. None: no such pair."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        server.load_cert_chain(certificate, key)
        client = _trusting(authority)
    except (OSError, ValueError):
        return None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _turn in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return _refused(place, error)
            except ssl.SSLError:
                return None
    told = ends[0].getpeercert()
    return _accepted(place, told) if told else None


def served(host: str, port: int, data: Path) -> Certificate | None:
    """What the API's port shows; None where nothing answers."""
    place = f"the certificate on port {port}"
    try:
        context = _trusting(data / AUTHORITY)
        with socket.create_connection((host, port), timeout=3) as plain, context.wrap_socket(plain) as connection:
            told = connection.getpeercert()
    except ssl.SSLCertVerificationError as error:
        return _refused(place, error)
    except (OSError, ValueError):
        return None
    return _accepted(place, told) if told else None


def _listener(data: Path) -> Certificate | None:
    """The certificate of k3s' own listener, which it keeps with its key in one file."""
    path = data / LISTENER
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, binascii.Error):
        kept = json.loads(path.read_bytes())["data"]
        pair = b"".join(base64.b64decode(kept[name]) for name in ("tls.crt", "tls.key"))
        # ssl reads pairs from files only; this one is in memory and gone with its descriptor
        descriptor = os.memfd_create("k3s-listener")
        with os.fdopen(descriptor, "wb") as memory:
            memory.write(pair)
            memory.flush()
            name = f"/proc/self/fd/{descriptor}"
            return judge(str(path), name, name, data / AUTHORITY)
    return None


def _authority(path: Path) -> Certificate | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with contextlib.suppress(OSError, ValueError):
        context.load_verify_locations(path)
        found = context.get_ca_certs()
        return _accepted(str(path), dict(found[0])) if found else None
    return None


def certificates(data: Path) -> list[Certificate]:
    """The authorities and what they have signed for listening; what is not there is left out."""
    found = [_authority(data / name) for name in AUTHORITIES]
    found += [
        judge(f"{data / name}.crt", f"{data / name}.crt", f"{data / name}.key", data / AUTHORITY) for name in PAIRS
    ]
    return [one for one in [*found, _listener(data)] if one is not None]
