"""When k3s counts as well."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.k3s_recovery.verify import another, differences, fewer, wait_until_up

from tests.unit.k3s_recovery_climb.fake_server import NEW, NODE, OLD, FakeServer, inventory_of

ROLE = "/registry/roles/integr8scode/k8s-worker"
SYSTEM = "/registry/clusterroles/system:node"


def wait(server: FakeServer, address: str = NEW, timeout: float = 30, stable: float = 60) -> str:
    server.start()
    return wait_until_up(server, name=NODE, address=address, timeout=timeout, stable=stable)


def test_it_has_to_run_on_for_the_whole_time(tmp_path: Path) -> None:
    server = FakeServer(tmp_path)
    began = server.now()
    assert wait(server) == ""
    assert server.now() - began >= 60


def test_running_is_not_enough(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"unknown"})
    assert wait(server) == "k3s started 2 times and crashed each time"


def test_a_crash_within_the_time_counts(tmp_path: Path) -> None:
    server = FakeServer(tmp_path)
    original = server.sleep

    def later(seconds: float) -> None:
        original(seconds)
        if server.started_at is not None and server.now() - server.started_at > 40:
            server.faults.add("unknown")

    server.sleep = later  # type: ignore[method-assign]
    assert "crashed" in wait(server)


def test_another_address_is_not_well(tmp_path: Path) -> None:
    assert "10.9.9.9 is right" in wait(FakeServer(tmp_path), address="10.9.9.9")


def test_a_unit_that_does_not_start_is_told_soon(tmp_path: Path) -> None:
    server = FakeServer(tmp_path)
    began = server.now()
    problem = wait_until_up(server, name=NODE, address=OLD, timeout=300, stable=60)
    assert "does not even start" in problem
    assert server.now() - began < 30


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ({}, []),
        ({"namespaces": ["default"]}, ["namespace integr8scode is gone"]),
        ({"rbac": {ROLE: "aa", SYSTEM: "bb"}}, ["/registry/networkpolicies/integr8scode/executor-deny-all is gone"]),
    ],
)
def test_what_is_gone(after: dict[str, object], expected: list[str]) -> None:
    assert differences(inventory_of(), inventory_of(**after)) == expected


def test_content_counts_but_for_what_k3s_writes_itself() -> None:
    before = inventory_of()
    changed = {key: f"{value}2" for key, value in before.rbac.items()}
    assert differences(before, inventory_of(rbac=changed)) == [
        "/registry/networkpolicies/integr8scode/executor-deny-all is not as it was",
        f"{ROLE} is not as it was",
    ]
    assert differences(before, inventory_of(rbac={**before.rbac, SYSTEM: "zz", "/registry/roles/x/new": "n"})) == []


def test_fewer_lasting_objects_are_told() -> None:
    assert fewer(inventory_of(), inventory_of(objects={"configmaps": 1, "events": 0})) == [
        "configmaps: 3 before, 1 now"
    ]


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ({"revision": 99}, "revision 99 and was at 100"),
        ({"bootstrap_keys": 0}, "keys"),
        ({"namespaces": ["default"]}, "none is left (integr8scode)"),
        ({"revision": 101, "rbac": {ROLE: "zz"}}, ""),
    ],
)
def test_what_makes_it_another_cluster(after: dict[str, object], why: str) -> None:
    told = another(inventory_of(), inventory_of(**after))
    assert why in told
    assert bool(told) == bool(why)


@pytest.mark.parametrize("step", [86400.0, -86400.0])
def test_a_clock_that_is_set_changes_no_duration(tmp_path: Path, step: float) -> None:
    server = FakeServer(tmp_path)
    original = server.sleep

    def set_it(seconds: float) -> None:
        original(seconds)
        server.clock_set = step

    server.sleep = set_it  # type: ignore[method-assign]
    began = server.uptime()
    assert wait(server) == ""
    assert 60 <= server.uptime() - began < 70
