"""One difference between a server and what was deployed, and the list that all comparisons write into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ansible.module_utils.playbook_command import playbook_command

Severity = Literal["critical", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")
# in the order in which a report shows them
AREAS = (
    "server", "address", "clock", "disk", "docker", "files", "packages", "units", "kernel", "users", "firewall",
    "ports", "release", "containers", "networks", "volumes", "registry", "k3s", "kubernetes", "expiry", "backup",
)  # fmt: skip
BY_HAND = "By hand: "
LONGEST = 300  # characters of what is shown of a value
MAKERS = frozenset({"playbooks/site.yml", "playbooks/renew-kubeconfig.yml", "playbooks/backup.yml", "deploy.yml"})
"""Playbooks that make what belongs to a deployment; bootstrap.yml comes before."""


@dataclass(frozen=True)
class Finding:
    """One difference. `cure` is one command, or a sentence that begins with `By hand: `; all texts are one line."""

    area: str
    item: str
    aspect: str
    expected: str
    found: str
    severity: Severity
    cure: str
    absent: bool = False
    """Whether it says that something is not there which a deployment makes."""
    details: tuple[str, ...] = ()
    """Ids of the findings that it stands for."""

    @property
    def id(self) -> str:
        """What it is known by in every run."""
        return f"{self.area}:{self.item}#{self.aspect}"

    def as_dict(self) -> dict[str, Any]:
        """As the report has it."""
        kind = "manual" if self.cure.startswith(BY_HAND) else "playbook"
        shown = {name: value for name, value in asdict(self).items() if name not in {"absent", "details"}}
        return {"id": self.id, **shown, "cure_kind": kind, **({"details": list(self.details)} if self.details else {})}


@dataclass(frozen=True)
class Unasked:
    """What could not be asked, so that nothing can be said of it."""

    area: str
    what: str
    why: str
    cure: str


def line(value: object) -> str:
    """A value as one line of text that fits into a report."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple | set | frozenset):
        value = ", ".join(str(one) for one in (sorted(value, key=str) if isinstance(value, set | frozenset) else value))
    # the name of a file need not be UTF-8; a report is
    words = str("" if value is None else value).encode("utf-8", "replace").decode()
    text = " ".join(words.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


@dataclass
class Comparison:
    """What one host's comparisons have found. `host` is its name in the inventory, for the cures.

    `inventory` is what `-i` names in them.
    """

    host: str
    inventory: Sequence[str] = ()
    findings: dict[str, Finding] = field(default_factory=dict)
    unasked: list[Unasked] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)

    def site(self, role: str = "") -> str:
        """The command that has a role put right what it owns."""
        return self.playbook("site", f"--tags {role}" if role else "")

    def deploy(self, tag: str) -> str:
        """The command that ships the release that is meant to run."""
        return self._command("deploy.yml", f"-e tag={tag}") if tag else self.site("integr8scode")

    def playbook(self, name: str, *more: str) -> str:
        """The command of another playbook."""
        return self._command(f"playbooks/{name}.yml", *more)

    def _command(self, playbook: str, *more: str) -> str:
        return playbook_command(playbook, f"--limit {self.host}", *more, inventory=self.inventory)

    def count(self, area: str, number: int = 1) -> None:
        """Remember that so many things of an area were compared."""
        self.checked[area] = self.checked.get(area, 0) + number

    def add(
        self,
        area: str,
        item: str,
        aspect: str,
        *,
        expected: object,
        found: object,
        cure: str,
        severity: Severity = "warning",
        absent: bool | None = None,
    ) -> None:
        """Add a finding; a second one of the same id is the same one.

        :param absent: whether something is not there which a deployment makes; None: that is so where it is missing and
            a playbook of `MAKERS` is the cure.
        """
        if absent is None:
            absent = aspect == "missing" and not cure.startswith(BY_HAND) and not MAKERS.isdisjoint(cure.split())
        one = Finding(area, line(item), aspect, line(expected), line(found), severity, line(cure), absent)
        self.findings.setdefault(one.id, one)

    def gather_absent(self) -> None:
        """Put one finding in place of all that say that something is not there which a deployment makes."""
        absent = sorted(one.id for one in self.findings.values() if one.absent)
        if not absent:
            return
        self.findings = {name: one for name, one in self.findings.items() if not one.absent}
        number = (
            f"{len(absent)} things that a deployment makes are" if len(absent) > 1 else "what a deployment makes is"
        )
        one = Finding(
            "release",
            "the stack",
            "missing",
            "a server that was set up",
            f"nothing is deployed here yet: {number} missing; drift.json names them as details",
            "critical",
            self.site(),
            absent=True,
            details=tuple(absent),
        )
        self.findings[one.id] = one

    def same(
        self,
        area: str,
        item: str,
        aspect: str,
        *,
        expected: object,
        found: object,
        cure: str,
        severity: Severity = "warning",
        absent: bool | None = None,
    ) -> bool:
        """Compare two values, count it, add a finding where they differ. Returns whether they are equal."""
        self.count(area)
        if expected == found:
            return True
        self.add(area, item, aspect, expected=expected, found=found, cure=cure, severity=severity, absent=absent)
        return False

    def not_asked(
        self, area: str, what: str, why: str, cure: str, severity: Severity = "critical", *, absent: bool = False
    ) -> None:
        """Something did not answer: that is no clean server, and what is missing is said."""
        entry = Unasked(area, line(what), line(why), line(cure))
        if entry in self.unasked:
            return
        self.unasked.append(entry)
        self.add(area, what, "asked", expected="an answer", found=why, cure=cure, severity=severity, absent=absent)

    def as_dict(self) -> dict[str, Any]:
        """What the module returns."""
        order = {name: number for number, name in enumerate(AREAS)}
        found = sorted(
            self.findings.values(),
            key=lambda one: (SEVERITIES.index(one.severity), order[one.area], one.item, one.aspect),
        )
        return {
            "findings": [one.as_dict() for one in found],
            "could_not_ask": [asdict(one) for one in self.unasked],
            "notes": list(dict.fromkeys(self.notes)),
            "checked": {area: self.checked[area] for area in AREAS if self.checked.get(area)},
        }


def problem(answers: Mapping[str, Any], name: str) -> str:
    """Why a probe has no answer; "" when it has one."""
    answer = answers.get(name)
    if not isinstance(answer, Mapping):
        return "it was not asked"
    return str(answer.get("why", ""))
