"""The machine below the stack: memory, disk, files, libraries, units."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

SYSTEMD_SECONDS = 10
# what is as large as this is none of the files that are asked for, and reading it would take long
MAX_BYTES = 64 * 2**20


def read_memory() -> dict[str, int]:
    """Return total and available memory, and all swap, in bytes."""
    values = {}
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0]) * 1024
    return {
        "total_bytes": values["MemTotal"],
        "available_bytes": values["MemAvailable"],
        "swap_bytes": values.get("SwapTotal", 0),
    }


def free_space(path: Path) -> dict[str, Any]:
    """Return the room on the file system that holds a path (or its nearest existing parent)."""
    while not path.exists():
        path = path.parent
    status = os.statvfs(path)
    return {
        "path": str(path),
        "free_bytes": status.f_bavail * status.f_frsize,
        # some file systems (btrfs) count no inodes
        "free_inodes": status.f_favail if status.f_files else None,
        "read_only": bool(status.f_flag & os.ST_RDONLY),
        "device": path.stat().st_dev,
    }


def describe_path(path: Path) -> dict[str, Any] | None:
    """Return kind, owner, mode and, of a regular file, SHA-256 of what a path names; None where nothing is.

    A link is not followed. The hash is None for what is not a regular file, is too large or cannot be read.
    """
    try:
        status = path.lstat()
    except OSError:
        return None
    content = None
    if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES:
        try:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:
            content = None
    kinds = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"), (stat.S_ISLNK, "link"))
    return {
        "kind": next((kind for test, kind in kinds if test(status.st_mode)), "other"),
        "sha256": content,
        "uid": status.st_uid,
        "gid": status.st_gid,
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
    }


def importable(names: Iterable[str]) -> dict[str, bool]:
    """Return whether this Python finds each top-level module; none is imported."""

    def found(name: str) -> bool:
        spec = PathFinder.find_spec(name)
        # a folder of that name without code has no origin
        return spec is not None and spec.origin is not None

    return {name: name in sys.modules or found(name) for name in names}


def read_units(names: list[str]) -> dict[str, dict[str, Any]]:
    """Return what systemd says of each unit: `active` and `enabled` in its words, empty texts where it does not answer.

    `reload` is whether its file is newer than what systemd has read.
    """
    units: dict[str, dict[str, Any]] = {name: {"active": "", "enabled": "", "reload": False} for name in names}
    if not names:
        return units
    try:
        answer = subprocess.run(
            ["systemctl", "show", *names, "--property=Id,ActiveState,UnitFileState,NeedDaemonReload"],
            capture_output=True,
            text=True,
            timeout=SYSTEMD_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return units
    for block in answer.stdout.split("\n\n"):
        said = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if said.get("Id") in units:
            units[said["Id"]] = {
                "active": said.get("ActiveState", ""),
                "enabled": said.get("UnitFileState", ""),
                "reload": said.get("NeedDaemonReload") == "yes",
            }
    return units


def at_work(unit: dict[str, Any]) -> bool | None:
    """Return whether a unit works by what `read_units` says of it; None where systemd has not answered.

    It answers for every name, one that it does not know too; a server without systemd has no unit at work.
    """
    if not unit["active"]:
        return None if shutil.which("systemctl") else False
    return unit["active"] in {"active", "activating", "deactivating", "reloading"}
