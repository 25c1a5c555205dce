"""What a switch is asked for, what it says meanwhile, and how it ended: written and read again."""

from __future__ import annotations

import io
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.releases import journal
from ansible.module_utils.releases.job import Job, Settings
from ansible.module_utils.releases.journal import Journal
from ansible.module_utils.releases.layout import Layout, UnknownReleaseError


@pytest.fixture(autouse=True)
def _not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fchown", lambda *_: None)


def job(**more: Any) -> dict[str, Any]:
    return {"run": "r", "action": "deploy", "release": "one", "started_at": 1.5, **more}


def test_a_job_is_the_same_after_it_was_written_and_read() -> None:
    first = Job.from_dict(job(by="ops@desk", settings={"stable_seconds": 5, "workers": ["a"], "kubernetes": {"x": 1}}))
    again = Job.from_dict(json.loads(json.dumps(first.to_dict())))
    assert again == first
    assert first.settings == Settings(stable_seconds=5, workers=["a"], kubernetes={"x": 1})
    assert Job.from_dict(job()).settings.infrastructure == ["mongo", "redis", "kafka"]


@pytest.mark.parametrize("more", [{"settings": {"speed": 9}}, {"speed": 9}])
def test_a_job_of_another_version_is_refused_with_the_cure(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"knows no speed: .*another version's\. Cure: playbooks/site\.yml"):
        Job.from_dict(job(**more))


def test_a_job_that_lacks_something_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no job of a switch: .*release"):
        Job.from_dict({"run": "r", "action": "deploy", "started_at": 1})


def test_what_is_said_is_read_from_where_one_was(tmp_path: Path) -> None:
    folder = journal.prepare(tmp_path / "lib/runs", "r", {"a": 1})
    assert (folder / "job.json").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert journal.read(folder, 0) == ([], 0, None)
    said = Journal(folder)
    with said.step("first", "doing ü"):
        pass
    lines, after, result = journal.read(folder, 0)
    assert [(line["step"], line["state"]) for line in lines] == [("first", "started"), ("first", "done")]
    assert lines[0]["text"] == "doing ü"
    assert result is None
    assert journal.read(folder, after) == ([], after, None)
    said.prefix = "undo:"
    said.say("second", "running", "more")
    lines, after, _ = journal.read(folder, after)
    assert [line["step"] for line in lines] == ["undo:second"]
    journal.finish(folder, {"result": "ok"})
    assert journal.read(folder, after) == ([], after, {"result": "ok"})


def test_a_step_that_fails_says_so_and_a_kill_too(tmp_path: Path) -> None:
    said = Journal(journal.prepare(tmp_path / "runs", "r", {}))
    with pytest.raises(OSError, match="why"), said.step("one"):
        raise OSError("why\nmore")
    with pytest.raises(KeyboardInterrupt), said.step("two"):
        raise KeyboardInterrupt
    lines, *_ = journal.read(said.folder, 0)
    assert [(line["state"], line["text"]) for line in lines] == [
        ("started", ""), ("failed", "why"), ("started", ""), ("failed", "KeyboardInterrupt"),
    ]  # fmt: skip


def test_a_line_that_is_cut_off_is_read_once_it_is_whole(tmp_path: Path) -> None:
    folder = journal.prepare(tmp_path / "runs", "r", {})
    path = folder / "progress.jsonl"
    path.write_bytes(b'{"step": "a"}\n{"step": "\xc3')
    lines, after, _ = journal.read(folder, 0)
    assert [line["step"] for line in lines] == ["a"]
    with path.open("ab") as file:
        file.write(b'\xbc"}\n')
    lines, after, _ = journal.read(folder, after)
    assert [line["step"] for line in lines] == ["ü"]
    with path.open("ab") as file:
        file.write(b"\0\0\0\n" + b'{"step": "b"}\n')
    lines, _, _ = journal.read(folder, after)
    assert [line["step"] for line in lines] == ["b"]


def test_the_same_run_begins_anew(tmp_path: Path) -> None:
    folder = journal.prepare(tmp_path / "runs", "r", {"n": 1})
    Journal(folder).say("a", "done")
    journal.finish(folder, {"result": "failed"})
    journal.prepare(tmp_path / "runs", "r", {"n": 2})
    assert journal.read(folder, 0) == ([], 0, None)
    assert json.loads((folder / "job.json").read_text()) == {"n": 2}


def test_the_last_runs_are_kept(tmp_path: Path) -> None:
    for number in range(25):
        folder = journal.prepare(tmp_path / "runs", f"r{number:02d}", {})
        os.utime(folder, (number, number))
    left = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert left == [f"r{number:02d}" for number in range(5, 25)]
    journal.remove(tmp_path / "runs/r24")
    assert not (tmp_path / "runs/r24").exists()


def write(base: Path, name: str, record: str) -> None:
    (base / "releases" / name).mkdir(parents=True)
    (base / "releases" / name / "release.json").write_text(record)


def test_releases_that_are_whole_the_newest_first(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert layout.current_release() is None
    assert layout.all() == []
    write(tmp_path, "old", '{"created_at": "2026-01-01"}')
    write(tmp_path, "new", '{"created_at": "2026-01-02"}')
    write(tmp_path, "cut", '{"created')
    assert [one.id for one in layout.all()] == ["new", "old"]
    with pytest.raises(UnknownReleaseError, match=r"release cut is not complete on this server .*; kept: new, old"):
        layout.release("cut")
    layout.point_current(layout.release("old"))
    layout.point_current(layout.release("new"))
    current = layout.current_release()
    assert current is not None
    assert (current.id, os.readlink(layout.current)) == ("new", "releases/new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "releases"]
    (tmp_path / "releases/new/release.json").unlink()
    assert layout.current_release() is None


def test_settings_are_described_each() -> None:
    for name in asdict(Settings()):
        assert f"        {name}: " in str(Settings.__doc__), name


def test_a_character_that_the_units_journal_cannot_show_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Journal(journal.prepare(tmp_path / "runs", "r", {}))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    said.say("backend", "failed", "ready 🚀")
    # as a name on the disk that is no UTF-8 is read
    said.say("backend", "failed", "odd \udcff")
    said.say("backend", "done")
    lines, *_ = journal.read(said.folder, 0)
    assert [line["text"] for line in lines] == ["ready 🚀", ""]
