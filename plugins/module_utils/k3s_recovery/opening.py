"""How a recovery begins: what is wrong, what a killed run left, what would be tried, and the backup before anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.backups.store import Backup
from ansible.module_utils.k3s_common import DATA_FOLDER
from ansible.module_utils.k3s_recovery import record as records
from ansible.module_utils.k3s_recovery.climb import Climb, remember
from ansible.module_utils.k3s_recovery.diagnosis import Diagnosis
from ansible.module_utils.k3s_recovery.expected import FILE as INVENTORY
from ansible.module_utils.k3s_recovery.ladder import DELETE, WAITING
from ansible.module_utils.k3s_recovery.machine import Machine
from ansible.module_utils.k3s_recovery.record import Record
from ansible.module_utils.k3s_recovery.rungs.base import Settings
from ansible.module_utils.k3s_recovery.rungs.restore import age
from ansible.module_utils.k3s_recovery.verify import wait_until_up
from ansible.module_utils.kine_database import DatabaseError

# A killed run is gone on with for so long; later its backup and its picture of the cluster are out of date.
OLD_SECONDS = 3600
HALF_DONE = ("applying", "undoing")


class RefusedError(Exception):
    """No recovery on this server, or not now; the text says why and the way out. Nothing was changed."""


@dataclass
class Opened:
    """What a recovery begins with. `record` is None when nothing is wrong, or in check mode."""

    diagnosis: Diagnosis
    record: Record | None = None
    plan: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


def allowed_to_delete(name: str, *, inventory_hostname: str, hostname: str) -> bool:
    """Whether the deletion was asked for by this server's name.

    Raises RefusedError for any other name: somebody means another server.
    """
    if not name:
        return False
    if name in {inventory_hostname, hostname} - {""}:
        return True
    raise RefusedError(
        f"recover_k3s_delete_cluster is {name}, and this server is {inventory_hostname} (its hostname is {hostname}). "
        f"Name this one, or leave the variable out. Nothing was changed."
    )


def look(machine: Machine, settings: Settings) -> Diagnosis:
    """The diagnosis; a k3s that only waits for its address, as newer releases do, is given the time for it."""
    diagnosis = machine.diagnose(settings.node_ip)
    if diagnosis.causes and {cause.id for cause in diagnosis.causes} == {WAITING}:
        name = str(diagnosis.facts.get("node_name") or "")
        wait_until_up(
            machine,
            name=name,
            address=diagnosis.expected_ip or settings.node_ip,
            timeout=settings.timeout_seconds,
            stable=settings.stable_seconds,
        )
        diagnosis = machine.diagnose(settings.node_ip)
    return diagnosis


def open_recovery(
    machine: Machine,
    directory: Path,
    settings: Settings,
    *,
    by: str,
    make_backup: Callable[[], Backup],
    check_mode: bool = False,
) -> Opened:
    """Begin a recovery, or go on with one that was killed.

    `make_backup` raises BackupError where there is no room. Raises RefusedError, RecordError, BackupError.
    """
    diagnosis = look(machine, settings)
    if diagnosis.refusal:
        raise RefusedError(diagnosis.refusal)
    record = records.unfinished(directory)
    wanted = bool(settings.only)
    if record is None and diagnosis.healthy and not wanted:
        return Opened(diagnosis)
    have_backup = machine.last_good() is not None
    draft = record or Record(folder=directory, id="")
    opened = Opened(diagnosis, plan=Climb(machine, draft, settings, have_backup=have_backup).plan(diagnosis))
    if record is not None:
        opened.told.append(
            f"The recovery {record.id} by {record.by or 'somebody'} did not come to its end; this goes on with it."
        )
    if DELETE in opened.plan:
        opened.told.append(deletion_sentence(machine, diagnosis))
    if check_mode:
        return opened
    if record is None:
        opened.record = _begin(machine, directory, diagnosis, by=by, make_backup=make_backup)
    else:
        old = _let_go(record, machine.now())
        opened.record = _resume(machine, record, make_backup=make_backup, old=old)
        if old or not record.rungs:
            # killed before it had written down how things are, or so long ago that they are others now
            (record.folder / INVENTORY).unlink(missing_ok=True)
            remember(machine, record, diagnosis)
        opened.record.remember_causes([vars(cause) for cause in diagnosis.causes])
        opened.record.save()
    return opened


def _begin(
    machine: Machine, directory: Path, diagnosis: Diagnosis, *, by: str, make_backup: Callable[[], Backup]
) -> Record:
    """A new record, after the backup: no room for it, and nothing was touched."""
    started = machine.now()
    backup = make_backup()
    record = records.new(directory, now=started, by=by)
    record.backup = described(backup, reused=False)
    remember(machine, record, diagnosis)
    return record


def _let_go(record: Record, now: float) -> bool:
    """Whether the killed run is so long ago, with nothing half-done, that the server has a life of its own since.

    A rung that was done and only not verified stays: to undo it would take away what was changed after it.
    """
    last = max((entry.started_at for entry in record.rungs), default=record.started_at)
    if now - last < OLD_SECONDS or any(entry.state in HALF_DONE for entry in record.rungs):
        return False
    for entry in record.rungs:
        if entry.unfinished:
            entry.state = "interrupted"
            entry.sentence = f"{entry.sentence} Nobody has verified it; it stays."
    record.started_at = now
    return True


def _resume(machine: Machine, record: Record, *, make_backup: Callable[[], Backup], old: bool) -> Record:
    """The killed run's record; its backup is from before anything was changed, so it is kept while it is whole."""
    record.runs += 1
    record.pending = None
    record.problem = ""
    path = str(record.backup.get("path", ""))
    if not old and path and machine.intact(path):
        record.backup["reused"] = True
    else:
        record.backup = described(make_backup(), reused=False)
    record.save()
    return record


def described(backup: Backup, *, reused: bool) -> dict[str, Any]:
    """What the record and the report say of a backup."""
    database = backup.manifest.get("database") or {}
    state = database.get("state", "none") if isinstance(database, dict) else database
    return {"path": str(backup.path), "database": state, "created": backup.created, "reused": reused}


def backup_sentences(record: Record, last_good: Backup | None, now: float) -> list[str]:
    """Where the backup is and what it is worth; for a database that cannot be opened, what would be lost."""
    backup = record.backup
    if backup["reused"]:
        return [f"The backup that it made before anything was changed is whole and is kept: {backup['path']}."]
    if backup["database"] == "verified":
        return [f"Backed up, opened and found whole: {backup['path']}."]
    if backup["database"] == "snapshot":
        return [f"Backed up, with a snapshot of etcd: {backup['path']}."]
    word = {"raw": "cannot be opened and was kept as it is"}.get(str(backup["database"]), "is not there")
    if last_good is None:
        more = "There is no earlier backup that was found whole: nothing can bring back what cannot be read."
    else:
        more = (
            f"The last good backup is {last_good.path} of {last_good.created}: if it is put back, all changes of "
            f"the last {age(last_good.created, now)} are lost."
        )
    return [f"Backed up: {backup['path']}. The database {word}.", more]


def deletion_sentence(machine: Machine, diagnosis: Diagnosis) -> str:
    """What the deletion that was allowed would destroy."""
    data = str(diagnosis.facts.get("data_dir") or DATA_FOLDER)
    try:
        found = machine.inventory(machine.path(f"{data}/server/db/state.db"))
    except (DatabaseError, OSError):
        what = "all that is left of a cluster that cannot be read"
    else:
        what = f"namespaces {', '.join(found.namespaces)} with {sum(found.objects.values())} objects"
    return (
        f"The deletion of the cluster is allowed. If nothing else heals, it destroys {what}, the volumes' records, and "
        f"every token and kubeconfig that the cluster has issued."
    )


def plan_sentence(plan: list[str]) -> str:
    """What a run would try."""
    if not plan:
        return "A run would make a backup and stop there: no rung heals this, see above what does."
    return f"A run would make a backup, then try these rungs until one heals: {', '.join(plan)}."
