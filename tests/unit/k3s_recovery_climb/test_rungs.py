"""Single rungs: what they write, what they put back."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible.module_utils.backups.store import Backup
from ansible.module_utils.k3s_recovery import record as records
from ansible.module_utils.k3s_recovery.etcd_folder import would_begin_anew
from ansible.module_utils.k3s_recovery.machine import NODE_PASSWORD, SAFE_MODE, Finished, MachineError, Server
from ansible.module_utils.k3s_recovery.record import Record, RungEntry
from ansible.module_utils.k3s_recovery.rungs import RUNGS
from ansible.module_utils.k3s_recovery.rungs.base import Context, RungError, Settings, keep, put_back, replace
from ansible.module_utils.k3s_recovery.rungs.etcd import command_of, snapshots
from ansible.module_utils.k3s_recovery.rungs.restore import newest_first
from ansible.module_utils.k3s_recovery.rungs.safe_mode import enter, leave

from tests.unit.k3s_recovery_climb.fake_server import CONFIG, OLD, SERVER, TOKEN, FakeServer, Killed
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
    assert put_back(context) == "/etc/rancher/k3s/new put back as before."
    assert not server.path("/etc/rancher/k3s/new").exists()


def test_what_somebody_repaired_after_the_rung_stays(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_ip_stale"})
    config = server.path(CONFIG)
    context = context_of(server, "configuration")
    RUNGS["configuration"].apply(context)
    config.write_text("node-ip: 10.0.0.7\ntls-san: [a]\n")
    assert RUNGS["configuration"].undo(context) == f"{CONFIG} was changed by somebody meanwhile and stays so."
    assert "10.0.0.7" in config.read_text()


def test_a_link_stays_a_link_and_its_target_comes_back(tmp_path: Path) -> None:
    server = FakeServer(tmp_path)
    context = context_of(server, "token")
    target, link = tmp_path / "secret", server.path("/etc/rancher/k3s/linked")
    target.write_text("before")
    target.chmod(0o600)
    link.symlink_to(target)
    keep(context, ["/etc/rancher/k3s/linked"])
    replace(link, b"after")
    assert (link.is_symlink(), target.read_text(), target.stat().st_mode & 0o777) == (True, "after", 0o600)
    put_back(context)
    assert (link.is_symlink(), target.read_text(), target.stat().st_mode & 0o777) == (True, "before", 0o600)


def test_the_rotation_is_told_the_data_folder(tmp_path: Path) -> None:
    server = FakeServer(tmp_path)
    context = context_of(server, "certificates")
    context.diagnosis.facts["data_dir"] = "/srv/k3s"
    server.path("/srv/k3s/server/tls").mkdir(parents=True)
    RUNGS["certificates"].apply(context)
    assert any("certificate rotate --data-dir /srv/k3s " in line for line in server.log)


def test_the_safe_mode_lies_beside_the_config_that_is_read(tmp_path: Path) -> None:
    server = FakeServer(tmp_path)
    unit = server.path("/etc/systemd/system/k3s.service")
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/usr/local/bin/k3s server --config /srv/k3s.yaml\n")
    server.path("/srv").mkdir()
    server.path("/srv/k3s.yaml").write_text("")
    context = context_of(server, "safe_mode")
    enter(context)
    assert server.path("/srv/k3s.yaml.d/99-recover-k3s-safe-mode.yaml").exists()
    assert leave(context)
    assert not any(server.path("/srv/k3s.yaml.d").iterdir())


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


class EtcdServer(FakeServer):
    """Resets of etcd do to its files what k3s does; `bad` are snapshots that it fails with half-way."""

    bad: frozenset[str] = frozenset()
    dies = False

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: str = "") -> Finished:
        if "--cluster-reset" not in argv:
            return super().run(argv, timeout=timeout, stdin=stdin)
        snapshot = argv[-1].rpartition("/")[2]
        self.log.append(f"reset {snapshot}")
        db = self.path(f"{SERVER}/db")
        (db / "etcd").rename(db / f"etcd-old-{1000 + len(self.log)}")
        if self.dies:
            raise Killed
        (db / "etcd").mkdir()
        (db / "etcd/data").write_text(snapshot)
        return Finished(1, err="unexpected EOF") if snapshot in self.bad else Finished(0)


def etcd_server(root: Path) -> EtcdServer:
    server = EtcdServer(root, {"etcd_membership"})
    db = server.path(f"{SERVER}/db")
    for name in ("etcd", "etcd-old-1", "snapshots"):
        (db / name).mkdir(exist_ok=True)
    (db / "state.db").unlink()
    (db / "etcd/data").write_text("mine")
    for age, name in enumerate(["new", "old"]):
        (db / "snapshots" / name).write_text("x")
        os.utime(db / "snapshots" / name, (server.now() - age - 1,) * 2)
    return server


def test_an_older_snapshot_is_taken_when_the_newest_is_broken(tmp_path: Path) -> None:
    server = etcd_server(tmp_path)
    server.bad = frozenset({"new"})
    assert "snapshot old of" in RUNGS["snapshot_restore"].apply(context_of(server, "snapshot_restore"))
    db = server.path(f"{SERVER}/db")
    assert (db / "etcd/data").read_text() == "old"
    assert [path.read_text() for path in db.glob("etcd-old-*/data")] == ["mine"]


def test_etcd_is_as_it_was_when_no_snapshot_can_be_put_back(tmp_path: Path) -> None:
    server = etcd_server(tmp_path)
    server.bad = frozenset({"new", "old"})
    context = context_of(server, "snapshot_restore")
    with pytest.raises(RungError, match="unexpected EOF"):
        RUNGS["snapshot_restore"].apply(context)
    assert "start" not in server.log
    assert RUNGS["snapshot_restore"].undo(context) == f"{server.path(SERVER)}/db/etcd is as it was."
    db = server.path(f"{SERVER}/db")
    assert (db / "etcd/data").read_text() == "mine"
    assert sorted(path.name for path in db.glob("etcd*")) == ["etcd", "etcd-old-1"]


def test_a_killed_snapshot_restore_is_mended_before_it_is_done_again(tmp_path: Path) -> None:
    server = etcd_server(tmp_path)
    server.dies = True
    context = context_of(server, "snapshot_restore")
    rung = RUNGS["snapshot_restore"]
    with pytest.raises(Killed):
        rung.apply(context)
    db = server.path(f"{SERVER}/db")
    assert "new, empty cluster" in would_begin_anew(db)
    server.dies = False
    rung.apply(context)
    assert (db / "etcd/data").read_text() == "new"
    assert would_begin_anew(db) == ""
    # once put back, it is not put back a second time
    resets = len([line for line in server.log if line.startswith("reset")])
    rung.apply(context)
    assert len([line for line in server.log if line.startswith("reset")]) == resets
    assert "stays" in rung.undo(context)


def test_k3s_is_not_left_to_begin_anew_without_etcd(tmp_path: Path) -> None:
    server = etcd_server(tmp_path)
    context = context_of(server, "snapshot_restore")
    server.path(f"{SERVER}/db/etcd").rename(server.path(f"{SERVER}/db/etcd-old-2"))
    with pytest.raises(RungError, match="Move it back"):
        RUNGS["snapshot_restore"].undo(context)


def test_no_rung_starts_k3s_without_etcd(tmp_path: Path) -> None:
    class Rooted(Server):
        def path(self, text: str) -> Path:
            return tmp_path / text.lstrip("/")

        def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: str = "") -> Finished:
            raise AssertionError(f"{argv} was run, {timeout}, {stdin}")

    (tmp_path / SERVER.lstrip("/") / "db/etcd-old-2").mkdir(parents=True)
    with pytest.raises(MachineError, match="k3s was not started"):
        Rooted().start()


def test_snapshots_are_looked_for_where_k3s_writes_them(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"etcd_membership"})
    server.path(CONFIG).write_text("etcd-snapshot-dir: /srv/snapshots\n")
    server.path("/srv/snapshots").mkdir(parents=True)
    server.path("/srv/snapshots/one").write_text("x")
    assert [path.name for path in snapshots(context_of(server, "snapshot_restore"))] == ["one"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (CONFIG, "# mine\r\ntoken: 'wrong'\r\ntls-san: [a]\r\n"),
        (CONFIG, "token: wrong # why\n"),
        ("/etc/systemd/system/k3s.service.env", "K3S_TOKEN='wrong'\nOTHER=1\n"),
    ],
)
def test_an_inline_token_is_replaced_where_it_stands(tmp_path: Path, file: str, text: str) -> None:
    server = FakeServer(tmp_path, {"token_mismatch"})
    unit = server.path("/etc/systemd/system/k3s.service")
    unit.parent.mkdir(parents=True)
    unit.write_text(f"[Service]\nEnvironmentFile=-{file}\nExecStart=/usr/local/bin/k3s server\n")
    server.path(file).write_bytes(text.encode())
    server.path(f"{SERVER}/token").write_text(TOKEN)
    context = context_of(server, "token")
    assert "written to" in RUNGS["token"].apply(context)
    assert server.path(file).read_bytes().decode() == text.replace("wrong", TOKEN)
    RUNGS["token"].undo(context)
    assert server.path(file).read_bytes().decode() == text


def test_revisions_decide_when_a_backup_is_of_the_future() -> None:
    now = 1_700_000_000.0

    def made(created: str, revision: int) -> Backup:
        backup = a_backup(Path(created))
        return dataclasses.replace(backup, created=created, manifest={"inventory": {"revision": revision}})

    rolled_back, before = made("2023-11-14T20:00:00Z", 500), made("2023-11-14T10:00:00Z", 900)
    assert newest_first([before, rolled_back], now) == [rolled_back, before]
    future = made("2030-01-01T00:00:00Z", 100)
    assert newest_first([future, before, rolled_back], now) == [before, rolled_back, future]
