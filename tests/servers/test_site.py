"""A server that site.yml has made: the stack serves, and keeps its secrets to itself."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BASE = "/opt/integr8scode"
STACK: dict[str, dict[str, Any]] = {
    name: service
    for name, service in yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"].items()
    # the inventory of this scenario chooses every profile; `seed` is the one-shot's
    if service.get("profiles") != ["seed"]
}
SERVICES = sorted(STACK)
# bits of the kernel's masks: linux/capability.h
CAPABILITIES = {"CHOWN": 0, "DAC_OVERRIDE": 1, "KILL": 5, "SETGID": 6, "SETUID": 7}
# where docker-compose.yaml leaves it to the image, whose user is not root
IMAGE_USER = {"kafka": 1000}
ROOT_SERVICES = {
    name
    for name in SERVICES
    if name in ("backend", "frontend", "victoria-metrics", "kafdrop") or "workers/run_" in str(STACK[name])
}
SECRETS: dict[str, str] = yaml.safe_load((ROOT / "inventories/lab/group_vars/all/vault.yml").read_text())


@pytest.fixture(scope="module")
def containers(host: Any) -> dict[str, list[dict[str, Any]]]:
    """The project's running containers by service, as the engine tells of them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(
        host.check_output("docker inspect $(docker ps --quiet --filter label=com.docker.compose.project=integr8scode)")
    ):
        found.setdefault(one["Config"]["Labels"]["com.docker.compose.service"], []).append(one)
    return found


@pytest.fixture(scope="module")
def processes(host: Any, containers: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, list[str]]]:
    """What the kernel says of the first process of each service."""
    found = {}
    for name, copies in containers.items():
        lines = host.file(f"/proc/{copies[0]['State']['Pid']}/status").content_string.splitlines()
        found[name] = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
    return found


@pytest.fixture(scope="module")
def tls(host: Any) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=host.file(f"{BASE}/tls/public/ca.crt").content_string)


def ask(
    host: Any,
    tls: ssl.SSLContext,
    offset: int,
    method: str,
    path: str,
    form: dict[str, str] | None = None,
    **headers: str,
) -> tuple[int, dict[str, str], str]:
    """Ask the edge from outside, by the port that the lab publishes on this machine."""
    connection = http.client.HTTPSConnection(
        "localhost", int(host.connection["ansible_port"]) + offset, timeout=30, context=tls
    )
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    connection.request(method, path, urllib.parse.urlencode(form) if form is not None else None, headers)
    response = connection.getresponse()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read().decode()


@pytest.mark.parametrize("service", SERVICES)
def test_service_runs_as_pinned(host: Any, containers: dict[str, list[dict[str, Any]]], service: str) -> None:
    (container,) = containers[service]
    state = container["State"]
    assert state["Status"] == "running", host.run(f"docker logs --tail 30 {container['Id']}")
    assert state.get("Health", {}).get("Status", "healthy") == "healthy"
    assert container["RestartCount"] == 0
    assert "@sha256:" in container["Config"]["Image"]
    assert container["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"


@pytest.mark.parametrize("service", SERVICES)
def test_service_has_limits(containers: dict[str, list[dict[str, Any]]], service: str) -> None:
    for container in containers[service]:
        limits = container["HostConfig"]
        assert limits["Memory"] > 0
        assert limits["PidsLimit"] == STACK[service].get("pids_limit", 256)
        assert limits["LogConfig"]["Type"] == "json-file"
        assert limits["LogConfig"]["Config"]["max-size"]
        assert int(limits["LogConfig"]["Config"]["max-file"]) > 0
        assert "no-new-privileges:true" in limits["SecurityOpt"]
        assert not limits["Privileged"]


@pytest.mark.parametrize("service", SERVICES)
def test_service_has_its_user_and_no_other_capability(processes: dict[str, dict[str, list[str]]], service: str) -> None:
    """By the kernel, not by what the container was asked for."""
    process = processes[service]
    user = IMAGE_USER.get(service, int(STACK[service].get("user", "0").split(":")[0]))
    assert set(process["Uid"]) == {str(user)}
    assert (user == 0) == (service in ROOT_SERVICES)
    allowed = sum(1 << CAPABILITIES[name] for name in STACK[service].get("cap_add", []))
    assert int(process["CapBnd"][0], 16) == allowed
    assert int(process["CapEff"][0], 16) == (allowed if user == 0 else 0)
    assert process["NoNewPrivs"] == ["1"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_read_only_root_takes_no_file(host: Any, containers: dict[str, list[dict[str, Any]]], service: str) -> None:
    """Asked as root, whom only the file system can refuse; the others show that the question can be answered."""
    (container,) = containers[service]
    answer = host.run(f"docker exec --user 0 {container['Id']} touch /of-a-test")
    if STACK[service].get("read_only"):
        assert answer.rc != 0
        assert "Read-only file system" in answer.stderr
    else:
        assert answer.rc == 0, answer.stderr
        host.check_output(f"docker exec --user 0 {container['Id']} rm /of-a-test")
    for path in (one.split(":")[0] for one in STACK[service].get("tmpfs", [])):
        host.check_output(f"docker exec {container['Id']} sh -c 'touch {path}/of-a-test && rm {path}/of-a-test'")


def test_health_and_page_from_outside(host: Any, tls: ssl.SSLContext) -> None:
    assert ask(host, tls, 1, "GET", "/api/v1/health/live")[0] == 200
    status, headers, page = ask(host, tls, 2, "GET", "/")
    assert (status, "strict-transport-security" in headers) == (200, True)
    assert "Integr8sCode" in page
    assert ask(host, tls, 2, "GET", "/api/v1/health/live")[0] == 200


@pytest.mark.parametrize("user", ["user", "admin"])
def test_seeded_users_log_in(host: Any, tls: ssl.SSLContext, user: str) -> None:
    form = {"username": user, "password": SECRETS[f"vault_integr8scode_{user}_password"]}
    status, _, body = ask(host, tls, 1, "POST", "/api/v1/auth/login", form=form)
    assert status == 200, body
    assert json.loads(body)["username"] == user
    assert ask(host, tls, 2, "POST", "/api/v1/auth/login", form={**form, "password": "wrong-password"})[0] == 401


def test_a_client_cannot_choose_its_address(host: Any, tls: ssl.SSLContext) -> None:
    """The limiter counts by address: another X-Forwarded-For each time must not evade it."""
    for offset in (1, 2):
        left = []
        for number in range(3):
            _, headers, _ = ask(
                host, tls, offset, "GET", "/api/v1/health/live", **{"X-Forwarded-For": f"192.0.2.{number + 10}"}
            )
            left.append(int(headers.get("x-ratelimit-remaining", 0)))
        assert left == sorted(left, reverse=True)
        assert left[0] > left[-1] or left[-1] == 0


def test_nothing_but_the_edge_is_published(host: Any) -> None:
    published = host.check_output("docker ps --format '{{.Ports}}'")
    open_to_all = {
        entry.split("->")[0].rsplit(":", 1)[1]
        for line in published.splitlines()
        for entry in line.split(", ")
        if "->" in entry and not entry.startswith("127.0.0.1:")
    }
    assert open_to_all == {"443", "5001"}


def test_plain_compose_shows_what_was_deployed(host: Any) -> None:
    shown = host.check_output(f"cd {BASE}/current && docker compose ps --services")
    assert sorted(shown.split()) == SERVICES
    record = json.loads(host.file(f"{BASE}/current/release.json").content_string)
    assert host.check_output(f"basename $(readlink {BASE}/current)") == record["id"]
    last = json.loads(host.file(f"{BASE}/history.jsonl").content_string.splitlines()[-1])
    assert (last["result"], last["release"]) == ("ok", record["id"])


def test_modes(host: Any) -> None:
    for path, mode in (
        (BASE, 0o755),
        (f"{BASE}/secrets", 0o700),
        (f"{BASE}/current/release.json", 0o640),
        (f"{BASE}/history.jsonl", 0o640),
        (f"{BASE}/kubeconfig/k8s-worker.yaml", 0o400),
        (f"{BASE}/kubeconfig/pod-monitor.yaml", 0o400),
    ):
        assert host.file(path).mode == mode, path
    readable = host.check_output(f"find {BASE}/secrets {BASE}/tls -type f -perm /077 -not -name '*.crt' -print")
    assert readable == ""


def test_no_secret_is_shown(host: Any) -> None:
    """Not by docker inspect, not in a release, not in a process list, not in a file that others can read."""
    inspected = host.check_output("docker inspect $(docker ps --all --quiet)")
    processes = host.check_output("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; exit 0")
    releases = host.check_output(
        f"cat {BASE}/releases/*/* {BASE}/releases/*/.env {BASE}/files/*/* {BASE}/history.jsonl"
    )
    for name, secret in SECRETS.items():
        for form in (secret, urllib.parse.quote(secret, safe=""), json.dumps(secret)[1:-1]):
            assert form not in inspected, f"docker inspect shows {name}"
            assert form not in processes, f"a command line shows {name}"
            assert form not in releases, f"a release shows {name}"
    # but what sudo writes of the commands of this test
    journal = host.check_output("journalctl --output=cat --no-pager | grep -vF 'COMMAND=/bin/sh -c'")
    for name, secret in SECRETS.items():
        assert secret not in journal, f"the journal shows {name}"
    for name in ("vault_registry_password", "vault_integr8scode_user_password", "vault_integr8scode_secret_key"):
        found = host.run(
            f"grep -rlF -- '{SECRETS[name]}' /etc /root /home /opt /tmp /var/tmp 2>/dev/null"
        ).stdout.split()
        for path in found:
            assert host.file(path).mode & 0o077 == 0, f"{path} shows {name}"


def test_the_unit_starts_and_stops_the_stack(host: Any) -> None:
    unit = host.service("integr8scode.service")
    assert unit.is_enabled
    assert unit.is_running
