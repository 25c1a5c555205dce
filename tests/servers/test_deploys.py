"""Deploys against a running server: what is refused changes nothing, what is shipped changes the application alone."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any

import pytest

from tests.servers.test_site import STACK

BASE = "/opt/integr8scode"
INFRASTRUCTURE = {"mongo", "redis", "kafka", "edge"}
BESIDE = {name for name, service in STACK.items() if service.get("profiles")}
REGISTRY = "registry.lab.test"


def containers(host: Any) -> dict[str, tuple[str, str]]:
    """Return id and start time of the project's containers by service."""
    ids = host.check_output("docker ps --all --quiet --filter label=com.docker.compose.project=integr8scode")
    inspected = json.loads(host.check_output("docker inspect " + " ".join(ids.split())))
    return {
        container["Config"]["Labels"]["com.docker.compose.service"]: (container["Id"], container["State"]["StartedAt"])
        for container in inspected
    }


def is_healthy(host: Any) -> bool:
    """Ask the edge from outside, by the port that the lab publishes on this machine."""
    authority = host.file(f"{BASE}/tls/public/ca.crt").content_string
    port = int(host.connection["ansible_port"]) + 1
    connection = http.client.HTTPSConnection(
        "localhost", port, timeout=30, context=ssl.create_default_context(cadata=authority)
    )
    connection.request("GET", "/api/v1/health/live")
    # the rate limiter's refusal is an answer too: these tests ask often
    return connection.getresponse().status in (200, 429)


def snapshot(host: Any) -> dict[str, Any]:
    """Return everything that a refused deploy must leave as it is."""
    return {
        "containers": containers(host),
        # the lock's folder is the work's, not the server's
        "files": host.check_output(f"find {BASE} -path {BASE}/lock -prune -o -printf '%p %s %m %U %T@\\n' | sort"),
        "healthy": is_healthy(host),
    }


def changed(output: str) -> int:
    """Return the changes that ansible-playbook's recap counts."""
    recap = next(line for line in output.splitlines() if "changed=" in line)
    return int(recap.split("changed=")[1].split()[0])


@pytest.mark.parametrize("arguments", [["playbooks/site.yml"], ["deploy.yml", "-e", "tag=2026.2.20"]])
def test_again_changes_nothing(host: Any, playbook: Any, arguments: list[str]) -> None:
    before = snapshot(host)
    run = playbook(*arguments)
    assert run.returncode == 0, run.stdout + run.stderr
    assert changed(run.stdout) == 0, run.stdout
    assert snapshot(host) == before


def test_another_release_replaces_the_application_alone_and_back(host: Any, playbook: Any) -> None:
    before = containers(host)
    for tag in ("2026.2.19", "2026.2.20"):
        run = playbook("deploy.yml", "-e", f"tag={tag}")
        assert run.returncode == 0, run.stdout + run.stderr
        after = containers(host)
        assert after.keys() == before.keys()
        assert {service for service in after if after[service] == before[service]} == INFRASTRUCTURE | BESIDE
        assert json.loads(host.file(f"{BASE}/current/release.json").content_string)["tag"] == tag
        before = after


REFUSALS = {
    "unknown tag": (["-e", "tag=9999.1.1"], "does not exist in the registry"),
    "tag that is none": (["-e", "tag='x; rm'"], "YYYY.M.PATCH"),
    "no tag": ([], "Name the release to ship"),
    "wrong registry password": (
        ["-e", "tag=2026.2.19", "-e", "integr8scode_registry_password=wrong-password-0000"],
        "integr8scode_registry_password",
    ),
    "placeholder secret in production": (
        ["-e", "tag=2026.2.20", "-e", "integr8scode_allow_fake_secrets=false"],
        "default or placeholder value",
    ),
    "moving tag": (["-e", "tag=latest", "-e", "integr8scode_allow_latest=false"], "integr8scode_allow_latest=true"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refused_before_anything_changed(host: Any, playbook: Any, name: str) -> None:
    arguments, says = REFUSALS[name]
    before = snapshot(host)
    run = playbook("deploy.yml", *arguments)
    assert run.returncode != 0, run.stdout
    assert says in run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    assert snapshot(host) == before
    assert before["healthy"]


def test_registry_down_is_refused(host: Any, playbook: Any) -> None:
    before = snapshot(host)
    # an address of the lab's network that nobody has
    host.check_output(f"cp /etc/hosts /etc/hosts.kept && echo 10.213.0.250 {REGISTRY} >> /etc/hosts")
    try:
        run = playbook("deploy.yml", "-e", "tag=2026.2.19")
        again = playbook("playbooks/site.yml")
    finally:
        host.check_output("cat /etc/hosts.kept > /etc/hosts && rm /etc/hosts.kept")
    assert run.returncode != 0, run.stdout
    assert f"{REGISTRY} cannot be reached" in run.stdout
    assert snapshot(host) == before
    # what runs needs no registry
    assert again.returncode == 0, again.stdout
    assert changed(again.stdout) == 0


def test_an_installation_made_by_the_guide_is_refused(host: Any, playbook: Any) -> None:
    image = host.check_output(
        "docker inspect --format '{{.Image}}' $(docker ps -q -f label=com.docker.compose.service=redis)"
    )
    host.check_output(
        "docker create --name guide-mongo --label com.docker.compose.project=integr8scode "
        "--label com.docker.compose.service=mongo "
        f"--label com.docker.compose.project.working_dir=/opt/Integr8sCode {image}"
    )
    try:
        before = snapshot(host)
        run = playbook("deploy.yml", "-e", "tag=2026.2.20")
        assert run.returncode != 0, run.stdout
        assert "/opt/Integr8sCode" in run.stdout
        assert snapshot(host) == before
    finally:
        host.check_output("docker rm guide-mongo")
