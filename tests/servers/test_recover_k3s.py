"""k3s is broken in every way of the table, and the playbook heals it by the rung that should, with all it held.

    molecule create/prepare/converge --scenario-name recover-k3s, then
    pytest -n 3 --dist loadgroup tests/servers/test_recover_k3s.py --inventory molecule/recover-k3s/inventory

Rows of one server run one after the other, those of different servers side by side: they mostly wait.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.servers.k3s_faults import ROWS, Row
from tests.servers.k3s_server import Held, K3sServer
from tests.servers.uplink import Uplink

STABLE_SECONDS = 60 if os.environ.get("INTEGR8SCODE_TEST_LONG") else 12
"""Longer than systemd waits before it starts k3s again (5 s) and the start that then crashes (3 to 8 s)."""

LOWER_TIMEOUT = 40
"""How long a rung that must fail may take until k3s is up; it needs 10 s when it can."""

Servers = Callable[[str], K3sServer]


def kubeconfig_works(server: K3sServer) -> bool:
    """Whether a worker's kubeconfig, which names no address, is accepted."""
    answer = server.host.run(
        "k3s kubectl --kubeconfig=/opt/integr8scode/kubeconfig/pod-monitor.yaml --server=https://127.0.0.1:6443 "
        "--tls-server-name=host.docker.internal -n integr8scode get pods"
    )
    return bool(answer.rc == 0)


def assert_held(before: Held, after: Held) -> None:
    """Everything is as it was: the same objects (by uid) with the same content, and the node as people made it."""
    lost = sorted(before.objects.items() - after.objects.items())
    assert not lost, f"lost or changed: {lost}"
    assert after.service_key == before.service_key
    assert before.node_labels.items() <= after.node_labels.items()
    assert {str(taint) for taint in before.taints} <= {str(taint) for taint in after.taints}


@pytest.fixture(scope="session")
def servers(
    request: pytest.FixtureRequest, server_named: Any, lab_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Servers:
    """Give a server by name, its cluster filled with what must be kept."""

    @functools.cache
    def get(name: str) -> K3sServer:
        host = server_named(name)
        server = K3sServer(
            host, request.config.getoption("--inventory"), Uplink.of(host, lab_home), tmp_path_factory.mktemp("reports")
        )
        server.prepare()
        return server

    return get


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.id, marks=pytest.mark.xdist_group(row.server)) for row in ROWS]
)
def test_row(row: Row, servers: Servers) -> None:
    server = servers(row.server)
    server.reset(backup=row.backup)
    before = server.held()
    if row.loses:
        server.make_object("made-after-the-backup")

    # the symptom, as the table has it
    cursor = row.make(server)
    for symptom in row.symptoms:
        server.wait_journal(symptom, cursor)
    if row.crash_loops:
        server.wait_crashes(2)
    variables = row.variables(server)

    # every rung below, a plain restart first, is not enough
    below = server.recover(
        only_rungs=row.lower, stable_seconds=STABLE_SECONDS, timeout_seconds=LOWER_TIMEOUT, **variables
    )
    assert below.code == 2, below.output
    assert set(below.states()) == set(row.lower), below.report
    assert not {"healed", "kept"} & set(below.states().values()), below.report

    healed = server.recover(stable_seconds=STABLE_SECONDS, **variables)

    assert healed.code == 0, healed.output
    assert healed.report["result"] == "healed"
    assert healed.report["healed_by"] == row.rungs[-1], healed.report["rungs"]
    assert [name for name, state in healed.states().items() if state in {"healed", "kept"}] == list(row.rungs)
    assert set(row.causes) <= {cause["id"] for cause in healed.report["causes"]}
    assert server.internal_ip() in server.uplink.addresses
    assert_held(before, server.held())
    assert kubeconfig_works(server)
    restarts = server.restarts()

    again = server.recover(stable_seconds=STABLE_SECONDS, **variables)

    assert (again.code, again.changed) == (0, 0), again.output
    assert again.report["result"] == "healthy"
    assert server.restarts() == restarts
