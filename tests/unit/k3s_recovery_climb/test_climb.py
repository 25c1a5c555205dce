"""The climb on a fake server: order, undo, several causes, kills at every moment, and what must never happen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.backups.store import Backup
from ansible.module_utils.k3s_recovery import opening
from ansible.module_utils.k3s_recovery import record as records
from ansible.module_utils.k3s_recovery.climb import Climb, Outcome
from ansible.module_utils.k3s_recovery.machine import SAFE_MODE
from ansible.module_utils.k3s_recovery.record import Record
from ansible.module_utils.k3s_recovery.rungs.base import Context, RungError, Settings
from ansible.module_utils.k3s_recovery.rungs.node_object import owed
from ansible.module_utils.k3s_recovery.rungs.restart import Restart
from ansible.module_utils.kine_database import DatabaseError

from tests.unit.k3s_recovery_climb.fake_server import CONFIG, NEW, OLD, SERVER, TOKEN, FakeServer, Killed

DEFAULTS = Settings(stable_seconds=10, timeout_seconds=30)


def a_backup(path: Path, **members: bytes) -> Backup:
    return Backup(
        path=path,
        kind="k3s",
        created="2023-11-14T21:13:20Z",
        reason="test",
        verified=True,
        encrypted=False,
        manifest={"database": {"state": "verified"}, "fake_members": members},
    )


def begin(server: FakeServer, settings: Settings = DEFAULTS) -> Record:
    opened = opening.open_recovery(
        server,
        server.root / "recovery",
        settings,
        by="tester",
        make_backup=lambda: a_backup(server.root / "backup.tar.gz"),
    )
    assert opened.record is not None
    return opened.record


def climb(server: FakeServer, record: Record, settings: Settings = DEFAULTS) -> list[Outcome]:
    """Steps until the end, each with the record read anew, as the module does."""
    outcomes = []
    while not outcomes or not outcomes[-1].done:
        record = records.load(record.folder)
        outcomes.append(Climb(server, record, settings, have_backup=bool(server.the_backups)).step())
        assert len(outcomes) < 20, "it never ends"
    return outcomes


def recover(server: FakeServer, settings: Settings = DEFAULTS) -> tuple[Record, list[Outcome]]:
    record = begin(server, settings)
    outcomes = climb(server, record, settings)
    return records.load(record.folder), outcomes


def states(record: Record) -> list[tuple[str, str]]:
    return [(entry.name, entry.state) for entry in record.rungs]


@pytest.mark.parametrize(
    ("fault", "rung"),
    [
        ("stopped", "restart"),
        ("node_ip_stale", "configuration"),
        ("node_object_stale", "safe_mode"),
        ("certificate_newer_than_datastore", "bootstrap_files"),
        ("certificate_mismatch", "certificates"),
        ("node_password_rejected", "node_password"),
        ("etcd_membership", "cluster_reset"),
    ],
)
def test_each_cause_is_healed_by_its_own_rung_and_no_other_is_tried(tmp_path: Path, fault: str, rung: str) -> None:
    server = FakeServer(tmp_path, {fault})
    record, outcomes = recover(server)
    assert states(record) == [(rung, "healed")]
    assert [outcome.healed for outcome in outcomes] == [True]
    assert not server.wrong()


def test_nothing_wrong_means_nothing_done(tmp_path: Path) -> None:
    server = FakeServer(tmp_path)
    server.start()
    before = list(server.log)
    opened = opening.open_recovery(
        server, tmp_path / "recovery", DEFAULTS, by="tester", make_backup=lambda: pytest.fail("a backup was made")
    )
    assert opened.record is None
    assert server.log == before
    assert not (tmp_path / "recovery").exists()


def test_a_check_says_what_would_be_tried_and_does_nothing(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_ip_stale"})
    opened = opening.open_recovery(
        server,
        tmp_path / "recovery",
        DEFAULTS,
        by="tester",
        make_backup=lambda: pytest.fail("a backup was made"),
        check_mode=True,
    )
    assert opened.plan == ["configuration", "safe_mode", "node_object"]
    assert not (tmp_path / "recovery").exists()
    assert server.log == []


def test_an_address_that_stays_on_the_node_needs_a_new_node_object_with_what_people_wrote_on_it(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"sticky_node_object"})
    record, _outcomes = recover(server)
    assert states(record) == [("safe_mode", "undone"), ("node_object", "healed")]
    assert server.node is not None
    assert server.node["metadata"]["labels"]["tier"] == "single"
    assert server.node["metadata"]["annotations"] == {"owner": "me"}
    assert server.node["spec"]["taints"] == [{"key": "only", "value": "mine", "effect": "NoSchedule"}]
    assert server.node["spec"]["unschedulable"] is True
    assert not server.path(SAFE_MODE).exists()
    assert record.network_policy_off_seconds > 0


def test_two_causes_are_healed_in_order_and_the_first_change_stays(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_ip_stale", "node_object_stale"})
    record, _outcomes = recover(server)
    assert states(record) == [("configuration", "kept"), ("safe_mode", "healed")]
    assert NEW in server.path(CONFIG).read_text()
    assert [cause["id"] for cause in record.causes] == ["node_ip_stale", "node_object_stale"]


def test_a_rung_that_does_not_heal_is_undone(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_ip_stale"}, never_heals={"node_ip_stale"})
    text = server.path(CONFIG).read_text()
    record, outcomes = recover(server)
    assert [name for name, _state in states(record)] == ["configuration", "safe_mode", "node_object"]
    assert record.rungs[0].state == "undone"
    assert server.path(CONFIG).read_text() == text
    assert not outcomes[-1].healed
    assert server.started_at is not None, "it is left as it was found: crashing, not stopped"


def test_no_rung_is_tried_twice(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"unknown"}, never_heals={"unknown"})
    record, outcomes = recover(server)
    names = [entry.name for entry in record.rungs]
    assert names == ["restart", "safe_mode", "node_object"]
    assert "No rung is left" in outcomes[-1].sentence


def test_only_the_rungs_that_were_asked_for(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_ip_stale"})
    settings = Settings(stable_seconds=10, timeout_seconds=30, only=("restart",))
    record, outcomes = recover(server, settings)
    assert states(record) == [("restart", "undone")]
    assert not outcomes[-1].healed


def test_never_the_rungs_that_were_forbidden(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_object_stale"})
    settings = Settings(stable_seconds=10, timeout_seconds=30, skip=("safe_mode",))
    record, _outcomes = recover(server, settings)
    assert states(record) == [("node_object", "healed")]


def test_the_database_is_restored_and_the_loss_is_named(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"database_damaged"})
    server.the_backups = [a_backup(tmp_path / "good.tar.gz")]
    record, _outcomes = recover(server)
    assert states(record) == [("restore", "healed")]
    assert record.restored_from == str(tmp_path / "good.tar.gz")
    assert any("after the backup of 2023-11-14T21:13:20Z" in line for line in record.lost)


def test_a_backup_with_a_wrong_token_is_put_back_without_it_and_one_that_does_not_fit_is_passed_over(
    tmp_path: Path,
) -> None:
    server = FakeServer(tmp_path, {"database_damaged"})
    server.the_backups = [a_backup(tmp_path / name) for name in ("newest.tar.gz", "older.tar.gz", "oldest.tar.gz")]
    server.unfit = {"newest.tar.gz": {"database"}, "older.tar.gz": {"token"}}
    record, _outcomes = recover(server)
    assert states(record) == [("restore", "healed")]
    assert record.restored_from == str(tmp_path / "older.tar.gz")
    assert "restore ['certificates', 'database', 'node_password']" in server.log


def test_without_a_backup_nothing_is_restored(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"database_damaged"})
    record, outcomes = recover(server)
    assert states(record) == [("restore", "skipped")]
    assert not outcomes[-1].healed
    assert not server.restored


def test_the_token_is_proven_before_it_is_written(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"token_mismatch"})
    member = "etc/rancher/k3s/token"
    server.the_backups = [
        a_backup(tmp_path / "b2", **{member: b"another-wrong-one\n"}),
        a_backup(tmp_path / "b1", **{member: TOKEN.encode()}),
    ]
    server.path(CONFIG).write_text("token-file: /etc/rancher/k3s/token\n")
    record, _outcomes = recover(server)
    assert states(record) == [("token", "healed")]
    assert server.path("/etc/rancher/k3s/token").read_text() == f"{TOKEN}\n"
    assert TOKEN not in (record.folder / "journal.json").read_text()


def test_a_token_that_does_not_fit_is_never_written(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"token_mismatch"})
    server.path(CONFIG).write_text("token-file: /etc/rancher/k3s/token\n")
    server.the_backups = [a_backup(tmp_path / "b", **{"etc/rancher/k3s/token": b"another-wrong-one\n"})]
    record, outcomes = recover(server)
    assert states(record) == [("token", "undone")]
    assert server.path("/etc/rancher/k3s/token").read_text() == "wrong\n"
    assert "No token that fits" in record.rungs[0].sentence
    assert not outcomes[-1].healed


def test_the_cluster_is_never_deleted_without_its_name(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"unknown"}, never_heals={"unknown"})
    record, _outcomes = recover(server)
    assert "delete_cluster" not in [entry.name for entry in record.rungs]
    assert server.path(f"{SERVER}/tls/service.key").exists()


def test_the_cluster_is_never_deleted_when_only_the_rung_was_asked_for(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"unknown"}, never_heals={"unknown"})
    settings = Settings(stable_seconds=10, timeout_seconds=30, only=("delete_cluster",))
    record, outcomes = recover(server, settings)
    assert record.rungs == []
    assert not outcomes[-1].healed
    assert server.cluster == "old"


def test_a_deletion_that_was_asked_for_is_not_done_when_something_else_heals(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_ip_stale"})
    record, _outcomes = recover(server, Settings(stable_seconds=10, timeout_seconds=30, allow_delete=True))
    assert states(record) == [("configuration", "healed")]
    assert server.cluster == "old"


def test_the_deletion_moves_aside_and_names_the_loss(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"database_damaged"})
    record, _outcomes = recover(server, Settings(stable_seconds=10, timeout_seconds=30, allow_delete=True))
    assert states(record) == [("restore", "skipped"), ("delete_cluster", "healed")]
    assert server.cluster == "new"
    aside = server.path(f"{SERVER}/tls.before-delete-{record.id}/service.key")
    assert aside.read_text() == "the key"
    assert server.path("/etc/rancher/k3s/token").exists()
    assert any(line.startswith("The whole cluster") for line in record.lost)


def test_what_a_deletion_would_destroy_is_said_before(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"unknown"})
    opened = opening.open_recovery(
        server,
        tmp_path / "recovery",
        Settings(allow_delete=True),
        by="tester",
        make_backup=lambda: a_backup(tmp_path / "b"),
        check_mode=True,
    )
    assert "destroys namespaces default, integr8scode with 12 objects" in opened.told[0]


def test_a_deletion_that_does_not_help_is_undone(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"unknown"}, never_heals={"unknown"})
    settings = Settings(stable_seconds=10, timeout_seconds=30, only=("delete_cluster",), allow_delete=True)
    record, _outcomes = recover(server, settings)
    assert states(record) == [("delete_cluster", "undone")]
    assert server.path(f"{SERVER}/tls/service.key").read_text() == "the key"
    assert not record.lost


@pytest.mark.parametrize("name", ["server2", "SERVER1"])
def test_another_servers_name_is_refused(name: str) -> None:
    with pytest.raises(opening.RefusedError, match=name):
        opening.allowed_to_delete(name, inventory_hostname="server1", hostname="host1")


def test_a_server_is_named_by_the_inventory_or_by_itself() -> None:
    assert opening.allowed_to_delete("server1", inventory_hostname="server1", hostname="host1")
    assert opening.allowed_to_delete("host1", inventory_hostname="server1", hostname="host1")
    assert not opening.allowed_to_delete("", inventory_hostname="server1", hostname="")


def test_no_room_for_the_backup_stops_before_anything(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_ip_stale"})

    def no_room() -> Backup:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        opening.open_recovery(server, tmp_path / "recovery", DEFAULTS, by="tester", make_backup=no_room)
    assert server.log == []
    assert not (tmp_path / "recovery").exists()


def run_killed(server: FakeServer, settings: Settings, kill_at: int) -> bool:
    """A whole run, killed at that call of the server; whether it was."""
    server.calls, server.kill_at = 0, kill_at
    try:
        record = records.unfinished(server.root / "recovery") or begin(server, settings)
        climb(server, record, settings)
    except Killed:
        return True
    finally:
        server.kill_at = -1
    return False


@pytest.mark.parametrize(
    "faults",
    [
        {"node_ip_stale"},
        {"node_object_stale"},
        {"sticky_node_object"},
        {"node_ip_stale", "node_object_stale"},
        {"certificate_newer_than_datastore"},
        {"certificate_mismatch"},
        {"node_password_rejected"},
        {"database_damaged"},
        {"token_mismatch"},
        {"etcd_membership"},
    ],
    ids=lambda faults: "+".join(sorted(faults)),
)
def test_killed_at_every_moment_and_run_again_it_ends_healthy(tmp_path: Path, faults: set[str]) -> None:
    moment = 0
    while True:
        moment += 1
        server = FakeServer(tmp_path / str(moment), set(faults))
        server.the_backups = [a_backup(tmp_path / "b", **{"etc/rancher/k3s/token": TOKEN.encode()})]
        server.path(CONFIG).write_text(server.path(CONFIG).read_text() + "token-file: /etc/rancher/k3s/token\n")
        if not run_killed(server, DEFAULTS, moment):
            break
        record, outcomes = recover(server)
        assert outcomes[-1].healed, (moment, states(record), outcomes[-1].sentence)
        assert not server.wrong(), moment
        assert not server.path(SAFE_MODE).exists(), moment
        assert not owed(record), moment
        assert server.node is not None
        if server.node["metadata"]["uid"] != "first":
            assert server.node["metadata"]["labels"]["tier"] == "single", moment
            assert server.node["spec"]["unschedulable"] is True, moment
        assert record.backup["path"], moment
    assert moment > 10


def test_a_killed_deletion_is_finished(tmp_path: Path) -> None:
    settings = Settings(stable_seconds=10, timeout_seconds=30, only=("delete_cluster",), allow_delete=True)
    moment = 0
    while True:
        moment += 1
        server = FakeServer(tmp_path / str(moment), {"database_damaged"})
        if not run_killed(server, settings, moment):
            break
        record, outcomes = recover(server, settings)
        assert outcomes[-1].healed, (moment, states(record))
        aside = server.path(f"{SERVER}/tls.before-delete-{record.id}/service.key")
        assert aside.read_text() == "the key", moment
    assert moment > 5


def test_the_first_backup_is_kept_by_the_run_after_a_kill(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_ip_stale"})
    first = begin(server)
    opened = opening.open_recovery(
        server, tmp_path / "recovery", DEFAULTS, by="tester", make_backup=lambda: pytest.fail("another backup")
    )
    assert opened.record is not None
    assert opened.record.id == first.id
    assert (opened.record.runs, opened.record.backup["reused"]) == (2, True)
    assert opened.told


def test_a_run_killed_before_it_had_looked_does_so_in_the_next(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"stopped"})
    record = begin(server)
    (record.folder / "inventory.json").unlink()
    record.before = {}
    record.save()
    record = begin(server)
    assert record.before["inventory"]["namespaces"] == ["default", "integr8scode"]
    assert record.before["service_key"]


def test_a_backup_that_is_damaged_meanwhile_is_made_again(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_ip_stale"})
    begin(server)
    server.kept_backup = False
    record = begin(server)
    assert record.backup["reused"] is False


def test_an_unreadable_record_is_refused_with_the_way_out(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_ip_stale"})
    record = begin(server)
    record.path.write_text("{")
    with pytest.raises(records.RecordError, match="move the folder away"):
        begin(server)


def test_what_a_run_changed_is_remembered_before_it_is_done(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"sticky_node_object"})
    record = begin(server, DEFAULTS)
    seen: list[dict[str, Any]] = []
    original = server.request

    def spy(method: str, path: str, body: Any = None) -> Any:
        if method == "DELETE":
            seen.append(json.loads((record.folder / "journal.json").read_text())["rungs"][-1])
        return original(method, path, body)

    server.request = spy  # type: ignore[method-assign]
    climb(server, record)
    assert seen[0]["data"]["saved"]["labels"]["tier"] == "single"
    assert seen[0]["step"] == "delete the node"


def test_another_cluster_is_not_called_healed(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"stopped"})
    record = begin(server)
    server.cluster = "new"
    outcomes = climb(server, record)
    assert not outcomes[-1].healed
    assert "namespace integr8scode is gone" in " ".join(outcome.sentence for outcome in outcomes)


def test_another_service_accounts_key_is_not_called_healed(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"stopped"})
    record = begin(server)
    server.path(f"{SERVER}/tls/service.key").write_text("another key")
    outcomes = climb(server, record)
    assert not outcomes[-1].healed
    assert "signs service accounts" in outcomes[0].sentence


def test_the_address_is_the_new_one(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_object_stale"})
    recover(server)
    assert server.node is not None
    assert server.node["status"]["addresses"][0]["address"] == NEW != OLD


def test_a_k3s_that_runs_with_a_cause_left_is_not_healed(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"advertise_address_stale"}, never_heals={"advertise_address_stale"})
    server.harmless = {"advertise_address_stale"}
    record, outcomes = recover(server, Settings(stable_seconds=10, timeout_seconds=30, only=("restart",)))
    assert states(record) == [("restart", "undone")]
    assert not outcomes[-1].healed


def test_a_server_that_came_up_by_itself_loses_nothing_more(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"unknown"}, never_heals={"unknown"})
    record = begin(server)
    settings = Settings(stable_seconds=10, timeout_seconds=30, only=("restart", "node_object"))
    assert Climb(server, record, settings).step().state == "undone"
    server.faults, server.never_heals = set(), set()
    assert server.node is not None
    server.node["status"]["addresses"][0]["address"] = NEW
    outcomes = climb(server, record, settings)
    assert [(outcome.rung, outcome.healed) for outcome in outcomes] == [("", True)]
    assert "delete node" not in server.log


def test_a_cluster_in_an_external_datastore_is_healed_and_never_deleted(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_ip_stale"})
    server.datastore = "external"
    record = begin(server)
    server.path(f"{SERVER}/db/state.db").unlink()

    def none(_database: Path) -> Any:
        raise DatabaseError("no such file")

    server.inventory = none  # type: ignore[method-assign]
    outcomes = climb(server, record)
    assert outcomes[-1].healed
    server = FakeServer(tmp_path / "two", {"unknown"}, never_heals={"unknown"})
    server.datastore = "external"
    settings = Settings(stable_seconds=10, timeout_seconds=30, only=("delete_cluster",), allow_delete=True)
    record, _outcomes = recover(server, settings)
    assert states(record) == [("delete_cluster", "skipped")]
    assert server.path(f"{SERVER}/tls/service.key").exists()


def test_what_the_cluster_itself_changes_meanwhile_takes_no_heal_back(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_ip_stale"})
    server.holds = {"namespaces": ["default", "integr8scode", "old-one"]}
    record = begin(server)
    server.holds = {"revision": 120, "rbac": {"/registry/roles/integr8scode/k8s-worker": "changed"}}
    assert climb(server, record)[-1].healed
    lost = " ".join(records.load(record.folder).lost)
    assert "namespace old-one is gone" in lost
    assert "/registry/roles/integr8scode/k8s-worker is not as it was" in lost


def test_a_record_that_cannot_be_written_leaves_k3s_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeServer(tmp_path, {"node_ip_stale"})
    record = begin(server)
    server.start()
    save = Record.save

    def full(self: Record) -> None:
        if server.started_at is None:
            raise records.RecordError("no space left")
        save(self)

    monkeypatch.setattr(Record, "save", full)
    with pytest.raises(records.RecordError, match=r"no space left k3s was started, as it was found"):
        Climb(server, record, DEFAULTS).step()
    assert server.started_at is not None


def test_an_undo_that_fails_leaves_k3s_started(tmp_path: Path) -> None:
    class Full(Restart):
        def apply(self, context: Context) -> str:
            context.machine.stop()
            raise RungError("no")

        def undo(self, context: Context) -> str:  # noqa: ARG002
            raise OSError("no space left")

    server = FakeServer(tmp_path, {"unknown"}, never_heals={"unknown"})
    record = begin(server)
    outcome = Climb(server, record, DEFAULTS, rungs={"restart": Full()}).step()
    assert outcome.state == "failed"
    assert "no space left. k3s was started" in outcome.sentence
    assert server.started_at is not None
