"""What the tests of the recovery of k3s share: the servers under test, and what must have been kept."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.conftest import LONG
from tests.servers.k3s_faults import Row
from tests.servers.k3s_server import Held, K3sServer

STABLE_SECONDS = 60 if LONG else 12
"""Longer than systemd waits before it starts k3s again (5 s) and the start that then crashes (3 to 8 s)."""

LOWER_TIMEOUT = 25
"""How long a rung that must fail may take until k3s is up; it needs 10 s when it can."""


def on(*servers: str) -> pytest.MarkDecorator:
    """Run a test on these servers, one after the other with what else runs there."""
    return pytest.mark.parametrize("server", servers, indirect=True)


def on_rows(rows: Iterable[Row]) -> pytest.MarkDecorator:
    """Run a test for each row, on its server."""
    cases = [pytest.param(row.server, row, id=f"{row.server}-{row.id}") for row in rows]
    return pytest.mark.parametrize(("server", "row"), cases, indirect=["server"])


def kubeconfig_works(server: K3sServer) -> bool:
    """Whether a worker's kubeconfig, which names no address, is accepted at docker0's, where containers knock."""
    answer = server.host.run(
        "k3s kubectl --kubeconfig=/opt/integr8scode/kubeconfig/pod-monitor.yaml "
        "--server=https://172.17.0.1:6443 "
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
