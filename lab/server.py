"""How a container becomes a server: the options that depend on this machine.

``lab/create.yml`` reads them from ``LAB_HOME/state/lab.json``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import docker
from docker.errors import APIError, ContainerError

IMAGE = "integr8scode-lab/server:13"

DROPPED = ("SYS_TIME", "SYS_MODULE", "WAKE_ALARM")
"""The clock and the kernel belong to the whole machine: no lab server may touch them."""


@dataclass(frozen=True)
class Host:
    """What the engine's machine allows.

    Attributes:
        cgroup_version: 1 or 2.
        has_sys_resource: whether containers can get CAP_SYS_RESOURCE (some sandboxes lack it themselves).
    """

    cgroup_version: int
    has_sys_resource: bool


def inspect_host(client: docker.DockerClient, image: str) -> Host:
    """Ask the engine, and try the capability with a container that does nothing.

    Args:
        client: the engine.
        image: any Linux image that is there.
    """
    version = 2 if str(client.info().get("CgroupVersion", "1")) == "2" else 1
    try:
        client.containers.run(image, ["true"], remove=True, cap_add=["SYS_RESOURCE"], network_mode="none")
    except (APIError, ContainerError):
        return Host(version, False)
    return Host(version, True)


def container_options(host: Host) -> dict[str, Any]:
    """Options of ``community.docker.docker_container`` for a server on such a machine.

    With cgroup v1 the container shares the machine's hierarchies, and systemd 257 has to be told to use them (it
    gave v1 up). With cgroup v2 it has a namespace of its own, which ``lab-init`` makes writable.
    """
    legacy = host.cgroup_version == 1
    dropped = [*DROPPED, *([] if host.has_sys_resource else ["SYS_RESOURCE"])]
    command = ["systemd.unified_cgroup_hierarchy=0", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"]
    return {
        "command": command if legacy else [],
        "capabilities": ["ALL"],
        "cap_drop": dropped,
        "security_opts": ["seccomp=unconfined", "apparmor=unconfined"],
        "cgroupns_mode": "host" if legacy else "private",
        "tmpfs": ["/run", "/run/lock"],
        "volumes": ["/sys/fs/cgroup:/sys/fs/cgroup:rw"] if legacy else [],
        "restart_policy": "unless-stopped",
    }
