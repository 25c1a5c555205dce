"""The application's backup: MongoDB's data, and what the server keeps below /opt/integr8scode.

Not in it: Redis (counters and relays, lost at each of its restarts), Kafka (events under way, which belong to their
moment; it keeps them for a week), images (a release names their digests), kubeconfigs (they are issued again).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.module_utils.backups import archive, mongo, store
from ansible.module_utils.backups.archive import BackupError, Member
from ansible.module_utils.backups.store import Backup
from ansible.module_utils.integr8scode_docker import EngineUnavailableError, connect

KIND = "application"
DUMP = "mongo/dump.archive"
FILES = "base"
# below the base; `current` is a link
KEPT = ("secrets", "tls", "edge", "releases", "files", "history.jsonl", "current")


def size_of(path: Path) -> int:
    """Bytes of a file or of all files below a folder; what vanishes meanwhile counts nothing."""
    if not path.is_dir() or path.is_symlink():
        try:
            return path.lstat().st_size
        except OSError:
            return 0
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += (Path(folder) / name).lstat().st_size
            except OSError:
                continue
    return total


def _data_size(container: str) -> int:
    """Bytes that MongoDB's data take on the disk, where it is compressed."""
    mounts: list[dict[str, Any]] = connect().containers.get(container).attrs["Mounts"]
    return sum(size_of(Path(one["Source"])) for one in mounts if one["Destination"] == "/data/db")


def release_record(base: Path) -> dict[str, Any]:
    """The running release's record; {} where none runs."""
    try:
        found = json.loads((base / "current" / "release.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def workspace(directory: Path) -> Iterator[Path]:
    """A folder of root's own below ``directory``, gone afterwards; what killed runs left goes too."""
    for old in directory.glob(".work-*"):
        _remove_unless_used(old)
    folder = Path(tempfile.mkdtemp(prefix=".work-", dir=directory))
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_unless_used(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        # another run is at work
        return
    finally:
        os.close(descriptor)


def create(
    directory: Path,
    *,
    base: Path,
    project: str = "integr8scode",
    reason: str,
    recipients: Sequence[str] = (),
    required_free: int = 0,
    timeout: float = 3600,
) -> Backup:
    """Make a backup of the application while it runs.

    :param directory: where backups lie.
    :param base: where the application is installed.
    :param reason: why, for its manifest.
    :param recipients: public keys of age; none leaves it unencrypted.
    :param required_free: bytes that must stay free.
    :param timeout: seconds that the dump may take.
    :raises BackupError: no room (nothing was written), MongoDB cannot be dumped, or what was written is not right.
    """
    try:
        server = mongo.find(project)
        store.require_room(directory, needed(server, base), required_free)
        with store.writing(directory, KIND), workspace(directory) as folder:
            dump = folder / "dump.archive"
            contents = mongo.dump(server, dump, timeout=timeout)
            return seal(directory, server, dump, contents, base=base, reason=reason, recipients=recipients)
    except (mongo.MongoError, EngineUnavailableError, OSError) as error:
        raise BackupError(str(error)) from error


def _members(base: Path) -> list[Member]:
    """What is kept of the server's files."""
    return [
        Member(f"{FILES}/{name}", base / name) for name in KEPT if (base / name).is_symlink() or (base / name).exists()
    ]


def needed(server: mongo.MongoServer, base: Path) -> int:
    """Bytes that a backup takes while it is made: the dump, and then the archive with the dump in it beside it.

    :raises EngineUnavailableError: Docker does not answer.
    """
    return 2 * _data_size(server.container) + sum(size_of(one.path) for one in _members(base))


def seal(
    directory: Path,
    server: mongo.MongoServer,
    dump: Path,
    contents: mongo.Contents,
    *,
    base: Path,
    reason: str,
    recipients: Sequence[str],
) -> Backup:
    """Make a backup of a dump and of the server's files.

    :raises BackupError: it cannot be written, or what was written is not right.
    """
    record = release_record(base)
    return archive.create(
        directory,
        KIND,
        [Member(DUMP, dump), *_members(base)],
        reason=reason,
        recipients=recipients,
        versions={"mongodb": contents.server_version, "release": str(record.get("tag", ""))},
        facts={
            "mongo": {
                "image": server.image,
                "tool": contents.tool_version,
                "sha256": contents.sha256,
                "documents": contents.documents,
            },
            "release": {"id": record.get("id", ""), "tag": record.get("tag", "")},
        },
    )
