"""What the timer runs: both backups, old ones away, copies; one failure stops nothing else and is told."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.backups import application, archive, k3s
from ansible.module_utils.backups.store import Backup, BackupError
from ansible.module_utils.maintenance import backup as job
from ansible.module_utils.maintenance import state
from ansible.module_utils.maintenance.state import MaintenanceError, read_state, write_state

FOLDER = job.AUTHOR.parent


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "opt").mkdir()
    return {
        "directory": str(tmp_path / "backups"),
        "base": str(tmp_path / "opt"),
        "project": "integr8scode",
        "keep": 2,
        "min_free_mb": 0,
        "recipients": [],
        "local_volumes": False,
        "copy_to": "",
        "copy_unencrypted": True,
        "copy_port": 22,
        "copy_key": "/etc/key",
        "copy_known_hosts": "/etc/known",
        "timeout": 60,
    }


@pytest.fixture(autouse=True)
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Backups of one small file, and a state below the test's folder."""
    content = tmp_path / "content"
    content.write_text("x")
    moments = iter(range(100))

    def create(kind: str) -> Any:
        def make(directory: Path, **_more: Any) -> Backup:
            made = archive.create(directory, kind, [archive.Member("x", content)], reason="backup")
            # names tell seconds apart, and a test does not wait
            target = made.path.with_name(f"{kind}-host-20260101T0000{next(moments):02}Z.tar.gz")
            made.path.rename(target)
            made.path.with_name(made.path.name + ".json").rename(Path(f"{target}.json"))
            return Backup(target, made.kind, made.created, made.reason, made.verified, made.encrypted, made.manifest)

        return make

    monkeypatch.setattr(k3s, "create", create("k3s"))
    monkeypatch.setattr(application, "create", create("application"))
    monkeypatch.setattr(state, "DIRECTORY", tmp_path / "state")
    monkeypatch.setattr(job, "AUTHOR", tmp_path / "author")
    monkeypatch.setattr("os.fchown", lambda *_, **__: None)
    monkeypatch.setattr("os.chown", lambda *_, **__: None)


def fail(*_: Any, **__: Any) -> Backup:
    raise BackupError("no room. Cure: make some")


def history(config: dict[str, Any]) -> list[dict[str, Any]]:
    path = Path(config["base"]) / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_both_are_made_and_remembered(config: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert job.run(config) == 0
    said = capsys.readouterr().out
    assert "k3s is backed up: " in said
    assert "application is backed up: " in said
    # a small one is not "0.0" of anything
    assert re.search(r" \([1-9]\d* bytes, not encrypted, ", said)
    facts = read_state("backup")["facts"]
    assert [one["kind"] for one in facts["made"]] == ["k3s", "application"]
    assert set(facts["last_success"]) == {"k3s", "application"}
    assert [(one["action"], one["result"], len(one["backups"])) for one in history(config)] == [("backup", "ok", 2)]


def test_systemd_is_told_apart(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    monkeypatch.setenv("SUDO_USER", "ops")
    job.run(config)
    monkeypatch.setenv("INVOCATION_ID", "abc")
    job.run(config)
    assert [entry["by"] for entry in history(config)] == ["ops", "systemd"]


def test_a_person_who_starts_the_unit_is_named_once(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVOCATION_ID", "abc")
    job.AUTHOR.write_text("anna@laptop\n")
    job.run(config)
    job.run(config)
    assert [entry["by"] for entry in history(config)] == ["anna@laptop", "systemd"]


@pytest.mark.parametrize(
    ("left", "by"),
    [
        (lambda path: path.mkdir(), "systemd"),
        (lambda path: path.symlink_to("/etc/hostname"), "systemd"),
        (lambda path: path.write_text("\n"), "systemd"),
        (lambda path: path.write_bytes(b"\xff" + b"x" * 1000), "\ufffd" + "x" * 199),
        (os.mkfifo, "systemd"),
    ],
    ids=["folder", "link", "empty", "long and no text", "pipe"],
)
def test_a_name_that_cannot_be_read_stops_no_backup(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, left: Any, by: str
) -> None:
    monkeypatch.setenv("INVOCATION_ID", "abc")
    left(job.AUTHOR)
    assert job.run(config) == 0
    assert history(config)[-1]["by"] == by


def test_the_run_says_the_seconds_of_the_history(config: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    job.run(config)
    assert f"That took {history(config)[-1]['seconds']} s." in capsys.readouterr().out


@pytest.mark.parametrize(("broken", "other"), [(k3s, "application"), (application, "k3s")])
def test_one_that_fails_does_not_stop_the_other(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, broken: Any, other: str
) -> None:
    monkeypatch.setattr(broken, "create", fail)
    with pytest.raises(MaintenanceError, match="no room"):
        job.run(config)
    assert [path.name.partition("-")[0] for path in Path(config["directory"]).glob("*.gz")] == [other]
    assert history(config)[-1]["result"] == "failed"
    assert "no room" in history(config)[-1]["message"]
    assert set(read_state("backup")["facts"]["last_success"]) == {other}


def test_an_earlier_success_is_remembered(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    job.run(config)
    before = read_state("backup")["facts"]["last_success"]
    monkeypatch.setattr(k3s, "create", fail)
    with pytest.raises(MaintenanceError):
        job.run(config)
    assert read_state("backup")["facts"]["last_success"]["k3s"] == before["k3s"]


def test_old_ones_go(config: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(4):
        job.run(config)
    assert len(list(Path(config["directory"]).glob("k3s-*.gz"))) == 2
    assert len(list(Path(config["directory"]).glob("*.json"))) == 4
    assert "is removed: 2 of a kind are kept, and 3 that" in capsys.readouterr().out


def test_a_backup_that_could_not_be_verified_is_no_success(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = k3s.create

    def unverified(directory: Path, **more: Any) -> Backup:
        made: Backup = make(directory, **more)
        return Backup(made.path, made.kind, made.created, made.reason, False, made.encrypted, made.manifest)

    monkeypatch.setattr(k3s, "create", unverified)
    with pytest.raises(MaintenanceError, match="could not be verified"):
        job.run(config)
    assert set(read_state("backup")["facts"]["last_success"]) == {"application"}


def test_a_copy_that_fails_fails_the_run_and_keeps_the_backups(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MaintenanceError, match="copy: rsync is not installed"):
        job.run({**config, "copy_to": "user@host:/srv"})
    assert len(list(Path(config["directory"]).glob("*.gz"))) == 2
    assert "copy" not in read_state("backup")["facts"]["last_success"]


def test_copies_take_each_backup_before_its_manifest(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Path] = []

    def copy(files: list[Path], target: Any, **_more: Any) -> list[str]:
        asked.extend(files)
        return [path.name for path in files]

    monkeypatch.setattr(job, "copy", copy)
    job.run({**config, "copy_to": "user@host:/srv"})
    names = [path.name for path in asked]
    assert [name.endswith(".json") for name in names] == [False, True, False, True]
    assert names[1] == f"{names[0]}.json"
    assert "4 files were copied to user@host:/srv." in capsys.readouterr().out
    assert "copy" in read_state("backup")["facts"]["last_success"]


def test_what_is_not_encrypted_stays_unless_it_may_go(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the settings are today: older backups, and those that a recovery made, may be plain."""
    job.run(config)
    folder = Path(config["directory"])
    plain = next(folder.glob("k3s-*.gz"))
    manifest = json.loads(Path(f"{plain}.json").read_text())
    sealed = plain.with_name("k3s-host-20260102T000000Z.tar.gz.age")
    sealed.write_bytes(plain.read_bytes())
    Path(f"{sealed}.json").write_text(json.dumps({**manifest, "encrypted": True}))
    asked: list[Path] = []
    monkeypatch.setattr(job, "copy", lambda files, *_, **__: asked.extend(files) or [])

    job.run({**config, "copy_to": "user@host:/srv", "copy_unencrypted": False})

    assert asked == [sealed, Path(f"{sealed}.json")]
    said = capsys.readouterr().out
    assert "Not copied, since they are not encrypted: " in said
    assert plain.name in said
    job.run({**config, "copy_to": "user@host:/srv"})
    assert any(path.name.endswith(".tar.gz") for path in asked)


def test_what_a_killed_run_left_goes_before_room_is_looked_for(config: dict[str, Any]) -> None:
    left = Path(config["directory"]) / ".application-host-20260101T000000Z.tar.gz.partial"
    left.parent.mkdir()
    left.write_text("x")
    job.run(config)
    assert not left.exists()


def test_the_role_s_settings_are_those_of_the_job() -> None:
    root = Path(__file__).resolve().parents[3]
    internal = yaml.safe_load((root / "roles/backup/vars/main.yml").read_text())
    assert set(internal["__backup_job"]) == {one.name for one in dataclasses.fields(job.Job)}


def test_the_role_hands_the_person_s_name_over_where_the_job_looks(tmp_path: Path) -> None:
    """By standard input: a name with the shell's characters in it runs nothing. None is left for the timer's run."""
    root = Path(__file__).resolve().parents[3]
    task = yaml.safe_load((root / "roles/backup/tasks/run.yml").read_text())[0]["ansible.builtin.shell"]
    assert task["stdin"] == "{{ __backup_author }}"
    assert "{{" not in task["cmd"]
    assert str(FOLDER / "backup.author") in task["cmd"]
    programs = tmp_path / "programs"
    programs.mkdir()
    file = tmp_path / "run" / "backup.author"
    copies = f'#!/bin/sh\n[ "$1" = start ] && cp -p {file} {tmp_path}/seen\nexit 3\n'
    for name, content in {"systemctl": copies, "journalctl": "#!/bin/sh\n"}.items():
        (programs / name).write_text(content)
        (programs / name).chmod(0o755)
    name = f"anna $(touch {tmp_path}/ran) ' \" `id`@laptop\n"
    command = task["cmd"].replace(str(FOLDER), str(file.parent))
    environment = {"PATH": f"{programs}:/usr/bin:/bin"}
    done = subprocess.run([task["executable"], "-c", command], input=name, text=True, env=environment, check=False)
    assert done.returncode == 3
    assert (tmp_path / "seen").read_text() == name
    assert (tmp_path / "seen").stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert not file.exists()
    assert not (tmp_path / "ran").exists()


def test_a_failure_before_this_run_is_told(config: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    write_state("backup", result="failed", at="yesterday", message="copy: away")
    job.run(config)
    assert "The run before this one, yesterday, had failed: copy: away" in capsys.readouterr().out


def test_settings_of_another_release_are_named(config: dict[str, Any]) -> None:
    with pytest.raises(MaintenanceError, match="settings are not those of this release"):
        job.run({**config, "new": 1})
