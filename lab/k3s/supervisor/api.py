"""A small client of the API server, with a client certificate, for the parts of k3s that the supervisor plays."""

import http.client
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class Client:
    """Talks to one API server as one identity.

    Attributes:
        host: an address that the serving certificate names.
        port: its port.
        ca: the CA that signed the serving certificate.
        certificate: client certificate; its key is beside it (`.key`).
    """

    host: str
    port: int
    ca: Path
    certificate: Path

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.certificate, self.certificate.with_suffix(".key"))
        return http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=context)

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
