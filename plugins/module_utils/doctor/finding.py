"""What a check says, and what it is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible.module_utils.playbook_command import playbook_command

# the worst first; unknown is worse than ok: nobody may take it for well
STATUSES = ("problem", "warning", "unknown", "ok")
EVIDENCE_LINES = 8
# probes that ask Docker, and what is said of the checks that need them while it is down
WITH_DOCKER = frozenset({"docker", "logs", "mongo", "kafka", "redis", "kafka_volume", "inside"})
WITHOUT_DOCKER = "Could not be looked at, since Docker does not answer (see the check docker)."


@dataclass(frozen=True)
class Finding:
    """A check's word on one thing.

    `status` is one of `STATUSES`. `item` names the thing where a check looks at several, '' else. `why` says what it
    means for the users or the next deploy, `cure` is the exact command or step: a command that is to be pasted stands
    between backticks, or from a colon to the end. `lines` are evidence: log lines.
    """

    check: str
    status: str
    found: str
    why: str = ""
    cure: str = ""
    item: str = ""
    lines: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


@dataclass(frozen=True)
class Answer:
    """What a probe brought; with a `problem` it brought nothing. `seconds` is how long it took."""

    value: Any = None
    problem: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Seen:
    """Everything that was asked of one server. `host` is its name in the inventory, for the cures.

    `settings` are what the playbook knows: `base`, `server_name`, `names` (of the public certificate), `https_port`,
    `frontend_port`, `controller_time` (seconds since 1970, 0 when not told), `now`, `inventory` (what `-i` names),
    `gone_run` (a run of which the controller knows that its process has ended; '' for none).
    """

    host: str
    answers: Mapping[str, Answer]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, probe: str) -> Any:
        """The answer of a probe that answered."""
        return self.answers[probe].value

    @property
    def now(self) -> float:
        """Seconds since 1970, by the server."""
        return float(self.settings.get("now", 0))

    @property
    def site(self) -> str:
        """The command that puts the stack's files, certificates and containers right."""
        return self.play("playbooks/site.yml", "--tags integr8scode")

    @property
    def current(self) -> str:
        """The running release's folder, where `docker compose` knows what was deployed."""
        return f"{self.settings.get('base', '/opt/integr8scode')}/current"

    def play(self, playbook: str, more: str = "") -> str:
        """The command that runs a playbook for this server alone."""
        return playbook_command(playbook, f"--limit {self.host}", more, inventory=self.settings.get("inventory"))


Judge = Callable[[Seen], list[Finding]]


@dataclass(frozen=True)
class Check:
    """A check: its judge and the probes whose answers that needs."""

    name: str
    needs: tuple[str, ...]
    judge: Judge


def examine(check: Check, seen: Seen) -> list[Finding]:
    """What the check says. Whatever keeps it from judging is a finding of its own; it never raises."""
    docker = seen.answers.get("docker")
    if docker is not None and docker.problem and WITH_DOCKER & set(check.needs):
        return [Finding(check.name, "unknown", WITHOUT_DOCKER)]
    for name in check.needs:
        answer = seen.answers.get(name)
        if answer is None or answer.problem:
            problem = answer.problem if answer else "it was not asked"
            return [Finding(check.name, "unknown", f"Could not be looked at: {problem}.")]
    try:
        return check.judge(seen)
    except Exception as error:  # noqa: BLE001  (an answer of a shape that nobody foresaw must not hide the other checks)
        return [Finding(check.name, "unknown", f"The answer could not be judged ({type(error).__name__}: {error}).")]


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """The worst first, else in the order of the checks."""
    return sorted(findings, key=lambda one: STATUSES.index(one.status))


def worst(findings: Sequence[Finding]) -> str:
    """The worst status; ok where there is no finding."""
    return in_order(findings)[0].status if findings else "ok"
