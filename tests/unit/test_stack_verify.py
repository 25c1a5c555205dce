"""The verification tells a good stack from a bad one, and names what is bad with its last lines."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.modules import stack_verify

IMAGE = f"registry.example/backend:2026.2.20@sha256:{'a' * 64}"
PASSWORD = "a-password-for-tests"


class Container:
    """What docker-py's container offers and the module uses."""

    def __init__(self, service: str, **changes: Any) -> None:
        self.id = self.name = service
        self.labels = {"com.docker.compose.service": service, "com.docker.compose.oneoff": "False"}
        state = {"Status": "running", "ExitCode": 0, "OOMKilled": False, **changes.pop("state", {})}
        self.attrs = {"State": state, "Config": {"Image": IMAGE}, "RestartCount": 0, **changes}

    def logs(self, tail: int) -> bytes:
        return f"the last {tail} lines of {self.name}".encode()

    def exec_run(self, command: list[str], environment: dict[str, str]) -> Any:
        assert command[0] == "kafka-consumer-groups"
        assert environment == {"KAFKA_HEAP_OPTS": "-Xmx96m"}
        return type("Answer", (), {"output": b"GROUP STATE\nexecution-coordinator Stable\nk8s-worker Stable\n"})


class Engine:
    """A Docker client with these containers; each look may show others."""

    def __init__(self, *looks: list[Container]) -> None:
        self.looks = list(looks)
        self.containers = self

    def list(self, **_: Any) -> list[Container]:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


class Edge(http.server.BaseHTTPRequestHandler):
    """An edge that answers health and page, and logs in one user."""

    login_status = 200

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        assert body == f"username=user&password={PASSWORD}"
        self.send_response(self.login_status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def edge(tmp_path: Path, run_module: Any) -> Iterator[dict[str, Any]]:
    """Arguments of the module for an edge that runs here, with a certificate of the project's own making."""
    names = {"common_name": "app.example", "dns_names": ["app.example"], "directory": str(tmp_path / "public")}
    made = run_module(
        "service_certificates",
        {
            "ca": {"certificate": str(tmp_path / "ca.crt"), "key": str(tmp_path / "ca.key"), "common_name": "CA"},
            "certificates": [{"name": "public", "with_ca": True, **names}],
        },
    )
    assert not made.get("failed"), made
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "public/server.crt", tmp_path / "public/server.key")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Edge)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield {
        "services": {"backend": IMAGE, "kafka": IMAGE},
        "ca": str(tmp_path / "public/ca.crt"),
        "server_name": "app.example",
        "https_port": server.server_port,
        "frontend_port": server.server_port,
        "password": PASSWORD,
        "consumer_groups": ["k8s-worker"],
        "timeout": 2,
        "stable_seconds": 0,
    }
    server.shutdown()
    server.server_close()


@pytest.fixture
def verify(edge: dict[str, Any], run_module: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(*looks: list[Container], **changes: Any) -> dict[str, Any]:
        monkeypatch.setattr(stack_verify, "connect", lambda: Engine(*looks))
        answer: dict[str, Any] = run_module("stack_verify", {**edge, **changes})
        assert PASSWORD not in str(answer)
        return answer

    return run


def good() -> list[Container]:
    return [Container("backend"), Container("kafka")]


def test_a_good_stack_passes(verify: Any) -> None:
    answer = verify(good())
    assert not answer.get("failed"), answer
    assert answer["notes"] == []


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (Container("backend", state={"Status": "exited", "ExitCode": 3}), "backend is exited (exit code 3)"),
        (Container("backend", state={"Status": "exited", "ExitCode": 137, "OOMKilled": True}), "for want of memory"),
        (Container("backend", state={"Health": {"Status": "unhealthy"}}), "backend is unhealthy"),
        (Container("backend", Config={"Image": "registry.example/backend:2026.2.19"}), "expected " + IMAGE),
    ],
)
def test_a_bad_service_is_named_with_its_last_lines(verify: Any, bad: Container, says: str) -> None:
    answer = verify([bad, Container("kafka")])
    assert answer["failed"]
    assert says in answer["msg"]
    assert "the last 20 lines of backend" in answer["msg"]


def test_a_service_that_is_not_there_is_named(verify: Any) -> None:
    assert "backend has no container" in verify([Container("kafka")])["msg"]


def test_a_restart_in_the_window_is_a_failure(verify: Any) -> None:
    again = [Container("backend", RestartCount=1), Container("kafka")]
    answer = verify(good(), good(), good(), again, stable_seconds=1)
    assert "backend restarted 1 time(s)" in answer["msg"]


def test_a_missing_consumer_group_is_named(verify: Any) -> None:
    assert "no consumer group saga-orchestrator" in verify(good(), consumer_groups=["saga-orchestrator"])["msg"]


def test_a_refused_login_is_a_note_unless_the_password_was_just_set(verify: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(Edge, "login_status", 401)
    assert "answered with 401" in verify(good())["notes"][0]
    assert "user-seed has just set" in verify(good(), password_must_fit=True)["msg"]


def test_a_login_that_fails_is_a_failure(verify: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(Edge, "login_status", 500)
    assert "a login as user through the edge: HTTP status 500" in verify(good())["msg"]


def test_a_certificate_for_another_name_is_a_failure(verify: Any) -> None:
    answer = verify(good(), server_name="other.example")
    assert answer["failed"]
    assert "CERTIFICATE_VERIFY_FAILED" in answer["msg"]
