"""How a server is read without a trace: files without their access time, programs that only tell, with a limit."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.drift.probes import UnansweredError

LARGEST = 64 << 20  # bytes of a file that is read whole
# Programs that may be run, with the first words after them: each of them only tells.
COMMANDS: frozenset[tuple[str, ...]] = frozenset(
    {
        ("systemctl", "show"),
        ("dpkg-query", "--show"),
        ("docker", "compose", "config"),
        ("iptables-save",),
        ("ip6tables-save",),
        ("nft", "list"),
        ("sshd", "-T"),
        ("k3s", "--version"),
    }
)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def read(path: str | Path) -> bytes | None:
    """The content of a regular file; None where nothing is. A link is followed, a FIFO or device is not waited for.

    Raises OSError for what cannot be read, and for what is no regular file or larger than `LARGEST`.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        try:
            descriptor = os.open(path, flags | os.O_NOATIME)
        except PermissionError:
            # of another user's file the access time can be kept by root only
            descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is no regular file")
        if status.st_size > LARGEST:
            raise OSError(f"{path} has {status.st_size >> 20} MiB, too much to be read whole")
        return file.read()


def text(path: str | Path) -> str:
    """The text of a file, "" where there is none; bytes that are no UTF-8 become �. Raises OSError."""
    return (read(path) or b"").decode("utf-8", errors="replace")


def digest(path: str | Path, key: bytes) -> str:
    """The keyed hash of a file's content; "" where there is none. Raises OSError."""
    content = read(path)
    return "" if content is None else keyed(content, key)


def keyed(content: bytes, key: bytes) -> str:
    """What stands for a content that must not be shown: of no use to whoever has not the key of this run."""
    return hmac.new(key, content, hashlib.sha256).hexdigest()


def run(*command: str, limit: float = 10.0, cwd: str | None = None, codes: tuple[int, ...] = (0,)) -> str:
    """What a program of `COMMANDS` writes to its standard output.

    Raises UnansweredError when it is not there, takes longer than `limit` seconds, or ends with another code.
    """
    if not any(command[: len(known)] == known for known in COMMANDS):
        raise ValueError(f"{command[0]} is not among the programs that only tell")
    environment = {
        "PATH": PATH,
        "LC_ALL": "C.UTF-8",
        # whatever a program would like to keep for itself has no place to be kept
        "HOME": "/nonexistent",
        "DOCKER_CONFIG": "/nonexistent",
        "SYSTEMD_PAGER": "",
    }
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=limit, cwd=cwd, env=environment, check=False
        )
    except FileNotFoundError:
        raise UnansweredError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise UnansweredError(f"{' '.join(command[:2])} has not ended within {limit:g} s") from None
    if done.returncode not in codes:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise UnansweredError(
            f"{' '.join(command[:2])} ends with {done.returncode}: {(words or ['it says nothing'])[-1][:200]}"
        )
    return done.stdout.decode("utf-8", errors="replace")


def describe(path: str | Path) -> dict[str, Any] | None:
    """Kind, mode, owner, group and target of a path itself; None where nothing is. Raises OSError."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
    kind = kinds.get(stat.S_IFMT(status.st_mode), "other")
    return {
        "kind": kind,
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
        "owner": status.st_uid,
        "group": status.st_gid,
        "size": status.st_size,
        "changed": status.st_mtime,
        "target": os.readlink(path) if kind == "link" else "",
    }
