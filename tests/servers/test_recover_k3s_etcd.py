"""A single server on embedded etcd: its member's address is in the datastore, so it needs its own rung.

Run like test_recover_k3s.py, on the same servers. What k3s does here is scripted in the lab (lab/k3s/README.md).
"""

from __future__ import annotations

from typing import Any

from tests.servers import k3s_faults
from tests.servers.conftest import run
from tests.servers.k3s_server import BACKUPS, RECOVERIES, SERVER, K3sServer
from tests.servers.recover_k3s import LOWER_TIMEOUT, STABLE_SECONDS, assert_held, kubeconfig_works, on

NOT_A_MEMBER = r"this server is a not a member of the etcd cluster\. Found \[.*\], expect: "


def make_etcd(server: K3sServer, inventory: str) -> None:
    """Make the cluster anew on embedded etcd, with the workers' access to it and an object of ours."""
    server.reset(backup=False, running=False)
    server.sh(f"rm -rf {SERVER} {BACKUPS} {RECOVERIES}")
    k3s_faults.set_in_config(server, "cluster-init", "true")
    server.wait_ready(server.restart())
    command = ["ansible-playbook", "-i", inventory, "--limit", server.name, "molecule/recover-k3s/converge.yml"]
    done = run(*command, "--tags", "kubernetes_access")
    assert done.returncode == 0, done.stdout
    server.kubectl("create namespace made-before")
    server.make_object("made-before")


@on("recover3")
def test_changed_address_needs_a_cluster_reset(server: K3sServer, pytestconfig: Any) -> None:
    make_etcd(server, pytestconfig.getoption("--inventory"))
    before = server.held()
    server.wait_journal(NOT_A_MEMBER, k3s_faults.move(server))

    below = server.recover(only_rungs=["restart"], stable_seconds=STABLE_SECONDS, timeout_seconds=LOWER_TIMEOUT)
    assert below.code == 2, below.output
    assert set(below.states()) == {"restart"}
    healed = server.recover(stable_seconds=STABLE_SECONDS)

    assert healed.code == 0, healed.output
    assert healed.report["healed_by"] == "cluster_reset"
    assert "etcd_membership" in {cause["id"] for cause in healed.report["causes"]}
    assert server.internal_ip() == server.uplink.second
    assert_held(before, server.held())
    assert kubeconfig_works(server)
    again = server.recover(stable_seconds=STABLE_SECONDS)
    assert (again.code, again.changed, again.report["result"]) == (0, 0, "healthy"), again.output
