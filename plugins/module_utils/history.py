"""What happened to this server: one line of JSON for each deploy, recovery, backup or rotation."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "history.jsonl"


def read_history(base: Path) -> list[dict[str, Any]]:
    """The entries of the history below ``base``, the oldest first; a line cut off by a crash is passed over."""
    path = base / NAME
    if not path.exists():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def append_history(base: Path, entry: Mapping[str, Any]) -> None:
    """Append one line to the history below ``base``; one write, so that lines never mix.

    What a power cut or a full disk has left of a line is ended first: both would be unreadable else.

    :raises OSError: it cannot be written, or ``base`` is not there.
    """
    descriptor = os.open(base / NAME, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        line = (json.dumps(entry, ensure_ascii=False) + "\n").encode()
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(base / NAME))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
