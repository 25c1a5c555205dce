"""Where backups are: which of them is good, and which may go."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.module_utils.backups import archive, store
from ansible.module_utils.backups.archive import Member
from ansible.module_utils.backups.store import Backup, BackupError, backups, last_good, load, prune, sidecar


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "backups"


def made(directory: Path, *, kind: str = "k3s", reason: str = store.ROUTINE, verified: bool = True) -> Backup:
    directory.parent.joinpath("a").write_text("a")
    return archive.create(directory, kind, [Member("a", directory.parent / "a")], reason=reason, verified=verified)


def damage(backup: Backup) -> None:
    with backup.path.open("r+b") as file:
        file.seek(20)
        file.write(b"\xff\xff")


def test_oldest_first_and_of_its_kind(directory: Path) -> None:
    paths = [made(directory).path for _ in range(3)]
    made(directory, kind="application")
    assert [one.path for one in backups(directory, "k3s")] == paths


def test_what_has_no_readable_manifest_is_none(directory: Path) -> None:
    whole, without, broken = made(directory), made(directory), made(directory)
    sidecar(without.path).unlink()
    sidecar(broken.path).write_text("{")
    (directory / "k3s-notes.tar.gz").write_text("x")
    assert [one.path for one in backups(directory, "k3s")] == [whole.path]
    with pytest.raises(BackupError, match="no manifest beside it"):
        load(without.path)
    with pytest.raises(BackupError, match="cannot be read"):
        load(broken.path)


def test_a_directory_that_is_not_there_has_none(directory: Path) -> None:
    assert backups(directory, "k3s") == []
    assert last_good(directory, "k3s") is None
    assert prune(directory, "k3s", 1) == []


def test_the_last_good_one_is_verified_and_undamaged(directory: Path) -> None:
    good, damaged, raw = made(directory), made(directory), made(directory, verified=False)
    damage(damaged)
    found = last_good(directory, "k3s")
    assert found is not None
    assert found.path == good.path
    assert [one.path for one in backups(directory, "k3s")] == [good.path, damaged.path, raw.path]


def test_a_newer_format_is_refused(directory: Path) -> None:
    backup = made(directory)
    manifest = json.loads(sidecar(backup.path).read_text())
    sidecar(backup.path).write_text(json.dumps({**manifest, "format": store.FORMAT + 1}))
    with pytest.raises(BackupError, match="newer format"):
        load(backup.path)


def test_the_last_good_one_of_a_reason(directory: Path) -> None:
    assert last_good(directory, "k3s", store.ROUTINE) is None
    daily, safety = made(directory), made(directory, reason="before a restore")
    made(directory, verified=False)
    found = [last_good(directory, "k3s"), last_good(directory, "k3s", store.ROUTINE)]
    assert [one and one.path for one in found] == [safety.path, daily.path]


def test_retention_counts_the_verified_ones_of_the_routine(directory: Path) -> None:
    daily = [made(directory) for _ in range(3)]
    for _ in range(4):
        made(directory, reason="before a restore")
        made(directory, verified=False)
    prune(directory, "k3s", 2)
    left = backups(directory, "k3s")
    assert [one.path for one in left if one.reason == store.ROUTINE and one.verified] == [one.path for one in daily[1:]]


def test_retention_keeps_a_few_of_the_others_and_the_last_good_one(directory: Path) -> None:
    before = made(directory, reason="before a restore")
    raw = [made(directory, verified=False) for _ in range(4)]
    assert prune(directory, "k3s", 7) == [raw[0].path]
    assert [one.path for one in backups(directory, "k3s")] == [before.path, *(one.path for one in raw[1:])]
    assert not sidecar(raw[0].path).exists()


def test_retention_keeps_the_last_good_one_of_the_routine_when_newer_ones_are_damaged(directory: Path) -> None:
    good, damaged = made(directory), made(directory)
    damage(damaged)
    safety = made(directory, reason="before a restore")
    assert prune(directory, "k3s", 1) == []
    assert [one.path for one in backups(directory, "k3s")] == [good.path, damaged.path, safety.path]


@pytest.mark.parametrize("keep", [0, -3])
def test_retention_never_removes_all(directory: Path, keep: int) -> None:
    paths = [made(directory).path for _ in range(3)]
    assert prune(directory, "k3s", keep) == paths[:2]


def test_what_is_being_restored_stays(directory: Path) -> None:
    old, new = made(directory), made(directory)
    with store.in_use(old):
        assert prune(directory, "k3s", 1) == []
    assert prune(directory, "k3s", 1) == [old.path]
    assert new.path.exists()


def test_what_is_being_written_is_none_and_stays(directory: Path) -> None:
    made(directory)
    partial = directory / ".k3s-server1-20261124T000000Z.tar.gz.partial"
    partial.write_text("x")
    assert len(backups(directory, "k3s")) == 1
    prune(directory, "k3s", 1)
    assert partial.exists()


def test_what_killed_runs_left_goes(directory: Path) -> None:
    backup = made(directory)
    (directory / ".k3s-host-20261124T000000Z.tar.gz.partial").write_text("x")
    (directory / ".k3s-work").mkdir()
    (directory / ".k3s-work/state.db").write_text("x")
    other = directory / ".application-host-20261124T000000Z.tar.gz.partial"
    other.write_text("x")
    store.remove_leftovers(directory, "k3s")
    left = {path.name for path in directory.iterdir()}
    assert left == {".k3s.lock", other.name, backup.path.name, sidecar(backup.path).name}


def test_one_backup_of_a_kind_at_a_time(directory: Path) -> None:
    with store.writing(directory, "k3s"):
        with store.writing(directory, "application"):
            pass
        with pytest.raises(BackupError, match="another backup of k3s"), store.writing(directory, "k3s", wait=0):
            pass
    with store.writing(directory, "k3s", wait=0):
        pass


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (40_000, "39.1 KiB"),
        (2**20 - 1, "1.0 MiB"),
        (5 * 2**20 // 2, "2.5 MiB"),
        (3 * 2**30, "3.0 GiB"),
        (5000 * 2**30, "5000.0 GiB"),
    ],
)
def test_a_size_is_told_in_a_unit_that_fits(count: int, said: str) -> None:
    assert store.readable_size(count) == said


def test_no_room_is_said_with_numbers_before_anything_is_written(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=10, f_frsize=2**20))
    with pytest.raises(BackupError, match=r"10\.0 MiB are free, 8\.0 MiB may be needed and 3\.0 MiB must stay free"):
        store.require_room(directory / "deep", 8 * 2**20, 3 * 2**20)
    store.require_room(directory / "deep", 7 * 2**20, 3 * 2**20)
    assert not directory.exists()
