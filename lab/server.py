"""How a container becomes a server: the options that depend on this machine.

``lab/create.yml`` reads them from ``LAB_HOME/state/lab.json``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import docker
from docker.errors import APIError

from lab.settings import LabError

IMAGE = "integr8scode-lab/server:13"

FORBIDDEN = {"SYS_MODULE": 16, "SYS_TIME": 25, "WAKE_ALARM": 35}
"""Capabilities that no lab server may have, with their numbers (capabilities(7)): the clock and the kernel belong to
the whole machine."""

SYS_RESOURCE = "SYS_RESOURCE"

_OPTIONS = ["seccomp=unconfined", "apparmor=unconfined"]


@dataclass(frozen=True)
class Host:
    """What the engine's machine allows.

    Attributes:
        cgroup_version: 1 or 2.
        dropped: capabilities to take from a server that otherwise has all.
    """

    cgroup_version: int
    dropped: tuple[str, ...]


def _bounding_set(client: docker.DockerClient, image: str, dropped: list[str]) -> int:
    """The capabilities that a container with these options really has, as a bit mask."""
    container = client.containers.create(
        image,
        ["cat", "/proc/self/status"],
        cap_add=["ALL"],
        cap_drop=dropped,
        security_opt=_OPTIONS,
        network_mode="none",
    )
    try:
        container.start()
        container.wait(timeout=60)
        output = container.logs(stderr=False).decode()
    finally:
        # one that could not be started stays behind otherwise
        container.remove(force=True, v=True)
    found = re.search(r"^CapBnd:\s*([0-9a-f]+)$", output, re.MULTILINE)
    if not found:
        raise LabError(f"the image {image} does not show its capabilities: {output[:200]!r}")
    return int(found[1], 16)


def inspect_host(client: docker.DockerClient, image: str) -> Host:
    """Find out by trying what to take from a server.

    An engine refuses to drop a capability that its machine lacks itself (newer ones do), or fails to start a container
    with all of them unless the lacking one is dropped (older ones do), so asking the kernel would not be enough.

    Args:
        client: the engine.
        image: any Linux image that is there and has ``cat``.

    Raises:
        LabError: no container can be started so, or it could change the machine's clock or kernel.
    """
    version = 2 if str(client.info().get("CgroupVersion", "1")) == "2" else 1
    dropped = []
    for capability in FORBIDDEN:
        try:
            client.containers.create(image, ["true"], cap_drop=[capability], network_mode="none").remove()
        except APIError as error:
            if "invalid CapDrop" not in str(error.explanation):
                raise
            continue
        dropped.append(capability)
    problem = ""
    for attempt in (dropped, [*dropped, SYS_RESOURCE]):
        try:
            mask = _bounding_set(client, image, attempt)
        except APIError as error:
            problem = str(error)
            continue
        held = [name for name, number in FORBIDDEN.items() if mask >> number & 1]
        if held:
            raise LabError(f"this Docker engine gives containers {', '.join(held)} although the lab drops them")
        return Host(version, tuple(attempt))
    raise LabError(f"this Docker engine starts no container that could be a server: {problem}")


def container_options(host: Host) -> dict[str, Any]:
    """Options of ``community.docker.docker_container`` for a server on such a machine.

    With cgroup v1 the container shares the machine's hierarchies, and systemd 257 has to be told to use them (it
    gave v1 up). With cgroup v2 it has a namespace of its own, which ``lab-init`` makes writable.
    """
    legacy = host.cgroup_version == 1
    command = ["systemd.unified_cgroup_hierarchy=0", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"]
    return {
        "command": command if legacy else [],
        "capabilities": ["ALL"],
        "cap_drop": list(host.dropped),
        "security_opts": _OPTIONS,
        "cgroupns_mode": "host" if legacy else "private",
        "tmpfs": ["/run", "/run/lock"],
        "volumes": ["/sys/fs/cgroup:/sys/fs/cgroup:rw"] if legacy else [],
        "restart_policy": "unless-stopped",
    }
