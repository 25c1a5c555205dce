"""What a recovery remembers on the server: written before each action, so that a killed run is finished or undone."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.atomic_files import Access, ensure_folder, write_file

DIRECTORY = Path("/var/lib/integr8scode/recovery")
FILE = "journal.json"
LATEST = "latest"
NAME = "%Y%m%dT%H%M%SZ"
PRIVATE = 0o600

# states of a rung that is not over: the run was killed in it
UNFINISHED = ("applying", "verifying", "undoing")


class RecordError(Exception):
    """The record of a recovery cannot be read or written; the text holds the cure."""


@dataclass
class RungEntry:
    """One rung that was tried. `data` is what is needed to undo or to finish it: JSON-able and without secrets."""

    name: str
    cause: str = ""
    run: int = 1
    state: str = "applying"
    step: str = ""
    started_at: float = 0.0
    seconds: float = 0.0
    sentence: str = ""
    undone: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def unfinished(self) -> bool:
        """Whether a run was killed in it."""
        return self.state in UNFINISHED


@dataclass
class Record:
    """One recovery, of one or (after a kill) more runs of the playbook. Times are seconds since 1970."""

    folder: Path
    id: str
    state: str = "open"
    started_at: float = 0.0
    by: str = ""
    runs: int = 1
    backup: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)
    causes: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    rungs: list[RungEntry] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    restored_from: str = ""
    network_policy_off_seconds: float = 0.0
    problem: str = ""
    # causes as they were seen after the last rung of this run, before it was undone; None: look anew
    pending: list[dict[str, Any]] | None = None

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / FILE

    def save(self) -> None:
        """Write it, and wait until it is on the disk. Raises RecordError."""
        body = {name: value for name, value in asdict(self).items() if name != "folder"}
        text = json.dumps(body, indent=1, ensure_ascii=False) + "\n"
        try:
            write_file(self.path, text.encode(), Access(os.geteuid(), os.getegid(), PRIVATE))
        except OSError as error:
            raise RecordError(
                f"{self.path} cannot be written: {error}. Without it nothing may be changed. Make room below "
                f"{self.folder} (df -h {self.folder}), then run again."
            ) from error

    def keep_file(self, name: str, content: bytes) -> None:
        """Keep a file beside the record, for root alone. Raises RecordError."""
        try:
            write_file(self.folder / name, content, Access(os.geteuid(), os.getegid(), PRIVATE))
        except OSError as error:
            raise RecordError(f"{self.folder / name} cannot be written: {error}. Nothing more was changed.") from error

    def tried(self) -> set[str]:
        """Names of the rungs that this run of the playbook has tried."""
        return {entry.name for entry in self.rungs if entry.run == self.runs and entry.state != "interrupted"}

    def remember_causes(self, causes: list[dict[str, Any]]) -> None:
        """Add causes that were not known before."""
        known = {cause["id"] for cause in self.causes}
        self.causes += [cause for cause in causes if cause["id"] not in known]

    def add_lost(self, sentence: str) -> None:
        """Add a loss, once."""
        if sentence and sentence not in self.lost:
            self.lost.append(sentence)


def _name(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).strftime(NAME)


def new(directory: Path, *, now: float, by: str) -> Record:
    """A new recovery's record, already written. Raises RecordError."""
    name = _name(now)
    # a clock that starts at the same moment after each boot must not write over another recovery
    while (directory / name / FILE).exists():
        now += 1
        name = _name(now)
    folder = directory / name
    try:
        for path in (directory, folder):
            ensure_folder(path, Access(os.geteuid(), os.getegid(), 0o700))
        latest = directory / ".latest.new"
        latest.unlink(missing_ok=True)
        latest.symlink_to(name)
        latest.rename(directory / LATEST)
    except OSError as error:
        raise RecordError(
            f"{folder} cannot be made: {error}. Nothing was changed. Cure that, then run again."
        ) from error
    record = Record(folder=folder, id=name, started_at=now, by=by)
    record.save()
    return record


def load(folder: Path) -> Record:
    """Read a recovery's record. Raises RecordError."""
    path = folder / FILE
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        rungs = [RungEntry(**entry) for entry in body.pop("rungs")]
        return Record(folder=folder, rungs=rungs, **body)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordError(
            f"{path}, the record of an earlier recovery, cannot be read: {error}. Look what that recovery did (the "
            f"originals of changed files are beside it), then move the folder away and run again."
        ) from error


def unfinished(directory: Path) -> Record | None:
    """The recovery that was begun last and killed before its end, or None. Raises RecordError when it is unreadable.

    The link to the latest one is asked first: a name is only as right as the clock was.
    """
    if not directory.is_dir():
        return None
    folders = sorted((path for path in directory.iterdir() if re.fullmatch(r"\d{8}T\d{6}Z", path.name)), reverse=True)
    latest = directory / LATEST
    linked = [directory / latest.readlink().name] if latest.is_symlink() else []
    # one that was killed before its first line was written has done nothing
    begun = [folder for folder in dict.fromkeys([*linked, *folders]) if (folder / FILE).exists()]
    for number, folder in enumerate(begun):
        try:
            record = load(folder)
        except RecordError:
            if number == 0:
                raise
            continue
        if record.state == "open":
            return record
    return None
