"""The `k3s` file itself: what it claims to be, and how it unpacks itself on a server.

Like the vendor's binary it writes its programs to <data-dir>/data/<hash>/ at the first start and keeps them there.
"""

import fcntl
import json
import os
import shutil
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from . import logs
from .logs import FatalError

PAYLOAD = "payload/"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What `build.py` wrote about this file."""

    version: str
    commit: str
    go_version: str
    data_hash: str


def archive() -> Path:
    """Return the path of the running `k3s` file.

    Raises:
        RuntimeError: the code runs from a checkout, not from a built file.
    """
    path = getattr(globals().get("__loader__"), "archive", None)
    if path is None:
        raise RuntimeError("not running from a built k3s file")
    return Path(path)


def read_manifest(path: Path) -> Manifest:
    """Read the description inside a built file."""
    with zipfile.ZipFile(path) as packed:
        data = json.loads(packed.read(MANIFEST))
    return Manifest(
        version=data["version"],
        commit=data["commit"],
        go_version=data["go_version"],
        data_hash=data["data_hash"],
    )


def unpacked(data_dir: Path, manifest: Manifest) -> Path:
    """Return where this file's programs are or would be."""
    return data_dir / "data" / manifest.data_hash


def _extract(packed: zipfile.ZipFile, target: Path) -> None:
    for item in packed.infolist():
        if not item.filename.startswith(PAYLOAD) or item.is_dir():
            continue
        relative = Path(item.filename.removeprefix(PAYLOAD))
        if relative.is_absolute() or ".." in relative.parts:
            raise FatalError(f"the k3s file is damaged: it holds the path {item.filename}")
        destination = target / relative
        destination.parent.mkdir(parents=True, exist_ok=True)
        with packed.open(item) as source, destination.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
        destination.chmod(0o755 if relative.parts[0] == "bin" else 0o644)


def _point(link: Path, target: str) -> None:
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)


def unpack(path: Path, data_dir: Path, manifest: Manifest) -> Path:
    """Make sure that the programs of this file are unpacked; return their folder.

    Raises:
        FatalError: the folder cannot be written, or the disk is full.
    """
    target = unpacked(data_dir, manifest)
    if target.is_dir():
        return target
    base = data_dir / "data"
    try:
        base.mkdir(parents=True, exist_ok=True, mode=0o755)
        lock_path = base / ".lock"
        logs.info(f"Acquiring lock file {lock_path}")
        with lock_path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if target.is_dir():
                return target
            logs.info(f"Preparing data dir {target}")
            temporary = base / f"{manifest.data_hash}-tmp"
            shutil.rmtree(temporary, ignore_errors=True)
            with zipfile.ZipFile(path) as packed:
                _extract(packed, temporary)
            temporary.rename(target)
            current = base / "current"
            if current.is_symlink() and current.readlink().name != manifest.data_hash:
                _point(base / "previous", str(current.readlink()))
            _point(current, str(target))
    except OSError as error:
        raise FatalError(f"extracting data: {error.strerror or error}: {error.filename or base}") from error
    return target


def import_libraries(folder: Path) -> None:
    """Make the libraries with compiled parts importable from the unpacked folder.

    Raises:
        FatalError: they were not packed for this Python.
    """
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    libraries = folder / "lib" / tag
    if not libraries.is_dir():
        have = ", ".join(sorted(path.name for path in (folder / "lib").iterdir()))
        raise FatalError(f"the lab's k3s holds libraries for {have}, but this server's Python is {tag}")
    sys.path.insert(0, str(libraries))
