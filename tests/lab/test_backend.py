"""Does the backend's stand-in refuse, stall, limit and stop as the real one does?"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import requests
from docker.models.containers import Container

from tests.lab.application import (
    SECRETS,
    USER_PASSWORD,
    Browser,
    Stack,
    ended,
    in_container,
    output,
    said,
    serving,
    stopped,
)
from tests.lab.containers import until

LIVE = "/api/v1/health/live"
PRINT_HELLO = {"script": "print('hello')", "lang": "python", "lang_version": "3.11"}


@pytest.fixture(scope="module")
def backend(stack: Stack) -> Iterator[Container]:
    """Provide a backend with the start delay that it has by itself."""
    container = stack.application("backend", environment={"LAB_START_SECONDS": "", "WEB_CONCURRENCY": "2"})
    yield container
    stack.remove("backend")


@pytest.fixture
def browser(stack: Stack, backend: Container) -> Browser:
    return serving(stack, backend)


def test_it_listens_long_before_it_answers(stack: Stack, backend: Container) -> None:
    address = stack.url(backend).removeprefix("https://").split(":")
    said(backend, "Listening at: https://0.0.0.0:443", 10)
    with socket.create_connection((address[0], int(address[1])), timeout=2):
        pass
    with pytest.raises(requests.exceptions.RequestException):
        Browser(stack, stack.url(backend)).get(LIVE, timeout=2)
    answered = serving(stack, backend).get(LIVE)
    assert answered.json()["status"] == "ok"
    assert set(answered.json()) == {"status", "uptime_seconds", "timestamp"}
    assert output(backend).startswith("Starting application...")


def test_login_gives_cookies_and_a_csrf_token(browser: Browser) -> None:
    answer = browser.login()
    assert answer.status_code == 200
    assert {**answer.json(), "csrf_token": ""} == {
        "message": "Login successful",
        "username": "user",
        "role": "user",
        "csrf_token": "",
    }
    assert set(answer.cookies.keys()) == {"access_token", "csrf_token"}
    assert answer.cookies["csrf_token"] == answer.json()["csrf_token"]
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=strict" in answer.headers["set-cookie"]
    assert browser.get("/api/v1/auth/me").json()["username"] == "user"


def test_login_is_a_form_and_needs_the_right_password(stack: Stack, browser: Browser) -> None:
    wrong = browser.login(password="wrong")
    assert wrong.status_code == 401
    assert wrong.json() == {"detail": "Invalid credentials", "type": "InvalidCredentialsError"}
    assert browser.login(user="nobody").status_code == 401
    as_json = browser.post("/api/v1/auth/login", json={"username": "user", "password": USER_PASSWORD})
    assert as_json.status_code == 422
    nobody = browser.get("/api/v1/auth/me")
    assert nobody.status_code == 401
    assert nobody.json() == {"detail": "Not authenticated", "type": "AuthenticationRequiredError"}


def test_the_fifth_wrong_password_locks_the_account(stack: Stack, browser: Browser) -> None:
    assert [browser.login("locked", "wrong").status_code for _ in range(5)] == [401] * 4 + [423]
    assert browser.login("locked", "right").status_code == 423


def test_nothing_names_the_version(stack: Stack, backend: Container, browser: Browser) -> None:
    for path in ("/", "/version", "/api/v1/version", "/api/v1/health/ready", "/metrics", "/docs", "/openapi.json"):
        assert browser.get(path).status_code == 404, path
    listening = in_container(backend, "python", "-c", "print(open('/proc/net/tcp').read())")
    ports = {
        int(line.split()[1].split(":")[1], 16) for line in listening.splitlines()[1:] if line.split()[3:4] == ["0A"]
    }
    assert 443 in ports
    assert 9090 not in ports


def test_the_sixty_first_request_of_a_minute_is_refused(stack: Stack, browser: Browser) -> None:
    assert {browser.get(LIVE).status_code for _ in range(60)} == {200}
    refused = browser.get(LIVE)
    assert refused.status_code == 429
    assert refused.json()["detail"] == "Rate limit exceeded"
    assert 0 < int(refused.headers["Retry-After"]) <= 61
    # one path of one address: another path and another address are free, login has no limit of this kind
    assert browser.get("/api/v1/k8s-limits").status_code == 404
    assert browser.login().status_code == 200
    assert Browser(stack, browser.base).get(LIVE).status_code == 200
    # the first entry counts, whoever wrote it
    mine = str(browser.headers["X-Forwarded-For"])
    assert browser.get(LIVE, headers={"X-Forwarded-For": f"203.0.113.9, {mine}"}).status_code == 200
    assert browser.get(LIVE, headers={"X-Forwarded-For": f"{mine}, 203.0.113.9"}).status_code == 429
    # without that header X-Real-IP counts
    real = {"X-Forwarded-For": "", "X-Real-IP": mine}
    assert browser.get(LIVE, headers=real).status_code == 429


def test_refused_requests_count_too(stack: Stack, browser: Browser) -> None:
    for _ in range(62):
        browser.get(LIVE)
    key = f"rate_limit:sw:ip:{browser.headers['X-Forwarded-For']}:{LIVE}"
    assert in_container(stack.containers["redis"], "redis-cli", "zcard", key).strip() == "62"


def test_a_change_without_csrf_token_is_refused(browser: Browser) -> None:
    browser.login()
    del browser.headers["X-CSRF-Token"]
    answer = browser.post("/api/v1/execute", json=PRINT_HELLO)
    assert answer.status_code == 403
    assert answer.json() == {"detail": "CSRF validation failed"}


def test_an_execution_is_queued_and_told_to_kafka(stack: Stack, browser: Browser) -> None:
    assert browser.post("/api/v1/execute", json=PRINT_HELLO).status_code == 401
    browser.login()
    assert browser.post("/api/v1/execute", json={**PRINT_HELLO, "lang": "cobol"}).status_code == 422
    answer = browser.post("/api/v1/execute", json=PRINT_HELLO)
    assert answer.status_code == 200
    assert set(answer.json()) == {"execution_id", "status"}
    assert answer.json()["status"] == "queued"
    execution_id = answer.json()["execution_id"]
    result = browser.get(f"/api/v1/executions/{execution_id}/result").json()
    assert (result["status"], result["stdout"]) == ("queued", None)
    sent = in_container(
        stack.containers["kafka"],
        *("kafka-console-consumer", "--bootstrap-server", "kafka:29092", "--topic", "execution_requested"),
        *("--from-beginning", "--max-messages", "1", "--timeout-ms", "20000"),
    )
    event = json.loads(next(line for line in sent.splitlines() if line.startswith("{")))
    assert (event["event_type"], event["execution_id"]) == ("execution_requested", execution_id)
    assert event["runtime_image"] == "python:3.11-slim"


def test_event_streams_need_a_login_and_cross_over_through_redis(stack: Stack, browser: Browser) -> None:
    assert browser.get("/api/v1/events/executions/some").status_code == 401
    browser.login()
    with browser.get("/api/v1/events/executions/some", stream=True) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = (line.removeprefix("data: ") for line in answer.iter_lines(decode_unicode=True) if line)
        assert [json.loads(next(lines))["event_type"] for _ in range(2)] == ["connected", "subscribed"]
        message = {"event_type": "result_stored", "execution_id": "some", "data": {"storage_path": "some"}}
        in_container(stack.containers["redis"], "redis-cli", "publish", "sse:exec:some", json.dumps(message))
        assert json.loads(next(lines))["event_type"] == "result_stored"
        # the last event of an execution ends its stream
        assert list(lines) == []


def test_its_consumer_groups_are_there(stack: Stack, browser: Browser) -> None:
    groups = in_container(
        stack.containers["kafka"], "kafka-consumer-groups", "--bootstrap-server", "kafka:29092", "--list"
    )
    assert {"sse-bridge-pool", "notification-service"} <= set(groups.split())


def test_without_redis_login_fails_and_the_limiter_takes_everything_with_it(stack: Stack) -> None:
    # RATE_LIMIT_ENABLED=false: only then does the health check touch nothing
    limited = stack.application("backend-limited")
    free = stack.application("backend-free", config={"RATE_LIMIT_ENABLED": False})
    limited_browser, free_browser = serving(stack, limited), serving(stack, free)
    stack.containers["redis"].stop()
    try:
        assert free_browser.get(LIVE).status_code == 200
        assert free_browser.login().status_code == 500
        assert limited_browser.get(LIVE, timeout=30).status_code == 500
    finally:
        stack.containers["redis"].start()
    until("login works again", 20, lambda: free_browser.login().ok)
    until("the limiter works again", 20, lambda: limited_browser.get(LIVE).ok)
    stack.remove("backend-limited")
    stack.remove("backend-free")


def test_sigterm_answers_what_was_asked_and_cuts_event_streams(stack: Stack) -> None:
    container = stack.application("backend-stop")
    browser = serving(stack, container)
    browser.login()
    asked: list[int] = []
    cut: list[Exception] = []
    stream = browser.get("/api/v1/events/notifications/stream", stream=True, timeout=30)
    assert stream.status_code == 200

    def watch() -> None:
        try:
            for _ in stream.iter_content(1):
                pass
        except requests.exceptions.RequestException as error:
            cut.append(error)

    def ask() -> None:
        # bcrypt keeps it busy while the signal arrives
        asked.append(Browser(stack, browser.base).login("admin", "wrong").status_code)

    threads = [threading.Thread(target=watch), threading.Thread(target=ask)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    code, seconds = stopped(container)
    for thread in threads:
        thread.join(10)
    assert (code, asked) == (0, [401])
    assert seconds < 4
    # nothing announces the end: the connection just breaks
    assert len(cut) == 1
    assert "Handling signal: term" in output(container)
    assert "Shutting down: Master" in output(container)
    stack.remove("backend-stop")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"config": {"NO_SUCH_KEY": 1}}, ["NO_SUCH_KEY", "extra_forbidden"]),
        ({"secrets": {"SECRET_KEY": "too-short"}}, ["SECRET_KEY", "string_too_short"]),
        ({"secrets": None}, ["SECRET_KEY", "Field required"]),
        (
            {"secrets": {"MONGODB_URL": "mongodb://root:wrong@mongo:27017/integr8scode?authSource=admin"}},
            ["OperationFailure: Authentication failed", "'code': 18"],
        ),
        (
            {
                "secrets": {
                    "MONGODB_URL": SECRETS["MONGODB_URL"].replace("mongo:", "redis:") + "&serverSelectionTimeoutMS=900"
                }
            },
            ["ServerSelectionTimeoutError", "redis:27017"],
        ),
        ({"config": {"KAFKA_BOOTSTRAP_SERVERS": "redis:29092"}}, ["KafkaConnectionError: Unable to bootstrap"]),
        ({"config": {"REDIS_HOST": "kafka"}}, ["redis.exceptions.ConnectionError"]),
    ],
    ids=["unknown-key", "short-key", "no-secrets", "wrong-password", "no-mongo", "no-kafka", "no-redis"],
)
def test_it_does_not_boot(stack: Stack, changes: dict[str, dict[str, object] | None], expected: list[str]) -> None:
    container = stack.application("backend-refused", **changes)
    assert ended(container, 40) == 3
    printed = output(container)
    for text in [*expected, "Worker failed to boot"]:
        assert text in printed
    stack.remove("backend-refused")


def test_releases_share_all_but_their_last_layer(stack: Stack) -> None:
    layers = [
        stack.client.images.get(stack.image("backend", tag)).attrs["RootFS"]["Layers"]
        for tag in ("2026.2.19", "2026.2.20", "latest")
    ]
    assert layers[0][:-1] == layers[1][:-1] == layers[2][:-1]
    assert len({one[-1] for one in layers}) == 3
