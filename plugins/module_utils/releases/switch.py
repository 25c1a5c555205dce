"""From one release to another: without a failed request, verified, and back by itself when it is no good."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.backups import application
from ansible.module_utils.backups.archive import BackupError
from ansible.module_utils.history import append_history, read_history
from ansible.module_utils.integr8scode_docker import EngineUnavailableError
from ansible.module_utils.releases import lock, trial
from ansible.module_utils.releases.compose import ComposeError
from ansible.module_utils.releases.containers import HASH_LABEL, ServiceError, Stack, is_of, problem_of
from ansible.module_utils.releases.edge import EdgeError
from ansible.module_utils.releases.executions import ExecutionsError
from ansible.module_utils.releases.fitting import RefusedError, refuse_misfit
from ansible.module_utils.releases.job import Job, Outcome
from ansible.module_utils.releases.journal import Journal
from ansible.module_utils.releases.layout import Layout, Release, UnknownReleaseError
from ansible.module_utils.releases.move import Move
from ansible.module_utils.releases.prune import FEWEST, prune
from ansible.module_utils.releases.targets import has_served
from ansible.module_utils.releases.verify import VerificationError, Verifier

MEGABYTE = 1024 * 1024
UNTOUCHED = "Nothing that runs was changed."
"""Of what is refused here; images and the release's files were brought to the server before."""
UNDO_STABLE_SECONDS = 5.0
"""A release that ran before is watched this long after it was put back."""

# what a step may end with; anything else is an error of this program and ends the switch likewise
FAILURES = (
    BackupError,
    ComposeError,
    EdgeError,
    EngineUnavailableError,
    ExecutionsError,
    OSError,
    ServiceError,
    UnknownReleaseError,
    VerificationError,
)


class Switch:
    """One switch of one server.

    job: what is asked for.
    journal: says what happens.
    sleep: waits so many seconds.
    """

    def __init__(self, job: Job, journal: Journal, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.job, self.journal, self.settings = job, journal, job.settings
        self.layout = Layout(Path(job.base))
        self.stack = Stack()
        self.previous = self.layout.current_release()
        self.lost: list[str] = []
        self.notes: list[str] = []
        self._sleep = sleep
        self._changes = False

    def run(self) -> Outcome:
        """Do all of it; how it ended. The lock is given back in any case; what changed has a line in the history."""
        try:
            outcome = self._run()
        except (lock.LockedError, OSError) as error:
            # before anything else was done: the lock cannot be had
            cause = str(error).removeprefix("Nothing was changed. ")
            outcome = Outcome("refused", self._serving(), cause, [UNTOUCHED, cause, *self._stays()])
        outcome = Outcome(
            outcome.result,
            outcome.release,
            outcome.cause,
            outcome.sentences,
            list(dict.fromkeys(self.lost)),
            # with what the run did before: what its summary and the history say is one number
            round(time.time() - self.job.started_at, 1),
        )
        if outcome.result != "refused":
            self._remember(outcome)
        if outcome.good:
            outcome.sentences.extend(self._prune())
        try:
            with self.journal.step("unlock"):
                lock.release(self.layout.base, self.job.run)
        except (lock.LockedError, OSError) as error:
            outcome.sentences.append(f"The lock could not be given back: {error}")
        return outcome

    def _run(self) -> Outcome:
        lock.beat(self.layout.base, self.job.run, phase=lock.SWITCHING)
        if problem := self.layout.current_problem():
            return self._refused(None, problem)
        move: Move | None = None
        try:
            target = self.layout.release(self.job.release)
            move = Move(target, self.layout, self.stack, self.settings, self.journal, sleep=self._sleep)
            self._before(move)
            self._changes = True
            self._forward(move)
        except FAILURES as error:
            return self._back(move, str(error))
        except RefusedError as error:
            return self._refused(move, str(error))
        except Exception as error:  # noqa: BLE001 - users must be served again whatever it was
            return self._back(move, f"the switch ended with an error of its own: {type(error).__name__}: {error}")
        return Outcome("ok", self.job.release, sentences=[f"Release {self.job.release} serves.", *self._asides()])

    def _asides(self) -> list[str]:
        """What users should know besides how it ended."""
        lost = ", ".join(dict.fromkeys(self.lost))
        return [*([f"Executions that were queued or running and are lost: {lost}."] if lost else []), *self.notes]

    # -- forward

    def _before(self, move: Move) -> None:
        """What changes nothing: whether the release fits, the image too, and a dump. Raises RefusedError."""
        refuse_misfit(move.release, self.layout, self.stack)
        if any(service in move.due for service in ("backend", *move.workers)):
            with self.journal.step("trial", "trying the new image with the rendered files"):
                try:
                    self._try(move)
                except (ComposeError, EngineUnavailableError) as error:
                    # what the trial says, not which command has run it
                    why = getattr(error, "said", "") or error
                    raise RefusedError(f"release {move.release.id} does not fit: {why}") from error
        if self.settings.backup_before and self._has_data():
            with self.journal.step("backup", "dumping MongoDB"):
                try:
                    made = application.create(
                        Path(self.settings.backup_directory),
                        base=self.layout.base,
                        reason=f"before {self.job.action} of {move.release.id}",
                        recipients=self.settings.age_recipients,
                        required_free=self.settings.min_free_mb * MEGABYTE,
                    )
                except BackupError as error:
                    raise RefusedError(f"the backup before the {self.job.action} failed: {error}") from error
                self.notes.append(f"The data before it: {made.path}")

    def _has_data(self) -> bool:
        """Whether there is something to dump, be it that ``current`` and the history were lost."""
        return self._served_before() or any(problem_of(one) is None for one in self.stack.of("mongo"))

    def _try(self, move: Move) -> None:
        """Run the new image once with every worker's configuration. Raises ComposeError."""
        mounts: list[str] = []
        for name, path in move.release.record.get("files", {}).items():
            if name != "config.toml":
                mounts += ["--volume", f"{path}:/app/{name}:ro"]
        # other services that the application needs have no program of its image
        images = move.release.images
        workers = [
            one for one in move.workers if one in self.settings.workers or images.get(one) == images.get("backend")
        ]
        move.compose.run("backend", *mounts, "--", "python", "-c", inspect.getsource(trial), *workers)

    def _forward(self, move: Move) -> None:
        """Every step to the release and its proof. Raises one of FAILURES."""
        known = self._apply(move)
        self._verify(move, move.hashes, self.settings.stable_seconds, known)
        with self.journal.step("current"):
            self.layout.point_current(move.release)

    def _apply(self, move: Move, **how: Any) -> set[str]:
        """Do a move's steps; ids of the containers that were there before. Raises one of FAILURES."""
        known = {one.id for ours in self.stack.containers().values() for one in ours}
        try:
            move.apply(**how)
        finally:
            self.lost += move.lost
        return known

    def _verify(
        self, move: Move, expected: dict[str, str], stable: float, known: set[str], *, kubernetes_needed: bool = True
    ) -> None:
        """Raises one of FAILURES."""
        deadline = time.monotonic() + self.settings.healthy_timeout_seconds
        # where nothing is to be watched, no restart counts
        counted = known if stable else None
        verifier = Verifier(self.stack, move.edge, expected, deadline, counted, beside=move.beside)
        with self.journal.step("verify", "asking what serves, from outside and from inside"):
            verifier.wait_until_well()
            verifier.edge_serves_these()
            verifier.ask_edge(move.outside())
            verifier.find_consumer_groups(move.groups())
            if self.settings.kubernetes:
                image = move.release.images["backend"]
                parameters = {**self.settings.kubernetes, "image": image}
                verifier.reach_kubernetes(parameters, needed=kubernetes_needed)
            # last: it may have to wait for a limiter, and must not take the others' time
            verifier.log_in(move.outside(), password_must_fit=move.seeded)
        if stable and (move.touched or move.reloaded):
            with self.journal.step("stable", f"watching for {stable:.0f} s that nothing ends or restarts"):
                verifier.watch(max(0.0, stable - move.seconds_of_stability()))
        verifier.look_beside()
        self.notes += verifier.notes

    # -- back

    def _served_before(self) -> bool:
        """Whether this server had a release at all, be it that ``current`` was lost."""
        if self.previous is not None or os.path.lexists(self.layout.current):
            return True
        try:
            return has_served(read_history(self.layout.base))
        except OSError:
            # not known: what may serve is not taken away
            return True

    def _serving(self) -> str:
        return self.previous.id if self.previous else ""

    def _refused(self, move: Move | None, cause: str) -> Outcome:
        if self.previous is None and move is not None:
            # the trial has made a network
            with suppress(*FAILURES):
                if not self.stack.containers():
                    move.compose.down()
        serving = "What runs was left as it is." if self._served_before() else "Nothing was deployed before."
        if self.previous is not None:
            serving = f"Release {self.previous.id} serves on."
        return Outcome("refused", self._serving(), cause, [UNTOUCHED, cause, serving, *self._stays()])

    def _stays(self) -> list[str]:
        """What a refused deploy has brought to the server all the same, and how it goes away."""
        path = self.layout.releases / self.job.release
        if self.job.action != "deploy" or self._serving() == self.job.release or not path.is_dir():
            return []
        leftovers = (
            f"What was made ready for it stays: its images, and its files in {path}. A later deploy or rollback that "
            f"ends well removes what only it has, once more than {max(self.settings.keep_releases, FEWEST)} releases "
            "are kept; one that never served goes first."
        )
        return [leftovers]

    def _back(self, move: Move | None, cause: str) -> Outcome:
        if move is None or not self._changes:
            return self._refused(move, cause)
        what = f"{self.job.action.capitalize()} of release {self.job.release} failed: {cause}"
        previous = self.previous
        try:
            self.journal.say("decision", "failed", cause)
            self.journal.prefix = "undo:"
            if previous is None or previous.id == self.job.release:
                return self._without_previous(move, what, cause)
            self._undo(move, previous)
        except Exception as error:  # noqa: BLE001 - told below, whatever it was
            cure = f"ansible-playbook deploy.yml -e tag={previous.tag if previous else 'TAG'}"
            sentences = [
                what,
                f"Putting back what served before failed too: {error}",
                f"playbooks/status.yml says what runs. Mend the cause, then run: {cure}",
            ]
            return Outcome("failed", "", f"{cause}\nafter that: {error}", sentences)
        finally:
            self.journal.prefix = ""
        back = [what, f"Release {previous.id} was put back and serves.", *self._asides()]
        return Outcome("rolled_back", previous.id, cause, back)

    def _without_previous(self, move: Move, what: str, cause: str) -> Outcome:
        if self.previous is not None:
            # the same release again, with other secrets or a container that somebody broke: there is nothing to go to
            sentences = [
                what,
                f"It is the release that ran before, so there is no other to put back: {self.previous.id}.",
            ]
            return Outcome("failed", self.previous.id, cause, sentences)
        if self._served_before():
            # not the first one, but what it ran is not known any more: what still serves must not be taken away
            lost = "leads to no complete release" if self.layout.current.is_symlink() else "is gone"
            sentences = [
                what,
                f"What served before cannot be put back: {self.layout.current} {lost}.",
                "What runs was left as it is. Mend the cause and deploy again.",
            ]
            return Outcome("failed", "", cause, sentences)
        with self.journal.step("remove", "a first deploy leaves nothing half-running"):
            move.compose.down()
        sentences = [what, "It was the first deploy: its containers and networks were removed, its volumes were kept."]
        return Outcome("removed", "", cause, sentences)

    def _undo(self, move: Move, previous: Release) -> None:
        """Put back what this switch has touched, and verify it. Raises one of FAILURES."""
        back = Move(previous, self.layout, self.stack, self.settings, self.journal, sleep=self._sleep)
        # and what a switch that was cut off before this one has left: of the same release, beside the old copy, or away
        running = self.stack.containers()
        left = [
            service
            for service, found in {**{name: [] for name in back.hashes}, **running}.items()
            if len(found) != 1
            or found[0].attrs["State"]["Status"] != "running"
            or is_of(found[0], move.hashes.get(service, ""))
            or found[0].attrs["Config"]["Image"] != previous.images.get(service, found[0].attrs["Config"]["Image"])
        ]
        known = self._apply(back, only=[*move.touched, *left], waiting=False)
        expected = dict(back.hashes)
        for service, found in self.stack.containers().items():
            if (
                service in expected
                and service not in back.touched
                and len({one.labels.get(HASH_LABEL) for one in found}) == 1
            ):
                # not touched: as it was, be it that secrets have changed since
                expected[service] = str(found[0].labels.get(HASH_LABEL))
        stable = min(UNDO_STABLE_SECONDS, self.settings.stable_seconds)
        # that Kubernetes is away is no fault of what ran before, and was perhaps why it is put back
        self._verify(back, expected, stable, known, kubernetes_needed=False)

    # -- what stays

    def _remember(self, outcome: Outcome) -> None:
        entry: dict[str, Any] = {
            "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "action": self.job.action,
            "result": outcome.result,
            "release": self.job.release,
            "previous": self._serving() or None,
            "serving": outcome.release or None,
            "by": self.job.by,
            "from": self.job.controller,
            "run": self.job.run,
            "seconds": outcome.seconds,
        }
        if outcome.cause:
            entry["message"] = outcome.cause[:2000]
        if outcome.lost:
            entry["lost_executions"] = outcome.lost
        try:
            append_history(self.layout.base, entry)
        except (OSError, ValueError) as error:
            # neither a full disk nor a character that cannot be written must hide how it ended
            self.journal.say("history", "failed", str(error))

    def _prune(self) -> list[str]:
        """Remove what no kept release needs; what could not be, as sentences."""
        try:
            with self.journal.step("prune"):
                for sentence in prune(self.layout, self.stack.client, self.settings.keep_releases):
                    self.journal.say("prune", "done", sentence)
        except Exception as error:  # noqa: BLE001 - the release serves, and the lock is still to be given back
            return [f"Not everything old could be removed: {error}"]
        return []
