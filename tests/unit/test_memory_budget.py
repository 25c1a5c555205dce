"""The stack fits on the guide's server of 7.7 GB, with k3s and, during a deploy, a second backend."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.plugins.filter.compose_stack import interpolate

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20
SERVER = 7_700_000_000  # bytes; the guide's server
# K3s' documentation, "Resource Profiling": a server with one agent and all packaged components, 1428 M
K3S = 1_428_000_000
# systemd, sshd, journald, dockerd with containerd and a shim for each container
SYSTEM = 400_000_000
# least room between what a program limits itself to and what kills it: its code, stacks, buffers
ROOM = 40 * MIB

ENVIRONMENT = {"IMAGE_TAG": "2026.2.20"}


def compose() -> dict[str, Any]:
    text = (ROOT / "docker-compose.yaml").read_text(encoding="utf-8")
    parsed: dict[str, Any] = yaml.safe_load(interpolate(text, ENVIRONMENT))
    return parsed


def size(text: str | int) -> int:
    """Bytes of a size as Docker, Redis and the JVM write it."""
    match = re.fullmatch(r"(\d+)([bkmg]?)b?", str(text).lower())
    assert match, f"{text!r} is no size"
    return int(match[1]) * {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}[match[2]]


SERVICES: dict[str, dict[str, Any]] = compose()["services"]
ALWAYS = {name: service for name, service in SERVICES.items() if not service.get("profiles")}
LONG_RUNNING = {name: service for name, service in SERVICES.items() if service.get("restart") != "no"}
LIMITS = {name: size(service["mem_limit"]) for name, service in SERVICES.items() if "mem_limit" in service}


def total(names: set[str]) -> int:
    return sum(LIMITS[name] for name in names)


def test_all_services_are_counted() -> None:
    workers = {"coordinator", "k8s-worker", "pod-monitor", "result-processor", "saga-orchestrator", "event-replay"}
    expected = {"mongo", "redis", "kafka", "edge", "backend", "frontend", "dlq-processor", *workers}
    assert expected <= set(ALWAYS)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_limit(name: str) -> None:
    assert name in LIMITS, f"{name} has no mem_limit and could starve the server"


def test_the_stack_fits_with_k3s_and_a_second_backend() -> None:
    used = total(set(ALWAYS)) + LIMITS["backend"] + K3S + SYSTEM
    assert used <= SERVER, f"{(used - SERVER) // MIB} MiB too much"


def test_the_one_shots_fit_beside_the_stack() -> None:
    """They run one after the other, and not while two backends do."""
    shots = [LIMITS[name] for name in SERVICES if name not in LONG_RUNNING]
    assert shots
    assert total(set(ALWAYS)) + max(shots) + K3S + SYSTEM <= SERVER


def test_the_observability_profile_fits_beside_the_stack() -> None:
    """With it there may be no room for a second backend: a deploy then says so and replaces in place."""
    names = {name for name, service in LONG_RUNNING.items() if set(service.get("profiles", [])) <= {"observability"}}
    assert total(names) + K3S + SYSTEM <= SERVER


def test_the_role_asks_for_what_the_stack_needs() -> None:
    """The least memory that the role accepts holds every limit: nobody is let in and then killed."""
    defaults = yaml.safe_load((ROOT / "roles/integr8scode/defaults/main.yml").read_text(encoding="utf-8"))
    least = defaults["integr8scode_min_memory_mb"] * MIB
    assert total(set(ALWAYS)) + K3S + SYSTEM <= least
    # what a server of 7.7 GB shows, less what its kernel keeps for itself
    assert least <= 7.7 * 2**30
    assert size(defaults["integr8scode_worker_memory"]) == LIMITS["coordinator"]


def words(service: str) -> list[str]:
    command: list[str] = SERVICES[service]["command"]
    return command


def after(service: str, option: str) -> str:
    return words(service)[words(service).index(option) + 1]


def test_internal_caps_leave_room() -> None:
    """A program that knows its limit shrinks its caches; one that does not is killed."""
    caps = {
        "mongo": int(float(after("mongo", "--wiredTigerCacheSizeGB")) * 2**30),
        "redis": size(after("redis", "--maxmemory")),
        "kafka": size(re.findall(r"-Xmx(\w+)", SERVICES["kafka"]["environment"]["KAFKA_HEAP_OPTS"])[0]),
    }
    for name, cap in caps.items():
        assert cap + ROOM <= LIMITS[name], name
    # MongoDB holds connections and sorts beside its cache: twice the cache is the least
    assert caps["mongo"] * 2 <= LIMITS["mongo"]


def test_backend_workers_fit_into_its_limit() -> None:
    """Two gunicorn workers were seen to take 417 MiB together: the limit holds the configured number of them."""
    workers = int(SERVICES["backend"]["environment"]["WEB_CONCURRENCY"])
    assert workers * 417 * MIB // 2 + ROOM <= LIMITS["backend"]


def test_workers_have_what_a_first_start_was_seen_to_take() -> None:
    assert min(LIMITS[name] for name in ALWAYS if "workers/run_" in str(SERVICES[name].get("command"))) >= 153 * MIB
