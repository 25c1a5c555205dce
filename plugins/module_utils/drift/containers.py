"""What the Docker Engine has: containers, networks, volumes, its own settings; and what the release says of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.drift.engine import SOCKET, Engine, oom_kills
from ansible.module_utils.drift.probes import UnansweredError
from ansible.module_utils.drift.reading import keyed, run
from ansible.module_utils.drift.wanted import capabilities

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
ONE_OFF_LABEL = "com.docker.compose.oneoff"
AT_ONCE = 4  # containers that are inspected at the same time: one that hangs must not hold up the others


def hashed(environment: Mapping[str, str | None], key: bytes) -> dict[str, str]:
    """Environment by name, each value as its keyed hash."""
    return {name: keyed((value or "").encode(), key) for name, value in environment.items()}


def pairs(entries: list[str] | None) -> dict[str, str]:
    """`NAME=value` texts as a dictionary."""
    return dict(entry.partition("=")[::2] for entry in entries or [])


def describe_container(one: Mapping[str, Any], image: Mapping[str, Any], key: bytes) -> dict[str, Any]:
    """What matters of `docker inspect` of a container and of its image; no value of its environment."""
    state, config, host = one["State"], one["Config"], one["HostConfig"]
    labels = config.get("Labels") or {}
    limits = {limit["Name"]: (limit["Soft"], limit["Hard"]) for limit in host.get("Ulimits") or []}
    return {
        "id": one["Id"],
        "name": one["Name"].lstrip("/"),
        "project": labels.get(PROJECT_LABEL, ""),
        "service": labels.get(SERVICE_LABEL, ""),
        "one_off": labels.get(ONE_OFF_LABEL) == "True",
        "state": state["Status"],
        "paused": bool(state.get("Paused")),
        "exit_code": state.get("ExitCode", 0),
        "health": (state.get("Health") or {}).get("Status", ""),
        "has_health": bool((config.get("Healthcheck") or {}).get("Test")) and config["Healthcheck"]["Test"] != ["NONE"],
        "started_at": state.get("StartedAt", ""),
        "restarts": int(one.get("RestartCount", 0)),
        "oom_killed": bool(state.get("OOMKilled")),
        "oom_kills": oom_kills(int(state.get("Pid", 0))),
        "image": config["Image"],
        "image_id": one["Image"],
        "command": config.get("Cmd") or [],
        "entrypoint": config.get("Entrypoint") or [],
        "user": config.get("User") or "",
        "image_command": (image.get("Config") or {}).get("Cmd") or [],
        "image_entrypoint": (image.get("Config") or {}).get("Entrypoint") or [],
        "image_user": (image.get("Config") or {}).get("User") or "",
        "image_environment": hashed(pairs((image.get("Config") or {}).get("Env")), key),
        "environment": hashed(pairs(config.get("Env")), key),
        "mounts": sorted(
            [
                mount["Type"],
                mount.get("Name") if mount["Type"] == "volume" else mount.get("Source", ""),
                mount["Destination"],
                "rw" if mount.get("RW") else "ro",
            ]
            for mount in one.get("Mounts") or []
        ),
        "image_volumes": sorted((image.get("Config") or {}).get("Volumes") or {}),
        "memory": int(host.get("Memory") or 0),
        "cpus": int(host.get("NanoCpus") or 0),
        "pids": int(host.get("PidsLimit") or 0),
        "ulimits": limits,
        "restart": (host.get("RestartPolicy") or {}).get("Name") or "no",
        "ports": sorted(
            [binding.get("HostIp", ""), int(binding["HostPort"] or 0), port]
            for port, bindings in (host.get("PortBindings") or {}).items()
            for binding in bindings or []
        ),
        "security": sorted(host.get("SecurityOpt") or []),
        "privileged": bool(host.get("Privileged")),
        "cap_add": capabilities(host.get("CapAdd")),
        "cap_drop": capabilities(host.get("CapDrop")),
        "read_only": bool(host.get("ReadonlyRootfs")),
        "tmpfs": sorted(f"{path}:{options}" for path, options in (host.get("Tmpfs") or {}).items()),
        "extra_hosts": sorted(host.get("ExtraHosts") or []),
        "log": {
            "driver": (host.get("LogConfig") or {}).get("Type", ""),
            **((host.get("LogConfig") or {}).get("Config") or {}),
        },
        "health_test": (config.get("Healthcheck") or {}).get("Test") or [],
        "networks": {
            name: ((network.get("IPAMConfig") or {}).get("IPv4Address") or "")
            for name, network in ((one.get("NetworkSettings") or {}).get("Networks") or {}).items()
        },
        "stop_timeout": config.get("StopTimeout"),
        "pid": int(state.get("Pid", 0)),
    }


def collect_engine(timeout: float) -> dict[str, Any]:
    """Version and settings that are in force. Raises UnansweredError."""
    engine = Engine(SOCKET, timeout)
    info = engine.get("/info")
    return {
        "version": info["ServerVersion"],
        "root": info["DockerRootDir"],
        "live_restore": bool(info.get("LiveRestoreEnabled")),
        "log_driver": info.get("LoggingDriver", ""),
        "mirrors": sorted(((info.get("RegistryConfig") or {}).get("Mirrors")) or []),
    }


def collect_containers(key: bytes, timeout: float, total: float) -> dict[str, Any]:
    """All containers, each inspected by itself; `hung` names those that the engine could not tell of in time.

    :param timeout: seconds for one answer.
    :param total: seconds for all.
    :raises UnansweredError: the engine does not answer at all.
    """
    listed = Engine(SOCKET, timeout).get("/containers/json", all="1")
    images: dict[str, Any] = {}
    found: dict[str, dict[str, Any]] = {}
    hung: dict[str, str] = {}
    waiting = [(one["Id"], (one.get("Names") or [one["Id"][:12]])[0].lstrip("/")) for one in listed]
    names = dict(waiting)
    guard = threading.Lock()

    def work() -> None:
        engine = Engine(SOCKET, timeout)
        while True:
            with guard:
                if not waiting:
                    return
                number, name = waiting.pop()
            try:
                one = engine.get(f"/containers/{number}/json")
                if one is None:
                    continue  # it was removed meanwhile
                image = images.get(one["Image"])
                if image is None:
                    image = images[one["Image"]] = engine.get(f"/images/{one['Image']}/json") or {}
                described = describe_container(one, image, key)
                with guard:
                    found[number] = described
            except UnansweredError as error:
                with guard:
                    hung[name] = str(error)
            finally:
                with guard:
                    names.pop(number, None)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(AT_ONCE, len(waiting) or 1))]
    for thread in threads:
        thread.start()
    share = total
    for thread in threads:
        thread.join(share)
        if thread.is_alive():
            share = 0.05
    with guard:
        for name in names.values():
            hung.setdefault(name, "the Docker Engine has not told of it in time")
        return {"containers": sorted(found.values(), key=lambda one: str(one["name"])), "hung": dict(hung)}


def collect_networks(timeout: float) -> list[dict[str, Any]]:
    """Docker's networks. Raises UnansweredError."""
    found = []
    for one in Engine(SOCKET, timeout).get("/networks") or []:
        labels = one.get("Labels") or {}
        ipam = ((one.get("IPAM") or {}).get("Config")) or []
        found.append(
            {
                "name": one["Name"],
                "project": labels.get(PROJECT_LABEL, ""),
                "driver": one.get("Driver", ""),
                "internal": bool(one.get("Internal")),
                "subnets": sorted(entry.get("Subnet", "") for entry in ipam),
                "ranges": sorted(entry["IPRange"] for entry in ipam if entry.get("IPRange")),
                "options": one.get("Options") or {},
            }
        )
    return found


def collect_volumes(timeout: float) -> list[dict[str, Any]]:
    """Docker's volumes. Raises UnansweredError."""
    found = (Engine(SOCKET, timeout).get("/volumes") or {}).get("Volumes") or []
    return [
        {
            "name": one["Name"],
            "project": (one.get("Labels") or {}).get(PROJECT_LABEL, ""),
            "driver": one.get("Driver", ""),
            "options": one.get("Options") or {},
        }
        for one in found
    ]


def collect_wanted(release: Path, limit: float) -> dict[str, Any]:
    """The deployed release as Compose itself understands it. Raises UnansweredError."""
    out = run("docker", "compose", "config", "--format", "json", limit=limit, cwd=str(release))
    wanted: dict[str, Any] = json.loads(out)
    return wanted
