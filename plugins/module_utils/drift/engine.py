"""The Docker Engine, asked and never told: there is no way to send it anything but GET."""

from __future__ import annotations

import http.client
import json
import os
import socket
from typing import Any
from urllib.parse import quote, urlencode

from ansible.module_utils.drift.probes import UnansweredError

SOCKET = "/run/docker.sock"


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the engine's socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """One connection to the engine.

    :param timeout: seconds that one answer may take.
    """

    def __init__(self, path: str = SOCKET, timeout: float = 5.0) -> None:
        self._timeout = timeout
        self._path = path
        self._connection = _Connection(path, timeout)

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of `path`; None where there is none (404). Raises UnansweredError."""
        target = quote(path) + (f"?{urlencode(query)}" if query else "")
        try:
            self._connection.request("GET", target)
            answer = self._connection.getresponse()
            body = answer.read()
        except TimeoutError:
            self._reset()
            raise UnansweredError(f"the Docker Engine has not answered GET {path} within {self._timeout:g} s") from None
        except (FileNotFoundError, ConnectionRefusedError):
            self._reset()
            raise UnansweredError("the Docker Engine does not run (nobody listens at its socket)") from None
        except (OSError, http.client.HTTPException) as error:
            self._reset()
            raise UnansweredError(f"the Docker Engine does not answer: {error or type(error).__name__}") from None
        if answer.status == 404:
            return None
        try:
            value = json.loads(body)
        except ValueError:
            raise UnansweredError(f"the Docker Engine's answer to GET {path} is no JSON") from None
        if answer.status != 200:
            words = value.get("message", "") if isinstance(value, dict) else ""
            raise UnansweredError(f"the Docker Engine answers {answer.status} to GET {path}: {str(words)[:200]}")
        return value

    def _reset(self) -> None:
        # an answer that comes late must not be taken for the next one's
        self._connection.close()
        self._connection = _Connection(self._path, self._timeout)


def oom_kills(pid: int) -> int | None:
    """How often the kernel has killed something in the memory cgroup of a process; None where it does not say."""
    if pid <= 0:
        return None
    try:
        with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
            lines = [line.strip().split(":", 2) for line in file]
    except OSError:
        return None
    for _, controllers, path in lines:
        names = {"": ("", "memory.events"), "memory": ("memory", "memory.oom_control")}
        if controllers not in names:
            continue
        folder, name = names[controllers]
        try:
            with open(os.path.join("/sys/fs/cgroup", folder, path.lstrip("/"), name), encoding="ascii") as file:
                values = dict(line.split()[:2] for line in file if len(line.split()) == 2)
            return int(values["oom_kill"])
        except (OSError, KeyError, ValueError):
            continue
    return None
