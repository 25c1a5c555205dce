"""Filters that turn servers' states into a table for people and a document for programs."""

from __future__ import annotations

import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

UNKNOWN = "systemd does not answer, so whether a switch works at this moment is not known."
ONE_SHOTS = frozenset({"user-seed"})
PARTS_SHOWN = 8
# its path is known to Ansible, not to Python
_contact = runpy.run_path(str(Path(__file__).parents[1] / "module_utils/preflight/contact.py"))
_ssh_words = _contact["ssh_words"]
SILENT = "UNREACHABLE: it was not asked"


def _digest(image: str | None) -> str:
    """The digest of a pinned reference, short; "" for one without."""
    return (image or "").partition("@sha256:")[2][:12]


def _services(state: dict[str, Any]) -> list[str]:
    return sorted(set((state["release"] or {}).get("images") or {}) - ONE_SHOTS | set(state["containers"]))


def status_problems(state: dict[str, Any]) -> list[str]:
    """Return what is not as it was deployed on one server, as sentences; an empty list where all is well.

    :param state: the answer of the module ``integr8scode_state``.
    """
    if not state["docker"]["available"]:
        return [str(state["docker"]["error"]), *_problems_of_work(state)]
    release = state["release"]
    problems = [] if release is None else _problems_of_services(state, release)
    return [*problems, *_problems_of_work(state)]


def _problems_of_services(state: dict[str, Any], release: dict[str, Any]) -> list[str]:
    problems = [release["problem"]] if release.get("problem") else []
    for service in _services(state):
        containers = state["containers"].get(service, [])
        if not containers:
            problems.append(f"{service} is missing.")
        if service not in release["images"] and not state.get("switching"):
            problems.append(f"{service} is no service of release {release['id']}.")
        if len(containers) > 1 and not state.get("switching"):
            problems.append(f"{service} runs {len(containers)} times.")
        for container in containers:
            if container["state"] != "running":
                problems.append(f"{service} is {container['state']} (exit code {container['exit_code']}).")
            elif container["health"] not in (None, "healthy"):
                problems.append(f"{service} is {container['health']}.")
            wanted = _digest(release["images"].get(service))
            if wanted and _digest(container.get("image")) != wanted and not state.get("switching"):
                problems.append(f"{service} runs another image than release {release['id']} names.")
    return problems


def _problems_of_work(state: dict[str, Any]) -> list[str]:
    """What is in the next run's way or not known; before the first deploy too, which may have been cut off."""
    problems = [state["current_problem"]] if state.get("current_problem") else []
    if state.get("switching", False) is None:
        problems.append(UNKNOWN)
    held = state.get("lock") or {}
    if held.get("stale"):
        problems.append(f"the lock is left over, {held['stale']}: {held['description']} The next run takes it over.")
    return problems


def _container_line(service: str, container: dict[str, Any]) -> str:
    health = f", {container['health']}" if container["health"] else ""
    restarts = f", {container['restarts']} restarts" if container["restarts"] else ""
    ended = "" if container["state"] == "running" else f" (exit code {container['exit_code']})"
    digest = (container["digest"] or "no digest").removeprefix("sha256:")[:12]
    since = container["started_at"][:19]
    return f"    {service:<18} {container['state']}{ended}{health}{restarts}, {digest}, since {since}Z"


def _history_line(entry: dict[str, Any]) -> str:
    # a deploy names its release, a recovery the rung that healed
    what = f"{entry.get('action', '?')} {entry.get('release') or entry.get('rung') or ''}".strip()
    late = ", written down by the run after it" if entry.get("written_at") else ""
    return (
        f"    {entry.get('at', '?')} {what}: {entry.get('result', '?')} by {entry.get('by') or 'unknown'}, "
        f"{entry.get('seconds', '?')} s{late}"
    )


def _served_since(state: dict[str, Any]) -> str:
    """When the running release was last switched to; "" where the history does not say."""
    running = (release for release in state.get("releases", []) if release["current"])
    return next((str(release["served_at"] or "") for release in running), "")


def _nowhere(state: dict[str, Any]) -> str:
    """Why a rollback that names no release has none to go to."""
    left = state.get("rollback_left")
    forth = f"; to {left}, which a rollback has left, only with -e to={left}" if left else ""
    return f"nowhere: no release from before is kept{forth}"


def describe(host: str, state: dict[str, Any]) -> list[str]:
    """Return what one server runs, as lines.

    :param state: the answer of the module ``integr8scode_state``.
    """
    release = state["release"]
    held = state.get("lock")
    locked = [f"    locked: {held['description']}"] if held else []
    work = [f"    PROBLEM: {problem}" for problem in _problems_of_work(state)]
    if not state["docker"]["available"]:
        return [f"{host}: {state['docker']['error']}", *work, *locked]
    if release is None:
        # what a first deploy that was cut off has left
        left = [_container_line(one, each) for one, found in sorted(state["containers"].items()) for each in found]
        return [f"{host}: no release was deployed", *left, *work, *locked]
    since = _served_since(state)
    commit = f", commit {release['commit']}" if release.get("commit") else ""
    made = f"made {release['created_at'] or 'at some time'} by {release.get('by') or 'unknown'}{commit}"
    lines = [f"{host}: release {release['id']}{f' since {since}' if since else ''} ({made})"]
    for service in _services(state):
        containers = state["containers"].get(service, [])
        lines += [_container_line(service, container) for container in containers] or [f"    {service:<18} MISSING"]
    lines += [f"    PROBLEM: {problem}" for problem in status_problems(state)]
    lines += [_history_line(entry) for entry in reversed(state["history"])]
    if "rollback_target" in state:
        lines.append(f"    a rollback goes to {state['rollback_target'] or _nowhere(state)}")
    return lines + locked


def _answered(hostvars: Mapping[str, Any], host: str) -> dict[str, Any] | None:
    state = hostvars[host].get("status")
    return state if state and "docker" in state else None


def _why_silent(hostvars: Mapping[str, Any], host: str) -> tuple[bool, str]:
    """Whether a server without an answer was reached, and why there is none."""
    said = hostvars[host].get("status") or {}
    message = str(said.get("msg") or said.get("module_stderr") or "it says no reason").strip()
    if said.get("unreachable"):
        return False, f"UNREACHABLE: {_ssh_words(message)}"
    # whatever the task made of a look that failed, it was taken
    return (True, f"FAILED to look at it: {message}") if said else (False, SILENT)


def status_table(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[str]:
    """Return what every server runs, as lines; a server that did not answer is named, with the reason.

    :param hosts: the servers that were asked.
    :param hostvars: their variables; ``status`` holds the answer of the module ``integr8scode_state``.
    """
    lines: list[str] = []
    for host in hosts:
        state = _answered(hostvars, host)
        lines += describe(host, state) if state else [f"{host}: {_why_silent(hostvars, host)[1]}"]
    return lines


def status_document(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every server runs, for programs: ``hosts`` by name.

    Each has ``reachable`` and ``problems``; one that answered also ``release`` (null before the first deploy) with its
    ``since``, ``containers`` by service, ``releases`` (those that are kept), ``rollback_target``, ``lock``,
    ``switching``, ``history``, ``memory`` and ``disk``.
    """
    document: dict[str, Any] = {}
    for host in hosts:
        state = _answered(hostvars, host)
        if state is None:
            reached, why = _why_silent(hostvars, host)
            document[host] = {"reachable": reached, "problems": [why]}
            continue
        names = ("id", "tag", "created_at", "by", "commit", "images", "digests")
        release = state["release"]
        document[host] = {
            "reachable": True,
            "problems": status_problems(state),
            "release": {**{name: release.get(name) for name in names}, "since": _served_since(state) or None}
            if release
            else None,
            **{
                name: state[name]
                for name in (
                    "containers", "releases", "rollback_target", "lock", "switching", "history", "memory", "disk",
                )
            },
        }  # fmt: skip
    return {"hosts": document}


def _named(parts: Sequence[str]) -> str:
    """Parts of a release in a line: of many, the first ones."""
    return ", ".join(parts[:PARTS_SHOWN]) + (
        f" and {len(parts) - PARTS_SHOWN} more" if len(parts) > PARTS_SHOWN else ""
    )


def rollback_list(state: dict[str, Any], host: str) -> list[str]:
    """Return where a server could go back to, and what happened to it, as lines.

    :param state: the answer of the module ``integr8scode_state``.
    """
    lines = [f"{host}: kept releases, the newest first"]
    for release in state["releases"]:
        marks = []
        if release["current"]:
            marks.append("runs")
        if release["id"] == state["rollback_target"]:
            marks.append("a rollback goes here")
        if release["id"] == state.get("rollback_left"):
            marks.append("a rollback has left it")
        if release["missing"]:
            marks.append(f"{len(release['missing'])} images are not here")
        if release.get("differs") and not release["current"]:
            marks.append(f"differs from what runs in {_named(release['differs'])}")
        served = f"served last from {release['served_at']}" if release["served_at"] else "never served"
        lines.append(f"    {release['id']}, {served}{''.join(', ' + mark for mark in marks)}")
    lines.append("  history, the newest first")
    return lines + [_history_line(entry) for entry in reversed(state["history"])]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "status_table": status_table,
            "status_document": status_document,
            "status_problems": status_problems,
            "rollback_list": rollback_list,
        }
