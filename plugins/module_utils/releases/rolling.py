"""Replacing one service's containers: a second copy beside the first, or in place, or in small groups."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.releases.compose import Compose
from ansible.module_utils.releases.containers import (
    ServiceError,
    Stack,
    addresses,
    death_of,
    health_of,
    is_of,
    patiently,
    problem_of,
    restarts_of,
    stop_and_remove,
    wait_until_well,
)
from ansible.module_utils.releases.edge import Edge

MEGABYTE = 1024 * 1024
SPARE_MEGABYTES = 64
"""What has to stay free beside a second copy."""
SETTLE_SECONDS = 2.0
"""How long a group of workers is watched before the next one: what cannot start at all has ended by then. What ends
later is found in the stable window."""
LOADING_SECONDS = 30.0
"""A group that still loads is waited for as long as this: each worker takes a processor for some 8 s."""
LOADING_SHARE = 0.3
"""Of a processor: a worker that takes more is still loading; one that waits for work takes next to none."""
ENOUGH_PROCESSORS = 8
"""With so many all workers may load at once, and who serves still has one."""


def available_megabytes() -> int:
    """Memory that a new program could have. Raises OSError."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) // 1024


def few_processors() -> bool:
    """Whether loading workers take the processors from who serves."""
    return (os.cpu_count() or 1) < ENOUGH_PROCESSORS


def processor_seconds(container: Any) -> float:
    """Seconds of processor that a container's first process has had, 0 where that cannot be told."""
    try:
        text = Path(f"/proc/{int(container.attrs['State'].get('Pid') or 0)}/stat").read_text(encoding="utf-8")
        # the name in brackets may hold anything, the fields after it may not
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0


def limit_megabytes(container: Any) -> int:
    """A container's memory limit; 0 for none."""
    return int(container.attrs["HostConfig"]["Memory"] or 0) // MEGABYTE


@dataclass(frozen=True)
class Leaving:
    """A copy that gets nothing new and is still to be stopped.

    Attributes:
        service: whose.
        container: the copy.
        addresses: its own, as long as it ran.
        since: when it was drained, by ``time.monotonic()``.
    """

    service: str
    container: Any
    addresses: set[str]
    since: float


class Rolling:
    """Replaces containers of one release's services.

    compose: of the release to get to.
    stack: the containers.
    edge: in front of them.
    hashes: what each service's containers are to be labelled with.
    replaceable: services whose container is replaced too when it runs as defined but is unhealthy.
    say: takes a sentence for who follows.
    """

    def __init__(
        self,
        compose: Compose,
        stack: Stack,
        edge: Edge,
        hashes: dict[str, str],
        say: Callable[[str], None],
        *,
        healthy_seconds: float,
        drain_seconds: float,
        stream_seconds: float,
        replaceable: Collection[str] = (),
    ) -> None:
        self.compose, self.stack, self.edge, self.hashes, self.say = compose, stack, edge, hashes, say
        self.healthy_seconds = healthy_seconds
        self.drain_seconds, self.stream_seconds = drain_seconds, stream_seconds
        self.replaceable = replaceable
        # ids of containers that are to be replaced for another reason: they have loaded files that are old now
        self.outdated: set[str] = set()
        self.leaving: list[Leaving] = []
        # restarts of what ran when a service's new copy was started ahead of its turn
        self.ahead: dict[str, dict[str, int]] = {}

    def stale(self, service: str) -> list[Any]:
        """A service's containers that have to go: of another definition, or unhealthy where that counts."""
        return [
            one for one in self.stack.of(service) if not is_of(one, self.hashes[service]) or self.is_sick(service, one)
        ]

    def is_sick(self, service: str, container: Any) -> bool:
        """Whether a container is to be replaced although it runs as defined: one that is just starting is not."""
        unhealthy = service in self.replaceable and health_of(container) == "unhealthy"
        return unhealthy or container.id in self.outdated

    def due(self, services: Iterable[str]) -> list[str]:
        """Services that are not, each in one container, what they should be; stopped and unhealthy ones included."""
        found = self.stack.containers()
        due = []
        for service in services:
            ours = found.get(service, [])
            if (
                len(ours) != 1
                or not is_of(ours[0], self.hashes[service])
                or ours[0].attrs["State"]["Status"] != "running"
                or self.is_sick(service, ours[0])
            ):
                due.append(service)
        return due

    def sick_after_start(self, services: Sequence[str]) -> list[str]:
        """Wait until none of the services is just starting, then those that have turned unhealthy.

        What a start may take is its health check's own business; more than the limit for a new container is not waited.
        """
        deadline = time.monotonic() + self.healthy_seconds
        while True:
            found = self.stack.containers()
            ours = {service: found.get(service, []) for service in services}
            starting = any(health_of(one) == "starting" for of_one in ours.values() for one in of_one)
            if not starting or time.monotonic() > deadline:
                return [name for name, of_one in ours.items() if any(self.is_sick(name, one) for one in of_one)]
            time.sleep(0.5)

    # -- what takes requests

    def beside(self, service: str, along: Sequence[str] = ()) -> None:
        """Start the new copy, let the edge send requests to it and none to the old one, which `retire` stops.

        :param along: services whose turn comes after this one: a new copy of theirs starts meanwhile, where that is
            simple, and gets no request before its turn.
        :raises ServiceError: the new copy does not get healthy; the old one serves on.
        :raises EdgeError: the edge does not find it, likewise.
        :raises ComposeError: it could not be started.
        """
        wanted = self.hashes[service]
        for one in self.stack.of(service):
            if one.attrs["State"]["Status"] not in ("running", "restarting"):
                stop_and_remove(one)
        before = self.ahead.pop(service, None) or restarts_of(self.stack.of(service))
        old = self.stale(service)
        for one in [one for one in old if self.is_sick(service, one)]:
            # one stays until there is a better one; a second one that helps nobody only takes its memory
            if len(old) > 1:
                self._drain(service, one)
                self.retire()
                old.remove(one)
        ids = {one.id for one in old}
        deadline = time.monotonic() + self.healthy_seconds
        if not any(one.id not in ids for one in self.stack.of(service)):
            numbers = {service: len(old) + 1, **self._along(along, beside=service)}
            for name in numbers:
                self.edge.hold(name)
            scales = [word for name, number in numbers.items() for word in ("--scale", f"{name}={number}")]
            patiently(lambda: self.compose.up(numbers, "--no-recreate", *scales))
        (new, *more) = wait_until_well(
            self.stack, service, wanted, deadline, limit=self.healthy_seconds, before=before, without=ids
        )
        self.edge.wait_for(service, addresses(new), deadline)
        self.edge.undrain(service, addresses(new))
        self.say(f"the new {service} ({new.short_id}) takes requests")
        for one in [*old, *more]:
            self._drain(service, one)

    def _along(self, services: Sequence[str], *, beside: str) -> dict[str, int]:
        """Which services' new copies start ahead of their turn, and how many copies each has then."""
        needed = max(map(limit_megabytes, self.stack.of(beside)), default=0)
        numbers = {}
        for service in services:
            found = self.stack.of(service)
            if len(found) != 1 or problem_of(found[0]) or is_of(found[0], self.hashes[service]):
                continue
            needed += limit_megabytes(found[0])
            if available_megabytes() < needed + SPARE_MEGABYTES:
                break
            self.ahead[service] = restarts_of(found)
            numbers[service] = 2
        return numbers

    def _drain(self, service: str, container: Any) -> None:
        known = addresses(container)
        self.edge.drain(service, known)
        self.leaving.append(Leaving(service, container, known, time.monotonic()))

    def retire(self) -> None:
        """Stop and remove the drained copies: each when what it has is answered, with its grace.

        :raises EdgeError: the edge does not answer; those that are left serve what they have.
        """
        gone: dict[str, set[str]] = {}
        while self.leaving:
            one = self.leaving[0]
            left = self.edge.wait_drained(
                one.service, one.addresses, one.since, requests=self.drain_seconds, streams=self.stream_seconds
            )
            if left:
                what = f"{left} requests or event streams of the old {one.service}"
                self.say(f"{what} were still open when their time was over")
            stop_and_remove(one.container)
            gone.setdefault(one.service, set()).update(one.addresses)
            del self.leaving[0]
        # a service's all at once: one that the edge still looks for must not be made ready for another's sake
        for service, addresses_gone in gone.items():
            self.edge.forget(service, addresses_gone)

    def in_place(self, service: str) -> None:
        """Stop the old copy, then start the new one: without room for both there is no other way.

        :raises ServiceError: the new copy does not get healthy.
        :raises ComposeError: it could not be started.
        """
        deadline = time.monotonic() + self.healthy_seconds
        wanted, before = self.hashes[service], restarts_of(self.stack.of(service))
        self._remove_sick([service])
        patiently(lambda: self.compose.up([service], "--scale", f"{service}=1"))
        (new, *_) = wait_until_well(self.stack, service, wanted, deadline, limit=self.healthy_seconds, before=before)
        self.edge.wait_for(service, addresses(new), deadline)
        self.edge.undrain(service, addresses(new))

    def has_copy(self, service: str) -> bool:
        """Whether a copy of the wanted definition is there already: started ahead, or healthy, in a switch that was cut
        off."""
        return service in self.ahead or any(
            is_of(one, self.hashes[service]) and problem_of(one) is None and not self.is_sick(service, one)
            for one in self.stack.of(service)
        )

    def has_room_for(self, service: str) -> bool:
        """Whether a second copy of a service fits into the memory that is free, by its limit."""
        running = self.stack.of(service)
        return not running or available_megabytes() >= max(map(limit_megabytes, running)) + SPARE_MEGABYTES

    # -- what takes none

    def together(self, services: Sequence[str], *, healthy: bool) -> None:
        """Replace services, each in its place: stopped with its grace before its successor starts.

        :param healthy: whether to wait for their health checks; else they only must not end at once, and where
            processors are few, have loaded before the next ones do.
        :raises ServiceError: one does not come up.
        :raises ComposeError: it could not be started.
        """
        deadline = time.monotonic() + self.healthy_seconds
        before = restarts_of(one for ours in self.stack.containers().values() for one in ours)
        self._remove_sick(services)
        patiently(lambda: self.compose.up(services))
        if healthy:
            for service in services:
                wanted = self.hashes[service]
                wait_until_well(self.stack, service, wanted, deadline, limit=self.healthy_seconds, before=before)
            return
        began = seen_at = time.monotonic()
        used: dict[str, float] = {}
        loading = few_processors()
        while True:
            found = self.stack.containers()
            ours = [(service, one) for service in services for one in found.get(service, [])]
            for service, container in ours:
                if death := death_of(container, before):
                    raise ServiceError(f"the new {service} {death} soon after its start", [container], again=True)
            now = time.monotonic()
            if loading and now - seen_at >= 1:
                had, used = used, {one.id: processor_seconds(one) for _, one in ours}
                enough = LOADING_SHARE * (now - seen_at)
                loading = not had or any(used[name] - had.get(name, 0.0) > enough for name in used)
                seen_at = now
            if now - began > (LOADING_SECONDS if loading else SETTLE_SECONDS):
                return
            time.sleep(0.5)

    def _remove_sick(self, services: Sequence[str]) -> None:
        """Compose would leave an unhealthy container as it is: of its definition it is."""
        for service in services:
            for one in self.stack.of(service):
                if is_of(one, self.hashes[service]) and self.is_sick(service, one):
                    stop_and_remove(one)
