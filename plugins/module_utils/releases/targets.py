"""Which release a rollback goes to when it names none: what served before, by the history."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

SERVED = ("deploy", "rollback")


def _served(history: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The work that brought a release to serve, and the release's id; the oldest first."""
    return [
        (str(entry["action"]), str(entry["release"]))
        for entry in history
        if entry.get("release") and entry.get("result") == "ok" and entry.get("action") in SERVED
    ]


def ladder(history: Iterable[Mapping[str, Any]]) -> list[str]:
    """Ids of the releases that served, as rungs: a deploy adds one at the end, a rollback takes away what was above.

    So two rollbacks in a row go back two releases, and never forth to the one that was left because it was bad.
    """
    rungs: list[str] = []
    for action, name in _served(history):
        if action == "rollback" and name in rungs:
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


def left_by_rollback(history: Sequence[Mapping[str, Any]], current: str | None, kept: Collection[str]) -> str | None:
    """The id of the kept release that served last of those that a rollback went back from; None where there is none."""
    rungs = ladder(history)
    served = [name for _, name in _served(history)]
    return next((name for name in reversed(served) if name not in rungs and name in kept and name != current), None)
