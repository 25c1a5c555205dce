"""Single rungs: what they write, what they put back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible.module_utils.k3s_recovery import record as records
from ansible.module_utils.k3s_recovery.machine import NODE_PASSWORD, SAFE_MODE, Finished
from ansible.module_utils.k3s_recovery.record import Record, RungEntry
from ansible.module_utils.k3s_recovery.rungs import RUNGS
from ansible.module_utils.k3s_recovery.rungs.base import Context, RungError, Settings, keep, put_back, replace
from ansible.module_utils.k3s_recovery.rungs.etcd import command_of

from tests.unit.k3s_recovery_climb.fake_server import CONFIG, OLD, SERVER, FakeServer
from tests.unit.k3s_recovery_climb.test_climb import a_backup, recover, states


def context_of(server: FakeServer, rung: str) -> Context:
    record: Record = records.new(server.root / "recovery", now=server.now(), by="tester")
    entry = RungEntry(rung)
    record.rungs.append(entry)
    return Context(server, record, entry, server.diagnose(""), Settings(stable_seconds=10, timeout_seconds=30))


def test_originals_come_back_with_their_mode_and_time(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_ip_stale"})
    config = server.path(CONFIG)
    config.chmod(0o640)
    before = config.stat()
    context = context_of(server, "configuration")
    rung = RUNGS["configuration"]
    rung.apply(context)
    assert OLD not in config.read_text()
    assert config.stat().st_mode == before.st_mode
    rung.undo(context)
    assert OLD in config.read_text()
    assert (config.stat().st_mode, config.stat().st_mtime) == (before.st_mode, before.st_mtime)


def test_a_file_that_was_not_there_goes_again(tmp_path: Path) -> None:
    server = FakeServer(tmp_path)
    context = context_of(server, "token")
    keep(context, ["/etc/rancher/k3s/new"])
    replace(server.path("/etc/rancher/k3s/new"), b"x")
    assert server.path("/etc/rancher/k3s/new").stat().st_mode & 0o777 == 0o600
    assert put_back(context) == ["/etc/rancher/k3s/new"]
    assert not server.path("/etc/rancher/k3s/new").exists()


def test_certificates_of_before_come_back_when_the_rotation_does_not_help(tmp_path: Path) -> None:
    server = FakeServer(tmp_path)
    context = context_of(server, "certificates")

    def rotate(*_argv: object, **_more: object) -> Finished:
        server.path(f"{SERVER}/tls/server-ca.crt").write_text("rotated")
        return Finished(0)

    server.run = rotate  # type: ignore[method-assign]
    rung = RUNGS["certificates"]
    rung.apply(context)
    assert server.path(f"{SERVER}/tls/server-ca.crt").read_text() == "rotated"
    for _again in range(2):
        rung.undo(context)
        assert server.path(f"{SERVER}/tls/server-ca.crt").read_text() == "good"


def test_only_named_files_below_k3s_own_folder_are_put_aside(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"certificate_newer_than_datastore"})
    context = context_of(server, "bootstrap_files")
    context.diagnosis.causes[0].details["files"] = ["/etc/passwd"]
    with pytest.raises(RungError, match="not a file of k3s' own"):
        RUNGS["bootstrap_files"].apply(context)
    assert server.log == []


def test_the_backups_node_password_comes_before_forgetting(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_password_rejected"})
    server.the_backups = [a_backup(tmp_path / "b", **{NODE_PASSWORD.lstrip("/"): b"right\n"})]
    original = server.wrong

    def wrong() -> set[str]:
        right = server.path(NODE_PASSWORD).read_text() == "right\n"
        return original() - ({"node_password_rejected"} if right else set())

    server.wrong = wrong  # type: ignore[method-assign]
    record, _outcomes = recover(server)
    assert states(record) == [("node_password", "healed")]
    assert server.path(NODE_PASSWORD).read_text() == "right\n"
    assert "DELETE secret" not in server.log


def test_a_password_that_is_not_taken_either_is_put_back(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_password_rejected"})
    server.the_backups = [a_backup(tmp_path / "b", **{NODE_PASSWORD.lstrip("/"): b"older\n"})]
    record, _outcomes = recover(server)
    assert states(record) == [("node_password", "healed")]
    assert server.path(NODE_PASSWORD).read_text() == "wrong\n"
    assert "DELETE secret" in server.log


def test_safe_mode_makes_no_sense_where_policies_are_off(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_object_stale"})
    context = context_of(server, "safe_mode")
    assert RUNGS["safe_mode"].unsuitable(context) == ""
    context.diagnosis.facts["network_policy_disabled"] = True
    assert "switched off" in RUNGS["safe_mode"].unsuitable(context)
    # but one that a killed run left has to go
    server.path(SAFE_MODE).parent.mkdir(parents=True)
    server.path(SAFE_MODE).write_text("disable-network-policy: true\n")
    assert RUNGS["safe_mode"].unsuitable(context) == ""


def test_the_reset_of_etcd_has_the_units_own_settings() -> None:
    shown = (
        "ExecStart={ path=/usr/local/bin/k3s ; argv[]=/usr/local/bin/k3s server --data-dir /srv/k3s ; "
        "ignore_errors=no ; start_time=[n/a] }\n"
        "EnvironmentFiles=/etc/default/k3s (ignore_errors=yes)\n"
        "EnvironmentFiles=/etc/systemd/system/k3s.service.env (ignore_errors=yes)\n"
    )
    assert command_of(shown) == (
        ["/usr/local/bin/k3s", "server", "--data-dir", "/srv/k3s"],
        ["/etc/default/k3s", "/etc/systemd/system/k3s.service.env"],
    )
    assert command_of("")[0] == ["/usr/local/bin/k3s", "server"]


def test_the_newest_snapshot_and_what_it_costs(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"etcd_membership"}, never_heals={"etcd_membership"})
    folder = server.path(f"{SERVER}/db/snapshots")
    folder.mkdir()
    for age, name in enumerate(["new", "old"]):
        (folder / name).write_text("x")
        moment = server.now() - 600 * (age + 1)
        os.utime(folder / name, (moment, moment))
    context = context_of(server, "snapshot_restore")
    sentence = RUNGS["snapshot_restore"].apply(context)
    assert "snapshot new of" in sentence
    assert any("--cluster-reset-restore-path=" in line and line.endswith("/new") for line in server.log)
    assert context.record.lost == [
        "All that changed in the cluster after the snapshot of 2023-11-14 22:03:20 UTC (10 min ago)."
    ]


def test_the_flag_of_an_earlier_reset_goes(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"etcd_membership"})
    flag = server.path(f"{SERVER}/db/reset-flag")
    flag.write_text("")
    RUNGS["cluster_reset"].apply(context_of(server, "cluster_reset"))
    assert not flag.exists()


def test_the_deletion_itself_asks_for_the_name_and_a_backup(tmp_path: Path) -> None:
    rung, context = RUNGS["delete_cluster"], context_of(FakeServer(tmp_path), "delete_cluster")
    assert "by this server's name" in rung.unsuitable(context)
    context.settings = Settings(allow_delete=True)
    assert "no backup" in rung.unsuitable(context)
    context.record.backup = {"path": "/var/backups/b.tar.gz"}
    assert rung.unsuitable(context) == ""
