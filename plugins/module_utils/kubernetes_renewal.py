"""What has to be renewed so that the workers go on reaching Kubernetes: k3s' certificates, then their own tokens.

One piece of work for the module kubernetes_renewal and for the server's own timer (maintenance.renew_kubeconfig). Only
what has to restart does: k3s when a certificate of its own nears its end, a worker when its file has new content.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils import k3s_certificates
from ansible.module_utils.integr8scode_docker import EngineUnavailableError, connect, last_lines
from ansible.module_utils.k3s_common import K3sError
from ansible.module_utils.k3s_node import unit_state
from ansible.module_utils.kubeconfig_file import iso
from ansible.module_utils.kubeconfig_renewal import Renewal, Settings, renew
from ansible.module_utils.kubernetes_access_client import ApiError, ApiUnreachableError
from ansible.module_utils.releases import lock
from ansible.module_utils.stale_readers import Readers


class RenewalError(Exception):
    """It could not be renewed; the text names what, why and the cure, and holds no secret. `report`: what was done."""

    def __init__(self, text: str, report: Report | None = None) -> None:
        super().__init__(text)
        self.report = report


@dataclass(frozen=True)
class Job:
    """What is renewed and how; times in seconds or, where the name says so, days.

    host: the server's name in the inventory, for the commands that an error names. k3s_restart_days: k3s is restarted
    when a certificate of its own has fewer days left. authority_warning_days: when an authority's end is told.
    """

    host: str
    workers: list[str]
    namespace: str
    server: str
    directory: str
    token_lifetime_seconds: int
    admin_kubeconfig: str
    api_timeout_seconds: int
    project: str
    worker_stable_seconds: int
    k3s_node_name: str
    k3s_restart_days: int
    k3s_stable_seconds: int
    k3s_timeout_seconds: int
    authority_warning_days: int

    @property
    def recover(self) -> str:
        """What a person does about a k3s that does not answer."""
        return (
            f"Cure: on the controller, `ansible-playbook playbooks/recover-k3s.yml --limit {self.host}` finds the "
            "cause and heals it"
        )


@dataclass
class Report:
    """What was (in a prediction: would be) done, and what failed.

    `certificates` holds the reason for k3s' restart, by file.
    """

    certificates: dict[str, str] = field(default_factory=dict)
    certificate_end: str = ""
    tokens: Renewal = field(default_factory=lambda: Renewal([], {}, []))
    restarted: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether there was anything to do."""
        return bool(self.certificates or self.restarted) or self.tokens.changed

    def facts(self) -> dict[str, Any]:
        """It as data: what k3s and tokens live until, and what restarted."""
        return {
            "k3s_restarted": bool(self.certificates),
            "k3s_certificates_renewed": self.certificates,
            "k3s_certificates_end": self.certificate_end,
            "tokens": {name: outcome.report() for name, outcome in self.tokens.outcomes.items()},
            "workers_restarted": self.restarted,
            "warnings": self.warnings,
        }

    def sentences(self, *, applied: bool = True) -> list[str]:
        """It for people; `applied`: it was done, not only predicted."""
        begin = "k3s was restarted and has renewed" if applied else "k3s would be restarted to renew"
        lines = [f"{begin} {path}: {reason}" for path, reason in self.certificates.items()]
        if self.certificate_end:
            lines.append(f"k3s' own certificates: the first ends {self.certificate_end}")
        for name, outcome in self.tokens.outcomes.items():
            done = "; ".join(outcome.reasons) or "nothing to do"
            what = "new token" if outcome.token_renewed else "token kept"
            lines.append(f"{name}: {what}, good until {outcome.expires} ({done})")
        lines.append(f"{'' if applied else 'would be '}restarted: {', '.join(self.restarted) or 'no worker'}")
        return lines + [f"warning: {warning}" for warning in self.warnings]


def renew_certificates(job: Job, report: Report, *, apply: bool, now: float) -> None:
    """Restarts k3s where a certificate of its own is near its end, and looks whether that helped.

    Raises RenewalError when it did not, or would not.
    """
    certificates, report.warnings = k3s_certificates.read_certificates()
    days = job.k3s_restart_days
    due = k3s_certificates.ending(certificates, days, authority=False, now=now)
    unit = unit_state()
    # a k3s that does not run signs them at its next start; what keeps it from that is told when its API is asked
    if due and unit.running:
        useless = k3s_certificates.left_by_a_start(due, days, started=k3s_certificates.last_start(unit, now))
        if not useless and apply:
            k3s_certificates.restart(
                node_name=job.k3s_node_name,
                timeout_seconds=job.k3s_timeout_seconds,
                stable_seconds=job.k3s_stable_seconds,
            )
            certificates, report.warnings = k3s_certificates.read_certificates()
            useless = k3s_certificates.ending(certificates, days, authority=False, now=now)
        if useless:
            raise RenewalError(
                f"k3s has not renewed {', '.join(one.path for one in useless)} at its last start, although the first "
                f"of them ends {iso(int(useless[0].expires))}. Cure: `k3s certificate rotate` with k3s stopped signs "
                "every certificate again; a file that this k3s does not use any more may be moved away"
            )
        report.certificates = {one.path: f"it would have ended {iso(int(one.expires))}" for one in due}
    leaves = [one for one in certificates if not one.authority]
    if leaves:
        report.certificate_end = iso(int(min(one.expires for one in leaves)))
    report.warnings += [
        f"the authority {one.path} ends {iso(int(one.expires))}: k3s does not renew it by itself, see `k3s certificate "
        "rotate-ca`"
        for one in k3s_certificates.ending(certificates, job.authority_warning_days, authority=True, now=now)
    ]


def watch(
    readers: Readers, services: list[str], seconds: float, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Looks for `seconds` whether containers that were restarted stay up. Raises RenewalError with their last lines."""
    watched = [(service, container) for service in services for container in readers.running(service)]
    gone = sorted(set(services) - {service for service, _ in watched})
    if gone:
        raise RenewalError(
            f"{', '.join(gone)} does not run after its restart. Cure: `docker logs` on the server says why"
        )
    started = {container.id: container.attrs["State"]["StartedAt"] for _, container in watched}
    deadline = time.monotonic() + seconds
    while True:
        for service, container in watched:
            container.reload()
            state = container.attrs["State"]
            if not state["Running"] or state["StartedAt"] != started[container.id]:
                raise RenewalError(
                    f"{service} does not stay up after its restart with the new kubeconfig (exit code "
                    f"{state['ExitCode']}). Its last lines:\n{last_lines(container, 10)}"
                )
        if not watched or time.monotonic() >= deadline:
            return
        sleep(1)


def restart_workers(job: Job, renewal: Renewal, *, apply: bool) -> list[str]:
    """Restarts the workers whose container started before its file was replaced, by an earlier run too; their names.

    Raises RenewalError when one does not come back, EngineUnavailableError, OSError.
    """
    readers = Readers(connect(), job.project, Path("/nowhere"), check_mode=not apply)
    if not apply:
        return [
            name
            for name, outcome in renewal.outcomes.items()
            if (readers.running(name) if outcome.restart else readers.stale(name, Path(outcome.path)))
        ]
    if any(readers.stale(name, Path(outcome.path)) for name, outcome in renewal.outcomes.items()):
        lock.wait_for_switch()
    restarted = [name for name, outcome in renewal.outcomes.items() if readers.restart(name, Path(outcome.path))]
    if restarted:
        watch(readers, restarted, job.worker_stable_seconds)
    return restarted


def _explained(job: Job, error: Exception) -> str:
    """An error with its cure."""
    text = str(error)
    if isinstance(error, EngineUnavailableError):
        return f"the workers could not be restarted: {text}"
    if isinstance(error, ApiUnreachableError):
        text = f"the Kubernetes API does not answer, so no token was renewed: {text}"
    return f"{text}. {job.recover}" if isinstance(error, (ApiError, K3sError)) and "Cure:" not in text else text


def perform(job: Job, *, apply: bool = True, force: bool = False) -> Report:
    """Does the whole work, or says what would be done. Certificates that cannot be renewed keep no token from it.

    Raises RenewalError with all that failed.
    """
    report = Report()
    settings = Settings(job.namespace, job.server, job.directory, job.token_lifetime_seconds, force=force, apply=apply)

    def certificates() -> None:
        renew_certificates(job, report, apply=apply, now=time.time())

    def tokens() -> None:
        report.tokens = renew(
            settings, job.workers, admin_kubeconfig=job.admin_kubeconfig, timeout=job.api_timeout_seconds
        )
        report.warnings += report.tokens.warnings
        report.restarted = restart_workers(job, report.tokens, apply=apply)

    for step in (certificates, tokens):
        try:
            step()
        except (RenewalError, EngineUnavailableError, ApiError, K3sError, OSError) as error:
            report.problems.append(_explained(job, error))
    if report.problems:
        raise RenewalError(" / ".join(report.problems), report)
    return report
