"""The steps that bring the stack to one release, whatever runs now: each does what is still to be done, and no more.

So the same steps go forward, go back, and finish what a killed switch has left.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils import quick_yaml
from ansible.module_utils.atomic_files import Access, read_file, write_file
from ansible.module_utils.release_secrets import definitions
from ansible.module_utils.releases import executions
from ansible.module_utils.releases.compose import Compose, ComposeError, EngineLostError
from ansible.module_utils.releases.containers import Stack, addresses, patiently, problem_of, stop_and_remove
from ansible.module_utils.releases.edge import Edge
from ansible.module_utils.releases.job import Settings
from ansible.module_utils.releases.journal import Journal
from ansible.module_utils.releases.layout import Layout, Release
from ansible.module_utils.releases.loading import Loading
from ansible.module_utils.releases.rolling import Rolling
from ansible.module_utils.releases.verify import Outside
from ansible.module_utils.stale_readers import started_at

SERVING = ("backend", "frontend")
"""They take requests, so that a second copy is started beside the first."""
COORDINATOR = "coordinator"
SEED = "user-seed"
PASSWORDS = "/run/secrets/user_passwords.json"


def _worker_of(group: str) -> str:
    """The worker of a consumer group; the coordinator's has a name of its own."""
    return COORDINATOR if group == "execution-coordinator" else group


class Move:
    """The way to one release.

    release: to get to.
    layout: where things are.
    stack: the containers.
    settings: how it is done.
    journal: says what happens.
    """

    def __init__(
        self,
        release: Release,
        layout: Layout,
        stack: Stack,
        settings: Settings,
        journal: Journal,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.release, self.layout, self.stack, self.settings, self.journal = release, layout, stack, settings, journal
        # a new container waits for what it depends on, and an old one is given its grace
        self.compose = Compose(release, timeout=settings.healthy_timeout_seconds + 120)
        self.edge = Edge(layout.edge)
        self.loading = Loading(layout, stack, self.edge)
        self.hashes = patiently(self.compose.hashes)
        self.workers = self._workers_of(release)
        self.touched: list[str] = []
        self.lost: list[str] = []
        self.reloaded = 0.0
        self.seeded = False
        self._sleep = sleep
        self._step = "switch"
        self.rolling = Rolling(
            self.compose,
            stack,
            self.edge,
            self.hashes,
            lambda text: journal.say(self._step, "running", text),
            healthy_seconds=settings.healthy_timeout_seconds,
            drain_seconds=settings.drain_seconds,
            stream_seconds=settings.stream_seconds,
            # not the infrastructure, whose restart costs more than it mends, nor the edge: it is only as healthy as
            # what is behind it
            replaceable=(*SERVING, *self.workers),
        )

    def _workers_of(self, release: Release) -> list[str]:
        """The release's workers: those of today that it has, and those that only it has; what is behind a profile is
        none."""
        found = definitions(release.path)
        known = {*self.settings.infrastructure, "edge", *SERVING, *self.settings.workers}
        own = [one for one in self.hashes if one not in known and not found.get(one, {}).get("profiles")]
        return [*(one for one in self.settings.workers if one in self.hashes), *sorted(own)]

    # -- what is to be done

    @property
    def due(self) -> list[str]:
        """Services that are not what the release says, or are unhealthy, in no order."""
        return self.rolling.due(self.hashes)

    @property
    def beside(self) -> set[str]:
        """Services that the application does not need: those of the release's profiles."""
        return set(self.hashes) - {*self.settings.infrastructure, "edge", *SERVING, *self.workers}

    def orphans(self) -> list[str]:
        """Services that run and that the release does not have."""
        return sorted(set(self.stack.containers()) - set(self.hashes))

    def edge_config(self) -> bytes | None:
        """The configuration that the edge shall get; None when it has it."""
        wanted = read_file(self.release.edge_config)
        return wanted if wanted is not None and self.edge.differs(wanted) else None

    def passwords(self) -> Path | None:
        """File with the seeded users' passwords, as the newest secrets mount it; None where there is none."""
        try:
            mounts = quick_yaml.load((self.layout.secrets / "current.yaml").read_text(encoding="utf-8"))
            volumes = mounts["services"][SEED]["volumes"]
        except (OSError, KeyError, TypeError, yaml.YAMLError):
            return None
        return next((Path(one["source"]) for one in volumes if one["target"] == PASSWORDS), None)

    def seed_due(self) -> bool:
        """Whether the users' passwords are new: user-seed sets them whenever it runs, never behind a user's back."""
        passwords = self.passwords()
        seeded = read_file(self.layout.secrets / "seeded")
        return passwords is not None and (seeded or b"").decode().strip() != str(passwords)

    def plan(self) -> list[str]:
        """What `apply` would do, as sentences; nothing is changed."""
        said = []
        running = self.stack.containers()
        due = self._ordered(self.due)
        for service in due:
            sick = any(self.rolling.is_sick(service, one) for one in running.get(service, []))
            why = ", since what runs is unhealthy" if sick else ""
            if service in SERVING and running.get(service):
                how = "beside the old one" if self.rolling.has_room_for(service) else "in its place, for want of memory"
                said.append(f"{service}: a new container, {how}{why}")
            else:
                what = f"a new container{why}" if running.get(service) else "would be started"
                said.append(f"{service}: {what}")
        said += [f"{service}: removed, the release does not have it" for service in self.orphans()]
        if self.edge_config() is not None:
            said.append("edge: another configuration")
        if self.seed_due():
            said.append("user-seed: sets the users' passwords")
        if "backend" not in due and self.loading.outdated_backends():
            said.append("backend: a new container, since its certificate is newer than what runs")
        if running.get("edge"):
            said += [f"{service}: the next copy would get no requests" for service in SERVING if self._held(service)]
            said += [f"{service}: loads newer files" for service, due in self.loading.load(check=True).items() if due]
        current = self.layout.current_release()
        if current is None or current.id != self.release.id:
            said.append(f"current: {current.id if current else 'none'} -> {self.release.id}")
        return said

    def _ordered(self, services: Iterable[str]) -> list[str]:
        order = [*self.settings.infrastructure, "edge", *SERVING, *self.workers]
        return sorted(services, key=lambda one: (order.index(one) if one in order else len(order), one))

    # -- doing it

    def apply(self, only: list[str] | None = None, *, waiting: bool = True) -> None:
        """Bring the stack to the release. ``touched`` and ``lost`` say what happened, after a failure too.

        :param only: services that may be touched; all when None.
        :param waiting: whether the coordinator waits for executions; going back does not.
        :raises ServiceError: a service does not come up.
        :raises ComposeError: Compose fails.
        :raises EdgeError: the edge does not do what it should.
        :raises OSError: a file cannot be read or written.
        """
        due = [one for one in self._ordered(self.due) if only is None or one in only]
        first = not self._application_runs()
        self._infrastructure([one for one in due if one in self.settings.infrastructure])
        if only is None:
            # going back puts back what ran, and no password is part of that
            self._seed()
        self._edge("edge" in due)
        if first:
            # nobody is served yet: everything at once
            with self._doing("start", "starting the application"):
                self._up([one for one in due if one in (*SERVING, *self.workers)])
        else:
            rest = [one for one in (*SERVING, *self.workers) if one in self.hashes and one not in due]
            due += self.rolling.sick_after_start([one for one in rest if only is None or one in only])
            for service in SERVING:
                if service in due or ((only is None or service in only) and len(self.stack.of(service)) > 1):
                    self._serving(service, along=[one for one in SERVING[SERVING.index(service) + 1 :] if one in due])
            if set(SERVING) & set(self.touched):
                self.journal.say("serving", "running", f"every new request is answered by release {self.release.id}")
            workers = [one for one in due if one in self.workers]
            self._workers([one for one in workers if one != COORDINATOR])
            # until here going back would have been sending requests to the old copies again; and what they still
            # answered may have queued an execution
            self._retire()
            if COORDINATOR in workers:
                self._coordinator(waiting=waiting)
            self._take_requests()
        self._others([one for one in due if one in self.beside])
        self._orphans()
        with self._doing("reload", "having programs load newer files"):
            if any(self.loading.load(check=False).values()):
                self.reloaded = time.monotonic()
        # after the edge, which has to know the authority of its certificate
        self.rolling.outdated = self.loading.outdated_backends()
        if self.rolling.outdated:
            self._serving("backend")
            self._retire()

    def _application_runs(self) -> bool:
        """Whether anything that works for users runs: one missing service is no reason to replace the rest at once."""
        below = (*self.settings.infrastructure, "edge")
        return any(
            one.attrs["State"]["Status"] in ("running", "restarting", "paused")
            for service, found in self.stack.containers().items()
            for one in found
            if service not in below
        )

    def _infrastructure(self, services: list[str]) -> None:
        if services:
            with self._doing("infrastructure", f"replacing {', '.join(services)}: its own definition is another one"):
                self._touch(services)
                self.rolling.together(services, healthy=True)

    def _seed(self) -> None:
        passwords = self.passwords()
        if passwords is None or not self.seed_due():
            return
        with self._doing("seed", "setting the users' passwords"):
            self.compose.call("run", "--rm", "--no-deps", "--no-TTY", SEED, timeout=300)
            write_file(
                self.layout.secrets / "seeded", f"{passwords}\n".encode(), Access(os.geteuid(), os.getegid(), 0o400)
            )
            self.seeded = True

    def _edge(self, replaced: bool) -> None:
        config = self.edge_config()
        if config is None and not replaced:
            return
        with self._doing("edge", "giving the edge its configuration"):
            if config is not None:
                self.edge.install(config, self.release.images["edge"], self.layout.tls)
                self.loading.edge_unloaded = not replaced
            if replaced:
                # its definition changed: the listeners are gone for a moment, which no second copy can take over
                self._touch(["edge"])
                self.rolling.together(["edge"], healthy=False)

    def _serving(self, service: str, along: Sequence[str] = ()) -> None:
        beside = self.rolling.has_copy(service) or self.rolling.has_room_for(service)
        if not beside and self.rolling.leaving:
            # the old copy of another service has the memory
            self._retire()
            beside = self.rolling.has_room_for(service)
        how = "beside the old one" if beside else "in its place: there is no memory for two"
        with self._doing(service, f"a new {service} {how}"):
            # what comes along is touched too: it has to go when this one is no good
            self._touch([service, *along])
            if beside:
                self.rolling.beside(service, along)
            else:
                self.rolling.in_place(service)

    def _retire(self) -> None:
        """Stop what gets no new requests any more."""
        if self.rolling.leaving:
            old = ", ".join(one.service for one in self.rolling.leaving)
            with self._doing("retire", f"stopping the old {old} when what it has is answered"):
                self.rolling.retire()

    def _held(self, service: str) -> bool:
        """Whether a free place gets nothing new, as a switch that was cut off may have left it."""
        return service in self.hashes and "" in self.edge.draining(service)

    def _take_requests(self) -> None:
        """Undo the draining that a switch that was cut off has left, of copies that stay and of those that went."""
        for service in SERVING:
            living = {address for container in self.stack.of(service) for address in addresses(container)}
            self.edge.undrain(service, living)
            if left := self.edge.draining(service):
                self.edge.forget(service, left - {""})

    def _workers(self, due: list[str]) -> None:
        size = max(1, self.settings.workers_at_once)
        groups = [due[start : start + size] for start in range(0, len(due), size)]
        for number, group in enumerate(groups, 1):
            with self._doing("workers", f"group {number} of {len(groups)}: {', '.join(group)}"):
                self._touch(group)
                self.rolling.together(group, healthy=False)

    def _coordinator(self, *, waiting: bool) -> None:
        """Replace the coordinator when nothing is queued or running, up to a limit; what is lost then is kept."""
        with self._doing("coordinator", "waiting until no execution is queued or running"):
            backends = [one for one in self.stack.of("backend") if problem_of(one) is None]
            lost: list[str] = []
            if backends:
                seconds = self.settings.executions_wait_seconds if waiting else 0.0
                before = executions.lost_before(self.layout.base)
                try:
                    lost = executions.wait_for_none(
                        lambda: executions.unfinished(backends[0], before), seconds, self._sleep
                    )
                except executions.ExecutionsError as error:
                    self.journal.say("coordinator", "running", str(error))
            if lost:
                self.journal.say("coordinator", "running", f"{len(lost)} executions are lost: {', '.join(lost[:20])}")
            self.lost += lost
            self._touch([COORDINATOR])
            self.rolling.together([COORDINATOR], healthy=False)

    def _up(self, services: list[str]) -> None:
        self._touch(services)
        if services:
            patiently(lambda: self.compose.up(services))

    def _others(self, services: list[str]) -> None:
        """What runs beside the application; that it does not start is told, and takes no good release back."""
        if not services:
            return
        with self._doing("others", f"starting {', '.join(services)}"):
            try:
                self._up(services)
            except EngineLostError:
                raise
            except ComposeError as error:
                self.journal.say("others", "running", str(error))

    def _orphans(self) -> None:
        for service in self.orphans():
            with self._doing("orphans", f"removing {service}, which this release does not have"):
                self._touch([service])
                for container in self.stack.of(service):
                    stop_and_remove(container)

    def _touch(self, services: list[str]) -> None:
        self.touched += [one for one in services if one not in self.touched]

    def _doing(self, step: str, text: str) -> Any:
        self._step = step
        return self.journal.step(step, text)

    # -- for the proof

    def seconds_of_stability(self) -> float:
        """How long ago the last container was started or had to load a file; 0 where one does not run."""
        starts = [started_at(one) for ours in self.stack.containers().values() for one in ours]
        since_start = time.time() - max(starts, default=0.0)
        since_reload = time.monotonic() - self.reloaded if self.reloaded else since_start
        return max(0.0, min(since_start, since_reload))

    def groups(self) -> list[str]:
        """The consumer groups that the release has to be in: today's, and of workers that only it has its own."""
        own = [
            group
            for group in self.release.record.get("consumer_groups") or []
            if _worker_of(group) not in self.settings.workers
        ]
        wanted = dict.fromkeys([*self.settings.consumer_groups, *own])
        return [group for group in wanted if _worker_of(group) in self.hashes]

    def outside(self) -> Outside:
        """How users reach the release. Raises OSError."""
        return Outside(
            https_port=self.release.number("HTTPS_PORT", 443),
            frontend_port=self.release.number("FRONTEND_PORT", 5001),
            server_name=self.settings.server_name,
            ca=Path(self.settings.ca),
            username=self.settings.verify_username,
            passwords=self.passwords(),
        )
