"""Whether a server has nothing of this project yet, so that what is missing there is not lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PROJECT = "integr8scode"
"""The stack's name in Compose."""


def _has_release(found: dict[str, Any]) -> bool:
    """Whether there is a release, a part of one, or a line of the history."""
    # an empty or broken one is there, too
    there = any(found[name] is not None for name in ("link", "record", "edge", "last", "lock"))
    return there or bool(found["others"] or found["folders"])


def _has_in_docker(value: Callable[[str], Any], *, without_engine: bool) -> bool:
    """Whether Docker has something of the project; also where it does not answer, unless it is not installed."""
    listed = value("containers")
    lists = [None if listed is None else listed["containers"], value("networks"), value("volumes")]
    if any(one is None for one in lists) and not without_engine:
        return True
    if listed is not None and listed["hung"]:
        return True
    return any(one["project"] == PROJECT for each in lists for one in each or [])


def _has_made(value: Callable[[str], Any]) -> bool:
    """Whether there is something that a deployment or its timers have made, apart from the release itself."""
    secrets, certificates = value("secrets") or {}, value("certificates") or {}
    workers = (value("kubeconfigs") or {}).get("workers") or {}
    backups = value("backups") or {}
    return bool(
        any(secrets.get(name) for name in ("files", "folders", "seeded"))
        or certificates.get("authority")
        or any(any(one["access"].values()) for one in (certificates.get("services") or {}).values())
        or any(one["access"] for one in workers.values())
        or any((backups.get("newest") or {}).values())
        or any(one["result"] for one in (backups.get("states") or {}).values())
    )


def is_bare(value: Callable[[str], Any], *, without_engine: bool) -> bool:
    """Whether nothing of this project was ever on the server, as far as anything there still tells.

    Docker alone may be there; with k3s, site.yml has come so far that each thing that is missing is worth a word. What
    was not answered and could be something counts as something.

    :param value: the answer to a question, None without one. Raises what an answer of an unknown form does.
    :param without_engine: whether Docker is known not to be installed.
    """
    found, k3s = value("release"), value("k3s_binary")
    if not found or _has_release(found) or not k3s or k3s["version"]:
        return False
    return not _has_in_docker(value, without_engine=without_engine) and not _has_made(value)
