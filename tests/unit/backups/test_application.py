"""The application's backup: what is in it, what is refused, and how it comes back; without Docker."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.backups import application, archive, mongo
from ansible.module_utils.backups.store import Backup, BackupError, load, sidecar

from .test_mongo import archive as dumped

SERVER = mongo.MongoServer("c0ffee", "mongo:8.0.20", "root", "secret")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """An installation as the roles make it."""
    base = tmp_path / "opt"
    release = base / "releases/2026.2.20-abc"
    for folder in (
        release,
        base / "secrets/f00",
        base / "tls/ca",
        base / "edge",
        base / "files/1",
        base / "kubeconfig",
    ):
        folder.mkdir(parents=True)
    (release / "release.json").write_text(json.dumps({"id": release.name, "tag": "2026.2.20"}))
    (base / "secrets/f00/mongo_root_password").write_text("secret")
    (base / "secrets/f00/mongo_root_password").chmod(0o400)
    (base / "tls/ca/ca.key").write_text("key")
    (base / "files/1/config.toml").write_text("x = 1")
    (base / "kubeconfig/k8s-worker.yaml").write_text("token")
    (base / "history.jsonl").write_text('{"action": "deploy"}\n')
    (base / "current").symlink_to(f"releases/{release.name}")
    return base


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of Docker and MongoDB, which both answer."""
    asked: list[str] = []

    def dump(_server: Any, target: Path, **_more: Any) -> mongo.Contents:
        target.write_bytes(dumped())
        return mongo.read_archive(target)

    def restore(_server: Any, source: Path, **_more: Any) -> mongo.Contents:
        asked.append("restore")
        return mongo.read_archive(source)

    monkeypatch.setattr(mongo, "find", lambda _project: SERVER)
    monkeypatch.setattr(mongo, "dump", dump)
    monkeypatch.setattr(mongo, "restore", restore)
    monkeypatch.setattr(application, "_data_size", lambda _container: 1000)
    monkeypatch.setattr(
        application, "running_services", lambda _project: ["backend", "edge", "frontend", "kafka", "mongo", "redis"]
    )
    monkeypatch.setattr(application, "_compose", lambda _base, *words, **_more: asked.append(" ".join(words)))
    # a test is not root: its files are its own
    monkeypatch.setattr(os, "chown", lambda *_, **__: None)
    monkeypatch.setattr(os, "fchown", lambda *_, **__: None)
    return asked


@pytest.fixture
def backup(base: Path, tmp_path: Path, calls: list[str]) -> Backup:
    return application.create(tmp_path / "backups", base=base, reason="test")


def names(backup: Backup, target: Path) -> set[str]:
    return set(archive.extract(backup, target, ["base", "mongo"]))


def test_what_is_in_it(backup: Backup, tmp_path: Path) -> None:
    found = names(backup, tmp_path / "out")
    assert {
        "mongo/dump.archive",
        "base/secrets/f00/mongo_root_password",
        "base/tls/ca/ca.key",
        "base/releases/2026.2.20-abc/release.json",
        "base/files/1/config.toml",
        "base/history.jsonl",
        "base/current",
    } <= found
    assert not [name for name in found if "kubeconfig" in name]
    assert (tmp_path / "out/base/secrets/f00/mongo_root_password").stat().st_mode & 0o777 == 0o400
    assert (tmp_path / "out/base/current").readlink() == Path("releases/2026.2.20-abc")


def test_the_manifest_tells_versions_and_counts_and_no_secret(backup: Backup) -> None:
    assert backup.kind == "application"
    assert backup.verified
    assert backup.manifest["versions"] == {"mongodb": "8.0.20", "release": "2026.2.20"}
    assert backup.manifest["facts"]["mongo"]["documents"]["shop.users"] == 3
    assert backup.path.stat().st_mode & 0o777 == 0o600
    assert "mongo_root_password" not in sidecar(backup.path).read_text()


def test_nothing_is_left_but_the_backup(backup: Backup) -> None:
    assert sorted(path.name for path in backup.path.parent.iterdir() if not path.name.endswith(".lock")) == [
        backup.path.name,
        sidecar(backup.path).name,
    ]


def test_without_room_nothing_is_written(
    base: Path, tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=4000, f_frsize=1))
    with pytest.raises(BackupError, match="Nothing was written"):
        application.create(tmp_path / "backups", base=base, reason="test", required_free=3000)
    assert not (tmp_path / "backups").exists()


def test_a_dump_that_fails_leaves_nothing(
    base: Path, tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise mongo.MongoError("mongodump failed")

    monkeypatch.setattr(mongo, "dump", fail)
    with pytest.raises(BackupError, match="mongodump failed"):
        application.create(tmp_path / "backups", base=base, reason="test")
    assert [path.name for path in (tmp_path / "backups").iterdir()] == [".application.lock"]


def test_what_a_killed_run_left_goes_and_what_is_in_use_stays(backup: Backup) -> None:
    left = backup.path.parent / ".work-killed"
    left.mkdir()
    (left / "dump.archive").write_text("secret")
    with application._workspace(backup.path.parent) as used:
        assert not left.exists()
        with application._workspace(backup.path.parent):
            assert used.exists()
    assert not used.exists()


def test_check_finds_nothing_wrong_with_a_good_one(backup: Backup) -> None:
    found = application.check(backup, mongodb_version="8.0.20", login={"username": "root", "password": "secret"})
    assert (found.problems, found.notes, found.tag) == ([], [], "2026.2.20")


def test_check_tells_that_the_vault_has_another_login(backup: Backup) -> None:
    found = application.check(backup, login={"password": "other"})
    assert found.problems == []
    assert "the vault's counts" in found.notes[0]
    assert "secret" not in found.notes[0].replace("secrets", "")


@pytest.mark.parametrize(("version", "refused"), [("7.0.1", True), ("8.0.1", False), ("8.2.0", False), ("", False)])
def test_an_older_mongodb_is_refused(backup: Backup, version: str, refused: bool) -> None:
    assert bool(application.check(backup, mongodb_version=version).problems) == refused


def test_another_kind_is_refused(base: Path, tmp_path: Path, calls: list[str]) -> None:
    other = archive.create(tmp_path / "backups", "k3s", [archive.Member("x", base / "history.jsonl")], reason="test")
    assert "is a backup of k3s" in application.check(other).problems[0]


def test_a_damaged_file_is_refused(backup: Backup) -> None:
    content = bytearray(backup.path.read_bytes())
    content[len(content) // 2] ^= 1
    backup.path.write_bytes(content)
    with pytest.raises(BackupError, match="damaged"):
        load(backup.path)


def test_a_fresh_server_gets_what_its_stack_starts_from(backup: Backup, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    assert application.place(backup, base=fresh) == ["tls", "releases", "files", "current"]
    assert (fresh / "current/release.json").exists()
    assert (fresh / "tls/ca/ca.key").read_text() == "key"
    assert (fresh / "history.jsonl").read_text() == '{"action": "deploy"}\n'
    # the vault's are written by the role
    assert not (fresh / "secrets").exists()


def test_a_server_with_a_release_keeps_it(backup: Backup, base: Path) -> None:
    with pytest.raises(BackupError, match="has a release already"):
        application.place(backup, base=base)


def test_data_are_replaced_while_the_application_is_stopped(backup: Backup, base: Path, calls: list[str]) -> None:
    (base / "history.jsonl").write_text('{"action": "deploy"}\n{"action": "backup"}\n')
    done = application.restore(backup, base=base)
    assert calls == ["stop backend redis", "restore", "up --detach --no-recreate --no-build --pull never"]
    assert done.documents == {"shop.users": 3, "shop.empty": 0}
    assert (base / "history.jsonl").read_text() == '{"action": "deploy"}\n{"action": "backup"}\n'


def test_a_restore_that_fails_puts_back_what_was_there_and_starts(
    backup: Backup, base: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([mongo.MongoError("disk full"), None])

    def restore(_server: Any, source: Path, **_more: Any) -> mongo.Contents:
        calls.append("restore")
        if error := next(answers):
            raise error
        return mongo.read_archive(source)

    monkeypatch.setattr(mongo, "restore", restore)
    with pytest.raises(BackupError, match=r"disk full\. The data that were there are back"):
        application.restore(backup, base=base, safety=backup)
    assert calls == ["stop backend redis", "restore", "restore", "up --detach --no-recreate --no-build --pull never"]


@pytest.mark.parametrize(
    ("there", "older", "result"),
    [("", "a\nb\n", "a\nb\n"), ("b\nc\n", "a\nb\n", "a\nb\nc\n"), ("a\n", "a\n", "a\n"), ("c\n", "a\nhalf", "a\nc\n")],
)
def test_histories_are_merged(tmp_path: Path, calls: list[str], there: str, older: str, result: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(there)
    application.merge_history(path, older.encode())
    assert path.read_text() == result


def test_module_application_backup_makes_none_in_check_mode(run_module: Any, tmp_path: Path) -> None:
    answer = run_module("application_backup", {"directory": str(tmp_path / "b")}, check=True)
    assert (answer["changed"], answer["path"], (tmp_path / "b").exists()) == (True, "", False)


def test_module_application_backup(run_module: Any, base: Path, tmp_path: Path, calls: list[str]) -> None:
    answer = run_module("application_backup", {"directory": str(tmp_path / "b"), "base": str(base), "min_free_mb": 0})
    assert answer["documents"]["shop.users"] == 3
    assert Path(answer["path"]).exists()


def test_module_application_restore_checks_and_hides_the_password(run_module: Any, backup: Backup) -> None:
    answer = run_module("application_restore", {"path": str(backup.path), "mongo_root_password": "verysecret"})
    assert answer["problems"] == []
    assert answer["backup"]["tag"] == "2026.2.20"
    assert "verysecret" not in json.dumps(answer)


def test_module_application_restore_restores(run_module: Any, backup: Backup, base: Path, calls: list[str]) -> None:
    arguments = {"path": str(backup.path), "state": "restored", "base": str(base), "safety": str(backup.path)}
    assert run_module("application_restore", arguments, check=True)["changed"]
    assert calls == []
    assert run_module("application_restore", arguments)["documents"]["shop.users"] == 3


def test_module_application_restore_says_what_is_missing(run_module: Any, tmp_path: Path) -> None:
    answer = run_module("application_restore", {"path": str(tmp_path / "none.tar.gz")})
    assert answer["failed"]
    assert "is not there" in answer["msg"]


def test_module_backup_files_finds_the_newest_good_one(run_module: Any, backup: Backup) -> None:
    found = run_module("backup_files", {"directory": str(backup.path.parent)})["backups"]
    assert found["application"]["path"] == str(backup.path)
    assert "is replaced, after a backup" in found["application"]["sentence"]


@pytest.mark.parametrize("count", [0, 2])
def test_module_backup_files_refuses_none_and_two_of_a_kind(
    run_module: Any, backup: Backup, tmp_path: Path, count: int
) -> None:
    answer = run_module("backup_files", {"paths": [str(backup.path)] * count, "directory": str(tmp_path)})
    assert answer["failed"]
    assert ("holds no good backup" if not count else "are both of application") in answer["msg"]


def test_module_history_entry(run_module: Any, base: Path) -> None:
    arguments = {"base": str(base), "action": "restore", "details": {"backups": ["x"]}, "started_at": 0}
    run_module("history_entry", arguments, check=True)
    assert len((base / "history.jsonl").read_text().splitlines()) == 1
    run_module("history_entry", arguments)
    last = json.loads((base / "history.jsonl").read_text().splitlines()[-1])
    assert (last["action"], last["result"], last["backups"]) == ("restore", "ok", ["x"])
