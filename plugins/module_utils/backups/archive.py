"""A backup's file: a tar of named members with their owners and permissions, gzip, age when recipients are given."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from ansible.module_utils.atomic_files import Access, sync_folder, write_file
from ansible.module_utils.backups.store import FORMAT, Backup, BackupError, checksum, load, sidecar

__all__ = ["BackupError", "Member", "create", "extract", "read_member"]
READ_ONLY = Access(0, 0, 0o600)
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

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        data = self._source.read(size)
        self.digest.update(data)
        return data


def _walk(member: Member) -> Iterator[tuple[str, Path]]:
    yield member.name, member.path
    if member.path.is_dir() and not member.path.is_symlink():
        for child in sorted(member.path.iterdir()):
            yield from _walk(Member(f"{member.name}/{child.name}", child))


def _add(tar: tarfile.TarFile, name: str, path: Path) -> str:
    """Add one entry; gives the checksum of a regular file's content."""
    info = tar.gettarinfo(str(path), arcname=name)
    if info is None or not (info.isreg() or info.isdir() or info.issym()):
        # sockets and the like hold nothing
        return ""
    info.uname = info.gname = ""
    if not info.isreg():
        tar.addfile(info)
        return ""
    # two names of one file are two files here
    info.type = tarfile.REGTYPE
    with path.open("rb") as source:
        info.size = os.fstat(source.fileno()).st_size
        hashed = _Hashed(source)
        tar.addfile(info, hashed)
    return hashed.digest.hexdigest()


def _write(target: Path, members: Sequence[Member]) -> dict[str, str]:
    """Write the tar; gives each regular file's checksum by its name in it."""
    sums: dict[str, str] = {}
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as sink:
        with tarfile.open(fileobj=sink, mode="w:gz", compresslevel=4, format=tarfile.PAX_FORMAT) as tar:
            for member in members:
                for name, path in _walk(member):
                    digest = _add(tar, name, path)
                    if digest:
                        sums[name] = digest
            text = json.dumps(sums, indent=1).encode()
            info = tarfile.TarInfo(CHECKSUMS)
            info.size, info.mode = len(text), 0o600
            tar.addfile(info, io.BytesIO(text))
        sink.flush()
        os.fsync(sink.fileno())
    return sums


def _verify(path: Path, sums: Mapping[str, str]) -> None:
    """Read a tar again. Raises BackupError when it does not hold what was put in."""
    found: dict[str, str] = {}
    try:
        with tarfile.open(path, mode="r:gz") as tar:
            for info in tar:
                if info.isreg() and info.name != CHECKSUMS:
                    found[info.name] = _sum_of(tar, info)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise BackupError(f"{path} was written, and cannot be read again: {error}") from error
    if found != dict(sums):
        raise BackupError(f"{path} was written, and does not hold what was put in. Cure: is the disk sound?")


def _sum_of(tar: tarfile.TarFile, info: tarfile.TarInfo) -> str:
    source = tar.extractfile(info)
    digest = hashlib.sha256()
    while source is not None and (chunk := source.read(1 << 20)):
        digest.update(chunk)
    return digest.hexdigest()


def _encrypt(source: Path, target: Path, recipients: Sequence[str]) -> None:
    command = ["age", "--encrypt"]
    for one in recipients:
        command += ["--recipient", one]
    try:
        done = subprocess.run(
            [*command, "--output", str(target), str(source)], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise BackupError(f"age cannot be run ({error}). Cure: playbooks/site.yml --tags backup installs it") from error
    if done.returncode != 0:
        raise BackupError(f"age failed: {done.stderr.strip()}")
    target.chmod(0o600)
    with target.open("rb") as written:
        os.fsync(written.fileno())


def create(
    directory: Path,
    kind: str,
    members: Sequence[Member],
    *,
    reason: str,
    recipients: Sequence[str] = (),
    versions: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
    verified: bool = True,
) -> Backup:
    """Write a backup, read it again, and give it its name.

    :param verified: whether the caller has checked what the members hold.
    :raises BackupError: it cannot be written, or does not hold what was put in; nothing is left of it then.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    moment = datetime.now(timezone.utc)
    name = f"{kind}-{platform.node()}-{moment:%Y%m%dT%H%M%SZ}.tar.gz{'.age' if recipients else ''}"
    target = directory / name
    plain, sealed = directory / f".{name}.tar.partial", directory / f".{name}.partial"
    try:
        sums = _write(plain, members)
        _verify(plain, sums)
        if recipients:
            _encrypt(plain, sealed, recipients)
            plain.unlink()
        else:
            plain.rename(sealed)
        manifest = {
            "format": FORMAT,
            "kind": kind,
            "host": platform.node(),
            "created": moment.isoformat(timespec="seconds"),
            "reason": reason,
            "verified": verified,
            "encrypted": bool(recipients),
            "versions": dict(versions or {}),
            "file": {"sha256": checksum(sealed), "size": sealed.stat().st_size},
            "members": len(sums),
            "facts": dict(facts or {}),
        }
        write_file(sidecar(target), (json.dumps(manifest, indent=1) + "\n").encode(), READ_ONLY)
        sealed.rename(target)
        sync_folder(directory)
    except OSError as error:
        raise BackupError(f"the backup cannot be written to {directory}: {error}") from error
    finally:
        plain.unlink(missing_ok=True)
        sealed.unlink(missing_ok=True)
        if not target.exists():
            sidecar(target).unlink(missing_ok=True)
    return load(target)


@contextmanager
def _opened(backup: Backup, identity: str) -> Iterator[tarfile.TarFile]:
    if not backup.encrypted:
        with tarfile.open(backup.path, mode="r|gz") as tar:
            yield tar
        return
    if not identity:
        raise BackupError(f"{backup.path} is encrypted. Cure: give the file with age's identity that opens it")
    with tempfile.TemporaryFile("w+") as said:
        try:
            process = subprocess.Popen(
                ["age", "--decrypt", "--identity", identity, str(backup.path)], stdout=subprocess.PIPE, stderr=said
            )
        except OSError as error:
            raise BackupError(f"age cannot be run ({error}). Cure: install the package age") from error
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|gz") as tar:
                yield tar
        except tarfile.ReadError as error:
            process.wait()
            said.seek(0)
            raise BackupError(f"{backup.path} cannot be opened: {said.read().strip() or error}") from error
        finally:
            assert process.stdout is not None  # noqa: S101 - asked for above
            process.stdout.close()
            process.wait()


def _inside(info: tarfile.TarInfo) -> bool:
    """Whether an entry, and what it points to, stays in the folder that it is extracted to."""
    names = [PurePosixPath(info.name)]
    if info.issym():
        names.append(PurePosixPath(info.name).parent / info.linkname)
    return all(not name.is_absolute() and ".." not in name.parts for name in names)


def extract(backup: Backup, target: Path, names: Sequence[str], *, identity: str = "") -> list[str]:
    """Extract members (a folder: with all below it) with owners and permissions.

    :returns: names of what was extracted.
    :raises BackupError: it cannot be opened, or a member is not what the manifest says.
    """
    done: dict[str, str] = {}
    sums: dict[str, str] | None = None
    try:
        with _opened(backup, identity) as tar:
            for info in tar:
                if info.name == CHECKSUMS:
                    sums = json.load(tar.extractfile(info) or io.BytesIO(b"null"))
                    continue
                if not any(info.name == name or info.name.startswith(f"{name}/") for name in names):
                    continue
                if not _inside(info) or not (info.isreg() or info.isdir() or info.issym()):
                    raise BackupError(f"{backup.path} holds {info.name}, which would lead elsewhere")
                done[info.name] = _place(tar, info, target / info.name)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise BackupError(f"{backup.path} cannot be read: {error}. Cure: take another backup") from error
    if sums is None:
        raise BackupError(f"{backup.path} ends before its checksums. Cure: take another backup")
    if different := sorted(name for name, digest in done.items() if digest != sums.get(name, "")):
        raise BackupError(f"{backup.path}: {different[0]} is damaged. Cure: take another backup")
    return list(done)


def _place(tar: tarfile.TarFile, info: tarfile.TarInfo, path: Path) -> str:
    """Extract one entry; gives the checksum of a regular file's content."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if info.issym():
        path.unlink(missing_ok=True)
        path.symlink_to(info.linkname)
        return ""
    if info.isdir():
        path.mkdir(mode=0o700, exist_ok=True)
        os.chown(path, info.uid, info.gid)
        path.chmod(stat.S_IMODE(info.mode))
        return ""
    digest = hashlib.sha256()
    source = tar.extractfile(info)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as sink:
        while source is not None and (chunk := source.read(1 << 20)):
            digest.update(chunk)
            sink.write(chunk)
        os.fchown(sink.fileno(), info.uid, info.gid)
        os.fchmod(sink.fileno(), stat.S_IMODE(info.mode))
    return digest.hexdigest()


def read_member(backup: Backup, name: str, *, identity: str = "") -> bytes:
    """A member's content.

    :raises BackupError: there is none of that name, or it cannot be read.
    """
    folder = Path(tempfile.mkdtemp(prefix="integr8scode-member-"))
    try:
        if not extract(backup, folder, [name], identity=identity):
            raise BackupError(f"{backup.path} holds no {name}")
        return (folder / name).read_bytes()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
