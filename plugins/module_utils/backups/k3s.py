"""k3s' backup: its datastore as of one moment, and all that a server needs to run with it again."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.backups import archive, store
from ansible.module_utils.backups.archive import Member
from ansible.module_utils.backups.k3s_parts import PARTS, Layout, layout
from ansible.module_utils.backups.k3s_restore import check, losses, restore
from ansible.module_utils.backups.store import Backup, BackupError
from ansible.module_utils.k3s_common import BINARY
from ansible.module_utils.k3s_recovery.probes import version
from ansible.module_utils.kine_database import (
    DatabaseError,
    Inventory,
    companions,
    integrity,
    inventory,
    online_backup,
)

__all__ = [
    "PARTS",
    "Backup",
    "BackupError",
    "check",
    "contents",
    "create",
    "estimate",
    "losses",
    "present",
    "read_member",
    "require_present",
    "restore",
]
KIND = "k3s"
# What stays free on the disk of the backups, in bytes.
MARGIN = 32 * 2**20
# Seconds for k3s' own snapshot of etcd.
SNAPSHOT_SECONDS = 120


@dataclass(frozen=True)
class Datastore:
    """What a backup holds of the datastore.

    Attributes:
        state: verified (opened, whole), snapshot (k3s' own, of etcd), raw (cannot be opened, kept as it is), none,
            external (elsewhere, not in the backup).
        error: why it is not verified, in the words of whoever found out.
        members: files by their path on the server.
        found: what is in it.
    """

    state: str
    error: str = ""
    members: Mapping[str, Path] = field(default_factory=dict)
    found: Inventory | None = None

    @property
    def good(self) -> bool:
        """Whether it can be restored."""
        return self.state in {"verified", "snapshot"}


@dataclass(frozen=True)
class Estimate:
    """What a backup would take.

    Attributes:
        datastore: bytes of the database, its log included, or of etcd's files.
        rest: bytes of everything else.
    """

    datastore: int
    rest: int

    @property
    def needed(self) -> int:
        """Bytes while it is made: the copy of the datastore, and the archive if nothing could be compressed."""
        return 2 * self.datastore + self.rest


def size_of(path: Path) -> int:
    """Bytes of a file or of all files below a folder; what vanishes meanwhile counts nothing."""
    if path.is_symlink() or not path.is_dir():
        try:
            return path.lstat().st_size
        except OSError:
            return 0
    return sum(size_of(Path(folder) / name) for folder, _folders, names in os.walk(path) for name in names)


def _wanted(local_volumes: bool) -> frozenset[str]:
    return frozenset(PARTS) - (frozenset() if local_volumes else {"local_volumes"})


def present(root: Path = Path("/")) -> bool:
    """Whether there is k3s on this server, or what is left of it."""
    here = layout(root)
    parts = here.parts(frozenset({"unit", "config"}))
    return here.path(here.server("")).is_dir() or any(parts.values())


def require_present(root: Path = Path("/")) -> None:
    """:raises BackupError: there is no k3s on this server."""
    if not present(root):
        raise BackupError(f"there is no k3s on this server: neither {layout(root).data} nor a unit nor a configuration")


def contents(*, local_volumes: bool = False, root: Path = Path("/")) -> list[str]:
    """The paths that a backup of this server would take."""
    here = layout(root)
    datastore = here.server("db/etcd") if here.etcd else here.database
    parts = here.parts(_wanted(local_volumes))
    return [datastore, *(path for paths in parts.values() for path in paths)]


def estimate(*, local_volumes: bool = False, root: Path = Path("/")) -> Estimate:
    """Bytes that a backup of this server would take."""
    here = layout(root)
    database = here.path(here.database)
    datastore = sum(size_of(one) for one in [database, *companions(database)])
    if here.etcd:
        datastore += size_of(here.path(here.server("db/etcd")))
    parts = here.parts(_wanted(local_volumes))
    return Estimate(datastore, sum(size_of(here.path(path)) for paths in parts.values() for path in paths))


@contextmanager
def _workspace(directory: Path) -> Iterator[Path]:
    """A folder of root's own below ``directory``, gone afterwards; what a killed run left goes too."""
    for old in [*directory.glob(".k3s-work*"), *directory.glob(f".{KIND}-*.partial")]:
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink()
    folder = directory / ".k3s-work"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copied(source: Path, copy: Path) -> Inventory:
    """Copy the database, and read the copy from end to end. Raises DatabaseError."""
    online_backup(source, copy)
    integrity(copy)
    return inventory(copy)


def _sqlite(here: Layout, work: Path) -> Datastore:
    source, copy = here.path(here.database), work / "state.db"
    if not source.exists():
        return Datastore("none", f"{here.database} is not there")
    try:
        try:
            found = _copied(source, copy)
        except DatabaseError:
            # a k3s that starts or ends at this moment changes the files beside it; damage stays
            time.sleep(1)
            found = _copied(source, copy)
    except DatabaseError as error:
        copy.unlink(missing_ok=True)
        # at the paths of this server, not of the copy
        words = str(error).replace(str(copy), here.database)
        files = {f"{here.database}{one.name[len(source.name) :]}": one for one in [source, *companions(source)]}
        return Datastore("raw", words, files)
    return Datastore("verified", "", {here.database: copy}, found)


def _etcd(here: Layout, work: Path) -> Datastore:
    """A snapshot of etcd by k3s where it runs; else its files and the newest snapshot that it made itself."""
    folder = work / "snapshots"
    folder.mkdir(mode=0o700)
    command = [str(here.path(BINARY)), "etcd-snapshot", "save", "--name", "backup", "--dir", str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SNAPSHOT_SECONDS, check=False
        )
        words = " ".join((done.stderr or done.stdout).split())[-300:] if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        words = str(error)
    place = here.server("db/snapshots")
    made = sorted(one for one in folder.iterdir() if one.is_file())
    if not words and made:
        return Datastore("snapshot", "", {f"{place}/{one.name}": one for one in made})
    members = {here.server("db/etcd"): here.path(here.server("db/etcd"))}
    own = here.path(place)
    earlier = sorted(own.iterdir(), key=lambda one: one.stat().st_mtime) if own.is_dir() else []
    members.update({f"{place}/{one.name}": one for one in earlier[-1:] if one.is_file()})
    return Datastore("raw", f"k3s made no snapshot: {words or 'it wrote none'}", members)


def _datastore(here: Layout, work: Path) -> Datastore:
    if here.external and here.external != "sqlite":
        return Datastore(
            "external", f"the datastore is {here.external} on another server, which has backups of its own"
        )
    return _etcd(here, work) if here.etcd else _sqlite(here, work)


def create(
    directory: Path,
    *,
    reason: str,
    recipients: Sequence[str] = (),
    local_volumes: bool = False,
    required_free: int = MARGIN,
    root: Path = Path("/"),
) -> Backup:
    """Make a backup of k3s while it runs, crashes again and again, or is stopped.

    A database that cannot be opened is kept as it is, and said so in the manifest (`database`).

    :param directory: where backups lie.
    :param reason: why, for its manifest.
    :param recipients: public keys of age; none leaves it unencrypted.
    :param local_volumes: take the local-path volumes as well, as they are while pods write them.
    :param required_free: bytes that must stay free.
    :raises BackupError: no room (nothing was written), there is no k3s, or what was written is not right.
    """
    here = layout(root)
    parts = here.parts(_wanted(local_volumes))
    needed = estimate(local_volumes=local_volumes, root=root).needed
    require_present(root)
    store.require_room(directory, needed, required_free)
    try:
        with store.writing(directory, KIND), _workspace(directory) as work:
            datastore = _datastore(here, work)
            members = [Member(path.lstrip("/"), real) for path, real in sorted(datastore.members.items())]
            members += [
                Member(path.lstrip("/"), here.path(path)) for part in parts for path in sorted(set(parts[part]))
            ]
            return archive.create(
                directory,
                KIND,
                members,
                reason=reason,
                recipients=recipients,
                verified=datastore.good,
                versions={"k3s": version(str(here.path(BINARY)))[0], "system": _system(root)},
                more=_described(here, datastore, parts, local_volumes=local_volumes),
            )
    except OSError as error:
        raise BackupError(f"the backup cannot be written to {directory}: {error}") from error


def _described(
    here: Layout, datastore: Datastore, parts: Mapping[str, list[str]], *, local_volumes: bool
) -> dict[str, Any]:
    """What the manifest says of k3s; no values, and no checksum of a secret."""
    told: dict[str, Any] = {
        "database": {"state": datastore.state, "error": datastore.error},
        "layout": {key: value for key, value in asdict(here).items() if key != "root"},
        "parts": {"database": sorted(datastore.members), **parts},
        "bytes": {
            "database": sum(size_of(one) for one in datastore.members.values()),
            **{part: sum(size_of(here.path(path)) for path in paths) for part, paths in parts.items()},
        },
        "local_volumes": local_volumes,
    }
    if datastore.found is not None:
        told["inventory"] = {**asdict(datastore.found), "rbac": len(datastore.found.rbac)}
    return told


def _system(root: Path) -> str:
    try:
        text = (root / "etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return ""
    values = dict(line.partition("=")[::2] for line in text.splitlines())
    return values.get("PRETTY_NAME", "").strip('"')


def read_member(backup: Backup, name: str, identity: str = "") -> bytes:
    """A file of a backup; its name is its path without the first slash, as `etc/rancher/node/password`.

    :raises BackupError: there is none of that name, or it cannot be read.
    """
    return archive.read_member(backup, name.lstrip("/"), identity=identity)
