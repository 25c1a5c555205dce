"""The application's backup: MongoDB's data, and what the server keeps below /opt/integr8scode.

Not in it: Redis (counters and relays, lost at each of its restarts), Kafka (events under way, which belong to their
moment; it keeps them for a week), images (a release names their digests), kubeconfigs (they are issued again).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.atomic_files import Access, read_file, sync_folder, write_file
from ansible.module_utils.backups import archive, mongo, store
from ansible.module_utils.backups.archive import BackupError, Member
from ansible.module_utils.backups.store import Backup
from ansible.module_utils.integr8scode_docker import PROJECT_LABEL, SERVICE_LABEL, EngineUnavailableError, connect

KIND = "application"
DUMP = "mongo/dump.archive"
FILES = "base"
# below the base; `current` is a link
KEPT = ("secrets", "tls", "edge", "releases", "files", "history.jsonl", "current")
# what a fresh server gets before the stack is started there; secrets come from the vault, the edge's file from the role
PLACED = ("tls", "releases", "files", "current")
# what goes on while data are replaced: nothing of these writes to MongoDB
STAYS_UP = ("mongo", "kafka", "edge", "frontend")


@dataclass(frozen=True)
class Findings:
    """What a check of a backup has found.

    Attributes:
        problems: each forbids the restore; with its cure.
        notes: what will be different afterwards.
        release: id of the release that ran, "" if none.
        tag: its tag.
        documents: by namespace.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    release: str = ""
    tag: str = ""
    documents: dict[str, int] = field(default_factory=dict)


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
def _workspace(directory: Path) -> Iterator[Path]:
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
        members = [
            Member(f"{FILES}/{name}", base / name)
            for name in KEPT
            if (base / name).is_symlink() or (base / name).exists()
        ]
        data = _data_size(server.container)
        # the dump and then the archive with the dump in it, both at once for a while
        store.require_room(directory, 2 * data + sum(size_of(one.path) for one in members), required_free)
        with store.writing(directory, KIND), _workspace(directory) as folder:
            dump = folder / "dump.archive"
            contents = mongo.dump(server, dump, timeout=timeout)
            record = release_record(base)
            return archive.create(
                directory,
                KIND,
                [Member(DUMP, dump), *members],
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
    except (mongo.MongoError, EngineUnavailableError, OSError) as error:
        raise BackupError(str(error)) from error


def _dump_of(backup: Backup, folder: Path, identity: str) -> Path:
    """The dump out of a backup, checked against the manifest.

    :raises BackupError: it is not the one that was put in.
    """
    archive.extract(backup, folder, [DUMP], identity=identity)
    dump = folder / DUMP
    contents = mongo.read_archive(dump)
    told = backup.manifest["facts"]["mongo"]
    if (contents.sha256, contents.documents) != (told["sha256"], told["documents"]):
        raise BackupError(f"{backup.path} holds another dump than its manifest says. Cure: take another backup")
    return dump


def _version(text: str) -> tuple[int, ...]:
    """Major and minor version of MongoDB; () for what is none."""
    parts = text.split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()


def check(
    backup: Backup, *, mongodb_version: str = "", identity: str = "", login: Mapping[str, str] | None = None
) -> Findings:
    """Read a backup to its end and say whether it can be restored; nothing is changed.

    :param mongodb_version: of the server that it shall go to.
    :param login: MongoDB's root login of the vault (username, password), to be told where it is another.
    :raises BackupError: it cannot be read at all.
    """
    if backup.kind != KIND:
        return Findings([f"{backup.path} is a backup of {backup.kind}, not of the application"])
    facts = backup.manifest["facts"]
    found = Findings(
        release=str(facts["release"]["id"]),
        tag=str(facts["release"]["tag"]),
        documents=dict(facts["mongo"]["documents"]),
    )
    had, will = str(backup.manifest["versions"]["mongodb"]), mongodb_version
    if will and _version(had) > _version(will):
        found.problems.append(
            f"{backup.path} is of MongoDB {had}; here is MongoDB {will}, which cannot read it. Cure: restore "
            "with a release of this project that has MongoDB " + ".".join(map(str, _version(had)))
        )
    try:
        with store.in_use(backup), _workspace(backup.path.parent) as folder:
            _dump_of(backup, folder, identity)
            found.notes.extend(_login_notes(backup, folder, login or {}, identity))
    except mongo.MongoError as error:
        found.problems.append(f"{backup.path}: {error}. Cure: take another backup")
    except OSError as error:
        raise BackupError(f"{backup.path} cannot be read: {error}") from error
    return found


def _login_notes(backup: Backup, folder: Path, login: Mapping[str, str], identity: str) -> list[str]:
    """Where the vault's login is another than the backup's: it is the vault's that counts."""
    if not login:
        return []
    prefix = f"{FILES}/secrets"
    archive.extract(backup, folder, [prefix], identity=identity)
    kept = {path.name: path for path in sorted((folder / prefix).glob("*/mongo_root_*"))}
    notes = []
    for name, value in login.items():
        path = kept.get(f"mongo_root_{name}")
        if path is not None and path.read_text(encoding="utf-8") != value:
            notes.append(
                f"MongoDB's root {name} in the backup is another than the vault's; the vault's counts from now on"
            )
    return notes


def merge_history(path: Path, older: bytes) -> bool:
    """Put an older history's lines before those that are there already; whether that changed something.

    :raises OSError: it cannot be written.
    """
    there = (read_file(path) or b"").splitlines(keepends=True)
    known = set(there)
    missing = [line for line in older.splitlines(keepends=True) if line.endswith(b"\n") and line not in known]
    if not missing:
        return False
    write_file(path, b"".join([*missing, *there]), Access(0, 0, 0o640))
    return True


def place(backup: Backup, *, base: Path, identity: str = "") -> list[str]:
    """Give a fresh server what its stack starts from: certificates and their authority, the release, the history.

    So the same release with the same digests starts there, and whoever trusts the old server's authority trusts it.

    :returns: names of what was placed.
    :raises BackupError: a release is there already (nothing was changed), or the backup cannot be read.
    """
    if (base / "current").is_symlink():
        raise BackupError(f"{base} has a release already; only its data are restored. Nothing was changed")
    placed = []
    try:
        base.mkdir(mode=0o755, parents=True, exist_ok=True)
        with _workspace(base) as folder:
            archive.extract(
                backup, folder, [f"{FILES}/{name}" for name in (*PLACED, "history.jsonl")], identity=identity
            )
            history = folder / FILES / "history.jsonl"
            if history.exists():
                merge_history(base / "history.jsonl", history.read_bytes())
            # the link that makes it count comes last
            for name in PLACED:
                source, target = folder / FILES / name, base / name
                if not (source.exists() or source.is_symlink()):
                    continue
                if target.is_dir() and not target.is_symlink():
                    target.rename(base / f"{name}.before-restore-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
                source.rename(target)
                placed.append(name)
            sync_folder(base)
    except OSError as error:
        raise BackupError(f"{base} cannot be written: {error}") from error
    return placed


def _compose(base: Path, *words: str, timeout: float = 600) -> None:
    """:raises BackupError: Compose failed."""
    command = ["docker", "compose", "--project-directory", str(base / "current"), *words]
    try:
        done = subprocess.run(
            command,
            cwd=base / "current",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackupError(f"`{' '.join(command[:2] + list(words))}` failed: {error}") from error
    if done.returncode != 0:
        said = " / ".join(done.stderr.strip().splitlines()[-4:])
        raise BackupError(f"`{' '.join(command[:2] + list(words))}` failed: {said}")


def running_services(project: str) -> list[str]:
    """The project's services with a running container. Raises BackupError."""
    try:
        client = connect()
    except EngineUnavailableError as error:
        raise BackupError(str(error)) from error
    found = client.containers.list(filters={"label": f"{PROJECT_LABEL}={project}"}, ignore_removed=True)
    return sorted({str(one.attrs["Config"]["Labels"][SERVICE_LABEL]) for one in found})


@dataclass(frozen=True)
class Restored:
    """What a restore of the data has done.

    Attributes:
        documents: by namespace, of the application's databases.
        left: collections that the backup does not know; they stay.
        seconds_down: how long the application was away.
    """

    documents: dict[str, int]
    left: list[str]
    seconds_down: float


def restore(
    backup: Backup,
    *,
    base: Path,
    project: str = "integr8scode",
    safety: Backup | None = None,
    identity: str = "",
    timeout: float = 3600,
) -> Restored:
    """Replace the data in the running MongoDB; the rest of the application is stopped meanwhile.

    :param safety: backup of what is there now, put back when the restore fails.
    :raises BackupError: it failed; the message says what stands now.
    """
    stopped: list[str] = []
    try:
        with store.in_use(backup), _workspace(backup.path.parent) as folder:
            dump = _dump_of(backup, folder, identity)
            server = mongo.find(project)
            stopped = [name for name in running_services(project) if name not in STAYS_UP]
            began = time.monotonic()
            _compose(base, "stop", *stopped)
            contents = _replace(server, dump, safety=safety, folder=folder, identity=identity, timeout=timeout)
            history = archive.read_member(backup, f"{FILES}/history.jsonl", identity=identity)
            merge_history(base / "history.jsonl", history)
    except (mongo.MongoError, OSError) as error:
        raise BackupError(str(error)) from error
    finally:
        if stopped:
            # as integr8scode.service starts it
            _compose(base, "up", "--detach", "--no-recreate", "--no-build", "--pull", "never")
    before = set(safety.manifest["facts"]["mongo"]["documents"]) if safety else set()
    left = sorted(name for name in before - set(contents.documents) if name.split(".")[0] not in mongo.SYSTEM_DATABASES)
    return Restored(contents.application(), left, round(time.monotonic() - began, 1))


def _replace(
    server: mongo.MongoServer, dump: Path, *, safety: Backup | None, folder: Path, identity: str, timeout: float
) -> mongo.Contents:
    """Restore the dump, or put back what was there. Raises BackupError, MongoError."""
    try:
        return mongo.restore(server, dump, timeout=timeout)
    except mongo.MongoError as error:
        if safety is None:
            raise
        earlier = folder / "safety"
        earlier.mkdir()
        try:
            mongo.restore(server, _dump_of(safety, earlier, identity), timeout=timeout)
        except (mongo.MongoError, BackupError) as second:
            raise BackupError(
                f"{error}. Putting back what was there failed too: {second}. The data are incomplete. Cure: find the "
                f"cause, then restore {safety.path}"
            ) from second
        raise BackupError(f"{error}. The data that were there are back, from {safety.path}") from error
