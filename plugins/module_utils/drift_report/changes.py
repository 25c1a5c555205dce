"""What changed since people were last told, so that they are told once.

What they know is kept in a file of its own: a notification that failed leaves it as it was, and the next run finds the
same changes again, with what came since.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.drift_report.document import (
    SEVERITIES,
    SILENT,
    Finding,
    Host,
    Report,
    active,
    counted,
    ignored,
    one_line,
)

KNOWN_VERSION = 1
Known = dict[str, Any]
"""What people know: ``{"schema_version": 1, "hosts": {NAME: {"status": …, "findings": {ID: {"item": …, …}}}}}``."""

_KEPT = ("area", "item", "aspect", "severity", "cure")


@dataclass(frozen=True)
class Change:
    """One thing to tell.

    Attributes:
        host: the server.
        kind: ``new``, ``worse``, ``gone``, ``ignored`` (a finding); ``clean``, ``answers``, ``unreachable``, ``failed``
            (the server).
        message: of a server that did not answer: why.
        finding: what it is about; empty for a server's own changes.
    """

    host: str
    kind: str
    message: str = ""
    finding: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For the notification."""
        return {"host": self.host, "kind": self.kind, "message": self.message, "finding": self.finding or None}

    def sentence(self) -> str:
        """For people, in one line."""
        if self.kind == "clean":
            return f"{self.host}: is what was deployed again"
        if self.kind == "answers":
            return f"{self.host}: answers again"
        if self.kind in SILENT:
            return f"{self.host}: {self.kind.upper()}{f': {one_line(self.message)}' if self.message else ''}"
        known = {name: one_line(text) for name, text in self.finding.items()}
        about = f"{known['area']}: {known['item']} ({known['aspect']})"
        if self.kind in ("gone", "ignored"):
            return f"{self.host}: {self.kind}: {about}"
        word = "new" if self.kind == "new" else "now"
        return f"{self.host}: {word} {known['severity'].upper()}: {about}. Cure: {known['cure']}"


def _full(finding: Finding) -> dict[str, str]:
    names = ("id", *_KEPT, "expected", "found", "since")
    return {name: str(finding.get(name, "")) for name in names}


def _short(finding: Finding) -> dict[str, str]:
    return {name: str(finding.get(name, "")) for name in _KEPT}


def nothing_known() -> Known:
    """What people know before they were told anything: that all is well."""
    return {"schema_version": KNOWN_VERSION, "hosts": {}}


def is_known(found: Any) -> bool:
    """Whether something read is what `compare` takes."""
    if not isinstance(found, dict) or found.get("schema_version") != KNOWN_VERSION:
        return False
    hosts = found.get("hosts")
    if not isinstance(hosts, dict) or not all(isinstance(host, dict) for host in hosts.values()):
        return False
    told = [host.get("findings", {}) for host in hosts.values()]
    return all(
        isinstance(findings, dict)
        and all(
            isinstance(one, dict) and {*_KEPT} <= {*one} and one["severity"] in SEVERITIES for one in findings.values()
        )
        for findings in told
    )


def _of_host(host: Host, before: dict[str, Any]) -> tuple[list[Change], dict[str, Any]]:
    """What to tell about one server, and what is known then."""
    name, status = host["name"], host["status"]
    told: dict[str, dict[str, str]] = before.get("findings", {})
    if status in SILENT:
        # what it had is neither there nor gone: nobody knows
        changes = [] if before.get("status") == status else [Change(name, status, host["message"])]
        return changes, {"status": status, "findings": told}
    now = {finding["id"]: finding for finding in active(host)}
    set_aside = {finding["id"] for finding in ignored(host)}
    changes = []
    if status != "clean" and before.get("status") in SILENT:
        changes.append(Change(name, "answers"))
    for identity, finding in now.items():
        if identity not in told:
            changes.append(Change(name, "new", "", _full(finding)))
        elif SEVERITIES.index(finding["severity"]) < SEVERITIES.index(told[identity]["severity"]):
            changes.append(Change(name, "worse", "", _full(finding)))
    # what another finding stands for now is not gone
    gathered = {detail for finding in now.values() for detail in finding.get("details", ())}
    for identity, finding_told in told.items():
        if identity not in now and identity not in gathered:
            kind = "ignored" if identity in set_aside else "gone"
            changes.append(Change(name, kind, "", {"id": identity, **finding_told}))
    if status == "clean" and before.get("status", "clean") != "clean":
        changes.append(Change(name, "clean"))
    return changes, {"status": status, "findings": {identity: _short(finding) for identity, finding in now.items()}}


def compare(known: Known, report: Report) -> tuple[list[Change], Known]:
    """What to tell now, and what is known when that was told.

    A server that the run did not look at (``--limit``) stays as it was.
    """
    hosts = dict(known["hosts"])
    changes = []
    for host in report["hosts"]:
        found, hosts[host["name"]] = _of_host(host, hosts.get(host["name"], {}))
        changes += found
    return changes, {"schema_version": KNOWN_VERSION, "hosts": hosts}


def headline(report: Report, changes: list[Change]) -> str:
    """The notification's first line."""
    bad = [host for host in report["hosts"] if host["status"] != "clean"]
    if not bad:
        return "Drift: all is well again."
    names = ", ".join(sorted(host["name"] for host in bad)[:5]) + (", …" if len(bad) > 5 else "")
    return f"Drift: {counted(len(changes), 'change')}; not as deployed: {names} ({len(bad)} of {len(report['hosts'])})."
