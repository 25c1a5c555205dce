"""The application's backup: what is in it, what is refused, and how it comes back; without Docker."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.backups import application, application_restore, archive, mongo
from ansible.module_utils.backups.store import Backup, BackupError, backups, load, sidecar
from ansible.module_utils.releases import lock
from ansible.module_utils.secret_files import override_text

from .test_mongo import archive as dumped

STAYS_UP = ["mongo", "kafka", "edge", "frontend"]
UP = "up --detach --no-recreate --no-build --pull never"
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
    (base / "secrets/f00/user_passwords.json").write_text(
        json.dumps({"DEFAULT_USER_PASSWORD": "of then", "ADMIN_USER_PASSWORD": "of always"})
    )
    # what was used before that, and was not cleared away
    (base / "secrets/fff").mkdir()
    (base / "secrets/fff/mongo_root_password").write_text("older secret")
    mounts = {
        "mongo": {"/run/secrets/mongo_root_password": "/opt/i/secrets/f00/mongo_root_password"},
        "user-seed": {"/run/secrets/user_passwords.json": "/opt/i/secrets/f00/user_passwords.json"},
    }
    (base / "secrets/current.yaml").write_bytes(override_text(mounts))
    (base / "tls/ca/ca.key").write_text("key")
    (base / "tls/public").mkdir()
    (base / "tls/public/ca.crt").write_text("authority")
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
        asked.append("dump")
        target.write_bytes(dumped())
        return mongo.read_archive(target)

    def restore(_server: Any, source: Path, **_more: Any) -> mongo.Contents:
        asked.append("restore")
        return mongo.read_archive(source)

    monkeypatch.setattr(mongo, "find", lambda _project: SERVER)
    monkeypatch.setattr(mongo, "dump", dump)
    monkeypatch.setattr(mongo, "restore", restore)
    monkeypatch.setattr(application, "_data_size", lambda _container: 1000)
    monkeypatch.setattr(application_restore, "running_services", lambda _project: [*STAYS_UP, "backend", "redis"])
    monkeypatch.setattr(application_restore, "_compose", lambda _base, *words, **_more: asked.append(" ".join(words)))
    # a test is not root: its files are its own
    monkeypatch.setattr(os, "chown", lambda *_, **__: None)
    monkeypatch.setattr(os, "fchown", lambda *_, **__: None)
    return asked


@pytest.fixture
def backup(base: Path, tmp_path: Path, calls: list[str]) -> Backup:
    made = application.create(tmp_path / "backups", base=base, reason="backup")
    calls.clear()
    return made


def restored(backup: Backup, base: Path, **more: Any) -> application_restore.Restored:
    """Restore it, as backups of its own folder are."""
    return application_restore.restore(backup, directory=backup.path.parent, base=base, **more)


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
    with application.workspace(backup.path.parent) as used:
        assert not left.exists()
        with application.workspace(backup.path.parent):
            assert used.exists()
    assert not used.exists()


def test_check_finds_nothing_wrong_with_a_good_one(backup: Backup) -> None:
    found = application_restore.check(
        backup, mongodb_version="8.0.20", login={"username": "root", "password": "secret"}
    )
    assert (found.problems, found.notes, found.tag) == ([], [], "2026.2.20")


def test_check_tells_that_the_vault_has_another_login(backup: Backup) -> None:
    found = application_restore.check(backup, login={"password": "other"})
    assert found.problems == []
    assert "the vault's counts" in found.notes[0]
    assert "secret" not in found.notes[0].replace("secrets", "")


def test_check_tells_that_another_authority_stays(backup: Backup, base: Path, tmp_path: Path) -> None:
    assert application_restore.check(backup, base=base).notes == []
    (base / "tls/public/ca.crt").write_text("another one")
    assert "clients have to trust" in application_restore.check(backup, base=base).notes[0]
    # a fresh server gets the backup's
    assert application_restore.check(backup, base=tmp_path / "fresh").notes == []


@pytest.mark.parametrize(("version", "refused"), [("7.0.1", True), ("8.0.1", False), ("8.2.0", False), ("", False)])
def test_an_older_mongodb_is_refused(backup: Backup, version: str, refused: bool) -> None:
    assert bool(application_restore.check(backup, mongodb_version=version).problems) == refused


def test_another_kind_is_refused(base: Path, tmp_path: Path, calls: list[str]) -> None:
    other = archive.create(tmp_path / "backups", "k3s", [archive.Member("x", base / "history.jsonl")], reason="test")
    assert "is a backup of k3s" in application_restore.check(other).problems[0]


def test_a_damaged_file_is_refused(backup: Backup) -> None:
    content = bytearray(backup.path.read_bytes())
    content[len(content) // 2] ^= 1
    backup.path.write_bytes(content)
    with pytest.raises(BackupError, match="damaged"):
        load(backup.path)


def test_a_fresh_server_gets_what_its_stack_starts_from(backup: Backup, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    assert application_restore.place(backup, base=fresh) == ["tls", "releases", "files", "current"]
    assert (fresh / "current/release.json").exists()
    assert (fresh / "tls/ca/ca.key").read_text() == "key"
    assert (fresh / "history.jsonl").read_text() == '{"action": "deploy"}\n'
    # the vault's are written by the role
    assert not (fresh / "secrets").exists()


def test_a_server_with_a_release_keeps_it(backup: Backup, base: Path) -> None:
    with pytest.raises(BackupError, match="has a release already"):
        application_restore.place(backup, base=base)


@pytest.mark.parametrize(("password", "note"), [("of then", ""), ("another one", "password of user is another")])
def test_check_tells_that_an_account_s_old_password_comes_back(backup: Backup, password: str, note: str) -> None:
    found = application_restore.check(backup, passwords={"user": password, "admin": "of always"})
    assert found.problems == []
    assert (note in found.notes[0]) if note else (found.notes == [])
    assert not any("of then" in one.replace("the one of then", "") for one in found.notes)


def test_data_are_replaced_while_the_application_is_stopped(backup: Backup, base: Path, calls: list[str]) -> None:
    (base / "history.jsonl").write_text('{"action": "deploy"}\n{"action": "backup"}\n')
    done = restored(backup, base)
    assert calls == ["stop backend redis", "dump", "restore", UP]
    assert done.documents == {"shop.users": 3, "shop.empty": 0}
    assert (base / "history.jsonl").read_text() == '{"action": "deploy"}\n{"action": "backup"}\n'


def test_what_was_there_is_a_backup_before_anything_is_dropped(
    backup: Backup, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends the restore then: also a kill, which cleans nothing up."""

    class Killed(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    monkeypatch.setattr(mongo, "restore", killed)
    with pytest.raises(Killed):
        restored(backup, base)
    kept = backups(backup.path.parent, "application")
    assert [one.reason for one in kept] == ["backup", "before a restore"]
    assert kept[1].verified
    assert kept[1].manifest["facts"]["mongo"]["documents"]["shop.users"] == 3


def test_only_what_runs_is_stopped_and_all_is_started(
    backup: Backup, base: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application_restore, "running_services", lambda _project: STAYS_UP)
    restored(backup, base)
    assert calls == ["dump", "restore", UP]


def test_no_backup_is_made_of_half_restored_data(backup: Backup, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, tried = application.store.writing, []

    def restore(_server: Any, source: Path, **_more: Any) -> mongo.Contents:
        with pytest.raises(BackupError, match="another backup"), original(backup.path.parent, "application", wait=0):
            pass
        tried.append(source)
        return mongo.read_archive(source)

    monkeypatch.setattr(mongo, "restore", restore)
    restored(backup, base)
    assert tried


def test_without_room_for_what_is_there_nothing_is_stopped(
    backup: Backup, base: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=4000, f_frsize=1))
    with pytest.raises(BackupError, match="no room in"):
        restored(backup, base, required_free=3000)
    assert calls == []


def test_a_dump_of_what_is_there_that_fails_changes_nothing(
    backup: Backup, base: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise mongo.MongoError("mongodump failed")

    monkeypatch.setattr(mongo, "dump", fail)
    with pytest.raises(BackupError, match="mongodump failed"):
        restored(backup, base)
    assert calls == ["stop backend redis", UP]


@pytest.mark.parametrize("second", [None, mongo.MongoError("disk still full")])
def test_a_restore_that_fails_puts_back_what_was_there_and_starts(
    backup: Backup, base: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch, second: Exception | None
) -> None:
    answers = iter([mongo.MongoError("disk full"), second])

    def dump(_server: Any, target: Path, **_more: Any) -> mongo.Contents:
        target.write_bytes(dumped(users=5))
        return mongo.read_archive(target)

    def restore(_server: Any, source: Path, **_more: Any) -> mongo.Contents:
        found = mongo.read_archive(source)
        calls.append(f"restore {found.documents['shop.users']}")
        if error := next(answers):
            raise error
        return found

    monkeypatch.setattr(mongo, "dump", dump)
    monkeypatch.setattr(mongo, "restore", restore)
    says = r"disk full\. The data that were there are back" if second is None else "The data are incomplete. Cure: .*gz"
    with pytest.raises(BackupError, match=says):
        restored(backup, base)
    assert calls == ["stop backend redis", "restore 3", "restore 5", UP]


@pytest.mark.parametrize(
    ("there", "older", "result"),
    [("", "a\nb\n", "a\nb\n"), ("b\nc\n", "a\nb\n", "a\nb\nc\n"), ("a\n", "a\n", "a\n"), ("c\n", "a\nhalf", "a\nc\n")],
)
def test_histories_are_merged(tmp_path: Path, calls: list[str], there: str, older: str, result: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(there)
    application_restore.merge_history(path, older.encode())
    assert path.read_text() == result


def test_module_application_restore_checks_and_hides_the_password(run_module: Any, backup: Backup) -> None:
    answer = run_module("application_restore", {"path": str(backup.path), "mongo_root_password": "verysecret"})
    assert answer["problems"] == []
    assert answer["backup"]["tag"] == "2026.2.20"
    assert "verysecret" not in json.dumps(answer)


def test_module_application_restore_restores(run_module: Any, backup: Backup, base: Path, calls: list[str]) -> None:
    arguments = {"path": str(backup.path), "state": "restored", "base": str(base), "min_free_mb": 0}
    arguments["directory"] = str(backup.path.parent)
    assert run_module("application_restore", arguments, check=True)["changed"]
    assert calls == []
    answer = run_module("application_restore", arguments)
    assert answer["documents"]["shop.users"] == 3
    assert load(Path(answer["before"])).reason == "before a restore"


def test_module_application_restore_works_only_under_its_run_s_lock(
    run_module: Any, backup: Backup, base: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"path": str(backup.path), "state": "restored", "base": str(base), "min_free_mb": 0, "run": "one"}
    arguments["directory"] = str(backup.path.parent)
    answer = run_module("application_restore", arguments)
    assert answer["msg"].startswith("The data were not replaced. Run one has lost its lock on this server")
    assert calls == []
    lock.take(base, lock.Owner("one", "restore"), lease_seconds=60, unit_active=lambda: False)
    phases = []

    def compose(*_words: Any, **_more: Any) -> None:
        phases.append(lock.read_owner(base).phase)  # type: ignore[union-attr]

    monkeypatch.setattr(application_restore, "_compose", compose)
    assert run_module("application_restore", arguments)["documents"]["shop.users"] == 3
    assert phases == [lock.RESTORING, lock.RESTORING]
    assert lock.read_owner(base).phase == lock.PREPARING  # type: ignore[union-attr]


def test_module_application_restore_says_what_is_missing(run_module: Any, tmp_path: Path) -> None:
    answer = run_module("application_restore", {"path": str(tmp_path / "none.tar.gz")})
    assert answer["failed"]
    assert "is not there" in answer["msg"]


def test_module_backup_files_finds_the_newest_good_one(run_module: Any, backup: Backup) -> None:
    found = run_module("backup_files", {"directory": str(backup.path.parent)})["backups"]
    assert found["application"]["path"] == str(backup.path)
    assert "is replaced, after a backup" in found["application"]["sentence"]


def test_the_newest_good_one_is_none_that_was_made_before_a_restore(
    run_module: Any, backup: Backup, base: Path
) -> None:
    later = application.create(backup.path.parent, base=base, reason="before a restore")
    assert later.created >= backup.created
    found = run_module("backup_files", {"directory": str(backup.path.parent)})["backups"]
    assert found["application"]["path"] == str(backup.path)
    assert f"at {backup.created} (made as: backup)" in found["application"]["sentence"]


def test_module_backup_files_says_where_it_has_looked(run_module: Any, tmp_path: Path) -> None:
    answer = run_module("backup_files", {"paths": [str(tmp_path / "typo")]})
    assert "is a file neither on the controller nor on this server" in answer["msg"]


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
