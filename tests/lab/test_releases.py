"""Are the releases to ship as good and as bad as the catalogue says?"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from docker.models.containers import Container

from tests.lab.application import Browser, Stack, certificates, ended, in_container, output, said, serving, stopped
from tests.lab.containers import until

# only the scenario `deploy` ships these releases, and it runs in make test-long
pytestmark = pytest.mark.long

LIVE = "/api/v1/health/live"
LOAD = {"config": {"RATE_LIMIT_ENABLED": False}}


def leave(stack: Stack, container: Container, name: str) -> None:
    """End a program and remove it: one that is killed holds its group's partitions for 45 s, and the next one waits."""
    container.stop(timeout=20)
    stack.remove(name)


@pytest.fixture(scope="module")
def good(stack: Stack) -> Iterator[Container]:
    container = stack.application("backend", tag="2026.2.30", **LOAD)
    yield container
    leave(stack, container, "backend")


def test_a_release_for_load_tests_says_its_name_in_every_answer(stack: Stack, good: Container) -> None:
    browser = serving(stack, good)
    for path in (LIVE, "/api/v1/load-test/slow/0", "/nowhere"):
        assert browser.get(path).headers["X-Release"] == "2026.2.30", path
    assert browser.login().headers["X-Release"] == "2026.2.30"


def test_it_answers_as_late_as_it_is_asked_to(stack: Stack, good: Container) -> None:
    browser = serving(stack, good)
    began = time.monotonic()
    assert browser.get("/api/v1/load-test/slow/1.5").json() == {"seconds": 1.5}
    assert 1.5 <= time.monotonic() - began < 5
    assert browser.get("/api/v1/load-test/slow/61").status_code == 422


def test_it_counts_each_post_by_its_number(stack: Stack, good: Container) -> None:
    browser = serving(stack, good)
    for number in (1, 2, 1):
        assert browser.post(f"/api/v1/load-test/count/run-1/{number}").json() == {"number": number}
    begun = in_container(stack.containers["redis"], "redis-cli", "--raw", "smembers", "load-test:run-1").split()
    assert sorted(one.partition(":")[0] for one in begun) == ["1", "1", "2"]
    assert browser.post("/api/v1/load-test/count/no*run/1").status_code == 422


def test_its_stream_goes_on_until_the_backend_is_stopped(stack: Stack) -> None:
    container = stack.application("streaming", tag="2026.2.31", **LOAD)
    serving(stack, container)
    tls = ssl.create_default_context(cafile=certificates(stack) / "server.crt")
    address = stack.url(container).removeprefix("https://").split(":")
    connection = http.client.HTTPSConnection(address[0], int(address[1]), timeout=20, context=tls)
    connection.request("GET", "/api/v1/events/load-test")
    answer = connection.getresponse()
    assert answer.headers["X-Release"] == "2026.2.31"
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    seen: list[bytes] = []

    def read() -> None:
        while line := answer.readline():
            seen.append(line)
        seen.append(b"end")
        # TLS is only over when the client says so too
        connection.close()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    until("ten events", 10, lambda: len([line for line in seen if line.startswith(b"data: ")]) >= 10)
    code, seconds = stopped(container)
    reader.join(10)
    stack.remove("streaming")
    assert code == 0
    assert seconds < 10
    assert seen[-1] == b"end"


def test_one_never_gets_healthy(stack: Stack) -> None:
    container = stack.application("unhealthy", tag="2026.2.32", **LOAD)
    said(container, "Application startup complete")
    browser = Browser(stack, stack.url(container))
    answers = [browser.get(LIVE) for _ in range(5)]
    # the rest of it answers
    assert browser.get("/api/v1/load-test/slow/0").status_code == 200
    leave(stack, container, "unhealthy")
    assert {answer.status_code for answer in answers} == {503}


def test_one_has_a_worker_that_crashes(stack: Stack) -> None:
    container = stack.worker("result-processor", tag="2026.2.34")
    said(container, "FastStream app started successfully!")
    began = time.monotonic()
    code = ended(container, 40)
    seconds, printed = time.monotonic() - began, output(container)
    stack.remove("result-processor")
    assert code == 1, printed
    assert seconds > 15
    assert "cannot be counted" in printed


TODAY: dict[str, Any] = {"config": {"KAFKA_MAX_POLL_RECORDS": 500}}


@pytest.mark.parametrize(("tag", "refused"), [("2026.2.34", False), ("2026.2.35", True)])
def test_one_refuses_a_key_of_todays_configuration(stack: Stack, tag: str, refused: bool) -> None:
    container = stack.application(
        "settings", ["python", "-c", "from app.settings import Settings; Settings()"], tag=tag, **TODAY
    )
    code, printed = ended(container), output(container)
    stack.remove("settings")
    assert (code == 1) == refused, printed
    assert ("extra_forbidden" in printed) == refused
    assert ("KAFKA_MAX_POLL_RECORDS" in printed) == refused


@pytest.mark.parametrize(("tag", "there"), [("2026.2.20", True), ("2026.2.21", False)])
def test_one_has_no_coordinator(stack: Stack, tag: str, there: bool) -> None:
    script = "import json, os; print(json.dumps(sorted(os.listdir('workers'))))"
    container = stack.application("shape", ["python", "-c", script], tag=tag)
    assert ended(container) == 0
    found = json.loads(output(container))
    stack.remove("shape")
    assert ("run_coordinator.py" in found) == there
    assert "run_saga_orchestrator.py" in found


@pytest.mark.parametrize("tag", ["2026.2.20", "2026.2.21", "2026.2.35"])
def test_others_have_none_of_this(stack: Stack, tag: str) -> None:
    container = stack.application("plain", tag=tag)
    answer = serving(stack, container).get("/api/v1/load-test/slow/0")
    leave(stack, container, "plain")
    assert answer.status_code == 404
    assert "X-Release" not in answer.headers


def test_a_frontend_says_its_release_in_its_bundle(stack: Stack) -> None:
    for tag in ("2026.2.30", "2026.2.31"):
        files = {"/etc/nginx/certs": certificates(stack)}
        image = stack.image("frontend", tag)
        page = stack.run("page", image, environment={"BACKEND_URL": "https://127.0.0.1"}, files=files, port=5001)
        text = serving(stack, page, 5001, "/").get("/build/main.js").text
        stack.remove("page")
        assert f"Integr8sCode {tag}\n" in text


def test_one_is_healthy_and_dies(stack: Stack) -> None:
    container = stack.application("dying", tag="2026.2.33", **LOAD)
    browser = serving(stack, container)
    began = time.monotonic()
    assert browser.get(LIVE).status_code == 200
    code = ended(container, 40)
    seconds, printed = time.monotonic() - began, output(container)
    stack.remove("dying")
    assert code == 3, printed
    assert seconds > 15
    assert "cannot be refreshed" in printed
