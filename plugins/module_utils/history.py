"""What happened to this server: one line of JSON for each deploy, recovery, backup or rotation."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "history.jsonl"


def append_history(base: Path, entry: Mapping[str, Any]) -> None:
    """Append one line to the history below ``base``; one write, so that lines never mix.

    :raises OSError: it cannot be written, or ``base`` is not there.
    """
    descriptor = os.open(base / NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        os.write(descriptor, (json.dumps(entry, ensure_ascii=False) + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
