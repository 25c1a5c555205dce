"""The climb: one rung at a time, each remembered, verified, and kept or undone; also what a killed run left."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.backups.store import BackupError
from ansible.module_utils.k3s_common import DATA_FOLDER
from ansible.module_utils.k3s_recovery import verify
from ansible.module_utils.k3s_recovery.configuration import ConfigurationError
from ansible.module_utils.k3s_recovery.diagnosis import Cause, Diagnosis
from ansible.module_utils.k3s_recovery.expected import expected_inventory, remember_inventory
from ansible.module_utils.k3s_recovery.ladder import Choice, Wishes, plan
from ansible.module_utils.k3s_recovery.machine import Machine, MachineError, NoDatastoreError
from ansible.module_utils.k3s_recovery.record import Record, RecordError, RungEntry
from ansible.module_utils.k3s_recovery.rungs import RUNGS
from ansible.module_utils.k3s_recovery.rungs.base import Context, Rung, RungError, Settings
from ansible.module_utils.k3s_recovery.rungs.node_object import settle
from ansible.module_utils.kine_database import DatabaseError

# What a rung can fail with; anything else is a mistake in it and ends the run with its traceback.
FAILURES = (RungError, MachineError, BackupError, ConfigurationError, DatabaseError, OSError)
# Rungs after which the cluster is another one, or an older one of its own.
NEW_CLUSTER = "delete_cluster"
LEFT_ON = "safe_mode_left_on"
REPLACED = "cluster_replaced"
RESTORING = ("restore", "snapshot_restore")
# Rungs with which something is lost for good.
LOSING = ("node_object", *RESTORING, NEW_CLUSTER)


class ClimbError(Exception):
    """The recovery cannot go on; the text says why and the way out."""


@dataclass(frozen=True)
class Outcome:
    """How a step ended. `rung` is empty when none was left to try, or none was needed."""

    rung: str
    cause: str
    state: str
    seconds: float
    sentence: str
    done: bool
    healed: bool


class Climb:
    """The steps of one recovery."""

    def __init__(
        self,
        machine: Machine,
        record: Record,
        settings: Settings,
        *,
        have_backup: bool = False,
        rungs: Mapping[str, Rung] = RUNGS,
        tell: Callable[[str], None] = lambda _rung: None,
    ) -> None:
        self._machine = machine
        self._record = record
        self._settings = settings
        self._rungs = rungs
        self._tell = tell
        self._begun = machine.uptime()
        self._wishes = Wishes(settings.only, settings.skip, settings.allow_delete, have_backup)

    def plan(self, diagnosis: Diagnosis) -> list[str]:
        """Names of the rungs that would be tried, in order, as long as none heals."""
        return [choice.rung for choice in plan(diagnosis.causes, self._wishes, self._record.tried())]

    def step(self) -> Outcome:
        """One rung with its verification. Raises RecordError, ClimbError."""
        left = [entry for entry in self._record.rungs if entry.unfinished]
        told = ""
        now = self._machine.diagnose(self._settings.node_ip)
        diagnosis = self._as_seen(now)
        if left:
            entry = left[-1]
            rung = self._rungs[entry.name]
            if entry.state == "verifying" or (rung.finishes and entry.state == "applying"):
                entry.run, entry.started_at = self._record.runs, self._machine.now()
                self._begun = self._machine.uptime()
                return self._try(entry, rung, diagnosis)
            told = self._undo_after_kill(entry, rung, diagnosis)
            diagnosis = self._machine.diagnose(self._settings.node_ip)
        if diagnosis.refusal:
            raise ClimbError(diagnosis.refusal)
        if diagnosis.healthy and not self._settings.only:
            return self._nothing_left(diagnosis, told)
        self._record.remember_causes([dataclasses.asdict(cause) for cause in diagnosis.causes])
        choices = plan(diagnosis.causes, self._wishes, self._record.tried())
        if not choices:
            return self._give_up(diagnosis, told)
        if self._record.pending is not None and now.healthy and choices[0].rung in LOSING:
            # slow, not broken: it came up after the rung before was given up
            outcome = self._nothing_left(now, told)
            if outcome.healed:
                return outcome
            self._record.problem = ""
        outcome = self._begin(choices[0], diagnosis)
        return dataclasses.replace(outcome, sentence=f"{told} {outcome.sentence}".strip())

    def _as_seen(self, now: Diagnosis) -> Diagnosis:
        """What is wrong: after a rung of this run as it was seen before that rung was undone."""
        if self._record.pending is None:
            return now
        causes = [Cause(**cause) for cause in self._record.pending]
        return dataclasses.replace(now, causes=causes, healthy=False)

    def _context(self, entry: RungEntry, diagnosis: Diagnosis) -> Context:
        return Context(self._machine, self._record, entry, diagnosis, self._settings)

    def _begin(self, choice: Choice, diagnosis: Diagnosis) -> Outcome:
        entry = RungEntry(choice.rung, choice.cause, self._record.runs, started_at=self._machine.now())
        self._begun = self._machine.uptime()
        rung = self._rungs[choice.rung]
        self._record.rungs.append(entry)
        self._record.save()
        why_not = rung.unsuitable(self._context(entry, diagnosis))
        if why_not:
            return self._end(entry, "skipped", f"Not tried: {why_not}.")
        return self._try(entry, rung, diagnosis)

    def _try(self, entry: RungEntry, rung: Rung, diagnosis: Diagnosis) -> Outcome:
        """Apply a rung (or go on with it after a kill), verify, and decide. A record that fails leaves k3s started."""
        self._tell(entry.name)
        context = self._context(entry, diagnosis)
        try:
            return self._apply(entry, rung, context)
        except RecordError as error:
            raise RecordError(f"{error} {self._start_anyway()}") from error

    def _apply(self, entry: RungEntry, rung: Rung, context: Context) -> Outcome:
        complete = entry.state == "verifying"
        try:
            if not complete:
                entry.sentence = rung.apply(context)
                complete = True
                entry.state = "verifying"
                self._record.save()
            problem = self._verify(context)
            if not problem:
                settle(context)
        except FAILURES as error:
            problem = str(error)
        if not problem:
            return self._end(entry, "healed", entry.sentence)
        after = self._machine.diagnose(self._settings.node_ip)
        # a drop-in that is there now is this rung's own, and goes when it is undone
        causes = [cause for cause in after.causes if cause.id != LEFT_ON or entry.cause == LEFT_ON]
        after = dataclasses.replace(after, causes=causes)
        self._record.pending = [dataclasses.asdict(cause) for cause in causes]
        self._record.remember_causes(self._record.pending)
        if complete and self._helped(entry, after):
            others = " ".join(cause.sentence for cause in after.causes)
            return self._end(entry, "kept", f"{entry.sentence} Its cause is gone, so this stays. Still wrong: {others}")
        return self._undo(entry, rung, context, problem)

    @staticmethod
    def _helped(entry: RungEntry, after: Diagnosis) -> bool:
        """Whether the rung's own cause is gone and another one is there. One that was only asked for has none."""
        now = {cause.id for cause in after.causes}
        return bool(now) and bool(entry.cause) and entry.cause not in now

    def _undo(self, entry: RungEntry, rung: Rung, context: Context, problem: str) -> Outcome:
        entry.state = "undoing"
        self._record.save()
        state = "undone"
        try:
            entry.undone = f"{rung.undo(context)} {self._start_as_found()}".strip()
        except RungError as error:
            # a rung's own reason, for which k3s must not be started
            state, entry.undone = "failed", f"Undoing it failed: {error}"
        except FAILURES as error:
            state, entry.undone = "failed", f"Undoing it failed: {error}. {self._start_anyway()}"
        words = [f"It did not heal: {problem.rstrip('.')}.", entry.undone]
        return self._end(entry, state, " ".join(word for word in words if word))

    def _start_as_found(self) -> str:
        """After an undo: crashing again and again, maybe, but not stopped if it was not; why not, as a sentence, or "".

        One without its datastore stays stopped. Raises MachineError.
        """
        if self._record.before.get("stopped"):
            return ""
        try:
            self._machine.start()
        except NoDatastoreError as error:
            return f"{error}."
        return ""

    def _start_anyway(self) -> str:
        """After a step that could not be written down or undone; how k3s was left, as a sentence."""
        try:
            why_not = self._start_as_found()
        except FAILURES as error:
            return f"k3s may be stopped, and was not started: {error}. When that is cured: systemctl start k3s"
        if self._record.before.get("stopped"):
            return "k3s was stopped when it was found, and was not started."
        return why_not or "k3s was started, as it was found."

    def _undo_after_kill(self, entry: RungEntry, rung: Rung, diagnosis: Diagnosis) -> str:
        context = self._context(entry, diagnosis)
        try:
            entry.undone = f"{rung.undo(context)} {self._start_as_found()}".strip()
        except (*FAILURES, RecordError) as error:
            started = "" if isinstance(error, RungError) else f" {self._start_anyway()}"
            raise ClimbError(
                f"An earlier run was killed in its rung {entry.name}, and that cannot be undone: {error}. "
                f"The originals are in {self._record.folder}. Cure that, then run again.{started}"
            ) from error
        entry.state = "interrupted"
        self._record.save()
        return f"An earlier run was killed in its rung {entry.name}. {entry.undone}".strip()

    def _end(self, entry: RungEntry, state: str, sentence: str) -> Outcome:
        entry.state, entry.sentence = state, sentence
        entry.seconds = round(entry.seconds + self._machine.uptime() - self._begun, 1)
        healed = state == "healed"
        if healed:
            self._record.pending = None
        self._record.save()
        return Outcome(entry.name, entry.cause, state, entry.seconds, sentence, done=healed, healed=healed)

    def _nothing_left(self, diagnosis: Diagnosis, told: str) -> Outcome:
        """It is well although nobody has verified it yet: a killed run had done enough."""
        begun = self._machine.uptime()
        entry = RungEntry("", run=self._record.runs)
        context = self._context(entry, diagnosis)
        try:
            problem = self._verify(context)
            if not problem:
                settle(context)
        except FAILURES as error:
            problem = str(error)
        seconds = round(self._machine.uptime() - begun, 1)
        if problem:
            self._record.problem = problem
            self._record.save()
            return Outcome("", "", "failed", seconds, f"{told} {problem}".strip(), done=True, healed=False)
        return Outcome("", "", "healed", seconds, f"{told} k3s is well.".strip(), done=True, healed=True)

    def _give_up(self, diagnosis: Diagnosis, told: str) -> Outcome:
        cures = [cause.cure or cause.sentence for cause in diagnosis.causes]
        last = [entry.sentence for entry in self._record.rungs[-1:] if entry.run == self._record.runs]
        words = [told, "No rung is left that makes sense.", *(cures or last)]
        self._record.problem = " ".join(word for word in words if word)
        self._record.save()
        return Outcome("", "", "failed", 0.0, self._record.problem, done=True, healed=False)

    def _still_wrong(self, names: set[str]) -> str:
        """Causes that a k3s that runs can have as well, an advertised address that nobody has for example.

        Another cluster than the last backup's is one, unless a rung of `names` has brought it on purpose.
        """
        causes = self._machine.diagnose(self._settings.node_ip).causes
        never = REPLACED if not names.intersection({NEW_CLUSTER, *RESTORING}) else ""
        wrong = [cause for cause in causes if (cause.rung or cause.id == never) and cause.id != LEFT_ON]
        return " ".join(cause.sentence for cause in wrong)

    def _verify(self, context: Context) -> str:
        """Why it is not healed; "" when it is. Counts what was kept."""
        names = {entry.name for entry in self._record.rungs if entry.state in ("healed", "kept", "verifying")}
        problem = context.wait_up(stable=self._settings.stable_seconds) or self._still_wrong(names)
        if problem:
            return problem
        missing = self._missing(context, new_cluster=NEW_CLUSTER in names)
        key = str(self._record.before.get("service_key", ""))
        same_key = verify.service_key(self._machine, context.data) == key if key else None
        self._record.kept["service_account_key"] = same_key
        if same_key is False and not names.intersection({NEW_CLUSTER, *RESTORING}):
            missing.append("the key that signs service accounts' tokens is another one, so every token is worthless")
        return f"k3s runs, but not with the same cluster: {'; '.join(missing)}" if missing else ""

    def _missing(self, context: Context, *, new_cluster: bool) -> list[str]:
        """Why SQLite's cluster is another one; etcd's cannot be looked at before k3s runs, one elsewhere not at all.

        What has changed in it otherwise is told.
        """
        if (context.diagnosis.facts.get("datastore") or {}).get("kind") in {"etcd", "external"}:
            self._record.kept = {"namespaces": None, "rbac": None, "objects": None}
            return []
        if new_cluster:
            self._record.kept = {"namespaces": 0, "rbac": 0, "objects": 0}
            return []
        after = self._machine.inventory(context.server("db/state.db"))
        self._record.kept = verify.summary(after)
        before = expected_inventory(self._record)
        if before is None:
            older = verify.older_than(context.diagnosis.facts.get("kept") or {}, after)
            return [older] if older else []
        another = verify.another(before, after)
        if another:
            return [another, *verify.differences(before, after)]
        for line in [*verify.differences(before, after), *verify.fewer(before, after)]:
            self._record.add_lost(f"Meanwhile, by somebody or something that uses the cluster: {line}")
        return []


def remember(machine: Machine, record: Record, diagnosis: Diagnosis) -> None:
    """Write down how things were before anything is changed. Raises RecordError."""
    facts: dict[str, Any] = diagnosis.facts
    data = str(facts.get("data_dir") or DATA_FOLDER)
    record.before["service_key"] = verify.service_key(machine, data)
    # such a k3s is not started by an undo
    record.before["stopped"] = (facts.get("unit") or {}).get("active") == "inactive"
    record.before["node_name"] = str(facts.get("node_name") or "")
    nodes = (facts.get("api") or {}).get("nodes") or []
    record.before["addresses"] = [address for node in nodes for address in node.get("internal_ips", [])]
    try:
        remember_inventory(record, machine.inventory(machine.path(f"{data}/server/db/state.db")))
    except (DatabaseError, OSError):
        # damaged or gone: then a backup's content is what has to come back
        record.before.pop("inventory", None)
    record.causes = [dataclasses.asdict(cause) for cause in diagnosis.causes]
    record.warnings = list(diagnosis.warnings)
    record.save()
