"""The verification: each of its checks tells a good stack from a bad one."""

from __future__ import annotations

import email.utils
import http.server
import json
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.kubernetes_access_probing import ProbeError
from ansible.module_utils.releases import containers, executions, verify
from ansible.module_utils.releases.containers import ServiceError, Stack
from ansible.module_utils.releases.edge import Edge
from ansible.module_utils.releases.verify import Outside, Request, VerificationError, Verifier

from tests.unit.conftest import RunModule
from tests.unit.releases.fake_server import FakeServer


@pytest.fixture
def verifier(server: FakeServer) -> Verifier:
    server.deployed("one")
    hashes = {name: found[0] for name, found in server.hashes().items()}
    return Verifier(Stack(), Edge(server.base / "edge"), hashes, server.clock.monotonic() + 5)


def outside(server: FakeServer, **more: Any) -> Outside:
    values = {"https_port": 8443, "frontend_port": 5001, "server_name": "x", "ca": Path("ca"), "username": "user"}
    return Outside(**{**values, "passwords": None, **more})


# -- containers


def test_a_good_stack_passes(server: FakeServer, verifier: Verifier) -> None:
    verifier.wait_until_well()
    verifier.edge_serves_these()
    verifier.ask_edge(outside(server))
    verifier.find_consumer_groups(["k8s-worker"])
    verifier.reach_kubernetes({"image": "registry.example:5000/backend:one", "namespace": "integr8scode"})
    verifier.watch(3)
    assert verifier.notes == []


def test_a_missing_container_is_named(server: FakeServer, verifier: Verifier) -> None:
    server.containers_now.remove(server.running("kafka")[0])
    with pytest.raises(ServiceError, match="kafka has no container"):
        verifier.wait_until_well()


def test_a_container_of_another_release_is_named(server: FakeServer, verifier: Verifier) -> None:
    server.running("pod-monitor")[0].spec["hash"] = "two"
    with pytest.raises(ServiceError, match=r"pod-monitor runs in a container of another release \(integr8scode-pod"):
        verifier.wait_until_well()


def test_a_second_copy_of_another_release_is_named(server: FakeServer, verifier: Verifier) -> None:
    server.create("backend", {"hash": "two"})
    assert verifier.problem() is not None


@pytest.mark.parametrize(
    ("status", "said"), [("exited", r"is exited \(exit code 3\)"), ("restarting", "is restarting")]
)
def test_a_container_that_does_not_run_is_shown_with_its_last_lines(
    server: FakeServer, verifier: Verifier, status: str, said: str
) -> None:
    live = server.running("coordinator")[0]
    live.status, live.exit_code = status, 3
    with pytest.raises(ServiceError, match=rf"coordinator {said}") as told:
        verifier.wait_until_well()
    assert f"the last 20 lines of {live.name}" in str(told.value)


def test_want_of_memory_is_named() -> None:
    state = {"Status": "exited", "ExitCode": 137, "OOMKilled": True}
    killed: Any = type("Killed", (), {"attrs": {"State": state}})
    assert containers.problem_of(killed) == "is exited (exit code 137, killed for want of memory)"


def test_one_without_a_health_check_is_well_when_it_runs() -> None:
    plain: Any = type("Plain", (), {"attrs": {"State": {"Status": "running", "ExitCode": 0}}})
    assert containers.problem_of(plain) is None


def test_one_that_gets_healthy_in_time_is_waited_for(server: FakeServer, verifier: Verifier) -> None:
    live = server.running("backend")[0]
    live.spec["healthy_after"], live.started = 3, server.clock.time()
    verifier.wait_until_well()


def test_a_service_that_is_not_the_releases_is_named(server: FakeServer, verifier: Verifier) -> None:
    server.create("grafana", {"hash": "x"})
    with pytest.raises(ServiceError, match="grafana is no service of this release"):
        verifier.wait_until_well()


def test_logs_that_cannot_be_read_hide_nothing(server: FakeServer, verifier: Verifier) -> None:
    container = Stack().of("kafka")[0]
    server.engine_back_at = 2**40
    assert "(they cannot be read: Connection aborted)" in str(ServiceError("kafka is exited", [container]))


# -- the edge


def test_an_edge_that_sends_to_nobody_is_told(server: FakeServer, verifier: Verifier) -> None:
    for slot in server.edge.takes("backend"):
        slot.drained = 1.0
    with pytest.raises(VerificationError, match="sends requests for backend to nobody"):
        verifier.edge_serves_these()


def test_an_edge_that_sends_to_a_stranger_is_told(server: FakeServer, verifier: Verifier) -> None:
    stranger = next(slot for slot in server.edge.slots if slot.backend == "frontend" and not slot.address)
    server.edge.tick = lambda _: None  # type: ignore[method-assign]
    stranger.address, stranger.up = "10.9.9.9", True
    with pytest.raises(VerificationError, match=r"requests for frontend to 10\.9\.9\.9, 172"):
        verifier.edge_serves_these()


def test_an_edge_that_sends_to_the_old_copy_too_is_told(server: FakeServer, verifier: Verifier) -> None:
    server.create("backend", {"hash": "two"})
    server.clock.pass_by(5)
    verifier.deadline = server.clock.monotonic() + 2
    with pytest.raises(VerificationError, match="sends requests for backend to 172"):
        verifier.edge_serves_these()


# -- the stable window


def test_a_restart_in_the_window_is_told(server: FakeServer, verifier: Verifier) -> None:
    live = server.running("result-processor")[0]
    live.spec["dies_after"] = server.clock.time() - live.started + 5
    with pytest.raises(ServiceError, match=r"result-processor restarted 1 time\(s\) while it was watched"):
        verifier.watch(10)


def test_what_it_said_before_its_restart_is_shown(server: FakeServer, verifier: Verifier) -> None:
    server.running("result-processor")[0].restarts = 1
    verifier.known = set()
    with pytest.raises(ServiceError) as raised:
        verifier.watch(10)
    assert "why integr8scode-result-processor" in str(raised.value)
    assert "well again" not in str(raised.value)


def test_a_new_container_that_restarted_is_not_waited_for(server: FakeServer, verifier: Verifier) -> None:
    live = server.running("backend")[0]
    live.restarts = 1
    # it was there before
    verifier.known = {one.id for one in server.containers_now}
    verifier.wait_until_well()
    verifier.known -= {live.id}
    began = server.clock.monotonic()
    with pytest.raises(ServiceError, match=r"backend restarted 1 time\(s\)"):
        verifier.wait_until_well()
    assert server.clock.monotonic() - began < 1


def test_one_that_ends_in_the_window_is_told(server: FakeServer, verifier: Verifier) -> None:
    def ends(_: str) -> None:
        server.running("kafka")[:] = []
        for live in server.containers_now:
            if live.service == "kafka":
                live.status, live.exit_code = "exited", 1

    server.before_call = ends
    with pytest.raises(ServiceError, match=r"kafka is exited \(exit code 1\) while it was watched"):
        verifier.watch(10)


def test_the_window_is_as_long_as_it_is_said_to_be(server: FakeServer, verifier: Verifier) -> None:
    began = server.clock.monotonic()
    verifier.watch(12.5)
    assert 12.5 <= server.clock.monotonic() - began < 14


def test_a_window_of_nothing_still_looks_once(server: FakeServer, verifier: Verifier) -> None:
    live = server.running("k8s-worker")[0]
    live.restarts = 2
    verifier.watch(0)
    verifier.known = {one.id for one in server.containers_now if one is not live}
    with pytest.raises(ServiceError, match="k8s-worker restarted 2 time"):
        verifier.watch(0)


# -- Kafka and Kubernetes


def test_a_group_that_is_missing_is_waited_for_and_named(server: FakeServer, verifier: Verifier) -> None:
    server.missing_groups = {"pod-monitor"}
    began = server.clock.monotonic()
    with pytest.raises(VerificationError, match="no consumer group pod-monitor in Kafka"):
        verifier.find_consumer_groups(["pod-monitor", "k8s-worker"])
    assert server.clock.monotonic() - began >= 5
    verifier.find_consumer_groups([])


def test_a_kafka_that_is_gone_is_told(server: FakeServer, verifier: Verifier) -> None:
    server.containers_now.remove(server.running("kafka")[0])
    with pytest.raises(VerificationError, match="kafka has no container"):
        verifier.find_consumer_groups(["k8s-worker"])


def test_kubernetes_that_refuses_is_told_with_the_cure(server: FakeServer, verifier: Verifier) -> None:
    row = {"call": "list pods", "expected": "allowed", "got": "403", "ok": False, "message": "x cannot list pods"}
    server.reports = [{"worker": "pod-monitor", "fatal": None, "results": [row]}]
    with pytest.raises(
        VerificationError, match=r"pod-monitor: list pods: expected allowed, got 403 .*\nCure: run the role"
    ):
        verifier.reach_kubernetes({"image": "registry.example:5000/backend:one", "namespace": "integr8scode"})


def test_a_probe_that_cannot_be_made_is_told(verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Any) -> None:
        raise ProbeError("no result within 90 s")

    monkeypatch.setattr(verify, "probe_all", fails)
    with pytest.raises(VerificationError, match="no result within 90 s"):
        verifier.reach_kubernetes({"namespace": "x"})


def test_a_kubernetes_that_is_started_again_is_waited_for(server: FakeServer, verifier: Verifier) -> None:
    server.reports = [{"worker": "k8s-worker", "fatal": {"kind": "connect", "message": "refused"}, "results": []}]
    verifier.deadline = server.clock.monotonic() + 60
    back = server.clock.monotonic() + 30
    server.before_call = lambda _: server.reports.clear() if server.clock.monotonic() > back else None
    verifier.reach_kubernetes({"image": "registry.example:5000/backend:one", "namespace": "integr8scode"})
    assert server.clock.monotonic() < back + 5
    assert verifier.notes == []


# -- from outside, over TLS


class Web(http.server.BaseHTTPRequestHandler):
    """An edge that answers health and page, and logs in one user."""

    status = 200
    retry_after = ""
    asked: list[str] = []  # noqa: RUF012 - emptied by each test

    def do_GET(self) -> None:
        self.asked.append(f"GET {self.path}")
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.asked.append(f"POST {self.path} {body}")
        self.send_response(self.status)
        if self.retry_after:
            self.send_header("Retry-After", self.retry_after)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def web(tmp_path: Path, run_part: RunModule) -> Iterator[Outside]:
    """How to reach an edge on this machine whose certificate names app.example."""
    made = run_part(
        "certificates",
        {
            "ca": {"certificate": str(tmp_path / "ca.crt"), "key": str(tmp_path / "ca.key"), "common_name": "CA"},
            "certificates": [
                {
                    "name": "public",
                    "with_ca": True,
                    "common_name": "app.example",
                    "dns_names": ["app.example"],
                    "directory": str(tmp_path / "public"),
                }
            ],
        },
    )
    assert not made.get("failed"), made
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "public/server.crt", tmp_path / "public/server.key")
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    listening.socket = context.wrap_socket(listening.socket, server_side=True)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    Web.asked.clear()
    Web.status, Web.retry_after = 200, ""
    passwords = tmp_path / "user_passwords.json"
    passwords.write_text(json.dumps({"DEFAULT_USER_PASSWORD": "p&ss wörd"}))
    port = listening.server_port
    yield Outside(port, port, "app.example", tmp_path / "public/ca.crt", "user", passwords)
    listening.shutdown()
    listening.server_close()


class Now(Verifier):
    """A verifier whose time is over, so that each check is made once."""

    def __init__(self) -> None:
        super().__init__(Stack(), Edge(Path("/nowhere")), {}, 0.0)


def test_health_and_page_are_asked_on_both_ports(web: Outside) -> None:
    Now().ask_edge(web)
    assert Web.asked == ["GET /api/v1/health/live", "GET /", "GET /api/v1/health/live"]


def test_a_login_is_a_form(web: Outside) -> None:
    now = Now()
    now.log_in(web, password_must_fit=True)
    assert Web.asked == ["POST /api/v1/auth/login username=user&password=p%26ss+w%C3%B6rd"]
    assert now.notes == []


def test_a_password_that_somebody_changed_is_a_note_unless_it_was_just_set(web: Outside) -> None:
    Web.status = 401
    now = Now()
    now.log_in(web, password_must_fit=False)
    assert now.notes == [
        "the login as user was answered with 401: its password is not the inventory's. Mongo and Redis do answer."
    ]
    with pytest.raises(VerificationError, match="although user-seed has just set this password"):
        now.log_in(web, password_must_fit=True)


@pytest.mark.parametrize(
    ("status", "why"), [(429, "the application's limiter holds logins back"), (423, "the account is locked")]
)
@pytest.mark.parametrize("just_set", [True, False])
def test_a_login_that_is_held_back_is_no_failure_and_no_proof(
    web: Outside, status: int, why: str, just_set: bool
) -> None:
    Web.status = status
    now = Now()
    now.log_in(web, password_must_fit=just_set)
    (note,) = now.notes
    assert note.startswith(f"the login as user was answered with {status} to the end: {why}")
    assert "password is not" not in note
    assert note.endswith("that users can log in was not proven.")


@pytest.fixture
def held_back(server: FakeServer, verifier: Verifier, tmp_path: Path) -> Outside:
    """A login that the limiter refuses, with a minute and a half for the whole verification."""
    passwords = tmp_path / "user_passwords.json"
    passwords.write_text(json.dumps({"DEFAULT_USER_PASSWORD": "x"}))
    server.answers["login"] = 429
    verifier.deadline = server.clock.monotonic() + 90
    return outside(server, passwords=passwords)


def test_a_limiter_that_lets_go_is_waited_for(server: FakeServer, verifier: Verifier, held_back: Outside) -> None:
    server.retry_after = 42.0
    began = server.clock.monotonic()
    calls: list[str] = []

    def lets_go(what: str) -> None:
        calls.append(what)
        if server.clock.monotonic() - began > 40:
            server.answers.clear()

    server.before_call = lets_go
    verifier.log_in(held_back, password_must_fit=True)
    assert verifier.notes == []
    assert 42 <= server.clock.monotonic() - began < 44
    # refused requests are counted too: it is asked again only when it said
    assert calls.count("http") == 2


@pytest.mark.parametrize(("retry_after", "waits"), [(None, 60), (30.0, 90), (600.0, 0)])
def test_a_limiter_that_stays_is_not_waited_for_longer_than_there_is_time(
    server: FakeServer, verifier: Verifier, held_back: Outside, retry_after: float | None, waits: float
) -> None:
    server.retry_after = retry_after
    began = server.clock.monotonic()
    verifier.log_in(held_back, password_must_fit=True)
    assert waits - 31 < server.clock.monotonic() - began <= 90
    assert (server.clock.monotonic() - began > 1) == bool(waits)
    assert len(verifier.notes) == 1


def test_a_password_that_turns_out_wrong_after_the_wait_is_a_failure(
    server: FakeServer, verifier: Verifier, held_back: Outside
) -> None:
    server.before_call = lambda what: server.answers.update(login=401) if what == "sleep" else None
    with pytest.raises(VerificationError, match="although user-seed has just set this password"):
        verifier.log_in(held_back, password_must_fit=True)


def test_when_to_come_back_is_read_as_a_number_and_as_a_date(web: Outside) -> None:
    Web.retry_after = "17"
    login = Request(web.https_port, "POST", "/", {"a": "b"})
    assert login.send(web) == verify.Reply(200, 17.0)
    soon = verify.seconds_of(email.utils.formatdate(time.time() + 100, usegmt=True))
    assert soon is not None
    assert 90 < soon <= 100
    assert verify.seconds_of("Thu, 01 Jan 1970 00:00:00 GMT") == 0
    assert [verify.seconds_of(text) for text in (None, "", "soon", "-3")] == [None] * 4


def test_a_login_that_is_an_error_fails_and_shows_no_password(web: Outside) -> None:
    Web.status = 500
    with pytest.raises(VerificationError, match="a login as user through the edge: HTTP status 500") as told:
        Now().log_in(web, password_must_fit=False)
    assert "p&ss" not in str(told.value)
    assert "p&ss" not in repr(Request(1, "POST", "/", {"password": "p&ss"}))


def test_nobody_is_logged_in_whose_password_is_not_known(web: Outside, server: FakeServer) -> None:
    for unknown in (outside(server), outside(server, username=""), outside(server, username="somebody")):
        Now().log_in(unknown, password_must_fit=True)
    assert Web.asked == []


def test_a_certificate_for_another_name_is_an_error(web: Outside) -> None:
    from dataclasses import replace

    with pytest.raises(VerificationError, match=r"the backend's health through the edge: SSLCertVerificationError"):
        Now().ask_edge(replace(web, server_name="other.example"))
    with pytest.raises(VerificationError, match="FileNotFoundError"):
        Now().ask_edge(replace(web, ca=Path("/nowhere")))


def test_a_closed_port_is_an_error(web: Outside) -> None:
    from dataclasses import replace

    with pytest.raises(VerificationError, match="ConnectionRefusedError"):
        Now().ask_edge(replace(web, https_port=1))


# -- executions


class Backend:
    """A container that answers."""

    def __init__(self, exit_code: int, out: bytes | None, said: bytes | None = None) -> None:
        self.answer = type("Answer", (), {"exit_code": exit_code, "output": (out, said)})

    def exec_run(self, command: list[str], demux: bool) -> Any:
        assert demux
        assert "password" not in " ".join(command)
        return self.answer


def test_executions_are_read_from_the_last_line() -> None:
    assert executions.unfinished(Backend(0, b'a warning\n[["e1", "running"], ["e2", "queued"]]\n')) == ["e1", "e2"]


def test_executions_that_were_lost_before_are_not_waited_for_again() -> None:
    answer = Backend(0, b'[["e1", "queued"], ["e2", "queued"]]\n')
    assert executions.unfinished(answer, {"e1"}) == ["e2"]


def test_executions_are_asked_for_that_the_coordinator_can_still_have(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    class Found(list[Any]):
        def limit(self, _: int) -> Found:
            return self

    class Client:
        def __init__(self, url: str, **_: Any) -> None:
            assert url == "mongodb://mongo/integr8scode"
            self.executions = self

        def get_default_database(self, _: str) -> Client:
            return self

        def find(self, query: Any, _: Any) -> Found:
            asked.append(query)
            return Found([{"_id": 1, "execution_id": "e1", "status": "queued"}])

    settings = ModuleType("app.settings")
    settings.Settings = lambda: SimpleNamespace(MONGODB_URL="mongodb://mongo/integr8scode")  # type: ignore[attr-defined]
    driver = ModuleType("pymongo")
    driver.MongoClient = Client  # type: ignore[attr-defined]
    for name, module in {"app": ModuleType("app"), "app.settings": settings, "pymongo": driver}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys, "argv", ["-c", "3600", "queued", "running"])
    exec(executions.PROGRAM, {})  # noqa: S102  (it runs in the backend, with the driver there)
    (query,) = asked
    assert query["status"] == {"$in": ["queued", "running"]}
    # the application never ends one that was lost: without a limit it would be waited for at every deploy
    age = datetime.now(timezone.utc) - query["created_at"]["$gte"]
    assert 3600 <= age.total_seconds() < 3660
    assert json.loads(capsys.readouterr().out) == [["e1", "queued"]]


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        (Backend(1, None, b"Traceback\nServerSelectionTimeoutError: mongodb://root:hunter2@mongo"), "ServerSelection"),
        (Backend(1, None, b"Error: mongodb+srv://root:hunter2@mongo"), "counted: Error:"),
        (Backend(1, None, None), "it said nothing"),
        (Backend(0, b""), "cannot be counted"),
        (Backend(0, b"no json"), "cannot be counted"),
        (Backend(0, b"3"), "cannot be counted"),
    ],
)
def test_what_cannot_be_counted_is_told_without_a_password(backend: Backend, said: str) -> None:
    with pytest.raises(executions.ExecutionsError, match=said) as told:
        executions.unfinished(backend)
    assert "hunter2" not in str(told.value)


def test_waiting_for_executions_has_a_limit() -> None:
    waited: list[float] = []
    assert executions.wait_for_none(lambda: ["e1"], 5, waited.append) == ["e1"]
    assert waited == [2.0, 2.0, 2.0]
    left = [["e1"], ["e1"], []]
    assert executions.wait_for_none(lambda: left.pop(0), 60, waited.append) == []
    assert executions.wait_for_none(lambda: ["e1"], 0, waited.append) == ["e1"]
    assert len(waited) == 5
