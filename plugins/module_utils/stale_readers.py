"""Containers that have loaded older files than there are: who they are, and having them load the newer ones."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.integr8scode_docker import PROJECT_LABEL, SERVICE_LABEL

# Go's zero time: the container has never been started
NEVER = "0001-01-01T00:00:00Z"


def started_at(container: Any) -> float:
    """Return when a container was last started, seconds since 1970; in the future where it does not run."""
    state = container.attrs["State"]
    if not state["Running"] or state["StartedAt"] == NEVER:
        return float("inf")
    # up to nine digits, without zeros at the end; Python 3.10 reads six and no other number of them
    seconds, _, fraction = state["StartedAt"].removesuffix("Z").partition(".")
    text = f"{seconds}.{fraction[:6]:0<6}"
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


class Readers:
    """The containers of one project and what they read."""

    def __init__(self, client: Any, project: str, marks: Path, *, check_mode: bool) -> None:
        self.client = client
        self.project = project
        self.marks = marks
        self.check_mode = check_mode

    def running(self, service: str) -> list[Any]:
        """Return a service's running containers."""
        labels = [f"{PROJECT_LABEL}={self.project}", f"{SERVICE_LABEL}={service}"]
        found: list[Any] = self.client.containers.list(filters={"label": labels}, ignore_removed=True)
        return found

    def stale(self, service: str, path: Path) -> list[Any]:
        """Return the running containers of a service that started before `path` was last replaced.

        :raises FileNotFoundError: the file is not there.
        """
        replaced_at = path.stat().st_mtime
        return [container for container in self.running(service) if started_at(container) < replaced_at]

    def restart(self, service: str, path: Path) -> bool:
        """Restart what holds an older file. Returns whether there was something.

        :raises FileNotFoundError: the file is not there.
        """
        stale = self.stale(service, path)
        for container in stale:
            if not self.check_mode:
                # with the grace that Compose gave the container
                container.restart(timeout=container.attrs["Config"].get("StopTimeout") or 20)
        return bool(stale)

    def outdated(self, service: str, directories: list[Path]) -> list[Any]:
        """Return the running containers of a service that have loaded older files than those in the directories.

        :raises FileNotFoundError: a directory is not there.
        """
        mark = self.marks / f"{service}.loaded"
        signalled_at = mark.stat().st_mtime if mark.exists() else 0.0
        newest = max(
            (path.stat().st_mtime for directory in directories for path in directory.iterdir() if path.is_file()),
            default=0.0,
        )
        return [one for one in self.running(service) if max(started_at(one), signalled_at) < newest]

    def reload(self, service: str, signal: str, directories: list[Path], *, all_of_it: bool = False) -> bool:
        """Signal what has loaded older files. Returns whether there was something.

        :param all_of_it: whatever the files' times are: the caller has just written one, and a clock may have been set.
        :raises FileNotFoundError: a directory is not there.
        """
        stale = self.running(service) if all_of_it else self.outdated(service, directories)
        if stale and not self.check_mode:
            for container in stale:
                container.kill(signal=signal)
            self.marks.mkdir(exist_ok=True)
            (self.marks / f"{service}.loaded").touch()
        return bool(stale)
