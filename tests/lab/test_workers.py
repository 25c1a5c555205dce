"""Do the workers' stand-ins refuse, join their groups, bear a failing Kubernetes API and stop as the real ones do?"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import Container

from tests.lab.application import (
    WORKERS,
    Browser,
    Stack,
    certificates,
    ended,
    in_container,
    output,
    said,
    serving,
    stopped,
)
from tests.lab.containers import until

STARTED = "FastStream app started successfully!"
GROUPS = {"execution-coordinator", "k8s-worker", "result-processor", "saga-orchestrator"}
KUBERNETES_WORKERS = ("k8s-worker", "pod-monitor")
PRINT_HELLO = {"script": "print('hello')", "lang": "python", "lang_version": "3.11"}


def kubeconfig(stack: Stack, token: str, server: str = "https://kubernetes:6443") -> dict[str, str]:
    """Return a kubeconfig file as both workers have it."""
    ca = base64.b64encode((certificates(stack) / "server.crt").read_bytes()).decode()
    content: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority-data": ca}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "users": [{"name": "lab", "user": {"token": token}}],
    }
    # JSON is YAML
    return {"/app/kubeconfig.yaml": json.dumps(content)}


@pytest.fixture(scope="module")
def kubernetes(stack: Stack) -> Iterator[Container]:
    """Provide something that answers like the Kubernetes API."""
    script = Path(__file__).with_name("fake_kubernetes_api.py").read_text(encoding="utf-8")
    container = stack.run(
        "kubernetes",
        stack.image("backend", "2026.2.20"),
        ["python", "/fake.py", "/certs/server.crt", "/certs/server.key"],
        files={"/fake.py": script, "/certs": certificates(stack)},
    )
    yield container
    stack.remove("kubernetes")


@pytest.fixture(scope="module")
def workers(stack: Stack, kubernetes: Container) -> Iterator[dict[str, Container]]:
    """Provide all seven workers, running."""
    running = {
        name: stack.worker(name, files=kubeconfig(stack, "good") if name in KUBERNETES_WORKERS else {})
        for name in WORKERS
    }
    for container in running.values():
        said(container, STARTED, 60)
    yield running
    for name in WORKERS:
        stack.remove(name)


@pytest.fixture(scope="module")
def browser(stack: Stack, workers: dict[str, Container]) -> Iterator[Browser]:
    """Provide somebody who has logged in."""
    user = serving(stack, stack.application("backend"))
    assert user.login().ok
    yield user
    stack.remove("backend")


def execute(browser: Browser, status: str) -> dict[str, Any]:
    """Submit a script; return its result as soon as it has a status."""
    execution_id = browser.post("/api/v1/execute", json=PRINT_HELLO).json()["execution_id"]
    path = f"/api/v1/executions/{execution_id}/result"

    def look() -> dict[str, Any]:
        # each look at a path counts for an address' rate limit
        browser.headers["X-Forwarded-For"] = f"{browser.headers['X-Forwarded-For']}0"
        result: dict[str, Any] = browser.get(path).json()
        return result if result["status"] == status else {}

    found: dict[str, Any] = until(f"{execution_id} is {status}", 30, look)
    return found


def test_four_of_them_are_in_consumer_groups_of_their_own(stack: Stack, workers: dict[str, Container]) -> None:
    listed = in_container(
        stack.containers["kafka"],
        *("kafka-consumer-groups", "--bootstrap-server", "kafka:29092", "--all-groups", "--describe", "--state"),
    )
    states = {line.split()[0]: line for line in listed.splitlines() if "Stable" in line}
    assert set(states) >= GROUPS
    assert not {"pod-monitor", "dlq-processor", "event-replay"} & set(listed.split())


def test_a_script_goes_the_whole_way(browser: Browser, workers: dict[str, Container], kubernetes: Container) -> None:
    result = execute(browser, "completed")
    assert (result["stdout"], result["exit_code"]) == ("hello\n", 0)
    asked = output(kubernetes)
    namespace = "/api/v1/namespaces/integr8scode"
    name = result["execution_id"]
    for line in (
        "POST /apis/apps/v1/namespaces/integr8scode/daemonsets 201",
        f"POST {namespace}/configmaps 201",
        f"POST {namespace}/pods 201",
        f"PATCH {namespace}/configmaps/script-{name} 200",
        f"GET {namespace}/pods 200",
        f"GET {namespace}/pods/executor-{name}/log 200",
    ):
        assert line in asked
    assert f"Scheduled execution {name}" in output(workers["coordinator"])


def test_what_the_api_refuses_is_logged_and_fails_the_execution(stack: Stack, browser: Browser) -> None:
    for token, reason in (("weak", "Forbidden"), ("expired", "Unauthorized")):
        container = stack.worker("k8s-worker", files=kubeconfig(stack, token))
        said(container, STARTED)
        assert f"K8s API error applying DaemonSet 'runtime-image-pre-puller': {reason}" in output(container)
        result = execute(browser, "failed")
        assert reason in result["stderr"]
        assert result["stderr"].startswith("Failed to create pod: ")
        container.reload()
        assert container.status == "running"


def test_an_api_out_of_reach_stops_nobody(stack: Stack, browser: Browser) -> None:
    away = kubeconfig(stack, "good", "https://kubernetes:9")
    monitor = stack.worker("pod-monitor", files=away)
    worker = stack.worker("k8s-worker", files=away)
    said(worker, STARTED)
    assert "Cannot connect to host kubernetes:9" in output(worker)
    assert "Cannot connect to host kubernetes:9" in execute(browser, "failed")["stderr"]
    # an error every 5 s, and it goes on
    until("pod-monitor has tried twice", 30, lambda: output(monitor).count("Unexpected error in watch") >= 2)
    monitor.reload()
    assert monitor.status == "running"


def test_a_refused_pod_monitor_logs_and_goes_on(stack: Stack, kubernetes: Container) -> None:
    monitor = stack.worker("pod-monitor", files=kubeconfig(stack, "expired"))
    printed = said(monitor, "API error in watch", 30)
    assert "(401)" in printed
    monitor.reload()
    assert monitor.status == "running"


@pytest.mark.parametrize("name", WORKERS)
def test_sigterm_ends_it_in_time(stack: Stack, workers: dict[str, Container], name: str) -> None:
    code, seconds = stopped(stack.containers[name])
    assert code == 0
    assert seconds < 5
    printed = output(stack.containers[name])
    assert "FastStream app shut down gracefully." in printed
    assert "shutdown complete" in printed


@pytest.mark.parametrize("name", KUBERNETES_WORKERS)
def test_without_a_kubeconfig_it_ends(stack: Stack, name: str) -> None:
    container = stack.worker(name, "refused")
    assert ended(container) == 1
    assert "ConfigException" in output(container)
    assert "Expected key current-context" in output(container)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"override": None}, "FileNotFoundError: [Errno 2] No such file or directory: 'config.coordinator.toml'"),
        ({"override": None, "files": {"/app/config.coordinator.toml": None}}, "IsADirectoryError: [Errno 21]"),
        ({"override": {"NO_SUCH_KEY": 1}}, "extra_forbidden"),
        (
            {"secrets": {"MONGODB_URL": "mongodb://root:wrong@mongo:27017/integr8scode?authSource=admin"}},
            "OperationFailure: Authentication failed",
        ),
        ({"config": {"KAFKA_BOOTSTRAP_SERVERS": "redis:29092"}}, "KafkaConnectionError: Unable to bootstrap"),
    ],
    ids=["no-settings-of-its-own", "folder-in-their-place", "unknown-key", "wrong-password", "no-kafka"],
)
def test_it_does_not_start(stack: Stack, changes: dict[str, Any], expected: str) -> None:
    container = stack.worker("coordinator", "refused", **changes)
    assert ended(container, 40) == 1
    assert expected in output(container)


def test_a_namespace_default_is_refused(stack: Stack) -> None:
    container = stack.worker(
        "k8s-worker", "refused", config={"K8S_NAMESPACE": "default"}, files=kubeconfig(stack, "good")
    )
    assert ended(container) == 1
    assert "namespace 'default' is forbidden" in output(container)
    stack.remove("refused")
