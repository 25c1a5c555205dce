"""A small client for the Kubernetes API: the standard library, one kept connection, errors that name their cause.

kubectl ends with 1 for 401, 403, TLS errors and refused connections alike; here each is a thing of its own, because
each has another cure.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import http.client
import json
import os
import socket
import ssl
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

try:
    import yaml
except ImportError:  # told by the modules with missing_required_lib
    yaml = None  # type: ignore[assignment]


class ApiError(Exception):
    """The API could not be asked, or its answer is not the one that was needed. `str()` is fit for people."""


class ApiUnreachableError(ApiError):
    """No connection, no answer in time, or the connection broke."""


class ApiTlsError(ApiError):
    """TLS failed: the certificate is signed by another CA, names another host, or is not valid now."""


class ApiRefusedError(ApiError):
    """An HTTP status that was not expected. `status` is the number."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class KubeconfigError(ApiError):
    """A kubeconfig that cannot be read or lacks something."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """One HTTP answer. `body` is the decoded JSON object, {} when the body is none; `text` is the raw body."""

    status: int
    body: dict[str, Any]
    text: str

    @property
    def message(self) -> str:
        """What the API says about it, on one line."""
        return str(self.body.get("message") or self.text[:200].replace("\n", " ").strip() or "no message")


@dataclasses.dataclass(frozen=True)
class Credentials:
    """What a kubeconfig's current context holds, certificates as PEM text."""

    server: str
    ca: str
    client_certificate: str = ""
    client_key: str = dataclasses.field(default="", repr=False)
    token: str = dataclasses.field(default="", repr=False)


def _named(entries: Any, name: str, inner: str) -> dict[str, Any]:
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(inner), dict):
            return dict(entry[inner])
    raise KubeconfigError(f"no {inner} named {name!r}")


def _pem(section: Mapping[str, Any], key: str) -> str:
    """The PEM text that `key`-data (base64) or the file named by `key` holds; "" when there is neither."""
    data = section.get(f"{key}-data")
    if data:
        try:
            return base64.b64decode(str(data), validate=True).decode("ascii")
        except (binascii.Error, ValueError) as error:
            raise KubeconfigError(f"{key}-data is not base64 of PEM text") from error
    path = section.get(key)
    if path:
        try:
            with open(str(path), encoding="ascii") as file:
                return file.read()
        except (OSError, ValueError) as error:
            raise KubeconfigError(f"{key} {path} cannot be read: {error}") from error
    return ""


def parse_kubeconfig(text: str) -> Credentials:
    """Credentials of the current context.

    Raises KubeconfigError when the text is not a kubeconfig, or lacks a context, a server or a CA; and without PyYAML.
    """
    if yaml is None:
        raise KubeconfigError("it cannot be read: python3-yaml is not installed; playbooks/site.yml installs it")
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise KubeconfigError("it is not YAML") from error
    if not isinstance(document, dict):
        raise KubeconfigError("it is not a kubeconfig")
    context = _named(document.get("contexts"), str(document.get("current-context", "")), "context")
    cluster = _named(document.get("clusters"), str(context.get("cluster", "")), "cluster")
    user = _named(document.get("users"), str(context.get("user", "")), "user")
    credentials = Credentials(
        server=str(cluster.get("server", "")),
        ca=_pem(cluster, "certificate-authority"),
        client_certificate=_pem(user, "client-certificate"),
        client_key=_pem(user, "client-key"),
        token=str(user.get("token", "")),
    )
    if not credentials.server.startswith("https://"):
        raise KubeconfigError(f"its server {credentials.server!r} is not an https:// address")
    if not credentials.ca:
        raise KubeconfigError("it embeds no certificate authority")
    return credentials


def read_kubeconfig(path: str) -> Credentials:
    """`parse_kubeconfig` of a file. Raises KubeconfigError (naming the file), FileNotFoundError when there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise KubeconfigError(f"{path}: cannot be read: {error}") from error
    try:
        return parse_kubeconfig(text)
    except KubeconfigError as error:
        raise KubeconfigError(f"{path}: {error}") from error


def read_admin(path: str) -> Credentials:
    """`read_kubeconfig` of the cluster administrator's file. Raises KubeconfigError with the cure."""
    try:
        return read_kubeconfig(path)
    except FileNotFoundError:
        raise KubeconfigError(
            f"{path} does not exist: k3s is not installed here. Cure: run the role k3s first"
        ) from None


def tls_context(credentials: Credentials) -> ssl.SSLContext:
    """A context that trusts the kubeconfig's CA only and shows its client certificate. Raises KubeconfigError."""
    try:
        context = ssl.create_default_context(cadata=credentials.ca)
        # Python 3.13 made this the default; kubectl and the application (Python 3.12) do not ask for it
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if credentials.client_certificate:
            # load_cert_chain takes files only
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "client.pem")
                with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                    file.write(credentials.client_certificate + "\n" + credentials.client_key)
                context.load_cert_chain(path)
    except (ssl.SSLError, ValueError) as error:
        raise KubeconfigError(f"its certificates cannot be used: {error}") from error
    return context


class Client:
    """Talks to one API server over one kept connection.

    token: bearer token; replaces the kubeconfig's client certificate.
    timeout: seconds for each connect, send and receive.
    """

    def __init__(self, credentials: Credentials, *, token: str = "", timeout: float = 10.0) -> None:
        if token:
            credentials = dataclasses.replace(credentials, token=token, client_certificate="", client_key="")
        self.server = credentials.server
        self._token = credentials.token
        self._timeout = timeout
        self._context = tls_context(credentials)
        parts = urllib.parse.urlsplit(credentials.server)
        self._host = parts.hostname or ""
        self._port = parts.port or 443
        self._connection: http.client.HTTPSConnection | None = None

    def close(self) -> None:
        """Closes the kept connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def handshake(self, name: str) -> None:
        """One TLS handshake that demands a certificate for `name`. Raises ApiUnreachableError, ApiTlsError."""
        try:
            with (
                socket.create_connection((self._host, self._port), timeout=self._timeout) as plain,
                self._context.wrap_socket(plain, server_hostname=name),
            ):
                pass
        except ssl.SSLCertVerificationError as error:
            raise ApiTlsError(
                f"{self.server}: the certificate is not trusted: {error.verify_message.rstrip('.')}"
            ) from error
        except ssl.SSLError as error:
            raise ApiTlsError(f"{self.server}: TLS failed: {error}") from error
        except OSError as error:
            raise ApiUnreachableError(f"{self.server}: {error}") from error

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """One request; any HTTP status is an answer. `path` begins with / and may hold a query.

        Raises ApiUnreachableError or ApiTlsError.
        """
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        payload: bytes | None = None
        if body is not None:
            payload = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        kept = self._connection is not None
        try:
            return self._send(method, path, payload, headers)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            self.close()
            # the server let go of an idle connection: a read may be asked again, a write may have happened
            if not kept or method != "GET":
                raise ApiUnreachableError(f"{self.server}: the connection broke: {error}") from error
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise ApiTlsError(
                f"{self.server}: the certificate is not trusted: {error.verify_message.rstrip('.')}"
            ) from error
        except ssl.SSLError as error:
            self.close()
            raise ApiTlsError(f"{self.server}: TLS failed: {error}") from error
        except socket.gaierror as error:
            raise ApiUnreachableError(f"{self.server}: the name {self._host} cannot be resolved") from error
        except TimeoutError as error:
            self.close()
            raise ApiUnreachableError(f"{self.server}: no answer within {self._timeout:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise ApiUnreachableError(f"{self.server}: {error}") from error
        return self.request(method, path, body)

    def _send(self, method: str, path: str, payload: bytes | None, headers: Mapping[str, str]) -> Answer:
        if self._connection is None:
            self._connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout, context=self._context
            )
        self._connection.request(method, path, body=payload, headers=dict(headers))
        response = self._connection.getresponse()
        text = response.read().decode("utf-8", errors="replace")
        try:
            decoded = json.loads(text)
        except ValueError:
            decoded = {}
        return Answer(response.status, decoded if isinstance(decoded, dict) else {}, text)

    def need(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The body of a 2xx answer. Raises ApiRefusedError for any other status, ApiUnreachableError, ApiTlsError."""
        answer = self.request(method, path, body)
        if not 200 <= answer.status < 300:
            raise ApiRefusedError(answer.status, f"{method} {path.partition('?')[0]}: {answer.status} {answer.message}")
        return answer.body

    def find(self, path: str) -> dict[str, Any] | None:
        """The object at `path`, or None where there is none (404). Raises like `need`."""
        answer = self.request("GET", path)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise ApiRefusedError(answer.status, f"GET {path}: {answer.status} {answer.message}")
        return answer.body


def wait_until(
    check: Callable[[], bool], seconds: float, *, sleep: Callable[[float], None] = time.sleep, step: float = 0.5
) -> bool:
    """Calls `check` until it is true or `seconds` have passed; at least once. Returns what it said last."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() >= deadline:
            return False
        sleep(step)
    return True


def wait_ready(client: Client, seconds: float) -> None:
    """Waits until /readyz is 200: /version is 200 even when the datastore is frozen.

    Raises ApiUnreachableError or ApiRefusedError after `seconds`; at once ApiTlsError, and ApiRefusedError for a 401,
    because waiting does not cure them.
    """
    last: list[ApiError] = []

    def ready() -> bool:
        last.clear()
        try:
            answer = client.request("GET", "/readyz")
        except ApiUnreachableError as error:
            last.append(error)
            return False
        if answer.status == 401:
            raise ApiRefusedError(
                401,
                f"{client.server} does not accept the admin's credentials (401): they belong to another cluster or "
                "have expired. Cure: `systemctl restart k3s` writes the admin's kubeconfig anew",
            )
        if answer.status != 200:
            last.append(ApiRefusedError(answer.status, f"{client.server}/readyz: {answer.status} {answer.message}"))
        return answer.status == 200

    if not wait_until(ready, seconds):
        raise last[0]


def explain(error: Exception) -> str:
    """The error with its cure, for somebody who asked the API from the server itself with the admin's kubeconfig."""
    text = str(error)
    if "Cure:" in text:
        return text
    if isinstance(error, ApiUnreachableError):
        return f"the Kubernetes API does not answer: {text}. Cure: `systemctl status k3s`, `journalctl -u k3s -n 50`"
    if isinstance(error, ApiTlsError):
        return f"{text}. Cure: the admin's kubeconfig belongs to another CA; `systemctl restart k3s` writes it anew"
    if isinstance(error, KubeconfigError):
        return f"{text}. Cure: `systemctl restart k3s` writes the admin's kubeconfig anew"
    return text
