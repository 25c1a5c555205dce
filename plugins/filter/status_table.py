"""Filter that turns servers' states into a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def _container_line(service: str, container: dict[str, Any]) -> str:
    health = f", {container['health']}" if container["health"] else ""
    restarts = f", {container['restarts']} restarts" if container["restarts"] else ""
    ended = "" if container["state"] == "running" else f" (exit code {container['exit_code']})"
    digest = (container["digest"] or "no digest").removeprefix("sha256:")[:12]
    since = container["started_at"][:19]
    return f"    {service:<18} {container['state']}{ended}{health}{restarts}, {digest}, since {since}Z"


def describe(host: str, state: dict[str, Any]) -> list[str]:
    """Return what one server runs, as lines.

    :param state: the answer of the module ``integr8scode_state``.
    """
    release = state["release"]
    if not state["docker"]["available"]:
        return [f"{host}: {state['docker']['error']}"]
    if release is None:
        return [f"{host}: no release was deployed"]
    lines = [f"{host}: release {release['id']} (made {release['created_at']} by {release.get('by') or 'unknown'})"]
    for service in sorted(set(release["images"]) - {"user-seed"} | set(state["containers"])):
        containers = state["containers"].get(service, [])
        lines += [_container_line(service, container) for container in containers] or [f"    {service:<18} MISSING"]
    for entry in reversed(state["history"]):
        # a deploy names its release, a recovery the rung that healed
        what = f"{entry['action']} {entry.get('release') or entry.get('rung') or ''}".strip() + f": {entry['result']}"
        lines.append(f"    {entry['at']} {what} by {entry['by']}, {entry['seconds']} s")
    return lines


def status_table(hosts: list[str], hostvars: Mapping[str, Any]) -> list[str]:
    """Return what every server runs, as lines; a server that did not answer is named.

    :param hosts: the servers that were asked.
    :param hostvars: their variables; ``status`` holds the answer of the module ``integr8scode_state``.
    """
    lines: list[str] = []
    for host in hosts:
        state = hostvars[host].get("status")
        lines += describe(host, state) if state and "docker" in state else [f"{host}: UNREACHABLE or failed"]
    return lines


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"status_table": status_table}
