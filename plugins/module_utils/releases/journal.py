"""What a switch says while it works: steps, one JSON object a line, and at the end its result.

``<run>/job.json`` is what it was asked for, ``progress.jsonl`` what happened, ``result.json`` how it ended.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ansible.module_utils.atomic_files import Access, ensure_folder, write_file

KEPT_RUNS = 20
FOLDER = Access(0, 0, 0o700)
FILE = Access(0, 0, 0o600)


class Journal:
    """The record of one run.

    folder: the run's own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prefix = ""
        self._began = time.monotonic()

    def say(self, step: str, state: str, text: str = "") -> None:
        """Add a line, for who follows and for the unit's journal; a full disk must not stop a switch half-way.

        Nor must a character that the unit's journal or the file's encoding has no place for: a ValueError.
        """
        entry = {
            "at": round(time.time(), 3),
            "seconds": round(time.monotonic() - self._began, 1),
            "step": self.prefix + step,
            "state": state,
            "text": text,
        }
        with suppress(OSError, ValueError), (self.folder / "progress.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        with suppress(OSError, ValueError):
            print(f"{self.prefix}{step}: {text or state}", flush=True)

    @contextmanager
    def step(self, name: str, text: str = "") -> Iterator[None]:
        """Say that a step begins and how it ended."""
        self.say(name, "started", text)
        began = time.monotonic()
        try:
            yield
        except BaseException as error:
            first = str(error).strip().splitlines()
            self.say(name, "failed", first[0] if first else type(error).__name__)
            raise
        self.say(name, "done", f"{time.monotonic() - began:.1f} s")


def prepare(runs: Path, run: str, job: Mapping[str, Any]) -> Path:
    """Make a run's folder with its job, and forget the oldest ones. Raises OSError."""
    for folder in (runs.parent, runs):
        ensure_folder(folder, FOLDER if folder == runs else Access(0, 0, 0o755))
    folder = runs / run
    ensure_folder(folder, FOLDER)
    for name in ("result.json", "progress.jsonl"):
        # of a former switch in the same run
        (folder / name).unlink(missing_ok=True)
    write_file(folder / "job.json", (json.dumps(job, indent=2) + "\n").encode(), FILE)
    old = sorted((path for path in runs.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in old[:-KEPT_RUNS]:
        shutil.rmtree(path, ignore_errors=True)
    return folder


def finish(folder: Path, result: Mapping[str, Any]) -> None:
    """Write how a run ended. Raises OSError."""
    write_file(folder / "result.json", (json.dumps(result, indent=2) + "\n").encode(), FILE)


def read(folder: Path, after: int) -> tuple[list[dict[str, Any]], int, dict[str, Any] | None]:
    """What was said after byte ``after`` of the record, the byte to go on from, and the result if there is one.

    :raises OSError: the folder cannot be read.
    """
    # the result first: what was said before it is then in the record for sure
    result = None
    if (folder / "result.json").exists():
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    lines: list[dict[str, Any]] = []
    if (folder / "progress.jsonl").exists():
        with (folder / "progress.jsonl").open("rb") as file:
            file.seek(after)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                after += len(line)
                with suppress(ValueError):  # a power cut
                    lines.append(json.loads(line))
    return lines, after, result


def remove(folder: Path) -> None:
    """Forget a run that has not begun."""
    shutil.rmtree(folder, ignore_errors=True)
