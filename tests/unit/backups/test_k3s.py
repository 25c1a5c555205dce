"""k3s' backup: all that belongs to it, whatever state the server is in; and refusals before anything is written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.backups import archive, k3s, store
from ansible.module_utils.backups.k3s import BackupError
from ansible.module_utils.kine_database import integrity, inventory

from tests.unit.conftest import RunModule
from tests.unit.support import kine
from tests.unit.support.k3s_server import DATA, VERSION, Server, make_server


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return make_server(tmp_path / "root")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "backups"


def names(backup: store.Backup, tmp_path: Path) -> set[str]:
    out = tmp_path / "names"
    shutil.rmtree(out, ignore_errors=True)
    archive.extract(backup, out, ["etc", "var", "data"])
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_symlink() or path.is_file()}


def made(server: Server, directory: Path, **more: Any) -> store.Backup:
    return k3s.create(directory, reason="test", root=server.root, **{"required_free": 0, **more})


def test_all_of_it_is_in_it(server: Server, directory: Path, tmp_path: Path) -> None:
    backup = made(server, directory)
    assert names(backup, tmp_path) == {
        "etc/default/k3s",
        "etc/rancher/k3s/config.yaml",
        "etc/rancher/k3s/config.yaml.d/10-more.yaml",
        "etc/rancher/k3s/k3s.yaml",
        "etc/rancher/k3s/registries.yaml",
        "etc/rancher/k3s/token",
        "etc/rancher/node/password",
        "etc/systemd/system/k3s.service",
        "etc/systemd/system/k3s.service.d/10-limit.conf",
        "etc/systemd/system/k3s.service.env",
        "var/lib/rancher/k3s/agent/etc/containerd/config.toml.tmpl",
        "var/lib/rancher/k3s/server/cred/passwd",
        "var/lib/rancher/k3s/server/db/state.db",
        "var/lib/rancher/k3s/server/manifests/own.yaml",
        "var/lib/rancher/k3s/server/node-token",
        "var/lib/rancher/k3s/server/tls/server-ca.crt",
        "var/lib/rancher/k3s/server/tls/service.key",
        "var/lib/rancher/k3s/server/token",
    }
    assert backup.verified
    assert backup.kind == "k3s"
    assert backup.manifest["database"] == {"state": "verified", "error": ""}
    assert backup.manifest["versions"]["k3s"] == VERSION
    found = asdict(inventory(server.database))
    assert backup.manifest["inventory"] == {**found, "rbac": len(found["rbac"])}


def test_no_secret_is_in_the_manifest(server: Server, directory: Path) -> None:
    text = store.sidecar(made(server, directory).path).read_text()
    for secret in (kine.TOKEN, "node-password", "the service key", "ca-hash"):
        assert secret not in text
    assert server.bootstrap_key.rpartition("/")[2] not in text, "with it guesses of a token could be tested"


def test_volumes_only_on_request(server: Server, directory: Path, tmp_path: Path) -> None:
    (server.path(f"{DATA}/storage/pvc-1")).mkdir(parents=True)
    (server.path(f"{DATA}/storage/pvc-1/data")).write_text("data")
    member = "var/lib/rancher/k3s/storage/pvc-1/data"
    assert member not in names(made(server, directory), tmp_path)
    assert member in names(made(server, directory, local_volumes=True), tmp_path)


def test_under_load_it_holds_what_was_committed_before(server: Server, directory: Path, tmp_path: Path) -> None:
    with kine.writer(server.database) as process:
        assert process.stdout is not None
        import threading

        reader = threading.Thread(target=process.stdout.read, daemon=True)
        reader.start()
        before = kine.committed(server.database)
        backup = made(server, directory)
    archive.extract(backup, tmp_path / "out", [server.database_member])
    copy = tmp_path / "out" / server.database_member
    integrity(copy)
    assert kine.committed(copy) >= before
    reader.join(5)


def test_a_damaged_database_is_kept_as_it_is_and_said(server: Server, directory: Path, tmp_path: Path) -> None:
    with server.database.open("r+b") as file:
        file.write(b"\xff" * 100)
    for suffix in ("-wal", "-shm"):
        server.database.with_name(f"state.db{suffix}").write_text(suffix)
    backup = made(server, directory)
    assert not backup.verified
    assert backup.manifest["database"]["state"] == "raw"
    assert "file is not a database" in backup.manifest["database"]["error"]
    assert ".k3s-work" not in backup.manifest["database"]["error"]
    assert "inventory" not in backup.manifest
    archive.extract(backup, tmp_path / "out", [f"var{DATA[4:]}/server/db"])
    for suffix in ("", "-wal", "-shm"):
        kept = tmp_path / "out" / f"{server.database_member}{suffix}"
        assert kept.read_bytes() == server.database.with_name(f"state.db{suffix}").read_bytes()


def test_damage_within_is_found_in_the_copy(tmp_path: Path, directory: Path) -> None:
    server = make_server(tmp_path / "big", objects=2000)
    with server.database.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(os.urandom(8 * 4096))
    backup = made(server, directory)
    assert backup.manifest["database"]["state"] == "raw"
    assert f"{DATA}/server/db/state.db" in backup.manifest["database"]["error"]


def test_a_damaged_one_is_not_the_last_good_one(server: Server, directory: Path) -> None:
    good = made(server, directory)
    server.database.write_bytes(b"")
    made(server, directory)
    found = store.last_good(directory, "k3s")
    assert found is not None
    assert found.path == good.path


def test_without_a_database_the_rest_is_kept(server: Server, directory: Path, tmp_path: Path) -> None:
    shutil.rmtree(server.database.parent)
    backup = made(server, directory)
    assert backup.manifest["database"]["state"] == "none"
    assert not backup.verified
    assert "etc/rancher/k3s/token" in names(backup, tmp_path)


def test_an_external_datastore_is_named_without_its_password(server: Server, directory: Path) -> None:
    server.path("/etc/rancher/k3s/config.yaml.d/20-store.yaml").write_text(
        "datastore-endpoint: mysql://k3s:hunter2@tcp(db:3306)/k3s\n"
    )
    backup = made(server, directory)
    assert backup.manifest["database"]["state"] == "external"
    assert "mysql" in backup.manifest["database"]["error"]
    assert "hunter2" not in store.sidecar(backup.path).read_text()
    assert not backup.verified


def etcd(server: Server) -> None:
    shutil.rmtree(server.database.parent)
    folder = server.path(f"{DATA}/server/db")
    (folder / "etcd/member/snap").mkdir(parents=True)
    (folder / "etcd/member/snap/db").write_text("bolt")
    (folder / "snapshots").mkdir()
    for number, name in enumerate(("old", "new")):
        (folder / "snapshots" / name).write_text(name)
        os.utime(folder / "snapshots" / name, (number, number))


def test_etcd_is_kept_by_its_own_snapshot(server: Server, directory: Path, tmp_path: Path) -> None:
    etcd(server)
    server.k3s_answers('[ "$1" = etcd-snapshot ] && echo snapshot > "$6/backup-server1-1"; exit 0')
    backup = made(server, directory)
    assert backup.manifest["database"] == {"state": "snapshot", "error": ""}
    assert backup.verified
    assert archive.read_member(backup, f"{DATA[1:]}/server/db/snapshots/backup-server1-1") == b"snapshot\n"


def test_etcd_that_makes_none_is_kept_as_it_is(server: Server, directory: Path, tmp_path: Path) -> None:
    etcd(server)
    server.k3s_answers('[ "$1" = etcd-snapshot ] && { echo "connection refused" >&2; exit 1; }')
    backup = made(server, directory)
    assert backup.manifest["database"]["state"] == "raw"
    assert "connection refused" in backup.manifest["database"]["error"]
    assert not backup.verified
    kept = names(backup, tmp_path)
    assert f"{DATA[1:]}/server/db/etcd/member/snap/db" in kept
    assert {name for name in kept if "snapshots" in name} == {f"{DATA[1:]}/server/db/snapshots/new"}


def test_another_data_folder_and_token_file_are_found(tmp_path: Path, directory: Path) -> None:
    server = make_server(tmp_path / "other", data="/data/k3s", token_file="/etc/k3s-token")
    kept = names(made(server, directory), tmp_path)
    assert {"data/k3s/server/db/state.db", "data/k3s/server/token", "etc/k3s-token"} <= kept


def test_no_room_is_refused_before_anything_is_written(
    server: Server, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = server.database.stat().st_size
    needed = k3s.estimate(root=server.root).needed
    assert 2 * size < needed < 2 * size + 10_000
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=needed + k3s.MARGIN - 1, f_frsize=1))
    with pytest.raises(BackupError, match=r"no room in .*iB are free.*Nothing was written\. Cure"):
        made(server, directory, required_free=k3s.MARGIN)
    assert not directory.exists()
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=needed + k3s.MARGIN, f_frsize=1))
    assert made(server, directory, required_free=k3s.MARGIN).verified


def test_the_log_beside_the_database_counts(server: Server) -> None:
    before = k3s.estimate(root=server.root).needed
    server.database.with_name("state.db-wal").write_bytes(bytes(1000))
    assert k3s.estimate(root=server.root).needed == before + 2000


def test_a_server_without_k3s_is_refused(tmp_path: Path, directory: Path) -> None:
    (tmp_path / "bare").mkdir()
    assert not k3s.present(tmp_path / "bare")
    with pytest.raises(BackupError, match="no k3s on this server"):
        k3s.create(directory, reason="test", root=tmp_path / "bare")
    assert not directory.exists()


def test_nothing_is_left_beside_it_and_the_server_is_as_it_was(server: Server, directory: Path) -> None:
    before = server.content()
    backup = made(server, directory)
    visible = {path.name for path in directory.iterdir()}
    assert visible == {backup.path.name, f"{backup.path.name}.json", ".k3s.lock"}
    assert server.content() == before


def test_what_a_killed_run_left_goes(server: Server, directory: Path) -> None:
    (directory / ".k3s-work").mkdir(parents=True)
    (directory / ".k3s-work/state.db").write_text("half")
    (directory / ".k3s-server1-20261124T000000Z.tar.gz.partial").write_text("half")
    backup = made(server, directory)
    assert {path.name for path in directory.iterdir() if path.name.startswith(".")} == {".k3s.lock"}
    assert store.last_good(directory, "k3s") == backup


def test_what_a_restore_put_aside_is_no_part(server: Server, directory: Path, tmp_path: Path) -> None:
    server.path("/etc/rancher/k3s/config.yaml.before-restore-20261124T000000Z-1").write_text("old")
    assert not [name for name in names(made(server, directory), tmp_path) if "before-restore" in name]


def test_the_raw_database_and_the_crash_loop(server: Server, directory: Path) -> None:
    """The newest rows are in the log alone, as kine leaves it when it is killed."""
    connection = kine.connect(server.database)
    with closing(connection):
        kine.put(connection, "/registry/namespaces/late")
        copy = directory.parent / "crashed"
        shutil.copytree(server.root, copy, symlinks=True)
    backup = k3s.create(directory, reason="test", required_free=0, root=copy)
    assert "late" in backup.manifest["inventory"]["namespaces"]


# the module


def test_module_k3s_backup(server: Server, directory: Path, run_module: RunModule, on: Any) -> None:
    on(server)
    arguments = {"directory": str(directory), "min_free_mb": 0}
    predicted = run_module("k3s_backup", arguments, check=True, diff=True)
    assert predicted["changed"]
    assert predicted["needed"] == k3s.estimate(root=server.root).needed
    assert not directory.exists()
    result = run_module("k3s_backup", arguments, diff=True)
    assert Path(result["path"]).exists()
    assert result["database"]["state"] == "verified"
    assert result["inventory"]["namespaces"] == ["default", "integr8scode", "kube-system"]
    assert sorted(predicted["diff"]["after"].split()) == sorted(result["diff"]["after"].split())
    assert kine.TOKEN not in json.dumps(result)


def test_module_k3s_backup_fails_alike_in_check_mode(
    server: Server, directory: Path, run_module: RunModule, on: Any, tmp_path: Path
) -> None:
    on(server)
    for check in (True, False):
        result = run_module("k3s_backup", {"directory": str(directory), "min_free_mb": 10**9}, check=check)
        assert result["failed"]
        assert "no room" in result["msg"]
    bare = SimpleNamespace(root=tmp_path / "bare")
    bare.root.mkdir()
    on(bare)
    for check in (True, False):
        assert run_module("k3s_backup", {"directory": str(directory)}, check=check)["failed"]
        result = run_module("k3s_backup", {"directory": str(directory), "only_if_present": True}, check=check)
        assert (result["changed"], result["path"]) == (False, "")


def test_age_is_asked_for_its_keys(server: Server, directory: Path, tmp_path: Path) -> None:
    done = subprocess.run(["age-keygen", "-o", str(tmp_path / "identity")], capture_output=True, text=True, check=True)
    backup = made(server, directory, recipients=[done.stderr.strip().rpartition(" ")[2]])
    assert backup.encrypted
    identity = (tmp_path / "identity").read_text()
    token = k3s.read_member(backup, "/etc/rancher/k3s/token", identity)
    assert token.decode().strip() == kine.TOKEN
    with pytest.raises(BackupError, match="is encrypted"):
        k3s.read_member(backup, "/etc/rancher/k3s/token")
