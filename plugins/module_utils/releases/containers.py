"""The project's containers as the engine sees them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from ansible.module_utils.integr8scode_docker import (
    ONE_OFF_LABEL,
    PROJECT_LABEL,
    SERVICE_LABEL,
    EngineUnavailableError,
    connect,
    docker_errors,
    last_lines,
    lines_before_restart,
)
from ansible.module_utils.releases.compose import EngineLostError
from ansible.module_utils.releases.layout import PROJECT

HASH_LABEL = "com.docker.compose.config-hash"
ENGINE_SECONDS = 90.0
"""How long a switch waits for an engine that went away: systemd starts it again within seconds."""

T = TypeVar("T")


class ServiceError(Exception):
    """A service is not what it should be; the text says which, what was found, and shows its container's last lines.

    With `again`, where Docker has started it again, those from before that.
    """

    def __init__(self, problem: str, containers: list[Any] | None = None, *, again: bool = False) -> None:
        logs = "".join(f"\nLast lines of {one.name}:\n{_lines(one, again)}" for one in containers or [])
        super().__init__(problem + "." + logs)
        self.problem = problem


def _lines(container: Any, again: bool) -> str:
    try:
        # one that is down at the moment has said nothing since it ended
        before = lines_before_restart(container) if again and container.attrs["State"]["Status"] == "running" else ""
        return before or last_lines(container)
    except (docker_errors.DockerException, OSError) as error:
        return f"(they cannot be read: {error})"


def patiently(call: Callable[[], T], *, seconds: float = ENGINE_SECONDS) -> T:
    """Call, and call again while the engine is away; whatever is called must bear that.

    :raises EngineLostError: it stays away.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except (EngineLostError, EngineUnavailableError, ConnectionError) as error:
            if time.monotonic() >= deadline:
                raise EngineLostError(f"the Docker Engine has been away for {seconds:.0f} s: {error}") from error
        except OSError as error:
            # requests' own errors; anything of the file system is no matter of patience
            if not type(error).__module__.startswith(("requests", "urllib3")) or time.monotonic() >= deadline:
                raise
        time.sleep(1)


class Stack:
    """The containers of the Compose project.

    project: its name.
    """

    def __init__(self, project: str = PROJECT) -> None:
        self.project = project
        self._client: Any = None

    @property
    def client(self) -> Any:
        """The engine's client. Raises EngineUnavailableError."""
        if self._client is None:
            self._client = connect()
        return self._client

    def containers(self, service: str | None = None) -> dict[str, list[Any]]:
        """Containers by service, running or not, the oldest first; throw-away ones are left out."""

        def listed() -> list[Any]:
            labels = [f"{PROJECT_LABEL}={self.project}"] + ([f"{SERVICE_LABEL}={service}"] if service else [])
            try:
                found: list[Any] = self.client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
            except docker_errors.APIError as error:
                raise EngineLostError(str(error)) from error
            return found

        by_service: dict[str, list[Any]] = {}
        for container in sorted(patiently(listed), key=lambda one: str(one.attrs["Created"])):
            if container.labels.get(ONE_OFF_LABEL) != "True":
                by_service.setdefault(container.labels[SERVICE_LABEL], []).append(container)
        return by_service

    def of(self, service: str) -> list[Any]:
        """A service's containers, the oldest first."""
        return self.containers(service).get(service, [])


class Snapshot(Stack):
    """The containers as one moment had them, asked for once: for a look at them that changes nothing."""

    def __init__(self, project: str = PROJECT) -> None:
        super().__init__(project)
        self._seen: dict[str, list[Any]] | None = None

    def containers(self, service: str | None = None) -> dict[str, list[Any]]:
        """As ``Stack`` says."""
        if self._seen is None:
            self._seen = super().containers()
        return self._seen if service is None else {service: self._seen.get(service, [])}


def is_of(container: Any, wanted: str) -> bool:
    """Whether a container was made from the definition with this hash."""
    return bool(container.labels.get(HASH_LABEL) == wanted)


def addresses(container: Any) -> set[str]:
    """The container's addresses in all of its networks."""
    networks: dict[str, Any] = container.attrs["NetworkSettings"]["Networks"]
    return {str(network["IPAddress"]) for network in networks.values() if network.get("IPAddress")}


def problem_of(container: Any) -> str | None:
    """Why a container is not running and healthy; None when it is."""
    state = container.attrs["State"]
    if state["Status"] != "running":
        oom = ", killed for want of memory" if state.get("OOMKilled") else ""
        return f"is {state['Status']} (exit code {state['ExitCode']}{oom})"
    health = state.get("Health", {}).get("Status", "healthy")
    return {"healthy": None, "starting": "is not healthy yet"}.get(health, f"is {health}")


def health_of(container: Any) -> str:
    """``starting``, ``healthy`` or ``unhealthy`` of a running container with a health check; "" of any other."""
    state = container.attrs["State"]
    return str(state.get("Health", {}).get("Status", "")) if state["Status"] == "running" else ""


def restarts_of(containers: Iterable[Any]) -> dict[str, int]:
    """How often Docker has restarted each container so far, by id: what comes on top is news."""
    return {one.id: int(one.attrs["RestartCount"]) for one in containers}


def death_of(container: Any, before: Mapping[str, int]) -> str | None:
    """How a container has ended since, be it that Docker started it again; None when it has not.

    :param before: its restarts until then, from `restarts_of`; one that is not there was made since.
    """
    if container.attrs["State"]["Status"] in ("exited", "dead", "restarting"):
        return problem_of(container)
    if container.attrs["RestartCount"] > before.get(container.id, 0):
        return "has ended, and Docker started it again,"
    return None


def stop_and_remove(container: Any) -> None:
    """Stop a container with the grace that it was made with, and remove it; it may be gone already.

    Volumes without a name, which some images ask for, go with it: nothing else would ever remove them.

    :raises OSError: the engine refuses.
    """
    grace = container.attrs["Config"].get("StopTimeout") or 10
    try:
        patiently(partial(container.stop, timeout=grace))
        patiently(partial(container.remove, v=True, force=True))
    except docker_errors.NotFound:
        # by hand, or in the call whose answer was lost with the engine
        return


def wait_until_well(
    stack: Stack,
    service: str,
    wanted: str,
    deadline: float,
    *,
    limit: float,
    before: Mapping[str, int],
    without: Collection[str] = (),
    pause: float = 0.5,
) -> list[Any]:
    """Wait until every container of a service's new definition runs and is healthy; those containers.

    :param wanted: the definition's hash.
    :param before: restarts until now, from `restarts_of`.
    :param without: ids of containers that do not count, since they are replaced for their own sake.
    :param deadline: by ``time.monotonic()``.
    :param limit: what to call the deadline in the error, seconds.
    :raises ServiceError: there is none, one has ended, or the time is over.
    """
    while True:
        found_all = stack.of(service)
        ours = [one for one in found_all if is_of(one, wanted) and one.id not in without]
        if not ours:
            # it was created before this is called
            raise ServiceError(f"no container of {service} is what the release says it should be", found_all)
        for container in ours:
            if death := death_of(container, before):
                raise ServiceError(f"the new {service} {death} soon after its start", [container], again=True)
        found = [problem for problem in map(problem_of, ours) if problem]
        if not found:
            return ours
        if time.monotonic() > deadline:
            raise ServiceError(f"after {limit:.0f} s {service} {found[0]}", ours)
        time.sleep(pause)
