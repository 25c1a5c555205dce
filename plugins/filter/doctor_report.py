"""Filters that turn what the doctor found on all servers into one document, and that into lines for people."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

_ORDER = ("problem", "warning", "unknown", "ok")
_SIGNS = {"problem": "PROBLEM", "warning": "WARNING"}
SCHEMA = 1


def doctor_inventory(sources: str | Iterable[str], project: str) -> list[str]:
    """Return what ``-i`` names, so that a command for the project's folder means the same servers.

    :param sources: the inventories of this run, as Ansible has them.
    :param project: the project's folder; what lies in it is named from there.
    """
    listed = [sources] if isinstance(sources, str) else list(sources)
    return [
        # a list of hosts is no path
        str(PurePath(one).relative_to(project)) if "," not in one and PurePath(one).is_relative_to(project) else one
        for one in map(str, listed)
    ]


def _unseen(host: str, answer: Mapping[str, Any], inventory: Iterable[str]) -> dict[str, Any]:
    """A server whose doctor did not come to an end."""
    ansible = "".join(["ansible ", *(f"-i {shlex.quote(one)} " for one in inventory), host])
    if answer.get("unreachable"):
        found, cure = "cannot be reached by ssh", f"what ssh says: {ansible} -m ansible.builtin.ping -vvv"
    else:
        found, cure = "could not be looked at", f"what it says: {ansible} -m ansible.builtin.setup --become -vvv"
    words = str(answer.get("msg") or answer.get("module_stderr") or "no answer").strip().splitlines()
    finding = {
        "check": "reachable",
        "status": "problem",
        "item": "",
        "found": f"{host} {found}: {words[-1] if words else 'no answer'}",
        "why": "Nothing is known of it: it may be down, or only closed to this machine.",
        "cure": cure,
        "lines": [],
    }
    return {"host": host, "reached": False, "status": "problem", "findings": [finding]}


def doctor_document(hosts: list[str], hostvars: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was found on every server, the worst server first.

    :param hosts: the servers that were asked.
    :param hostvars: their variables; ``__doctor_answer`` holds the result of the module ``doctor``. A server without
        one counts as not reached.
    """
    servers = []
    for host in hosts:
        answer = hostvars[host].get("__doctor_answer") or {}
        if "findings" in answer:
            kept = {key: answer[key] for key in ("status", "counts", "seconds", "at", "findings")}
            servers.append({"host": host, "reached": True, **kept})
        else:
            known = hostvars[host]
            sources = known.get("ansible_inventory_sources") or []
            project = PurePath(str(known.get("playbook_dir") or "/nowhere")).parent
            servers.append(_unseen(host, answer, doctor_inventory(sources, str(project))))
    servers.sort(key=lambda one: _ORDER.index(one["status"]))
    return {
        "schema": SCHEMA,
        "status": servers[0]["status"] if servers else "unknown",
        "unreachable": [one["host"] for one in servers if not one["reached"]],
        "servers": servers,
    }


def _lines_of(finding: Mapping[str, Any]) -> list[str]:
    item = f" {finding['item']}" if finding["item"] else ""
    lines = [f"  {_SIGNS[finding['status']]} [{finding['check']}{item}] {finding['found']}"]
    lines += [f"      said: {line}" for line in finding["lines"][:4]]
    if finding["why"]:
        lines.append(f"      why it matters: {finding['why']}")
    if finding["cure"]:
        lines.append(f"      cure: {finding['cure']}")
    return lines


def _unknown(findings: list[Mapping[str, Any]]) -> list[str]:
    """What could not be looked at, by reason: one cause mostly stops several checks."""
    by_reason: dict[str, list[str]] = {}
    for one in findings:
        by_reason.setdefault(one["found"], []).append(one["check"])
    return [f"  UNKNOWN [{', '.join(dict.fromkeys(checks))}] {reason}" for reason, checks in by_reason.items()]


def _counted(status: str, number: int) -> str:
    several = status + ("s" if status != "unknown" and number > 1 else "")
    return f"{number} {several}"


def doctor_text(document: Mapping[str, Any]) -> str:
    """Return the document as text: what is wrong first, with its cure; what is well in one line."""
    lines = []
    for server in document["servers"]:
        bad = [one for one in server["findings"] if one["status"] != "ok"]
        counts = {status: sum(one["status"] == status for one in bad) for status in _ORDER[:3]}
        told = ", ".join(_counted(*one) for one in counts.items() if one[1]) or "nothing is wrong"
        seconds = f" ({server['seconds']} s)" if server["reached"] else ""
        lines.append(f"{server['host']}: {told}{seconds}")
        for finding in bad:
            if finding["status"] != "unknown":
                lines += _lines_of(finding)
        lines += _unknown([one for one in bad if one["status"] == "unknown"])
        well = sorted({one["check"] for one in server["findings"]} - {one["check"] for one in bad})
        if well:
            lines.append(f"  well: {', '.join(well)}")
    if document["unreachable"]:
        lines.append(f"Not reached: {', '.join(document['unreachable'])}")
    return "\n".join(lines)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"doctor_document": doctor_document, "doctor_text": doctor_text, "doctor_inventory": doctor_inventory}
