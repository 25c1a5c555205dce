"""The report of a run as ``drift.json`` holds it (docs/schemas/drift.schema.json), and words for what is in it."""

from __future__ import annotations

import json
import unicodedata
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypedDict

SCHEMA_VERSION = 1
SEVERITIES = ("critical", "warning", "info")
STATUSES = ("clean", "drift", "unreachable", "failed")
SILENT = ("unreachable", "failed")
"""Statuses of a host whose findings nobody knows."""

AREAS = (
    *("server", "address", "clock", "disk", "docker", "files", "packages", "units", "kernel", "users", "firewall"),
    *("ports", "release", "containers", "networks", "volumes", "registry", "k3s", "kubernetes", "expiry", "backup"),
)
"""In the order in which people are told."""


class _Finding(TypedDict):
    id: str
    area: str
    item: str
    aspect: str
    expected: str
    found: str
    severity: str
    since: str
    state: str
    cure: str
    cure_kind: str


class Finding(_Finding, total=False):
    """One difference between a server and what was deployed; all texts are plain."""

    ignored_until: str
    ignore_reason: str
    note: str
    gone_at: str
    details: list[str]


class Unasked(TypedDict):
    """What could not be asked."""

    area: str
    what: str
    why: str
    cure: str


class Host(TypedDict):
    """One server."""

    name: str
    status: str
    status_since: str
    message: str
    seconds: float
    release: dict[str, Any] | None
    notes: list[str]
    checked: dict[str, int]
    could_not_ask: list[Unasked]
    findings: list[Finding]
    gone: list[Finding]


class Report(TypedDict):
    """One run."""

    schema_version: int
    run: str
    at: str
    seconds: float
    controller: dict[str, str]
    project_commit: str
    previous: dict[str, str] | None
    hosts: list[Host]
    summary: dict[str, Any]


def load(path: Path) -> Report:
    """Read a report.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no report of this version.
    """
    report = json.loads(path.read_text(encoding="utf-8"))
    version = report.get("schema_version") if isinstance(report, dict) else None
    if version != SCHEMA_VERSION:
        raise ValueError(f"its schema_version is {version!r}, not {SCHEMA_VERSION}")
    found: Report = report
    return found


def one_line(text: object) -> str:
    """Text for a terminal or a message: one line, without what would steer either (colours, direction of writing)."""
    words = " ".join(str(text).split())
    return "".join("?" if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn") else char for char in words)


def moment(text: str) -> datetime:
    """The time that a report's text names. Raises ValueError."""
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)


def clock(text: str) -> str:
    """A time for people: ``2026-03-01 10:11 UTC``. What is no time stays as it is."""
    try:
        return moment(text).astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return one_line(text)


def span(since: str, until: str) -> str:
    """How long from one time of a report to another: ``3 days``, ``12 min``; nothing where either is unknown."""
    try:
        minutes = int((moment(until) - moment(since)).total_seconds() // 60)
    except ValueError:
        return ""
    if minutes < 1:
        return ""
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h"
    return f"{minutes // (24 * 60)} days"


def counted(number: int, one: str, many: str = "") -> str:
    """``1 finding``, ``2 findings``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def active(host: Host) -> list[Finding]:
    """The findings that nobody asked to ignore."""
    return [finding for finding in host["findings"] if finding["state"] != "ignored"]


def ignored(host: Host) -> list[Finding]:
    """The findings that somebody asked to ignore, with a reason and an end."""
    return [finding for finding in host["findings"] if finding["state"] == "ignored"]


def subject(finding: Finding) -> str:
    """What a finding is about: its item and what of it."""
    item, aspect = one_line(finding["item"]), one_line(finding["aspect"])
    return f"{item} ({aspect})" if aspect else item


def verdict(report: Report) -> str:
    """The whole report in one sentence."""
    statuses = [host["status"] for host in report["hosts"]]
    total = len(statuses)
    if not total:
        return "No server was looked at"
    if all(status == "clean" for status in statuses):
        return "The server is what was deployed" if total == 1 else f"All {total} servers are what was deployed"
    words = {"drift": "not what was deployed", "unreachable": "unreachable", "failed": "could not be looked at"}
    parts = [f"{statuses.count(status)} {word}" for status, word in words.items() if status in statuses]
    return f"{counted(total, 'server')}: {', '.join(parts)}"


def order(host: Host) -> tuple[int, str]:
    """Sorts servers: those that need somebody first."""
    worst = min((SEVERITIES.index(finding["severity"]) for finding in active(host)), default=len(SEVERITIES))
    rank = {"failed": 0, "unreachable": 1, "drift": 2 + worst, "clean": 9}
    return rank.get(host["status"], 0), host["name"]
