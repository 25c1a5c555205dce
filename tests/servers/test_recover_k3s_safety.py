"""The recovery of k3s when nothing is wrong, when it may only look, when there is no room, and when it is killed.

Run like test_recover_k3s.py, on the same servers.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
from typing import Any

import pytest

from tests.servers import k3s_faults
from tests.servers.conftest import ROOT
from tests.servers.k3s_server import BACKUPS, CONFIG, RECOVERIES, K3sServer, until
from tests.servers.recover_k3s import STABLE_SECONDS, assert_held, kubeconfig_works, on

SAFE_MODE = "/etc/rancher/k3s/config.yaml.d/99-recover-k3s-safe-mode.yaml"


def start_of(server: K3sServer) -> str:
    """What is different after k3s was started again."""
    return server.unit("InvocationID") + server.unit("NRestarts")


@pytest.mark.parametrize("arguments", [("--check",), ()], ids=["check", "run"])
@on("recover2")
def test_nothing_wrong_is_said_and_nothing_changed(server: K3sServer, arguments: tuple[str, ...]) -> None:
    server.reset(backup=False)
    start, config = start_of(server), server.sh("find /etc/rancher -type f -exec sha256sum {} +")

    done = server.recover(*arguments, stable_seconds=STABLE_SECONDS)

    assert (done.code, done.changed) == (0, 0), done.output
    assert done.report["result"] == "healthy"
    assert start_of(server) == start
    assert server.sh("find /etc/rancher -type f -exec sha256sum {} +") == config
    assert server.backups() == {}
    assert not server.host.file(RECOVERIES).exists


@on("recover3")
def test_newer_release_needs_nothing_but_time(server: K3sServer) -> None:
    """From October 2025 on k3s waits for the node's fresh address: said so, and the kubeconfigs verified."""
    server.reset(backup=False)
    server.wait_ready(k3s_faults.move(server))
    assert server.internal_ip() == server.uplink.second
    start = start_of(server)

    done = server.recover(stable_seconds=STABLE_SECONDS)

    assert (done.code, done.changed) == (0, 0), done.output
    assert done.report["result"] == "healthy"
    assert start_of(server) == start
    assert_held(server.kept, server.held())
    assert kubeconfig_works(server)


@on("recover3")
def test_check_says_what_is_wrong_and_changes_nothing(server: K3sServer) -> None:
    server.reset(backup=True, running=False)
    cursor = k3s_faults.node_ip_in_config(server)
    server.wait_journal(k3s_faults.POLICY, cursor)
    # what is stopped changes nothing itself
    server.stop()
    before = server.files()

    done = server.recover("--check", stable_seconds=STABLE_SECONDS)

    assert done.code == 0, done.output
    assert CONFIG in done.text
    assert server.uplink.first in done.text
    assert server.uplink.second in done.text
    assert "node-ip" in done.text
    assert (done.report["result"], done.report["plan"][0]) == ("planned", "configuration")
    assert "node_ip_stale" in {cause["id"] for cause in done.report["causes"]}
    assert server.files() == before


@on("recover2")
def test_no_room_for_the_backup_stops_before_anything_is_touched(server: K3sServer) -> None:
    server.reset(backup=False, running=False)
    k3s_faults.node_ip_in_config(server)
    server.stop()
    server.sh(f"mkdir -p -m 0700 {BACKUPS} && mount -t tmpfs -o size=64k,mode=0700 tmpfs {BACKUPS}")
    before = server.files()

    done = server.recover(stable_seconds=STABLE_SECONDS)

    assert done.code == 2, done.output
    assert BACKUPS in done.text
    assert "room" in done.text
    assert server.files() == before
    server.sh(f"umount {BACKUPS}")
    assert server.recover(stable_seconds=STABLE_SECONDS).report["healed_by"] == "configuration"


@on("recover2")
def test_server_without_a_route_is_told_to_name_an_address(server: K3sServer) -> None:
    server.reset(backup=False, running=False)
    cursor = k3s_faults.no_default_route(server)
    server.wait_journal("no default routes found", cursor)
    config = server.host.file(CONFIG).content_string

    done = server.recover(stable_seconds=STABLE_SECONDS)

    assert done.code == 2, done.output
    assert "default route" in done.text
    assert "recover_k3s_node_ip" in done.text
    assert server.host.file(CONFIG).content_string == config


@on("recover3")
def test_all_of_it_gone_is_deleted_only_by_name(server: K3sServer) -> None:
    server.reset(backup=False, running=False)
    cursor = k3s_faults.everything_gone(server)
    server.wait_journal(k3s_faults.NOT_A_DATABASE, cursor)

    unasked = server.recover(stable_seconds=STABLE_SECONDS, timeout_seconds=40)
    misnamed = server.recover(stable_seconds=STABLE_SECONDS, timeout_seconds=40, delete_cluster="recover2")
    left = server.sh(f"head -c 4096 {k3s_faults.DATABASE} | sha256sum")

    assert unasked.code == 2, unasked.output
    assert "recover_k3s_delete_cluster=recover3" in unasked.text
    assert misnamed.code == 2, misnamed.output
    assert "recover3" in misnamed.text
    assert "delete_cluster" not in misnamed.states()
    assert server.sh(f"head -c 4096 {k3s_faults.DATABASE} | sha256sum") == left

    done = server.recover(stable_seconds=STABLE_SECONDS, delete_cluster="recover3")

    assert done.code == 0, done.output
    assert done.report["healed_by"] == "delete_cluster"
    assert done.report["lost"]
    after = server.held()
    ours = {name for name in server.kept.names() if name[1] == "integr8scode" or name[2] == "integr8scode"}
    assert ours
    assert ours <= after.names()
    assert ("Namespace", "", "made-before") not in after.names()
    assert after.service_key != server.kept.service_key
    assert kubeconfig_works(server)
    again = server.recover(stable_seconds=STABLE_SECONDS)
    assert (again.code, again.changed) == (0, 0), again.output


def stopped(server: K3sServer) -> str:
    """k3s was stopped and nobody started it."""
    cursor = server.cursor()
    server.stop()
    return cursor


ROW = {row.id: row for row in k3s_faults.ROWS}
KILLS = {
    "restart": dataclasses.replace(
        ROW["node-ip in config.yaml"], make=stopped, symptoms=(), rungs=("restart",), crash_loops=False
    ),
    "configuration": ROW["node-ip in config.yaml"],
    "safe_mode": ROW["old release without node-ip"],
    "node_object": ROW["node that stays stale in safe mode"],
    "bootstrap_files": ROW["newer certificate file"],
    "node_password": ROW["node password"],
    "certificates": ROW["foreign certificate"],
    "token": ROW["token"],
    "restore": ROW["damaged database"],
    "delete_cluster": dataclasses.replace(
        ROW["damaged database"], make=k3s_faults.everything_gone, rungs=("delete_cluster",), backup=False,
        variables=lambda server: {"delete_cluster": server.name},
    ),
}  # fmt: skip
# where a kill could cost most; `make test-long` kills at every rung
KILLED = ("restore",)


@pytest.mark.parametrize(
    ("server", "rung"),
    [
        pytest.param(row.server, rung, id=f"{row.server}-{rung}", marks=() if rung in KILLED else pytest.mark.long)
        for rung, row in KILLS.items()
    ],
    indirect=["server"],
)
def test_killed_at_a_rung_and_run_again(server: K3sServer, rung: str) -> None:
    row = KILLS[rung]
    server.reset(backup=row.backup, running=False)
    cursor = row.make(server)
    for symptom in row.symptoms:
        server.wait_journal(symptom, cursor)
    variables: dict[str, Any] = {"stable_seconds": STABLE_SECONDS, **row.variables(server)}

    server.kill_recovery_at(rung, "applying")
    cut_off = server.recover(**variables)
    assert server.killed(), cut_off.output
    assert cut_off.code == 2, cut_off.output
    backups = server.backups()
    assert backups, "killed before there was a backup"

    done = server.recover(**variables)

    assert done.code == 0, done.output
    # it may have been whole when it was killed
    assert done.report["result"] in {"healed", "healthy"}
    assert backups.items() <= server.backups().items()
    assert not server.host.file(SAFE_MODE).exists
    assert server.internal_ip() in server.uplink.addresses
    if rung != "delete_cluster":
        assert_held(server.kept, server.held())
    assert kubeconfig_works(server)
    again = server.recover(stable_seconds=STABLE_SECONDS)
    assert (again.code, again.changed, again.report["result"]) == (0, 0, "healthy"), again.output


@on("recover1")
def test_controller_killed_in_safe_mode(server: K3sServer, pytestconfig: pytest.Config) -> None:
    """Ansible itself is killed, with everything that it started on this machine."""
    server.reset(backup=True)
    server.wait_journal(k3s_faults.POLICY, k3s_faults.move(server))
    command = [ROOT / ".venv/bin/ansible-playbook", "-i", pytestconfig.getoption("--inventory"), "--limit", server.name]
    command += ["playbooks/recover-k3s.yml", "-e", f"recover_k3s_stable_seconds={STABLE_SECONDS}"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    with subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True) as controller:
        try:
            until("safe mode", 120, lambda: server.host.file(SAFE_MODE).exists)
        finally:
            os.killpg(controller.pid, signal.SIGKILL)

    done = server.recover(stable_seconds=STABLE_SECONDS)

    assert done.code == 0, done.output
    assert not server.host.file(SAFE_MODE).exists
    assert_held(server.kept, server.held())
    assert server.recover(stable_seconds=STABLE_SECONDS).report["result"] == "healthy"
