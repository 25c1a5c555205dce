"""Where the database is missing, nothing but a restore or the deletion starts k3s: it would make an empty cluster."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ansible.module_utils.k3s_recovery.machine import NoDatastoreError

from tests.unit.k3s_recovery_climb.fake_server import CONFIG, OLD, SERVER, FakeServer
from tests.unit.k3s_recovery_climb.test_climb import DEFAULTS, Settings, a_backup, begin, climb, recover, states


def without_database(tmp_path: Path, *faults: str) -> FakeServer:
    """A stopped k3s whose data disk is not mounted."""
    server = FakeServer(tmp_path, {"database_damaged", *faults})
    shutil.rmtree(server.path(f"{SERVER}/db"))
    server.cluster, server.found = "new", "inactive"
    return server


def test_the_backup_comes_before_any_other_cure(tmp_path: Path) -> None:
    server = without_database(tmp_path, "node_ip_stale")
    server.the_backups = [a_backup(tmp_path / "good.tar.gz")]
    record = begin(server)
    server.cluster = "old"
    outcomes = climb(server, record)
    assert [(one.rung, one.state) for one in outcomes] == [("restore", "kept"), ("configuration", "healed")]


@pytest.mark.parametrize("only", [(), ("restart", "configuration", "certificates")])
def test_without_a_backup_nothing_is_started(tmp_path: Path, only: tuple[str, ...]) -> None:
    server = without_database(tmp_path, "node_ip_stale", "certificate_mismatch")
    record, outcomes = recover(server, Settings(stable_seconds=10, timeout_seconds=30, only=only))
    assert not outcomes[-1].healed
    assert states(record) == ([] if only else [("restore", "skipped")])
    assert "start" not in server.log
    assert OLD in server.path(CONFIG).read_text()


@pytest.mark.parametrize("found", ["inactive", "activating"])
def test_a_restore_that_cannot_begin_makes_no_empty_cluster(tmp_path: Path, found: str) -> None:
    server = without_database(tmp_path)
    server.found = found
    server.the_backups = [a_backup(tmp_path / "encrypted.tar.gz")]
    server.unfit = {"encrypted.tar.gz": {"database"}}
    record, outcomes = recover(server)
    assert states(record) == [("restore", "undone")]
    assert not outcomes[-1].healed
    assert "No backup can be put back" in outcomes[0].sentence
    assert ("k3s was not started" in outcomes[0].sentence) == (found == "activating")
    assert "start" not in server.log
    assert not server.path(f"{SERVER}/db").exists()


def test_only_the_deletion_may_make_a_new_cluster(tmp_path: Path) -> None:
    server = without_database(tmp_path)
    with pytest.raises(NoDatastoreError):
        server.start()
    record, outcomes = recover(server, Settings(stable_seconds=10, timeout_seconds=30, allow_delete=True))
    assert states(record) == [("restore", "skipped"), ("delete_cluster", "healed")]
    assert outcomes[-1].healed


def test_one_that_was_stopped_is_not_started_by_an_undo(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_ip_stale"}, never_heals={"node_ip_stale"})
    server.found = "inactive"
    record = begin(server)
    server.started_at = None
    outcomes = climb(server, record, Settings(stable_seconds=10, timeout_seconds=30, only=("configuration",)))
    assert outcomes[0].state == "undone"
    assert server.started_at is None


def test_a_new_cluster_beside_a_good_node_is_not_healed(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_ip_stale", "cluster_replaced"}, never_heals={"cluster_replaced"})
    server.harmless = {"cluster_replaced"}
    record, outcomes = recover(server, DEFAULTS)
    assert states(record) == [("configuration", "kept")]
    assert not outcomes[-1].healed


def test_a_database_that_could_not_be_read_before_is_compared_with_the_backup(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_ip_stale"})
    record = begin(server)
    (record.folder / "inventory.json").unlink()
    server.cluster = "new"
    server.kept = {"backup": "/b", "created": "", "revision": 100, "namespaces": ["default", "integr8scode"]}
    outcomes = climb(server, record)
    assert not outcomes[-1].healed
    assert "revision 5, and was at 100 in the backup /b, without the namespaces integr8scode" in outcomes[0].sentence
