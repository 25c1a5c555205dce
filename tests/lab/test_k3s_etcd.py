"""Embedded etcd as far as it is scripted: membership, cluster reset, snapshots, damage."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.lab.k3s_machine import SERVER, WITH_FIX, Machine, machine

# the scenario `recover-k3s` resets a cluster of embedded etcd in every run
pytestmark = pytest.mark.long

ETCD = f"{SERVER}/db/etcd"
RESET = "Managed etcd cluster membership has been reset, restart without --cluster-reset flag now."
NOT_A_MEMBER = "this server is a not a member of the etcd cluster. Found ["


@pytest.fixture(scope="module")
def server() -> Iterator[Machine]:
    with machine("t-k3s-etcd", WITH_FIX, 4) as made:
        made.configure()
        made.start_ready()
        made.kubectl("create configmap from-sqlite")
        made.stop()
        made.configure(cluster_init=True)
        made.start_ready()
        yield made


@pytest.fixture
def running(server: Machine) -> Machine:
    if not server.processes():
        server.configure(cluster_init=True)
        server.start_ready()
    return server


def member(server: Machine) -> str:
    return server.run(f"cat {ETCD}/name").strip()


def test_sqlites_content_is_taken_over(running: Machine) -> None:
    assert "from-sqlite" in running.kubectl("get configmaps -o name")
    assert re.fullmatch(r"node1-[0-9a-f]{8}", member(running))
    assert "state.db.migrated" in running.run(f"ls {SERVER}/db")
    assert f"{ETCD}/member/wal" in running.run(f"ls -d {ETCD}/member/wal")


def test_a_cluster_that_is_there_is_used_without_being_asked_for(running: Machine) -> None:
    running.stop()
    running.configure()
    running.start_ready()
    assert "Managed etcd cluster bootstrap already complete and initialized" in running.log()
    assert "from-sqlite" in running.kubectl("get configmaps -o name")


def test_another_address_is_waited_for_until_the_reset(running: Machine) -> None:
    before = member(running)
    running.stop()
    running.move_to("10.214.4.11")
    running.start()
    log = running.wait_for(f"{NOT_A_MEMBER}{before}=https://10.214.4.10:2380], expect: {before}=https://10.214.4.11")
    assert 'level=info msg="Failed to test data store connection: ' in log
    assert "level=fatal" not in log
    assert "k3s is up and running" not in log
    assert "kube-apiserver" not in running.processes()
    assert "address already in use" not in log
    running.stop()
    assert RESET in running.run("k3s server --cluster-reset")
    assert member(running) != before
    running.run(f"test -e {SERVER}/db/reset-flag && ls -d {SERVER}/tls-*")
    again = running.run("k3s server --cluster-reset && exit 9", check=False)
    assert "Managed etcd cluster membership was previously reset, please remove the cluster-reset flag" in again
    running.start_ready()
    running.run(f"test ! -e {SERVER}/db/reset-flag")
    assert running.internal_ip() == "10.214.4.11"
    assert "from-sqlite" in running.kubectl("get configmaps -o name")


def test_a_reset_beside_a_running_k3s_is_refused(running: Machine) -> None:
    assert "address already in use" in running.run("k3s server --cluster-reset && exit 9", check=False)


def test_damaged_data_are_fatal_and_a_snapshot_brings_them_back(running: Machine) -> None:
    running.kubectl("create configmap in-the-snapshot")
    saved = running.run("k3s etcd-snapshot save")
    name = re.search(r"Snapshot (on-demand-node1-\d+) saved\.", saved)
    assert name
    running.kubectl("create configmap after-the-snapshot")
    listed = running.run("k3s etcd-snapshot list").splitlines()
    assert listed[-2].split() == ["Name", "Location", "Size", "Created"]
    assert listed[-1].split()[:2] == [name[1], f"file://{SERVER}/db/snapshots/{name[1]}"]
    token = running.kubectl("create token default").strip()
    running.stop()
    running.run(f"dd if=/dev/urandom of={ETCD}/member/snap/db bs=4096 seek=3 count=40 conv=notrunc 2>/dev/null")
    log = running.fails()
    assert 'level=fatal msg="Failed to reconcile with temporary etcd: failed to open database: ' in log
    missing = running.run("k3s server --cluster-reset --cluster-reset-restore-path=/nowhere && exit 9", check=False)
    assert "etcd: snapshot path does not exist: /nowhere" in missing
    out = running.run(f"k3s server --cluster-reset --cluster-reset-restore-path={SERVER}/db/snapshots/{name[1]}")
    assert RESET in out
    assert re.search(rf"Pre-restore etcd database moved to {SERVER}/db/etcd-old-\d+", out)
    running.start_ready()
    names = running.kubectl("get configmaps -o name")
    assert "in-the-snapshot" in names
    assert "after-the-snapshot" not in names
    assert running.http("/api/v1/nodes", token)[0] == 403


def test_snapshots_need_a_running_server(running: Machine) -> None:
    running.stop()
    refused = running.run("k3s etcd-snapshot save && exit 9", check=False)
    assert "dial tcp 127.0.0.1:6443: connect: connection refused" in refused
