"""Where backups are: one file each, with a manifest beside it; names, retention, and the last good one."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_DIRECTORY = "/var/backups/integr8scode"
FORMAT = 1
ROUTINE = "backup"
"""Reason of the backups that a timer or a person makes; all others are made before something risky."""
OTHERS_KEPT = 3
"""How many stay of a kind that are no routine, or whose content could not be verified."""
NAME = re.compile(r"(?P<kind>[a-z0-9]+)-(?P<host>.+)-(?P<at>\d{8}T\d{6}Z)\.tar\.gz(?P<age>\.age)?")


class BackupError(Exception):
    """A backup cannot be made, read or restored; the message says why, what was changed, and the cure."""


@dataclass(frozen=True)
class Backup:
    """A backup that has a manifest.

    Attributes:
        path: of its file.
        kind: k3s or application.
        created: when, UTC.
        reason: why.
        verified: what is in it was read again, and its database opened.
        encrypted: with age.
        manifest: all of it.
    """

    path: Path
    kind: str
    created: str
    reason: str
    verified: bool
    encrypted: bool
    manifest: dict[str, Any]


def sidecar(path: Path) -> Path:
    """The manifest's file."""
    return path.with_name(path.name + ".json")


def checksum(path: Path) -> str:
    """sha256 of a file, in hex. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def in_use(backup: Backup) -> Iterator[None]:
    """While a backup is read to be restored, no other run's retention removes it.

    :raises BackupError: it is not there any more.
    """
    try:
        descriptor = os.open(backup.path, os.O_RDONLY)
    except OSError as error:
        raise BackupError(f"{backup.path} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _free_to_remove(path: Path) -> bool:
    """Whether nobody restores it. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


@contextmanager
def writing(directory: Path, kind: str, *, wait: float = 600) -> Iterator[None]:
    """One backup of a kind at a time; makes the directory.

    :param wait: seconds to wait for another one that is being made.
    :raises BackupError: it took longer, or the directory cannot be made.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / f".{kind}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BackupError(f"{directory} cannot be written: {error.strerror}") from error
    try:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BackupError(
                        f"another backup of {kind} has been written to {directory} for more than {wait:.0f} s"
                    ) from None
                time.sleep(0.2)
        yield
    finally:
        os.close(descriptor)


def remove_leftovers(directory: Path, kind: str) -> None:
    """Remove what killed runs left of backups of a kind: half-written ones, and copies that were to go into them.

    :raises BackupError: one of that kind is being written for too long.
    :raises OSError: they cannot be removed.
    """
    with writing(directory, kind):
        for path in directory.glob(f".{kind}-*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def require_room(directory: Path, needed: int, left: int) -> None:
    """Look for room before anything is written.

    :param needed: bytes that will be written at most.
    :param left: bytes that must be free afterwards.
    :raises BackupError: there is not enough.
    """
    place = directory
    while not place.exists():
        place = place.parent
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    if free < needed + left:
        raise BackupError(
            f"no room in {directory}: {readable_size(free)} are free, {readable_size(needed)} may be needed and "
            f"{readable_size(left)} must stay free. Nothing was written. Cure: make room, or set backup_directory to "
            "another disk"
        )


def readable_size(count: int) -> str:
    """A number of bytes for people, in the unit that leaves no "0.0"."""
    size, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB"):
        # what would be rounded up to 1024.0 is 1.0 of the next one
        if size < 1023.95:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"


def _read(path: Path) -> Backup:
    manifest = json.loads(sidecar(path).read_text(encoding="utf-8"))
    return Backup(
        path,
        str(manifest["kind"]),
        str(manifest["created"]),
        str(manifest["reason"]),
        bool(manifest["verified"]),
        bool(manifest["encrypted"]),
        manifest,
    )


def load(path: Path) -> Backup:
    """A backup by its file, whose checksum is compared.

    :raises BackupError: it is not there, has no manifest, is damaged, or of a newer format.
    """
    if not path.is_file():
        raise BackupError(f"{path} is not there")
    try:
        backup = _read(path)
        newer = int(backup.manifest["format"]) > FORMAT
        expected = str(backup.manifest["file"]["sha256"])
    except FileNotFoundError:
        raise BackupError(
            f"{path} has no manifest beside it. Cure: put {sidecar(path).name} there, which was made and copied with it"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{sidecar(path)} cannot be read ({error!r}). Cure: take another backup") from error
    if newer:
        raise BackupError(f"{path} is of a newer format than this release of the project reads. Cure: use that release")
    if checksum(path) != expected:
        raise BackupError(
            f"{path} is damaged: its checksum is not the manifest's. Cure: bring it here again, or take another backup"
        )
    return backup


def backups(directory: Path, kind: str) -> list[Backup]:
    """Backups of a kind with a readable manifest, oldest first."""
    found = []
    for path in sorted(directory.glob(f"{kind}-*.tar.gz*")):
        if NAME.fullmatch(path.name) is None:
            continue
        try:
            backup = _read(path)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if backup.kind == kind:
            found.append(backup)
    return sorted(found, key=lambda one: one.created)


def last_good(directory: Path, kind: str, reason: str = "") -> Backup | None:
    """The newest backup that was verified and whose file is undamaged; with ``reason``, of those made for it."""
    for backup in reversed(backups(directory, kind)):
        if backup.verified and reason in {"", backup.reason}:
            try:
                return load(backup.path)
            except BackupError:
                continue
    return None


def prune(directory: Path, kind: str, keep: int) -> list[Path]:
    """Remove all but the newest ``keep`` that are verified and were made as a routine, and the newest few others.

    The last good one of all and the last good one of the routine always stay. Raises OSError.
    """
    routine: list[Backup] = []
    others: list[Backup] = []
    for backup in backups(directory, kind):
        (routine if backup.verified and backup.reason == ROUTINE else others).append(backup)
    good = {one.path for one in (last_good(directory, kind), last_good(directory, kind, ROUTINE)) if one is not None}
    removed = []
    for backup in [*routine[: -max(keep, 1)], *others[:-OTHERS_KEPT]]:
        if backup.path in good or not _free_to_remove(backup.path):
            continue
        backup.path.unlink()
        sidecar(backup.path).unlink(missing_ok=True)
        removed.append(backup.path)
    return removed
