"""Users of a release for load tests (lab/README.md): 50 requests a second, what each of them met, and who answered.

Runs as a process of its own, so that nothing but the server makes an answer late:

    .venv/bin/python -m tests.servers.release_load --https 22121 --frontend 22122 --ca ca.crt --run try-1 \
        --output records.jsonl --seconds 60

Clients keep their connections and try nothing twice. They ask the edge's 443 and the frontend's 5001, by GETs and by
POSTs that the application counts on arrival. Besides, on both: a login every two seconds, one request that takes ten
seconds and one event stream, always open.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[2]
LONGEST_SECONDS = 3600
"""A load ends by itself after so long."""

TIMEOUT_SECONDS = 40
SLOW_SECONDS = 10
PER_CLIENT = 2.5
"""Requests a second of one keep-alive client: the pace holds as long as answers take less than 0.4 s."""

LIVE = "/api/v1/health/live"
COUNT = "/api/v1/load-test/count"
STREAM = "/api/v1/events/load-test"


@dataclass(frozen=True)
class Kind:
    """What one kind of client asks for, again and again.

    Attributes:
        name: for the records.
        frontend: by the frontend's port instead of the edge's 443.
        clients: how many of them.
        period: seconds from one request of a client to its next.
    """

    name: str
    frontend: bool
    method: str
    path: str
    clients: int = 4
    period: float = 1 / PER_CLIENT


SHORT = (
    Kind("get", False, "GET", LIVE),
    Kind("post", False, "POST", COUNT),
    Kind("page", True, "GET", "/build/main.js"),
    Kind("get through the frontend", True, "GET", LIVE),
    Kind("post through the frontend", True, "POST", COUNT),
)
"""50 requests a second together."""

LOGINS = (
    Kind("login", False, "POST", "/api/v1/auth/login", 1, 2),
    Kind("login through the frontend", True, "POST", "/api/v1/auth/login", 1, 2),
)
PER_SECOND = sum(kind.clients / kind.period for kind in SHORT)
SHORT_NAMES = frozenset(kind.name for kind in SHORT)
SLOW = ("slow", "slow through the frontend")
STREAMS = ("stream", "stream through the frontend")


@dataclass(frozen=True)
class Record:
    """One request, or one life of an event stream.

    Attributes:
        kind: name of its kind.
        at: when it was sent (unix seconds).
        seconds: until the last byte of the answer.
        status: of the answer; 0 when there was none.
        release: which release answered; empty when the answer does not tell.
        problem: what went wrong; empty when nothing.
        reused: whether its connection had carried another request before.
        number: of a counted POST, else -1.
        first: seconds until a stream's first event, else 0.
    """

    kind: str
    at: float
    seconds: float
    status: int = 0
    release: str = ""
    problem: str = ""
    reused: bool = False
    number: int = -1
    first: float = 0

    @property
    def ended(self) -> float:
        """When the answer was complete (unix seconds)."""
        return self.at + self.seconds

    @property
    def failed(self) -> bool:
        """Whether its user saw anything but the answer."""
        return self.status != 200 or bool(self.problem)


class Client:
    """A keep-alive connection: opened when it is needed, closed when the other side says so or breaks it."""

    def __init__(self, port: int, tls: ssl.SSLContext) -> None:
        self._connection = http.client.HTTPSConnection("localhost", port, timeout=TIMEOUT_SECONDS, context=tls)
        self.asked = 0

    @property
    def reused(self) -> bool:
        """Whether the next request goes over a connection that has carried one."""
        return self._connection.sock is not None

    def ask(self, method: str, path: str, form: Mapping[str, str] | None = None) -> http.client.HTTPResponse:
        """Send a request; returns the answer with its body unread.

        Raises:
            OSError, http.client.HTTPException: there was no answer; the connection is closed.
        """
        body = urllib.parse.urlencode(form) if form else None
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
        try:
            self._connection.request(method, path, body, headers)
            return self._connection.getresponse()
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def close(self) -> None:
        """Forget the connection."""
        self._connection.close()


def release_of(answer: http.client.HTTPResponse, body: str) -> str:
    """Which release gave an answer: the backend's header, else the frontend's bundle; empty when neither tells."""
    if name := answer.headers.get("X-Release"):
        return str(name)
    return body.split("\n", 1)[0].removeprefix("// Integr8sCode ") if body.startswith("// Integr8sCode ") else ""


class Users:
    """All clients, each in a thread of its own, until they are stopped.

    Args:
        ports: of the edge's 443 and of the frontend's 5001, on this machine.
        tls: trusts the server.
        run: name of the run, under which POSTs are counted.
        login: user name and password.
        sink: records go there, one JSON object a line.
    """

    def __init__(
        self, ports: tuple[int, int], tls: ssl.SSLContext, run: str, login: Mapping[str, str], sink: TextIO
    ) -> None:
        self._ports = ports
        self._tls = tls
        self._run = run
        self._login = login
        self._sink = sink
        self._guard = threading.Lock()
        self._numbers = itertools.count(1)
        self.stop = threading.Event()

    def _note(self, record: Record) -> None:
        with self._guard:
            self._sink.write(json.dumps(asdict(record)) + "\n")
            self._sink.flush()

    def _client(self, frontend: bool) -> Client:
        return Client(self._ports[frontend], self._tls)

    def _once(self, client: Client, kind: Kind) -> Record:
        number = next(self._numbers) if kind.path == COUNT else -1
        path = f"{kind.path}/{self._run}/{number}" if number > 0 else kind.path
        reused, at, began = client.reused, time.time(), time.monotonic()
        status, release, problem = 0, "", ""
        try:
            answer = client.ask(kind.method, path, self._login if kind in LOGINS else None)
            status = answer.status
            body = answer.read().decode("utf-8", "replace")
            release = release_of(answer, body)
            if status != 200:
                problem = body[:200]
        except (OSError, http.client.HTTPException) as error:
            client.close()
            problem = repr(error)
        return Record(kind.name, at, time.monotonic() - began, status, release, problem, reused, number)

    def _repeat(self, kind: Kind, offset: float) -> None:
        client = self._client(kind.frontend)
        due = time.monotonic() + offset
        while not self.stop.wait(max(0.0, due - time.monotonic())):
            self._note(self._once(client, kind))
            # who is late goes on at the same pace and makes up for nothing
            due = max(due + kind.period, time.monotonic() - kind.period)
        client.close()

    def _slow(self, name: str, frontend: bool) -> None:
        client = self._client(frontend)
        kind = Kind(name, frontend, "GET", f"/api/v1/load-test/slow/{SLOW_SECONDS}")
        while not self.stop.is_set():
            record = self._once(client, kind)
            self._note(record)
            if record.failed:
                self.stop.wait(0.2)
        client.close()

    def _life(self, client: Client, name: str) -> Record:
        """One life of an event stream, until somebody ends it."""
        at, began = time.time(), time.monotonic()
        status, release, problem, first = 0, "", "", 0.0
        try:
            answer = client.ask("GET", STREAM)
            status, release = answer.status, release_of(answer, "")
            # one that is closed in order ends here, with a last chunk or without; one that is reset raises
            while line := answer.readline():
                first = first or (time.monotonic() - began if line.startswith(b"data:") else 0.0)
                if self.stop.is_set():
                    break
            if status != 200:
                problem = f"status {status}"
        except (OSError, http.client.HTTPException) as error:
            problem = repr(error)
        client.close()
        return Record(name, at, time.monotonic() - began, status, release, problem, first=first)

    def _stream(self, name: str, frontend: bool) -> None:
        client = self._client(frontend)
        while not self.stop.is_set():
            record = self._life(client, name)
            self._note(record)
            # as browsers do, only sooner: so long without events is what the test measures
            if record.failed:
                self.stop.wait(0.1)

    def work(self, seconds: float) -> None:
        """Ask until stopped, at most so many seconds, and wait for the answers that are under way."""
        jobs: list[tuple[Callable[..., None], tuple[object, ...]]] = []
        for kind in (*SHORT, *LOGINS):
            # spread over a period, so that nobody's requests come in a bunch
            jobs += [(self._repeat, (kind, kind.period * number / kind.clients)) for number in range(kind.clients)]
        for frontend in (False, True):
            jobs += [(self._slow, (SLOW[frontend], frontend)), (self._stream, (STREAMS[frontend], frontend))]
        threads = [threading.Thread(target=target, args=arguments, daemon=True) for target, arguments in jobs]
        for thread in threads:
            thread.start()
        self.stop.wait(seconds)
        self.stop.set()
        for thread in threads:
            thread.join(TIMEOUT_SECONDS + 5)


@dataclass
class Load:
    """The load on a server, for the time of a `with` block, and what its users met.

    Attributes:
        host: the server, as testinfra sees it.
        folder: for the records, the server's CA and what the process says.
        run: name of the run; every run needs another one.
        login: user name and password.
        records: after the block, in the order in which they ended.
    """

    host: Any
    folder: Path
    run: str
    login: Mapping[str, str]
    records: list[Record] = field(default_factory=list)

    @property
    def output(self) -> Path:
        """Where the records are while the load runs."""
        return self.folder / f"{self.run}.jsonl"

    def read(self) -> list[Record]:
        """The records so far."""
        # the last line may be under way
        whole = self.output.read_text("utf-8").rpartition("\n")[0]
        return [Record(**json.loads(line)) for line in whole.splitlines()]

    @contextmanager
    def running(self, warm_up: float = 60) -> Iterator[Load]:
        """Load the server; the block begins when every kind has been answered."""
        authority = self.folder / f"{self.run}-ca.crt"
        authority.write_text(self.host.file("/opt/integr8scode/tls/public/ca.crt").content_string, "utf-8")
        port = int(self.host.connection["ansible_port"])
        command = [sys.executable, "-m", "tests.servers.release_load", "--https", str(port + 1)]
        command += ["--frontend", str(port + 2), "--ca", str(authority), "--run", self.run]
        command += ["--output", str(self.output)]
        self.output.write_text("", "utf-8")
        with (self.folder / f"{self.run}.log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "LOAD_LOGIN": json.dumps(dict(self.login))},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                self._wait_until_answered(process, warm_up)
                yield self
                assert process.poll() is None, f"the load ended by itself: {Path(log.name).read_text()}"
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(TIMEOUT_SECONDS + 20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                self.records = self.read()

    def _wait_until_answered(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        wanted = {kind.name for kind in (*SHORT, *LOGINS)} | set(SLOW)
        while missing := wanted - {record.kind for record in self.read() if not record.failed}:
            assert process.poll() is None, f"the load has ended: {(self.folder / f'{self.run}.log').read_text()}"
            assert time.monotonic() < deadline, f"no answer in {seconds} s: {sorted(missing)}"
            time.sleep(1)

    def counted(self) -> dict[int, int]:
        """How often the application began each POST of this run, by its number, as Redis has it."""
        redis = (
            "$(docker ps -q -f label=com.docker.compose.project=integr8scode -f label=com.docker.compose.service=redis)"
        )
        begun = self.host.check_output(f"docker exec {redis} redis-cli --raw smembers load-test:{self.run}").split()
        return dict(Counter(int(one.partition(":")[0]) for one in begun))


def failures(records: Sequence[Record]) -> list[Record]:
    """Those whose users saw anything but the answer; the end of an event stream is none."""
    return [record for record in records if record.failed and record.kind not in STREAMS]


def between(records: Sequence[Record], since: float, until: float) -> list[Record]:
    """Those that were under way at some time of a span (unix seconds)."""
    return [record for record in records if record.at < until and record.ended > since]


def outside(records: Sequence[Record], spans: Sequence[tuple[float, float]]) -> list[Record]:
    """Those that were under way at no time of some spans (unix seconds)."""
    return [record for record in records if all(record.at > until or record.ended < since for since, until in spans)]


def longest(records: Sequence[Record]) -> float:
    """Seconds of the slowest short request, logins apart."""
    return max((record.seconds for record in records if record.kind in SHORT_NAMES), default=0.0)


def releases(records: Sequence[Record]) -> Counter[str]:
    """How many answers each release gave."""
    return Counter(record.release for record in records if record.release)


def pauses(records: Sequence[Record], name: str) -> list[float]:
    """Seconds that an event stream was without events between two of its lives."""
    lives = [record for record in records if record.kind == name]
    good = [record for record in lives if record.first]
    return [after.at + after.first - before.ended for before, after in itertools.pairwise(good)]


def describe(records: Sequence[Record], limit: int = 20) -> str:
    """The failures, for a test's message."""
    failed = failures(records)
    lines = [f"{len(failed)} of {len(records)} failed; answers by release: {dict(releases(records))}"]
    for one in failed[:limit]:
        at = time.strftime("%H:%M:%S", time.localtime(one.at)) + f"{one.at % 1:.3f}"[1:]
        how = "used" if one.reused else "new"
        lines.append(f"  {at} {one.kind} ({how} connection) {one.seconds:.3f} s: {one.status} {one.problem}")
    return "\n".join(lines)


def main() -> int:
    """Be the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers.release_load", description=__doc__)
    parser.add_argument("--https", type=int, required=True, help="port of this machine that leads to the edge's 443")
    parser.add_argument(
        "--frontend", type=int, required=True, help="port of this machine that leads to the edge's 5001"
    )
    parser.add_argument(
        "--ca", type=Path, required=True, help="certificate of the authority that the server is proven by"
    )
    parser.add_argument("--run", required=True, help="name under which POSTs are counted")
    parser.add_argument("--output", type=Path, required=True, help="file for the records")
    parser.add_argument("--seconds", type=float, default=LONGEST_SECONDS, help="at most so long")
    options = parser.parse_args()
    # not among the arguments, which everybody can read
    login: dict[str, str] = json.loads(os.environ["LOAD_LOGIN"])
    tls = ssl.create_default_context(cafile=str(options.ca))
    with options.output.open("a", encoding="utf-8") as sink:
        users = Users((options.https, options.frontend), tls, options.run, login, sink)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: users.stop.set())
        with contextlib.suppress(KeyboardInterrupt):
            users.work(options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
