"""A small client of the API server, with a client certificate, for the parts of k3s that the supervisor plays."""

import http.client
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# OpenSSL's X509_V_ERR_*
_EXPIRED = 10
_WRONG_NAME = {62, 64}
_TYPES = {
    "PATCH": "application/strategic-merge-patch+json",
    "POST": "application/json",
    "PUT": "application/json",
}


class ApiError(Exception):
    """An answer other than 2xx.

    Attributes:
        code: the HTTP status.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class _Connection(http.client.HTTPConnection):
    """HTTPS to one address under the name of another."""

    def __init__(self, host: str, port: int, timeout: float, context: ssl.SSLContext, server_name: str) -> None:
        super().__init__(host, port, timeout=timeout)
        self._context = context
        self._server_name = server_name

    def connect(self) -> None:
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._server_name)


def certificate_error(error: ssl.SSLCertVerificationError, ca: str) -> str:
    """Return Go's words for a serving certificate that is not accepted.

    Args:
        error: what Python said.
        ca: name of the CA that should have signed it.
    """
    start = "tls: failed to verify certificate: x509: "
    if error.verify_code == _EXPIRED:
        return f"{start}certificate has expired or is not yet valid"
    if error.verify_code in _WRONG_NAME:
        return f"{start}certificate is not valid for the name that was asked for"
    return (
        f'{start}certificate signed by unknown authority (possibly because of "x509: ECDSA verification failure" while '
        f'trying to verify candidate authority certificate "{ca}")'
    )


@dataclass(frozen=True)
class Client:
    """Talks to one API server as one identity.

    Attributes:
        host: an address that the serving certificate names.
        port: its port.
        ca: the CA that signed the serving certificate.
        certificate: client certificate; its key is beside it (`.key`).
        server_name: the name to ask for and to find in the serving certificate, instead of `host`.
    """

    host: str
    port: int
    ca: Path
    certificate: Path
    server_name: str = ""

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.certificate, self.certificate.with_suffix(".key"))
        return _Connection(self.host, self.port, timeout, context, self.server_name or self.host)

    def request(self, method: str, path: str, body: dict[str, Any] | None = None, timeout: float = 10) -> Any:
        """Send one request; return the decoded answer (text when it is not JSON).

        Raises:
            ApiError: the server refused.
            OSError: the server was not reached, or not within `timeout` seconds.
        """
        connection = self._connect(timeout)
        try:
            headers = {"Content-Type": _TYPES[method]} if body is not None else {}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            raw = answer.read()
        except http.client.HTTPException as error:
            raise OSError(str(error) or type(error).__name__) from error
        finally:
            connection.close()
        text = raw.decode(errors="replace")
        is_json = (answer.getheader("Content-Type") or "").startswith("application/json")
        data = json.loads(text) if is_json else text
        if answer.status >= 300:
            raise ApiError(answer.status, data.get("message", text) if isinstance(data, dict) else text)
        return data

    def get(self, path: str) -> Any:
        """Read one object or list; None when it does not exist."""
        try:
            return self.request("GET", path)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def create(self, path: str, body: dict[str, Any]) -> bool:
        """Create an object; False when it exists already."""
        try:
            self.request("POST", path, body)
        except ApiError as error:
            if error.code == 409:
                return False
            raise
        return True

    def watch(self, path: str, version: str, seconds: int = 300) -> Iterator[dict[str, Any]]:
        """Yield the changes of a collection after `version`, until the server ends the watch.

        Raises:
            ApiError: the server refused, also in the middle (410: `version` is too old).
            OSError: the connection broke.
        """
        connection = self._connect(seconds + 30)
        separator = "&" if "?" in path else "?"
        try:
            connection.request("GET", f"{path}{separator}watch=1&resourceVersion={version}&timeoutSeconds={seconds}")
            answer = connection.getresponse()
            if answer.status >= 300:
                raise ApiError(answer.status, answer.read().decode(errors="replace"))
            for line in answer:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(event["object"].get("code", 500), event["object"].get("message", ""))
                yield event
        except http.client.HTTPException as error:
            raise OSError(str(error) or type(error).__name__) from error
        finally:
            connection.close()
