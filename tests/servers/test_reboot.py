"""A reboot: the stack stops in order and with its grace, and is back without a hand."""

from __future__ import annotations

import json
import time
from typing import Any

BASE = "/opt/integr8scode"
WORKERS = {
    "coordinator",
    "k8s-worker",
    "pod-monitor",
    "result-processor",
    "saga-orchestrator",
    "event-replay",
    "dlq-processor",
}
BACK_WITHIN_SECONDS = 300


def containers(host: Any) -> dict[str, dict[str, Any]]:
    ids = host.check_output("docker ps --all --quiet --filter label=com.docker.compose.project=integr8scode")
    inspected = json.loads(host.check_output("docker inspect " + " ".join(ids.split())))
    return {container["Config"]["Labels"]["com.docker.compose.service"]: container for container in inspected}


def is_back(container: dict[str, Any]) -> bool:
    state = container["State"]
    return bool(state["Running"]) and state.get("Health", {}).get("Status", "healthy") == "healthy"


def test_everything_is_back_after_a_reboot(host: Any, reboot: Any) -> None:
    before = containers(host)
    since = host.check_output("date --utc +%Y-%m-%dT%H:%M:%SZ")
    reboot(host)
    deadline = time.monotonic() + BACK_WITHIN_SECONDS
    while True:
        answer = host.run("docker ps --all --quiet --filter label=com.docker.compose.project=integr8scode")
        now = containers(host) if answer.rc == 0 and answer.stdout.split() else {}
        if now and all(map(is_back, now.values())):
            break
        states = {service: container["State"]["Status"] for service, container in now.items()}
        assert time.monotonic() < deadline, (
            f"{states}\n{host.run('journalctl -u integr8scode -n 40 --no-pager').stdout}"
        )
        time.sleep(3)

    assert {service: container["Id"] for service, container in now.items()} == {
        service: container["Id"] for service, container in before.items()
    }
    # in order: who writes ends before what it writes to
    ended = {service: container["State"]["FinishedAt"] for service, container in now.items()}
    assert ended["edge"] <= ended["backend"]
    for infrastructure in ("mongo", "redis", "kafka"):
        for service in WORKERS | {"backend"}:
            assert ended[service] <= ended[infrastructure], (service, infrastructure, ended)
    # with their grace: by their own word
    mongo = host.run(f"docker logs --since {since} {now['mongo']['Id']} 2>&1").stdout
    assert '"Shutting down"' in mongo, mongo
    kafka = host.run(f"docker logs --since {since} {now['kafka']['Id']} 2>&1").stdout
    assert "shut down completed" in kafka, kafka[-3000:]
    # and it serves again: users are in the database, the workers have their groups
    assert host.service("k3s").is_running
    assert host.service("integr8scode").is_running
