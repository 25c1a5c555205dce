"""The line that the history lacks when a switch was killed after its release served and before it could write it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.history import append_history, read_history
from ansible.module_utils.releases import journal
from ansible.module_utils.releases.job import Job
from ansible.module_utils.releases.layout import Layout
from ansible.module_utils.releases.targets import SERVED


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _written_after(history: Iterable[Mapping[str, Any]], seconds: float) -> bool:
    """Whether a later switch has a line: what served in between is of no use to anybody then."""
    for entry in history:
        with suppress(TypeError, ValueError):
            if entry.get("action") in SERVED and datetime.fromisoformat(str(entry["at"])).timestamp() > seconds:
                return True
    return False


def _served_at(folder: Path) -> tuple[float, list[str]]:
    """When the run pointed ``current`` to its release, and what it said of lost executions; 0 where it did not.

    :raises OSError: its record cannot be read.
    """
    lines, _, result = journal.read(folder, 0)
    if result is not None:
        return 0.0, []
    pointed = [line for line in lines if line.get("step") == "current"]
    if not pointed or pointed[-1].get("state") == "failed":
        return 0.0, []
    lost = [str(line["text"]) for line in lines if "executions are lost" in str(line.get("text", ""))]
    return float(pointed[-1]["at"]), lost


def _entry(base: Path, folder: Path, history: list[dict[str, Any]], by_run: str) -> dict[str, Any] | None:
    """The line that a run owes the history; None where it owes none. Raises OSError, ValueError."""
    job = Job.from_dict(json.loads((folder / "job.json").read_text(encoding="utf-8")))
    current = Layout(base).current_release()
    if Path(job.base) != base or job.run == by_run or current is None or current.id != job.release:
        return None
    at, lost = _served_at(folder)
    if not at or any(entry.get("run") == job.run for entry in history) or _written_after(history, at):
        return None
    served = [entry for entry in history if entry.get("action") in SERVED]
    told = "the switch was cut off after this release was verified and served; this line was written later"
    return {
        "at": _iso(at),
        "action": job.action,
        "result": "ok",
        "release": job.release,
        "previous": served[-1].get("serving") if served else None,
        "serving": job.release,
        "by": job.by,
        "from": job.controller,
        "run": job.run,
        "seconds": round(at - job.started_at, 1),
        "message": ". ".join([told, *lost]),
        "written_at": _iso(time.time()),
        "written_by_run": by_run,
    }


def complete_history(base: Path, runs: Path, by_run: str) -> str:
    """Write the missing line of a switch that was killed; what was written as a sentence, "" for nothing.

    Whoever calls holds the lock, so that no switch is at work. Only a release that serves still gets a line: every step
    of its proof was done before ``current`` pointed to it.

    :param by_run: the run that calls, which owes no line itself.
    :raises OSError: the history cannot be written.
    """
    history = read_history(base)
    try:
        folders = sorted(runs.iterdir())
    except OSError:
        # no switch was ever made here
        return ""
    for folder in folders:
        try:
            entry = _entry(base, folder, history, by_run)
        except (OSError, ValueError, KeyError, TypeError):
            # cut off while its folder was made, or another version's
            continue
        if entry is not None:
            append_history(base, entry)
            return (
                f"run {entry['run']} was cut off after release {entry['release']} served; its line in the history was "
                "missing and is written now"
            )
    return ""
