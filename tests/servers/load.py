"""Users' requests to a running stack, at a steady rate, counted while something else happens to the server.

Only what needs no Kubernetes: the page, the health answer and a login, by the ports that the lab publishes.
"""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.servers.test_site import BASE, SECRETS, ask

LONGEST_SECONDS = 900
"""The load ends by itself after so long."""


@dataclass(frozen=True)
class Kind:
    """One kind of request, made again and again.

    Attributes:
        name: for the report.
        offset: 1 the edge's 443, 2 the frontend's 5001.
        seconds: between two of them. The limiter lets 60 a minute through for each path and address.
    """

    name: str
    offset: int
    method: str
    path: str
    seconds: float
    form: dict[str, str] | None = None


LOGIN = {"username": "user", "password": SECRETS["vault_integr8scode_user_password"]}
KINDS = (
    Kind("page", 2, "GET", "/", 0.5),
    Kind("health", 1, "GET", "/api/v1/health/live", 3),
    Kind("health through the frontend", 2, "GET", "/api/v1/health/live", 3),
    Kind("login", 1, "POST", "/api/v1/auth/login", 3, LOGIN),
)


@dataclass
class Tally:
    """What came back.

    Attributes:
        answered: answers with 200, by kind.
        failed: every other outcome: when (seconds since the start), kind, what.
        slowest: seconds of the slowest answer.
    """

    answered: dict[str, int] = field(default_factory=lambda: dict.fromkeys((kind.name for kind in KINDS), 0))
    failed: list[tuple[float, str, str]] = field(default_factory=list)
    slowest: float = 0


class Load:
    """Asks a server until it is stopped.

    Args:
        host: the server, as testinfra sees it.
    """

    def __init__(self, host: Any) -> None:
        self._host = host
        authority = host.file(f"{BASE}/tls/public/ca.crt").content_string
        self._tls = ssl.create_default_context(cadata=authority)
        self._stop = threading.Event()
        self._guard = threading.Lock()
        self._began = time.monotonic()
        self.tally = Tally()

    def once(self, kind: Kind) -> str:
        """Make one request; empty when it was answered with 200, else what happened."""
        try:
            status, _, body = ask(self._host, self._tls, kind.offset, kind.method, kind.path, form=kind.form)
        except (OSError, http.client.HTTPException) as error:
            return repr(error)
        return "" if status == 200 else f"{status}: {body[:200]}"

    def _repeat(self, kind: Kind) -> None:
        while not self._stop.is_set() and time.monotonic() < self._began + LONGEST_SECONDS:
            asked = time.monotonic()
            problem = self.once(kind)
            took = time.monotonic() - asked
            with self._guard:
                if problem:
                    self.tally.failed.append((asked - self._began, kind.name, problem))
                else:
                    self.tally.answered[kind.name] += 1
                    self.tally.slowest = max(self.tally.slowest, took)
            self._stop.wait(max(0.0, kind.seconds - took))

    def wait_until_answered(self, seconds: float = 90) -> None:
        """Wait until every kind is answered: the limiter still counts what others have asked in the last minute."""
        for kind in KINDS:
            deadline = time.monotonic() + seconds
            while problem := self.once(kind):
                assert time.monotonic() < deadline, f"{kind.name}: {problem}"
                time.sleep(5)

    @contextmanager
    def running(self) -> Iterator[Tally]:
        """Ask for the time of the `with` block, each kind in a thread of its own."""
        self._began = time.monotonic()
        threads = [threading.Thread(target=self._repeat, args=(kind,), daemon=True) for kind in KINDS]
        for thread in threads:
            thread.start()
        try:
            yield self.tally
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(60)
