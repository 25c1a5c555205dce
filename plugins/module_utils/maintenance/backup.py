"""Subcommand backup: k3s and the application, each for itself; then old ones go, and copies leave the server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.atomic_files import read_file
from ansible.module_utils.backups import application, k3s
from ansible.module_utils.backups.archive import BackupError
from ansible.module_utils.backups.offsite import OffsiteError, Target, copy
from ansible.module_utils.backups.store import (
    OTHERS_KEPT,
    ROUTINE,
    Backup,
    backups,
    prune,
    readable_size,
    remove_leftovers,
)
from ansible.module_utils.history import append_history
from ansible.module_utils.maintenance.state import MaintenanceError, now, read_state, write_state

MEGABYTE = 1024 * 1024
# who starts the unit, where a person does: roles/backup/tasks/run.yml writes it; below root's own folder
AUTHOR = Path("/run/integr8scode/backup.author")
LONGEST_AUTHOR = 200


@dataclass(frozen=True)
class Job:
    """The settings, as role backup writes them; see its argument_specs."""

    directory: str
    base: str
    project: str
    keep: int
    min_free_mb: int
    recipients: Sequence[str]
    local_volumes: bool
    copy_to: str
    copy_unencrypted: bool
    copy_port: int
    copy_key: str
    copy_known_hosts: str
    timeout: int

    def k3s(self) -> Backup:
        """Back up k3s. Raises BackupError."""
        return k3s.create(
            Path(self.directory),
            reason=ROUTINE,
            recipients=self.recipients,
            local_volumes=self.local_volumes,
            required_free=self.min_free_mb * MEGABYTE,
        )

    def application(self) -> Backup:
        """Back up the application. Raises BackupError."""
        return application.create(
            Path(self.directory),
            base=Path(self.base),
            project=self.project,
            reason=ROUTINE,
            recipients=self.recipients,
            required_free=self.min_free_mb * MEGABYTE,
            timeout=self.timeout,
        )

    def plain(self) -> list[Backup]:
        """Backups that stay here, since they would bring every secret of the server to another machine in the clear."""
        return [] if self.copy_unencrypted else [one for one in self._all() if not one.encrypted]

    def _all(self) -> list[Backup]:
        return [one for kind in KINDS for one in backups(Path(self.directory), kind)]

    def copies(self) -> list[str]:
        """Copy each backup that the other machine lacks; names of what was copied. Raises OffsiteError.

        Whoever made it and whatever the settings were then: only encrypted ones, unless the others are allowed.
        """
        target = Target(self.copy_to, self.copy_port, Path(self.copy_key), Path(self.copy_known_hosts))
        kept = [one for one in self._all() if one.encrypted or self.copy_unencrypted]
        # the manifest last: what has one there is whole
        files = [path for one in kept for path in (one.path, Path(f"{one.path}.json"))]
        return copy(files, target, timeout=self.timeout)


KINDS: dict[str, Callable[[Job], Backup]] = {"k3s": Job.k3s, "application": Job.application}


@dataclass
class Report:
    """What a run did."""

    made: list[Backup] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    succeeded: dict[str, str] = field(default_factory=dict)


def perform(job: Job) -> Report:
    """Do all of it; what fails stops nothing else and is told at the end."""
    report = Report()
    for kind, create in KINDS.items():
        try:
            remove_leftovers(Path(job.directory), kind)
            made = create(job)
        except (BackupError, OSError) as error:
            report.problems.append(f"{kind}: {error}")
            continue
        report.made.append(made)
        if made.verified:
            report.succeeded[kind] = made.created
        else:
            report.problems.append(f"{kind}: {made.path} is kept, but what it holds could not be verified")
        try:
            report.removed += prune(Path(job.directory), kind, job.keep)
        except (BackupError, OSError) as error:
            report.problems.append(f"{kind}: old backups cannot be removed: {error}")
    if job.copy_to:
        try:
            report.copied = job.copies()
            report.succeeded["copy"] = now()
        except (OffsiteError, BackupError, OSError) as error:
            report.problems.append(f"copy: {error}")
    return report


def sentences(report: Report, job: Job) -> list[str]:
    """What was done, for the journal and whoever started it."""
    lines = []
    for one in report.made:
        size = readable_size(one.path.stat().st_size)
        kept = "encrypted" if one.encrypted else "not encrypted"
        lines.append(f"{one.kind} is backed up: {one.path} ({size}, {kept}, checked by reading it again).")
    lines += [
        f"{path} is removed: {job.keep} of a kind are kept, and {OTHERS_KEPT} that are unverified or were made before "
        "something else."
        for path in report.removed
    ]
    if report.copied:
        lines.append(f"{len(report.copied)} files were copied to {job.copy_to}.")
    elif job.copy_to and "copy" in report.succeeded:
        lines.append(f"{job.copy_to} has every backup already.")
    if job.copy_to and (plain := job.plain()):
        lines.append(
            f"Not copied, since they are not encrypted: {', '.join(one.path.name for one in plain)}. "
            "backup_copy_unencrypted would allow it."
        )
    return lines


def author() -> str:
    """Who has started this run: a person by name where one is known, "systemd" for what its timer does.

    The name counts for this run alone: whoever comes next, the timer for one, is not taken for that person.
    """
    try:
        said = (read_file(AUTHOR) or b"").decode(errors="replace").strip()
        AUTHOR.unlink(missing_ok=True)
    except OSError:
        # a name that cannot be read must not stop a backup
        said = ""
    if said:
        return said[:LONGEST_AUTHOR]
    # systemd numbers what it starts
    return "systemd" if "INVOCATION_ID" in os.environ else os.environ.get("SUDO_USER", "root")


def remember(job: Job, report: Report, seconds: float, by: str) -> None:
    """Write the state that others ask later, and a line of history. Raises OSError.

    :param seconds: that the run has taken.
    :param by: who has started it.
    """
    facts = read_state("backup").get("facts", {})
    succeeded = {**facts.get("last_success", {}), **report.succeeded}
    made = [
        {"kind": one.kind, "path": str(one.path), "encrypted": one.encrypted, "verified": one.verified}
        for one in report.made
    ]
    write_state("backup", facts={"last_success": succeeded, "made": made, "copied": report.copied})
    entry = {
        "at": now(),
        "action": "backup",
        "result": "failed" if report.problems else "ok",
        "backups": [one.path.name for one in report.made],
        "copied": len(report.copied),
        "by": by,
        "seconds": seconds,
    }
    if report.problems:
        entry["message"] = " / ".join(report.problems)
    append_history(Path(job.base), entry)


def run(config: Mapping[str, Any]) -> int:
    """Back up and say what was done; 0. Raises MaintenanceError with everything that failed, OSError."""
    try:
        job = Job(**config)
    except TypeError as error:
        raise MaintenanceError(
            f"its settings are not those of this release: {error}. Cure: playbooks/site.yml"
        ) from error
    before = read_state("backup")
    if before.get("result") == "failed":
        print(f"The run before this one, {before.get('at')}, had failed: {before.get('message')}", flush=True)
    by = author()
    started = time.monotonic()
    report = perform(job)
    seconds = round(time.monotonic() - started, 1)
    print("\n".join([*sentences(report, job), f"That took {seconds} s."]), flush=True)
    remember(job, report, seconds, by)
    if report.problems:
        raise MaintenanceError(" / ".join(report.problems))
    return 0
