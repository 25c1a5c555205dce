"""Where backups are: one file each, with a manifest beside it; names, retention, and the last good one."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_DIRECTORY = "/var/backups/integr8scode"
FORMAT = 1
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


def last_good(directory: Path, kind: str) -> Backup | None:
    """The newest backup that was verified and whose file is undamaged."""
    for backup in reversed(backups(directory, kind)):
        if backup.verified:
            try:
                return load(backup.path)
            except BackupError:
                continue
    return None


def prune(directory: Path, kind: str, keep: int) -> list[Path]:
    """Remove all but the newest ``keep``, never the last good one. Raises OSError."""
    there = backups(directory, kind)
    good = last_good(directory, kind)
    removed = []
    for backup in there[: max(0, len(there) - max(keep, 1))]:
        if good is not None and backup.path == good.path:
            continue
        backup.path.unlink()
        sidecar(backup.path).unlink(missing_ok=True)
        removed.append(backup.path)
    return removed
