"""What a release's services should be, by what Compose itself says of them (docker compose config --format json)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

UNITS = {"": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "g": 1 << 30, "gb": 1 << 30}


def size(value: Any) -> int:
    """Bytes of a size as Compose writes it (160m, 1073741824, "167772160")."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(value or 0).lower())
    return int(float(match[1]) * UNITS.get(match[2], 1)) if match else 0


def undollar(value: Any) -> Any:
    """Compose doubles each dollar in what it prints, so that it could read it again."""
    if isinstance(value, str):
        return value.replace("$$", "$")
    if isinstance(value, list):
        return [undollar(one) for one in value]
    if isinstance(value, Mapping):
        return {name: undollar(one) for name, one in value.items()}
    return value


def _mounts(service: Mapping[str, Any], volumes: Mapping[str, Any]) -> list[list[str]]:
    found = []
    for one in service.get("volumes") or []:
        source = str(one.get("source") or "")
        if one["type"] == "volume":
            source = str((volumes.get(source) or {}).get("name") or source)
        found.append([one["type"], source, one["target"], "ro" if one.get("read_only") else "rw"])
    return sorted(found)


def _ports(service: Mapping[str, Any]) -> list[list[Any]]:
    return sorted(
        [one.get("host_ip", ""), int(one.get("published") or 0), f"{one['target']}/{one.get('protocol', 'tcp')}"]
        for one in service.get("ports") or []
        if one.get("published")
    )


def _seconds(value: Any) -> int | None:
    """Seconds of a duration as Compose prints it (1m0s, 40s)."""
    if value in (None, ""):
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|m(?!s)|s|ms|us|ns)", str(value))
    factor = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
    return round(sum(float(number) * factor[unit] for number, unit in parts))


def _limits(service: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    found = {}
    for name, one in (service.get("ulimits") or {}).items():
        single = not isinstance(one, Mapping)
        found[name] = (int(one), int(one)) if single else (int(one["soft"]), int(one["hard"]))
    return found


def capabilities(names: Any) -> list[str]:
    """Capabilities in one spelling: some tools write CAP_CHOWN where others write CHOWN."""
    return sorted(str(name).upper().removeprefix("CAP_") for name in names or [])


def _tmpfs(service: Mapping[str, Any]) -> list[str]:
    found = service.get("tmpfs") or []
    # without options the engine says "/tmp:"
    return sorted(f"{path}:{options}" for path, _, options in (str(one).partition(":") for one in found))


def wanted_of(service: Mapping[str, Any], project: Mapping[str, Any]) -> dict[str, Any]:
    """What a container of a service should be, in the words of `containers.describe_container`."""
    service = undollar(service)
    networks = project.get("networks") or {}
    limits = ((service.get("deploy") or {}).get("resources") or {}).get("limits") or {}
    logging = service.get("logging") or {}
    return {
        "image": service["image"],
        "command": service.get("command"),
        "entrypoint": service.get("entrypoint"),
        "user": service.get("user"),
        "environment": dict(service.get("environment") or {}),
        "mounts": _mounts(service, project.get("volumes") or {}),
        "memory": size(service.get("mem_limit") or limits.get("memory")),
        "cpus": int(float(service.get("cpus") or limits.get("cpus") or 0) * 1e9),
        "ulimits": _limits(service),
        "restart": service.get("restart") or "no",
        "ports": _ports(service),
        "security": sorted(service.get("security_opt") or []),
        "privileged": bool(service.get("privileged")),
        "cap_add": capabilities(service.get("cap_add")),
        "cap_drop": capabilities(service.get("cap_drop")),
        "read_only": bool(service.get("read_only")),
        "tmpfs": _tmpfs(service),
        "pids": int(service.get("pids_limit") or limits.get("pids") or 0),
        "log": {"driver": logging.get("driver", ""), **{k: str(v) for k, v in (logging.get("options") or {}).items()}},
        "health_test": (service.get("healthcheck") or {}).get("test"),
        "extra_hosts": sorted(str(one).replace("=", ":") for one in service.get("extra_hosts") or []),
        "networks": {
            str((networks.get(name) or {}).get("name") or name): str((one or {}).get("ipv4_address") or "")
            for name, one in (service.get("networks") or {}).items()
        },
        "stop_timeout": _seconds(service.get("stop_grace_period")),
        "copies": int((service.get("deploy") or {}).get("replicas") or service.get("scale") or 1),
    }


def published(project: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Address and port of everything that the services of a release publish."""
    found = []
    for one in (project.get("services") or {}).values():
        found += [(str(port[0]), int(port[1])) for port in _ports(one)]
    return sorted(set(found))
