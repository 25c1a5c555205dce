"""A backup's file: a tar of named members with their owners and permissions, gzip, age when recipients are given.

The archive of what is to be encrypted is never on the disk as plain text: it goes through age, and through a reader
that compares it with what was put in. The copies of databases that go into it are, while it is made, in a folder of
root's own whose name begins with a dot.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import stat
import tarfile
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from ansible.module_utils.atomic_files import Access, sync_folder, write_file
from ansible.module_utils.backups import age
from ansible.module_utils.backups.store import FORMAT, Backup, BackupError, checksum, load, sidecar

__all__ = ["BackupError", "Member", "create", "extract", "read_member"]
CHECKSUMS = "checksums.json"
"""Last member: sha256 of each file. Not in the manifest, where a password's would let anyone test guesses."""


@dataclass(frozen=True)
class Member:
    """Something that goes into a backup: a file, a link, or a folder with all below it.

    Attributes:
        name: in the backup.
        path: where it is now.
    """

    name: str
    path: Path


class _Hashed:
    """A file that is read through a checksum."""

    def __init__(self, source: BinaryIO, path: Path) -> None:
        self._source = source
        self._path = path
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        data = self._source.read(size)
        if not data and size:
            raise OSError(f"{self._path} became shorter while it was read. Cure: run it again")
        self.digest.update(data)
        return data


def _walk(member: Member) -> Iterator[tuple[str, Path, bool]]:
    """Name, path, and whether it has to be there: what is in a folder may go while it is walked through."""
    yield member.name, member.path, True
    if member.path.is_dir() and not member.path.is_symlink():
        folders = [(member.name, member.path)]
        while folders:
            name, folder = folders.pop()
            for child in sorted(folder.iterdir()) if folder.is_dir() else []:
                yield f"{name}/{child.name}", child, False
                if child.is_dir() and not child.is_symlink():
                    folders.append((f"{name}/{child.name}", child))


def _add(tar: tarfile.TarFile, name: str, path: Path) -> str:
    """Add one entry; gives the checksum of a regular file's content."""
    # two names of one file are two files here
    tar.inodes.clear()  # type: ignore[attr-defined]  # typeshed lacks it
    info = tar.gettarinfo(str(path), arcname=name)
    if info is None or not (info.isreg() or info.isdir() or info.issym()):
        # sockets and the like hold nothing
        return ""
    info.uname = info.gname = ""
    if not info.isreg():
        tar.addfile(info)
        return ""
    with path.open("rb") as source:
        info.size = os.fstat(source.fileno()).st_size
        hashed = _Hashed(source, path)
        tar.addfile(info, hashed)
    return hashed.digest.hexdigest()


def _write(sink: BinaryIO, members: Sequence[Member]) -> dict[str, str]:
    """Write the tar; gives each regular file's checksum by its name in it. Raises OSError."""
    sums: dict[str, str] = {}
    with tarfile.open(fileobj=sink, mode="w:gz", compresslevel=4, format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            for name, path, needed in _walk(member):
                try:
                    digest = _add(tar, name, path)
                except FileNotFoundError:
                    if needed:
                        raise
                    continue
                if digest:
                    sums[name] = digest
        text = json.dumps(sums, indent=1).encode()
        info = tarfile.TarInfo(CHECKSUMS)
        info.size, info.mode = len(text), 0o600
        tar.addfile(info, io.BytesIO(text))
    return sums


def _sums_in(source: BinaryIO) -> dict[str, str]:
    """The checksums of the files in a tar, read to its end. Raises tarfile.TarError, OSError, EOFError."""
    found: dict[str, str] = {}
    with tarfile.open(fileobj=source, mode="r|gz") as tar:
        for info in tar:
            if info.isreg() and info.name != CHECKSUMS:
                found[info.name] = _sum_of(tar, info)
    return found


def _sum_of(tar: tarfile.TarFile, info: tarfile.TarInfo) -> str:
    source = tar.extractfile(info)
    digest = hashlib.sha256()
    while source is not None and (chunk := source.read(1 << 20)):
        digest.update(chunk)
    return digest.hexdigest()


class _Reader:
    """A sink that hands on what it gets, and reads it as a tar beside that."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self.size = 0
        self.found: dict[str, str] = {}
        self.problem = ""
        source, self._into = os.pipe()
        self._thread = threading.Thread(target=self._read, args=(source,), daemon=True)
        self._thread.start()

    def _read(self, source: int) -> None:
        with os.fdopen(source, "rb") as stream:
            try:
                self.found = _sums_in(stream)
            except (tarfile.TarError, OSError, EOFError) as error:
                self.problem = str(error)
            # the writer must not be held up
            while stream.read(1 << 20):
                continue

    def write(self, data: bytes) -> int:
        """Hand on and read."""
        self._sink.write(data)
        view = memoryview(data)
        self.size += len(view)
        while view:
            view = view[os.write(self._into, view) :]
        return len(data)

    def end(self) -> None:
        """Wait until all of it was read."""
        os.close(self._into)
        self._thread.join()


def _seal(path: Path, members: Sequence[Member], recipients: Sequence[str]) -> dict[str, str]:
    """Write the file, encrypted where recipients are given, and compare what is in it with what was put in.

    :raises BackupError: it does not hold that.
    :raises OSError: it cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    found: Mapping[str, str] = {}
    problem = ""
    with os.fdopen(descriptor, "wb") as sink:
        if recipients:
            with age.encrypting(sink, recipients) as into:
                reader = _Reader(into)
                try:
                    sums = _write(reader, members)  # type: ignore[arg-type]  # it has what tarfile calls
                finally:
                    reader.end()
            found, problem = reader.found, reader.problem
        else:
            sums = _write(sink, members)
        sink.flush()
        os.fsync(sink.fileno())
    if recipients:
        age.check_file(path, reader.size)
    else:
        try:
            with path.open("rb") as written:
                found = _sums_in(written)
        except (tarfile.TarError, EOFError) as error:
            problem = str(error)
    if problem or found != sums:
        raise BackupError(f"{path} does not hold what was put in ({problem or 'another content'}). Is the disk sound?")
    return sums


def _name(directory: Path, kind: str, moment: datetime, encrypted: bool) -> tuple[Path, datetime]:
    """A name that is free: two backups may be made within one second."""
    while True:
        stem = f"{kind}-{platform.node()}-{moment:%Y%m%dT%H%M%SZ}.tar.gz"
        if not any((directory / f"{stem}{end}").exists() for end in ("", ".age")):
            return directory / f"{stem}{'.age' if encrypted else ''}", moment
        moment += timedelta(seconds=1)


def create(
    directory: Path,
    kind: str,
    members: Sequence[Member],
    *,
    reason: str,
    recipients: Sequence[str] = (),
    versions: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
    verified: bool = True,
) -> Backup:
    """Write a backup, read it again, and give it its name.

    :param more: what else the manifest shall say, beside ``facts``.
    :param verified: whether the caller has checked what the members hold.
    :raises BackupError: it cannot be written, or does not hold what was put in; nothing is left of it then.
    """
    partial: Path | None = None
    target: Path | None = None
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        target, moment = _name(directory, kind, datetime.now(timezone.utc), bool(recipients))
        partial = directory / f".{target.name}.partial"
        partial.unlink(missing_ok=True)
        sums = _seal(partial, members, recipients)
        manifest = {
            "format": FORMAT,
            "kind": kind,
            "host": platform.node(),
            "created": moment.isoformat(timespec="seconds"),
            "reason": reason,
            "verified": verified,
            "encrypted": bool(recipients),
            "recipients": list(recipients),
            "versions": dict(versions or {}),
            "file": {"sha256": checksum(partial), "size": partial.stat().st_size},
            "members": len(sums),
            "facts": dict(facts or {}),
            **(more or {}),
        }
        write_file(sidecar(target), (json.dumps(manifest, indent=1) + "\n").encode(), _own())
        partial.rename(target)
        sync_folder(directory)
    except OSError as error:
        raise BackupError(f"the backup cannot be written to {directory}: {error}") from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
        if target is not None and not target.exists():
            sidecar(target).unlink(missing_ok=True)
    return load(target)


def _own() -> Access:
    return Access(os.geteuid(), os.getegid(), 0o600)


@contextmanager
def _opened(backup: Backup, identity: str) -> Iterator[tarfile.TarFile]:
    if not backup.encrypted:
        with tarfile.open(backup.path, mode="r|gz") as tar:
            yield tar
        return
    with age.decrypting(backup.path, identity) as source, tarfile.open(fileobj=source, mode="r|gz") as tar:
        yield tar


def _wanted(name: str, names: Collection[str]) -> bool:
    return any(name == one or name.startswith(f"{one}/") for one in names)


def _refuse(backup: Backup, info: tarfile.TarInfo, done: Mapping[str, str], links: Collection[str]) -> None:
    """:raises BackupError: an entry would get outside of the folder that it is extracted to.

    A link may point anywhere, as some of k3s' own and of volumes do; nothing is ever written through one.
    """
    name = PurePosixPath(info.name)
    through = [str(one) for one in name.parents if str(one) in links]
    if name.is_absolute() or ".." in name.parts or str(name) != info.name or through or info.name in done:
        raise BackupError(f"{backup.path} holds {info.name}, which would lead elsewhere. Cure: take another backup")
    if not (info.isreg() or info.isdir() or info.issym()):
        raise BackupError(f"{backup.path} holds {info.name}, which is no file. Cure: take another backup")


def extract(backup: Backup, target: Path, names: Sequence[str], *, identity: str = "") -> list[str]:
    """Extract members (a folder: with all below it) with owners, permissions and times into an empty folder.

    :returns: names of what was extracted.
    :raises BackupError: it cannot be opened, or a member is damaged or missing.
    """
    done: dict[str, str] = {}
    links: set[str] = set()
    folders: list[tuple[Path, tarfile.TarInfo]] = []
    sums: dict[str, str] | None = None
    try:
        with _opened(backup, identity) as tar:
            for info in tar:
                if info.name == CHECKSUMS:
                    sums = json.load(tar.extractfile(info) or io.BytesIO(b"null"))
                elif _wanted(info.name, names):
                    _refuse(backup, info, done, links)
                    done[info.name] = _place(tar, info, target / info.name)
                    if info.issym():
                        links.add(info.name)
                    elif info.isdir():
                        folders.append((target / info.name, info))
        # their times change with what comes into them, and they may not be writable
        for path, info in reversed(folders):
            _dress(path, info)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise BackupError(f"{backup.path} cannot be read: {error}. Cure: take another backup") from error
    if sums is None:
        raise BackupError(f"{backup.path} ends before its checksums. Cure: take another backup")
    wanted = {name: digest for name, digest in sums.items() if _wanted(name, names)}
    found = {name: digest for name, digest in done.items() if digest}
    if different := sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name)):
        raise BackupError(f"{backup.path}: {different[0]} is damaged. Cure: take another backup")
    return list(done)


def _dress(path: Path, info: tarfile.TarInfo) -> None:
    os.chown(path, info.uid, info.gid)
    path.chmod(stat.S_IMODE(info.mode))
    os.utime(path, (info.mtime, info.mtime))


def _place(tar: tarfile.TarFile, info: tarfile.TarInfo, path: Path) -> str:
    """Extract one entry; gives the checksum of a regular file's content."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if info.issym():
        path.symlink_to(info.linkname)
        os.chown(path, info.uid, info.gid, follow_symlinks=False)
        return ""
    if info.isdir():
        path.mkdir(mode=0o700, exist_ok=True)
        return ""
    digest = hashlib.sha256()
    source = tar.extractfile(info)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as sink:
        while source is not None and (chunk := source.read(1 << 20)):
            digest.update(chunk)
            sink.write(chunk)
        sink.flush()
        os.fsync(sink.fileno())
    _dress(path, info)
    return digest.hexdigest()


def read_member(backup: Backup, name: str, *, identity: str = "") -> bytes:
    """A file's content; the backup's checksum is compared before.

    :raises BackupError: there is none of that name, or it cannot be read.
    """
    try:
        with _opened(load(backup.path), identity) as tar:
            for info in tar:
                if info.name == name and info.isreg():
                    source = tar.extractfile(info)
                    return source.read() if source is not None else b""
    except (tarfile.TarError, OSError, EOFError) as error:
        raise BackupError(f"{backup.path} cannot be read: {error}. Cure: take another backup") from error
    raise BackupError(f"{backup.path} holds no {name}")
