"""Access to the server's Docker Engine through the Docker SDK, shared by this project's modules.

The SDK is Debian's and Ubuntu's package ``python3-docker`` (role ``docker`` installs it).
"""

from __future__ import annotations

import traceback
from typing import Any

DOCKER_IMPORT_ERROR: str | None
docker_errors: Any
try:
    import docker
    import docker.errors

    docker_errors = docker.errors
    DOCKER_IMPORT_ERROR = None
except ImportError:
    docker_errors = None
    DOCKER_IMPORT_ERROR = traceback.format_exc()

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
ONE_OFF_LABEL = "com.docker.compose.oneoff"
WORKING_DIR_LABEL = "com.docker.compose.project.working_dir"


class EngineUnavailableError(Exception):
    """The Docker Engine cannot be asked; the message names why and the cure."""


def connect(timeout: int = 60) -> Any:
    """Return a ``docker.DockerClient`` whose engine has answered.

    :param timeout: seconds that one call of the API may take.
    :raises EngineUnavailableError: the SDK is missing or the engine does not answer.
    """
    if DOCKER_IMPORT_ERROR is not None:
        raise EngineUnavailableError("python3-docker is missing; run playbooks/site.yml, whose role docker installs it")
    try:
        # python3-docker before 6 (Debian 12, Ubuntu 24.04) else speaks a version that Engine 29 refuses
        client = docker.from_env(version="auto", timeout=timeout)
        client.ping()
    except (docker_errors.DockerException, OSError) as error:
        raise EngineUnavailableError(
            f"the Docker Engine does not answer ({error}); see `systemctl status docker`, or run playbooks/site.yml"
        ) from error
    return client


def image_digest(reference: str) -> str | None:
    """Return the digest that an image reference pins (``repo:tag@sha256:…``), or None."""
    return reference.partition("@")[2] or None


SEARCHED_LINES = 5000


def lines_before_restart(container: Any, lines: int = 20) -> str:
    """Return what a container said last before Docker started it again; "" where none of it is kept.

    It writes on into the same log: its last lines are those of a start that went well.
    """
    # both are UTC; without the Z a shorter fraction of a second sorts before a longer one that begins alike
    started = str(container.attrs["State"]["StartedAt"]).rstrip("Z")
    told = container.logs(tail=SEARCHED_LINES, timestamps=True).decode("utf-8", errors="replace").splitlines()
    stamped = (line.partition(" ") for line in told)
    return "\n".join([text for stamp, _, text in stamped if stamp.rstrip("Z") < started][-lines:])


def last_lines(container: Any, lines: int = 20) -> str:
    """Return a container's last log lines as text, for an error message."""
    return str(container.logs(tail=lines).decode("utf-8", errors="replace")).rstrip()
