#!/usr/bin/python
"""What a server has of Integr8sCode, in one look."""

from __future__ import annotations

DOCUMENTATION = r"""
module: integr8scode_state
short_description: What a server has of Integr8sCode
description:
  - Reads, in one execution and without changing anything, the running release, its containers, an installation that
    is not this project's, who holds the ports that the stack publishes, memory and disk.
  - Works before Docker is installed; C(docker.available) is then false.
options:
  base:
    description: Where Integr8sCode is installed.
    type: path
    default: /opt/integr8scode
  project:
    description: Name of the Compose project.
    type: str
    default: integr8scode
  ports:
    description: TCP ports of the server whose listener is looked up.
    type: list
    elements: int
    default: []
  history_lines:
    description: How many of the newest history entries are returned.
    type: int
    default: 5
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Look at the server
  integr8scode_state:
    ports: [443, 5001]
  register: state
"""

RETURN = r"""
release:
  description: release.json of the running release, or null.
  type: dict
  returned: always
history:
  description: The newest entries of history.jsonl, oldest first.
  type: list
  returned: always
seeded:
  description: Path of the password file that the users were last seeded with, or null.
  type: str
  returned: always
time:
  description: The server's clock, seconds since 1970.
  type: float
  returned: always
docker:
  description: C(available), C(error), C(version) of the engine and its C(root) directory.
  type: dict
  returned: always
containers:
  description: Containers of the project by service; each with id, name, image, digest, state, health, started_at,
    restarts, exit_code, oom_killed, working_dir.
  type: dict
  returned: always
foreign:
  description: Containers and volumes of the same Compose project that this project has not made.
  type: dict
  returned: always
listeners:
  description: Who listens on each requested port (program name), absent where nobody does.
  type: dict
  returned: always
memory:
  description: C(total_bytes) and C(available_bytes).
  type: dict
  returned: always
disk:
  description: Free bytes and inodes of the file systems below the base and Docker's root directory.
  type: dict
  returned: always
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.integr8scode_docker import (
    ONE_OFF_LABEL,
    PROJECT_LABEL,
    SERVICE_LABEL,
    WORKING_DIR_LABEL,
    EngineUnavailableError,
    connect,
    image_digest,
)

TCP_LISTEN = "0A"  # include/net/tcp_states.h


def read_release(base: Path) -> dict[str, Any] | None:
    """Return the running release's record, or None where nothing was deployed.

    :raises ValueError: the record is there and cannot be read.
    """
    record = base / "current" / "release.json"
    if not record.exists():
        return None
    try:
        release: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{record} cannot be read ({error}); deploy a release to write it again") from error
    return release


def read_history(base: Path, lines: int) -> list[dict[str, Any]]:
    """Return the newest entries of the history; a line cut off by a crash is passed over."""
    path = base / "history.jsonl"
    if not path.exists() or lines <= 0:
        return []
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries[-lines:]


def read_seeded(base: Path) -> str | None:
    """Return the path of the password file that the users were last seeded with, or None."""
    marker = base / "secrets" / "seeded"
    return marker.read_text(encoding="utf-8").strip() if marker.exists() else None


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
        "working_dir": config["Labels"].get(WORKING_DIR_LABEL, ""),
    }


def read_docker(project: str, base: Path) -> dict[str, Any]:
    """Return the engine's state and the project's containers and volumes."""
    empty: dict[str, Any] = {"containers": {}, "foreign": {"containers": [], "volumes": []}}
    try:
        client = connect(timeout=20)
    except EngineUnavailableError as error:
        return {"docker": {"available": False, "error": str(error), "version": None, "root": None}, **empty}
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
        "foreign": {
            "containers": foreign,
            # data that no release of this project accounts for; a first deploy that was cut off has left its record
            "volumes": [] if any(base.glob("releases/*/release.json")) else volumes,
        },
    }


def listening_inodes(ports: set[int], tables: list[Path]) -> dict[int, set[str]]:
    """Return the socket inodes that listen on each port (format: Linux' Documentation/networking/proc_net_tcp)."""
    found: dict[int, set[str]] = {}
    for table in tables:
        if not table.exists():
            continue
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            port = int(fields[1].rsplit(":", 1)[1], 16)
            if fields[3] == TCP_LISTEN and port in ports:
                found.setdefault(port, set()).add(fields[9])
    return found


def read_listeners(ports: set[int]) -> dict[str, str]:
    """Return the program that listens on each port (``unknown`` where the kernel does not say)."""
    inodes = listening_inodes(ports, [Path("/proc/net/tcp"), Path("/proc/net/tcp6")])
    if not inodes:
        return {}
    wanted = {f"socket:[{inode}]": port for port, of_port in inodes.items() for inode in of_port}
    listeners = {str(port): "unknown" for port in inodes}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            for descriptor in (process / "fd").iterdir():
                port = wanted.get(os.readlink(descriptor))
                if port is not None:
                    listeners[str(port)] = (process / "comm").read_text(encoding="utf-8").strip()
        except OSError:
            continue  # the process has ended
    return listeners


def read_memory() -> dict[str, int]:
    """Return total and available memory in bytes."""
    values = {}
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0]) * 1024
    return {"total_bytes": values["MemTotal"], "available_bytes": values["MemAvailable"]}


def free_space(path: Path) -> dict[str, Any]:
    """Return free bytes and inodes of the file system that holds a path (or its nearest existing parent)."""
    while not path.exists():
        path = path.parent
    stat = os.statvfs(path)
    return {
        "path": str(path),
        "free_bytes": stat.f_bavail * stat.f_frsize,
        # some file systems (btrfs) count no inodes
        "free_inodes": stat.f_favail if stat.f_files else None,
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "base": {"type": "path", "default": "/opt/integr8scode"},
            "project": {"type": "str", "default": "integr8scode"},
            "ports": {"type": "list", "elements": "int", "default": []},
            "history_lines": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    base = Path(module.params["base"])
    try:
        release = read_release(base)
    except ValueError as error:
        module.fail_json(msg=str(error))
    engine = read_docker(module.params["project"], base)
    docker_root = Path(engine["docker"]["root"] or "/var/lib/docker")
    module.exit_json(
        changed=False,
        release=release,
        history=read_history(base, module.params["history_lines"]),
        seeded=read_seeded(base),
        time=time.time(),
        listeners=read_listeners(set(module.params["ports"])),
        memory=read_memory(),
        disk={"base": free_space(base), "docker": free_space(docker_root)},
        **engine,
    )


if __name__ == "__main__":
    main()
