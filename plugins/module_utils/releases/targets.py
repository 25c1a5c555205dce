"""Which release a rollback goes to when it names none: what served before, by the history."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

SERVED = ("deploy", "rollback")


def ladder(history: Iterable[Mapping[str, Any]]) -> list[str]:
    """Ids of the releases that served, as rungs: a deploy adds one at the end, a rollback takes away what was above.

    So two rollbacks in a row go back two releases, and never forth to the one that was left because it was bad.
    """
    rungs: list[str] = []
    for entry in history:
        name = str(entry.get("release") or "")
        if not name or entry.get("result") != "ok" or entry.get("action") not in SERVED:
            continue
        if entry["action"] == "rollback" and name in rungs:
            del rungs[rungs.index(name) + 1 :]
            continue
        if name in rungs:
            rungs.remove(name)
        rungs.append(name)
    return rungs


def has_served(history: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a release was ever switched to."""
    return bool(ladder(history))


def rollback_target(history: Iterable[Mapping[str, Any]], current: str | None, kept: Collection[str]) -> str | None:
    """The id of the release that served before the running one and is still kept; None where there is none."""
    rungs = ladder(history)
    below = rungs[: rungs.index(current)] if current in rungs else rungs
    return next((name for name in reversed(below) if name in kept and name != current), None)
