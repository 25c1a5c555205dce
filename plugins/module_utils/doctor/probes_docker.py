"""Asks Docker: the engine, the stack's containers, their last words. Read only."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.integr8scode_docker import (
    ONE_OFF_LABEL,
    PROJECT_LABEL,
    SERVICE_LABEL,
    WORKING_DIR_LABEL,
    connect,
)

CALL_SECONDS = 8
LOG_LINES = 250
LINE_LENGTH = 500
RECENT_SECONDS = 900
# variables of the containers that a check needs; no secret is among them
VARIABLES = ("CLUSTER_ID", "KAFKA_HEAP_OPTS", "WEB_CONCURRENCY", "BACKEND_URL")


def memory_of(pid: int, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> dict[str, int]:
    """Anonymous memory (bytes) and the number of OOM kills in the cgroup of a process; {} where that cannot be read."""
    for line in _read(proc / str(pid) / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            folder, words, kills = cgroups / path.lstrip("/"), "anon", "memory.events"
        elif "memory" in controllers.split(","):
            folder, words, kills = cgroups / "memory" / path.lstrip("/"), "total_rss", "memory.oom_control"
        else:
            continue
        found = {}
        used = re.search(rf"(?m)^{words} (\d+)$", _read(folder / "memory.stat"))
        killed = re.search(r"(?m)^oom_kill (\d+)$", _read(folder / kills))
        if used:
            found["used"] = int(used[1])
        if killed:
            found["oom_kills"] = int(killed[1])
        if found:
            return found
    return {}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def kind_of(path: str) -> str:
    """file, directory, other or missing: what stands on the server where a container mounts something from."""
    place = Path(path)
    if place.is_file():
        return "file"
    if place.is_dir():
        return "directory"
    return "other" if place.exists() else "missing"


def describe(attributes: dict[str, Any]) -> dict[str, Any]:
    """What matters of `docker inspect`'s answer for one container; of its environment only `VARIABLES`."""
    state, config, host = attributes["State"], attributes["Config"], attributes["HostConfig"]
    labels = config.get("Labels") or {}
    networks = (attributes.get("NetworkSettings") or {}).get("Networks") or {}
    variables = dict(one.partition("=")[::2] for one in config.get("Env") or [])
    return {
        "id": attributes["Id"],
        "name": attributes["Name"].lstrip("/"),
        "service": labels.get(SERVICE_LABEL, ""),
        "one_off": labels.get(ONE_OFF_LABEL) == "True",
        "working_dir": labels.get(WORKING_DIR_LABEL, ""),
        "image": config.get("Image", ""),
        "state": state["Status"],
        "health": (state.get("Health") or {}).get("Status"),
        "exit_code": state.get("ExitCode", 0),
        "oom_killed": bool(state.get("OOMKilled")),
        "error": state.get("Error", ""),
        "started_at": state.get("StartedAt", ""),
        "restarts": attributes.get("RestartCount", 0),
        "pid": state.get("Pid", 0),
        "memory_limit": host.get("Memory") or 0,
        "restart_policy": (host.get("RestartPolicy") or {}).get("Name", ""),
        "memory": memory_of(state["Pid"]) if state.get("Pid") else {},
        "mounts": [
            {"target": one["Destination"], "source": one.get("Source", ""), "kind": kind_of(one.get("Source", ""))}
            for one in attributes.get("Mounts") or []
        ],
        "variables": {name: variables[name] for name in VARIABLES if name in variables},
        "networks": {name: one.get("IPAddress", "") for name, one in networks.items()},
        "host_gateway": _host_gateway(attributes.get("HostsPath") or ""),
    }


def _host_gateway(hosts: str) -> str:
    """The address that a container calls for host.docker.internal; '' where it has no such name."""
    match = re.search(r"(?m)^(\S+)\s+host\.docker\.internal\b", _read(Path(hosts))) if hosts else None
    return match[1] if match else ""


def look(project: str, base: str) -> dict[str, Any]:
    """The engine and the project's containers, those of another installation apart. Raises EngineUnavailableError."""
    client = connect(timeout=CALL_SECONDS)
    info = client.info()
    found = client.containers.list(all=True, filters={"label": f"{PROJECT_LABEL}={project}"}, ignore_removed=True)
    containers = [describe(one.attrs) for one in found]
    own = [one for one in containers if Path(one["working_dir"]).is_relative_to(base)]
    bridge = client.api.inspect_network("bridge")["IPAM"].get("Config") or [{}]
    return {
        "version": info.get("ServerVersion", ""),
        "root": info.get("DockerRootDir", "/var/lib/docker"),
        "bridge_gateway": bridge[0].get("Gateway", ""),
        "containers": [one for one in own if not one["one_off"]],
        "foreign": sorted(one["name"] for one in containers if one not in own),
    }


def running(docker: dict[str, Any], service: str) -> dict[str, Any] | None:
    """The running container of a service, if there is one."""
    return next((one for one in docker["containers"] if one["service"] == service and one["pid"]), None)


def logs(docker: dict[str, Any]) -> dict[str, list[str]]:
    """The last lines of each container: of the last minutes where it runs, at all where it does not."""
    client = connect(timeout=CALL_SECONDS)
    found = {}
    for one in docker["containers"]:
        since = {"since": int(time.time()) - RECENT_SECONDS} if one["state"] == "running" else {}
        text = client.api.logs(one["id"], tail=LOG_LINES, **since).decode("utf-8", "replace")
        found[one["name"]] = [line[:LINE_LENGTH] for line in text.splitlines() if line.strip()]
    return found
