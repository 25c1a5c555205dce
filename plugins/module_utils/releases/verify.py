"""The proof that the stack serves what was deployed: its containers, the edge, a login, Kafka, Kubernetes, and time."""

from __future__ import annotations

import email.utils
import http.client
import json
import socket
import ssl
import time
import urllib.parse
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ansible.module_utils.kubernetes_access_probing import ProbeError, failure_message, probe_all, problems
from ansible.module_utils.releases.containers import (
    ServiceError,
    Stack,
    addresses,
    is_of,
    patiently,
    problem_of,
    restarts_of,
)
from ansible.module_utils.releases.edge import Edge

LIVE = "Stable,PreparingRebalance,CompletingRebalance"
GROUPS = ["kafka-consumer-groups", "--bootstrap-server", "localhost:9092", "--list", "--state", LIVE]
"""Groups with members."""
# the broker's own heap settings are too large for a second JVM beside it
SMALL_HEAP = {"KAFKA_HEAP_OPTS": "-Xmx96m"}
ALIVE = (200, 429)  # the rate limiter's refusal is an answer of a living application
HELD_BACK = {429: "the application's limiter holds logins back", 423: "the account is locked for a while"}
"""Answers to a login that say nothing about the release, whoever has caused them."""
HOLD_SECONDS = 75.0
"""The limiter counts by the minute, refused requests too: after so long without a word when to come back, it stays."""
HOLD_PAUSE = 20.0
KUBERNETES_PAUSE = 3.0
"""Each try starts a container for every worker."""
KUBERNETES_SECONDS = 90.0
"""k3s is away for half a minute whenever it is started again; what is refused for longer will not come by waiting."""
PASSWORDS = {"user": "DEFAULT_USER_PASSWORD", "admin": "ADMIN_USER_PASSWORD"}


class VerificationError(Exception):
    """The stack is not what it should be; the message says what, why and where to look."""


class EdgeConnection(http.client.HTTPSConnection):
    """HTTPS to the published port on this server, checked against the name that clients use."""

    def __init__(self, port: int, server_name: str, context: ssl.SSLContext) -> None:
        super().__init__(server_name, port, timeout=20, context=context)
        self._name, self._tls = server_name, context

    def connect(self) -> None:
        """Connect to this server whatever the name resolves to."""
        plain = socket.create_connection(("127.0.0.1", self.port), self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self._name)


@dataclass(frozen=True)
class Outside:
    """How users reach the server.

    Attributes:
        https_port: published port of the API.
        frontend_port: of the frontend.
        server_name: name that the edge's certificate has to carry.
        ca: PEM file of the CA that vouches for it.
        username: seeded user whose login is tried; empty for none.
        passwords: file with the seeded users' passwords; none where it is not there.
    """

    https_port: int
    frontend_port: int
    server_name: str
    ca: Path
    username: str
    passwords: Path | None

    def password(self) -> str | None:
        """The inventory's password of the user; None where it is not known. Raises OSError."""
        if self.passwords is None or self.username not in PASSWORDS:
            return None
        found = json.loads(self.passwords.read_text(encoding="utf-8")).get(PASSWORDS[self.username])
        return None if found is None else str(found)


class Reply(NamedTuple):
    """An answer through the edge.

    status: of HTTP.
    retry_after: seconds after which it wants to be asked again; None where it does not say.
    """

    status: int
    retry_after: float | None = None


def seconds_of(retry_after: str | None) -> float | None:
    """The seconds that a header Retry-After means, a number or a date; None for none that can be read."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


@dataclass(frozen=True)
class Request:
    """A request through the edge."""

    port: int
    method: str
    path: str
    form: dict[str, str] | None = field(default=None, repr=False)

    def send(self, outside: Outside) -> Reply:
        """The answer. Raises OSError, http.client.HTTPException."""
        context = ssl.create_default_context(cafile=str(outside.ca))
        connection = EdgeConnection(self.port, outside.server_name, context)
        try:
            body = urllib.parse.urlencode(self.form) if self.form else None
            headers = {"Content-Type": "application/x-www-form-urlencoded"} if self.form else {}
            connection.request(self.method, self.path, body=body, headers=headers)
            answer = connection.getresponse()
            return Reply(answer.status, seconds_of(answer.headers.get("Retry-After")))
        finally:
            connection.close()


class Verifier:
    """One verification of one server.

    stack: the containers.
    edge: in front of them.
    hashes: what each service's containers are to be labelled with.
    deadline: by ``time.monotonic()``, for everything but the stable window.
    known: ids of the containers that were there before anything was changed: any restart of another one counts, of
        these only one in the stable window. None for all.
    beside: services that the application does not need; what is wrong with them is noted, and no reason to go back.
    """

    def __init__(
        self,
        stack: Stack,
        edge: Edge,
        hashes: dict[str, str],
        deadline: float,
        known: Collection[str] | None = None,
        *,
        beside: Collection[str] = (),
    ) -> None:
        self.stack, self.edge, self.hashes, self.deadline = stack, edge, hashes, deadline
        self.known = known
        self.beside = frozenset(beside)
        self.notes: list[str] = []

    def problem(self, services: Sequence[str] | None = None) -> tuple[str, list[Any]] | None:
        """The first service that is not as it should be, with its containers."""
        found = self.stack.containers()
        for service in services or sorted(set(self.hashes) - self.beside):
            ours = found.get(service, [])
            if not ours:
                return f"{service} has no container", []
            for container in ours:
                if not is_of(container, self.hashes[service]):
                    return f"{service} runs in a container of another release ({container.name})", [container]
                wrong = problem_of(container)
                if wrong:
                    return f"{service} {wrong}", [container]
        extra = sorted(set(found) - set(self.hashes))
        return (f"{', '.join(extra)} is no service of this release", []) if extra else None

    def wait_until_well(self) -> None:
        """Wait until every service runs as defined and is healthy.

        :raises ServiceError: the time is over, or a container that was made for this release has restarted.
        """
        while True:
            if self.known is not None:
                self._refuse_restarts({}, self.known)
            found = self.problem()
            if found is None:
                return
            if time.monotonic() > self.deadline:
                raise ServiceError(*found)
            time.sleep(0.5)

    def edge_serves_these(self, services: Sequence[str] = ("backend", "frontend")) -> None:
        """The containers that the edge sends requests to are the release's, and each of them.

        :raises VerificationError: the time is over.
        """
        while True:
            wrong = ""
            for service in services:
                known = {address: one for one in self.stack.of(service) for address in addresses(one)}
                serving = self.edge.serving(service)
                strange = [address for address in serving if address not in known]
                if not serving or strange or not all(is_of(known[one], self.hashes[service]) for one in serving):
                    wrong = f"the edge sends requests for {service} to {', '.join(sorted(serving)) or 'nobody'}"
            if not wrong:
                return
            if time.monotonic() > self.deadline:
                raise VerificationError(f"{wrong}, which is not the container of this release")
            time.sleep(0.5)

    def _refuse_restarts(self, before: Mapping[str, int], uncounted: Collection[str] = ()) -> None:
        """See that nothing restarted more often than before.

        :raises ServiceError: a container did, and is none of the uncounted.
        """
        for service, ours in self.stack.containers().items():
            for container in () if service in self.beside else ours:
                restarts = container.attrs["RestartCount"] - before.get(container.id, 0)
                if restarts > 0 and container.id not in uncounted:
                    problem = f"{service} restarted {restarts} time(s) while it was watched"
                    raise ServiceError(problem, [container], again=True)

    def watch(self, seconds: float) -> None:
        """Watch for the stable window.

        :raises ServiceError: a container restarted, ended or got unhealthy.
        """
        before = restarts_of(one for ours in self.stack.containers().values() for one in ours)
        if self.known is not None:
            before = {name: count for name, count in before.items() if name in self.known}
        end = time.monotonic() + seconds
        while True:
            self._refuse_restarts(before)
            found = self.problem()
            if found:
                raise ServiceError(f"{found[0]} while it was watched", found[1])
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(1.0, left))

    def look_beside(self) -> None:
        """Note what is wrong with the services that the application does not need."""
        for service in sorted(self.beside & set(self.hashes)):
            found = self.problem([service])
            if found:
                self.notes.append(f"{found[0]}. The application does not need it: the release serves")

    # -- from outside

    def ask_edge(self, outside: Outside) -> None:
        """Ask for health and page through the edge.

        :raises VerificationError: an answer is wrong.
        """
        live = "/api/v1/health/live"
        self._ask(outside, "the backend's health", ALIVE, Request(outside.https_port, "GET", live))
        self._ask(outside, "the frontend's page", (200,), Request(outside.frontend_port, "GET", "/"))
        through = Request(outside.frontend_port, "GET", live)
        self._ask(outside, "the backend's health by way of the frontend", ALIVE, through)

    def log_in(self, outside: Outside, *, password_must_fit: bool) -> None:
        """Log in through the edge: the shortest proof that Mongo and Redis work.

        :param password_must_fit: whether a refused password is a failure: it was just set.
        :raises VerificationError: an answer is wrong.
        """
        password = outside.password()
        if not outside.username or password is None:
            return
        form = {"username": outside.username, "password": password}
        login = Request(outside.https_port, "POST", "/api/v1/auth/login", form)
        reply = self._log_in_patiently(outside, login)
        if reply.status == 200:
            return
        message = f"the login as {outside.username} was answered with {reply.status}"
        if why := HELD_BACK.get(reply.status):
            self.notes.append(
                f"{message} to the end: {why}. That is no sign of a bad release, and all other checks were good; but "
                "that users can log in was not proven."
            )
        elif password_must_fit:
            raise VerificationError(f"{message}, although user-seed has just set this password")
        else:
            # somebody chose another password since
            self.notes.append(f"{message}: its password is not the inventory's. Mongo and Redis do answer.")

    def _log_in_patiently(self, outside: Outside, login: Request) -> Reply:
        """The answer to a login that is tried again while it is held back. Raises VerificationError."""
        patience = time.monotonic() + HOLD_SECONDS
        while True:
            reply = self._ask(outside, f"a login as {outside.username}", (200, 401, *HELD_BACK), login)
            if reply.status not in HELD_BACK:
                return reply
            told = reply.retry_after
            pause, end = (HOLD_PAUSE, min(self.deadline, patience)) if told is None else (max(told, 1.0), self.deadline)
            if time.monotonic() + pause > end:
                return reply
            time.sleep(pause)

    def _ask(self, outside: Outside, what: str, good: tuple[int, ...], request: Request) -> Reply:
        """The answer to a request that is repeated until it is good. Raises VerificationError when the time is over."""
        while True:
            try:
                reply = request.send(outside)
                found = f"HTTP status {reply.status}"
            except (OSError, http.client.HTTPException) as error:
                reply, found = Reply(0), f"{type(error).__name__}: {error}"
            if reply.status in good:
                return reply
            if time.monotonic() > self.deadline:
                raise VerificationError(
                    f"{what} through the edge: {found}. Look at `docker compose logs edge backend frontend`"
                )
            time.sleep(0.5)

    # -- from inside

    def find_consumer_groups(self, groups: Sequence[str]) -> None:
        """Wait for the consumer groups.

        :raises VerificationError: the time is over.
        """
        wanted = set(groups)
        while wanted:
            (kafka, *_) = self.stack.of("kafka") or [None]
            if kafka is None:
                raise VerificationError("kafka has no container")
            answer = patiently(partial(kafka.exec_run, GROUPS, environment=SMALL_HEAP))
            missing = wanted - set(answer.output.decode("utf-8", errors="replace").split())
            if not missing:
                return
            if time.monotonic() > self.deadline:
                raise VerificationError(
                    f"no consumer group {', '.join(sorted(missing))} in Kafka: the worker of that name has not joined. "
                    "Look at `docker compose logs` of that worker"
                )
            time.sleep(1)

    def reach_kubernetes(self, parameters: dict[str, Any], *, needed: bool = True) -> None:
        """Try what each worker may do at the Kubernetes API, from the stack's network.

        :param parameters: as `kubernetes_access_probing.probe_all` takes them.
        :param needed: whether to wait until it works; else what is wrong is noted.
        :raises VerificationError: the time is over, `KUBERNETES_SECONDS` at most.
        """
        end = min(self.deadline, time.monotonic() + KUBERNETES_SECONDS)
        while wrong := self._kubernetes_problem(parameters):
            if not needed:
                self.notes.append(f"The workers cannot use Kubernetes, whatever the release: {wrong}")
                return
            if time.monotonic() > end:
                raise VerificationError(wrong)
            time.sleep(KUBERNETES_PAUSE)

    @staticmethod
    def _kubernetes_problem(parameters: dict[str, Any]) -> str:
        try:
            reports = probe_all(parameters)
        except (ProbeError, OSError) as error:
            return str(error)
        found = [line for report in reports for line in problems(report, parameters["namespace"])]
        return failure_message(found) if found else ""
