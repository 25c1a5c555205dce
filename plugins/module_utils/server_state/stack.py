"""The stack on the Docker Engine: containers, images, and what of the same name this project has not made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.integr8scode_docker import (
    ONE_OFF_LABEL,
    PROJECT_LABEL,
    SERVICE_LABEL,
    WORKING_DIR_LABEL,
    EngineUnavailableError,
    connect,
    image_digest,
)

CALL_SECONDS = 15


def describe_container(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return what matters of ``docker inspect``'s answer for one container."""
    state = attributes["State"]
    config = attributes["Config"]
    return {
        "id": attributes["Id"],
        "name": attributes["Name"].lstrip("/"),
        "image": config["Image"],
        "digest": image_digest(config["Image"]),
        "state": state["Status"],
        "health": state.get("Health", {}).get("Status"),
        "started_at": state["StartedAt"],
        "restarts": attributes["RestartCount"],
        "exit_code": state["ExitCode"],
        "oom_killed": state["OOMKilled"],
        "memory_bytes": attributes.get("HostConfig", {}).get("Memory", 0),
        "working_dir": config["Labels"].get(WORKING_DIR_LABEL, ""),
    }


def pinned_name(image: str) -> str:
    """Return ``repository@digest`` of a pinned reference, as the engine lists images; "" for one without a digest."""
    name, at, digest = image.partition("@")
    if not at:
        return ""
    head, colon, tail = name.rpartition(":")
    repository = head if colon and "/" not in tail else name
    # the engine leaves out what stands for Docker Hub
    for prefix in ("docker.io/library/", "docker.io/"):
        repository = repository.removeprefix(prefix)
    return f"{repository}@{digest}"


def local_images(client: Any) -> set[str]:
    """Return ``repository@digest`` of every image that the engine has."""
    return {digest for image in client.api.images() for digest in image.get("RepoDigests") or []}


def published_ports(client: Any, project: str) -> dict[str, dict[str, Any]]:
    """Return the container that publishes each TCP port: its name, and whether it is of the project."""
    return {
        str(port["PublicPort"]): {
            "name": str((container.get("Names") or ["?"])[0]).lstrip("/"),
            "ours": (container.get("Labels") or {}).get(PROJECT_LABEL) == project,
        }
        for container in client.api.containers()
        for port in container.get("Ports") or []
        if port.get("PublicPort") and port.get("Type") == "tcp"
    }


def networks(client: Any, project: str) -> dict[str, dict[str, str]]:
    """Return the project's networks by name: `subnet`, and `ip_range`, the part that containers get addresses from."""
    found = {}
    for network in client.api.networks(filters={"label": f"{PROJECT_LABEL}={project}"}):
        (config, *_) = (network.get("IPAM") or {}).get("Config") or [{}]
        found[str(network["Name"])] = {
            "subnet": str(config.get("Subnet") or ""),
            "ip_range": str(config.get("IPRange") or ""),
        }
    return found


def read_docker(project: str, base: Path) -> dict[str, Any]:
    """Return the engine's state, the project's containers and volumes, and ``images``, what `local_images` says.

    ``images`` is None where the engine does not answer.
    """
    empty: dict[str, Any] = {
        "containers": {},
        "published": {},
        "foreign": {"containers": [], "volumes": []},
        "networks": {},
        "images": None,
    }
    try:
        try:
            return _read(connect(timeout=CALL_SECONDS), project, base)
        except OSError as error:
            # it has answered the first call and not a later one; the SDK's own errors of calls are OSErrors too
            said = f"the Docker Engine does not answer ({error}); see `systemctl status docker`"
            raise EngineUnavailableError(said) from error
    except EngineUnavailableError as error:
        return {"docker": {"available": False, "error": str(error), "version": None, "root": None}, **empty}


def _read(client: Any, project: str, base: Path) -> dict[str, Any]:
    """What `read_docker` returns of an engine that answers. Raises OSError."""
    info = client.info()
    containers: dict[str, list[dict[str, Any]]] = {}
    foreign: list[dict[str, str]] = []
    label = f"{PROJECT_LABEL}={project}"
    for container in client.containers.list(all=True, filters={"label": label}, ignore_removed=True):
        described = describe_container(container.attrs)
        labels = container.attrs["Config"]["Labels"]
        ours = Path(described["working_dir"]).is_relative_to(base)
        if not ours:
            foreign.append({"name": described["name"], "working_dir": described["working_dir"]})
        elif labels.get(ONE_OFF_LABEL) != "True":
            containers.setdefault(labels[SERVICE_LABEL], []).append(described)
    volumes = sorted(volume.name for volume in client.volumes.list(filters={"label": label}))
    return {
        "docker": {"available": True, "error": None, "version": info["ServerVersion"], "root": info["DockerRootDir"]},
        "containers": containers,
        "published": published_ports(client, project),
        "foreign": {
            "containers": foreign,
            # data that no release of this project accounts for; a first deploy that was cut off has left its record,
            # and `current` stays where the only record was broken and removed
            "volumes": [] if (base / "current").is_symlink() or any(base.glob("releases/*/release.json")) else volumes,
        },
        "networks": networks(client, project),
        "images": local_images(client),
    }
