"""k3s_fixed_node_address on the release that crashes after a change of address: with it, k3s does not see the change.

Run on the servers of the scenario recover-k3s, whose second interface holds their default route.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.servers import k3s_faults
from tests.servers.k3s_server import K3sServer
from tests.servers.recover_k3s import assert_held, kubeconfig_works

CONVERGE = "molecule/recover-k3s/converge.yml"
FIXED = "192.0.2.1"
INTERFACE = "k3s-node"


@pytest.fixture(scope="module", params=["recover1"])
def server(request: pytest.FixtureRequest, servers: Callable[[str], K3sServer]) -> Iterator[K3sServer]:
    found = servers(request.param)
    found.reset(backup=False)
    yield found
    found.reset(backup=False)
    found.sh(f"ip link delete dev {INTERFACE} 2>/dev/null || true")


def converge(playbook: Any, server: K3sServer, fixed: str, *arguments: str) -> str:
    """Run the role with that fixed address ("" for none); its output."""
    done = playbook(
        CONVERGE, "--limit", server.name, "--tags", "k3s", "-e", f"k3s_fixed_node_address={fixed}", *arguments
    )
    assert done.returncode == 0, done.stdout
    return str(done.stdout)


def test_without_it_k3s_crashes_after_a_change(server: K3sServer) -> None:
    """What the others are measured by."""
    cursor = k3s_faults.move(server)
    server.wait_journal(k3s_faults.POLICY, cursor)
    server.wait_crashes(1)
    server.reset(backup=False)


def test_it_is_predicted_and_then_taken_by_a_cluster_that_exists(server: K3sServer, playbook: Any) -> None:
    before = server.held()

    predicted = converge(playbook, server, FIXED, "--check", "--diff")
    assert f"+node-ip: {FIXED}" in predicted
    assert server.internal_ip() == server.uplink.first
    assert not server.host.interface(INTERFACE).exists

    converge(playbook, server, FIXED)

    assert server.internal_ip() == FIXED
    assert_held(before, server.held())
    assert "changed=0" in converge(playbook, server, FIXED)


def test_with_it_k3s_does_not_see_a_change(server: K3sServer) -> None:
    before = server.held()

    cursor = k3s_faults.move(server)
    server.wait_ready(cursor)

    assert server.uplink.addresses == [server.uplink.second]
    assert (server.internal_ip(), server.restarts()) == (FIXED, 0)
    assert_held(before, server.held())
    assert kubeconfig_works(server)


def test_the_interface_is_made_again_at_each_start(server: K3sServer) -> None:
    server.sh(f"ip link delete dev {INTERFACE}")
    server.wait_ready(server.restart())
    assert (server.internal_ip(), server.restarts()) == (FIXED, 0)
    (address,) = server.sh(f"ip -4 -oneline address show dev {INTERFACE}").splitlines()
    assert f" {FIXED}/32 " in address


def test_another_address_takes_its_place(server: K3sServer, playbook: Any) -> None:
    converge(playbook, server, "192.0.2.9")
    assert server.internal_ip() == "192.0.2.9"
    (address,) = server.sh(f"ip -4 -oneline address show dev {INTERFACE}").splitlines()
    assert " 192.0.2.9/32 " in address


def test_without_the_option_node_and_interface_are_as_before(server: K3sServer, playbook: Any) -> None:
    before = server.held()

    converge(playbook, server, "")

    assert server.internal_ip() == server.uplink.second
    assert not server.host.interface(INTERFACE).exists
    assert_held(before, server.held())
    assert "changed=0" in converge(playbook, server, "")
