"""The application's guide cures an address change by deleting the cluster: what that destroys, the playbook keeps.

On a server of the scenario `recover-k3s`, from the same state and with the same cause: first the playbook, then the
guide's commands, word for word.
"""

from __future__ import annotations

import pytest

from bench.recipe import GUIDE_BACKUP, RECIPE
from tests.servers.k3s_faults import POLICY, ROWS, Row
from tests.servers.k3s_server import CONFIG, NAMESPACE, K3sServer, until
from tests.servers.recover_k3s import STABLE_SECONDS, assert_held, kubeconfig_works, on_rows

CAUSES = ("old release without node-ip", "node-ip in config.yaml")
NODE_IP = "node-ip in config.yaml"


def is_up(server: K3sServer) -> bool:
    """Whether the API answers and the node has an address that this server has."""
    script = f"k3s kubectl get node {server.name} -o jsonpath='{{.status.addresses[0].address}}'"
    answer = server.host.run(script)
    return answer.rc == 0 and answer.stdout in server.uplink.addresses


def delete_as_the_guide_says(server: K3sServer) -> None:
    # it says to make a backup first, by a command that a server on SQLite refuses
    refused = server.host.run(GUIDE_BACKUP)
    assert refused.rc != 0
    assert "etcd datastore disabled" in refused.stdout + refused.stderr
    for command in RECIPE:
        server.sh(command)


@pytest.mark.long
@on_rows(row for row in ROWS if row.id in CAUSES)
def test_the_guide_destroys_what_the_playbook_keeps(server: K3sServer, row: Row) -> None:
    server.reset(backup=False)
    before = server.held()
    row.make(server)
    server.wait_crashes(1)

    healed = server.recover(stable_seconds=STABLE_SECONDS)

    assert healed.code == 0, healed.output
    assert healed.report["result"] == "healed"
    assert_held(before, server.held())
    assert kubeconfig_works(server)

    server.reset(backup=False)
    before = server.held()
    row.make(server)
    server.wait_crashes(1)
    cursor = server.cursor()

    delete_as_the_guide_says(server)

    if row.id == NODE_IP:
        # the file that names the old address is none of those that the guide deletes: all is gone, and it still crashes
        server.wait_journal(POLICY, cursor)
        server.wait_crashes(1)
        server.sh(f"sed -i 's/^node-ip:.*/node-ip: {server.uplink.second}/' {CONFIG} && systemctl restart k3s")
    until("k3s after the deletion", 90, lambda: is_up(server), lambda: server.journal(cursor)[-3000:])
    after = server.held()
    assert not before.objects.items() & after.objects.items(), "something has outlived the deletion"
    assert ("Namespace", "", NAMESPACE) not in after.names()
    assert ("Namespace", "", "integr8scode") not in after.names()
    assert ("ConfigMap", NAMESPACE, "made-before") not in after.names()
    assert after.service_key != before.service_key
    assert "lab/kept" not in after.node_labels
    assert not kubeconfig_works(server)
