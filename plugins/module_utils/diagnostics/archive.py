"""Writes a diagnostics archive: every part masked, bounded in size and time, with a manifest of what is in it."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible.module_utils.diagnostics.masking import Masker
from ansible.module_utils.diagnostics.sources import Source, Text, value

# a disk that is full is what one wants to look into: then memory will do
FOLDERS = ("/var/tmp", "/run", "/dev/shm")  # noqa: S108  (a folder of its own in them, root's alone)
PREFIX = "integr8scode-diagnostics-"
SPARE_BYTES = 64 << 20
LEAST_BYTES = 4 << 20
STALE_SECONDS = 3600
README = """\
What a server that runs Integr8sCode said of itself. manifest.json names every part, what was cut and what failed.
Secrets that lie on the server were searched for in every part and replaced by ***MASKED***, as was what looks like one.
The programs that users ran (config maps) and what they stored are not in it. Look through it before you hand it on.
"""


class NoRoomError(Exception):
    """There is no room for an archive; the text says where and how much."""


@dataclass(frozen=True)
class Limits:
    """`part_bytes` and `total_bytes` are of text before it is compressed; `seconds` for all of it."""

    part_bytes: int
    total_bytes: int
    seconds: float


@dataclass
class Part:
    """A line of the manifest."""

    name: str
    bytes: int = 0
    cut: bool = False
    note: str = ""
    seconds: float = 0.0


def _free(folder: str) -> int:
    """Bytes free in a folder; 0 where it cannot be written to."""
    try:
        room = os.statvfs(folder)
    except OSError:
        return 0
    if room.f_flag & os.ST_RDONLY or (room.f_files and room.f_favail < 100):
        return 0
    return room.f_bavail * room.f_frsize


def choose(limits: Limits, folders: Sequence[str] = FOLDERS) -> tuple[str, Limits]:
    """A folder with room, and the limits that fit into it. Raises NoRoomError."""
    free = {folder: _free(folder) for folder in folders}
    for folder, room in free.items():
        if room >= limits.total_bytes + SPARE_BYTES:
            return folder, limits
    best = max(free, key=lambda one: free[one])
    fits = min(limits.total_bytes, free[best] // 2)
    if fits < LEAST_BYTES:
        rooms = ", ".join(f"{folder} {room >> 20} MiB" for folder, room in free.items())
        raise NoRoomError(
            f"Nothing was collected: there is no room for an archive ({rooms} free). Cure: free some MiB, for example "
            "journalctl --vacuum-size=100M"
        )
    return best, Limits(limits.part_bytes, fits, limits.seconds)


def sweep(folders: Sequence[str] = FOLDERS, now: float | None = None) -> None:
    """Take away what a run that was killed has left an hour ago or earlier."""
    moment = time.time() if now is None else now
    for folder in folders:
        for path in Path(folder).glob(f"{PREFIX}*"):
            status = path.lstat()
            own = path.is_dir() and not path.is_symlink() and status.st_uid == os.geteuid()
            if own and moment - status.st_mtime > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


class Writer:
    """Writes the parts into a tar.gz; a context manager. `top` is the folder in it."""

    def __init__(self, path: Path, top: str, masker: Masker, limits: Limits) -> None:
        self._masker = masker
        self._limits = limits
        self._top = top
        self._deadline = time.monotonic() + limits.seconds
        self._left = limits.total_bytes
        self._tar = tarfile.open(path, "w:gz", compresslevel=6)  # noqa: SIM115  (closed by `close`)
        self.parts: list[Part] = []

    def close(self) -> None:
        """Write the manifest and end the file."""
        head = {"masked": self._masker.masked, "known_secrets": self._masker.known, "too_short": self._masker.too_short}
        manifest = {**head, "parts": [asdict(one) for one in self.parts]}
        self._write("manifest.json", json.dumps(manifest, indent=1) + "\n")
        self._write("README.txt", README)
        self._tar.close()

    def _write(self, name: str, text: str) -> int:
        data = text.encode("utf-8", "replace")
        entry = tarfile.TarInfo(f"{self._top}/{name}")
        entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
        self._tar.addfile(entry, io.BytesIO(data))
        return len(data)

    def add(self, name: str, source: Source) -> None:
        """Add a part; what a source does wrong is a note in the manifest. Raises OSError when it cannot be written."""
        place = re.sub(r"[^\w./@+-]", "_", self._masker.text(name))
        part = Part(place)
        self.parts.append(part)
        if time.monotonic() > self._deadline:
            part.note = "left out: the time is over"
            return
        if self._left <= 0:
            part.note = "left out: the archive is full"
            return
        began = time.monotonic()
        told = self._ask(source, min(self._limits.part_bytes, self._left))
        text = self._masker.text(told.text)
        part.note, part.cut = self._masker.text(told.note), told.cut
        if text or not told.note:
            part.bytes = self._write(place, text)
            self._left -= part.bytes
        part.seconds = round(time.monotonic() - began, 2)

    @staticmethod
    def _ask(source: Source, limit: int) -> Text:
        try:
            return source(limit)
        except Exception as error:  # noqa: BLE001  (one part that cannot be had must not cost the others)
            return Text("", note=f"{type(error).__name__}: {error}")


def write(
    parts: Iterable[tuple[str, Source]],
    *,
    host: str,
    moment: str,
    masker: Masker,
    limits: Limits,
    folders: Sequence[str] = FOLDERS,
) -> tuple[Path, list[Part]]:
    """Write an archive into a new folder, root's alone. Raises NoRoomError, OSError; nothing is left then."""
    sweep(folders)
    chosen, fitting = choose(limits, folders)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=chosen))
    top = f"{host}-diagnostics-{moment}"
    path = folder / f"{top}.tar.gz"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.close(descriptor)
        writer = Writer(path, top, masker, fitting)
        for name, source in parts:
            writer.add(name, source)
        writer.close()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return path, writer.parts


__all__ = ["Limits", "NoRoomError", "Part", "Writer", "choose", "sweep", "value", "write"]
