"""Who listens on a TCP port of this server: the program, its process, and the unit or container that it belongs to."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

TCP_LISTEN = "0A"  # include/net/tcp_states.h
SYSTEMD_SECONDS = 5
_CONTAINER = re.compile(r"(?:^|[-:])([0-9a-f]{64})(?:\.scope)?$")


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


def control_group(text: str) -> str:
    """Return the control group that systemd knows a process by, from the text of its /proc/<pid>/cgroup."""
    paths = dict(line.split(":", 2)[1:] for line in text.splitlines() if line.count(":") >= 2)
    # cgroup v2 alone and hybrid have the first, v1 the second
    return next((paths[name] for name in ("", "name=systemd") if paths.get(name, "/") != "/"), "/")


def owner(group: str, init: str) -> tuple[str, str]:
    """Return the unit and the container's id that a control group says, "" for what it does not.

    :param init: the control group of process 1, since a server that is a container itself is below another's.
    """
    root = PurePosixPath(init).parent if init.endswith(".scope") else PurePosixPath(init)
    path = PurePosixPath(group)
    names = (path.relative_to(root) if path.is_relative_to(root) else path).parts
    container = next((match[1] for name in reversed(names) if (match := _CONTAINER.search(name))), "")
    unit = next((name for name in reversed(names) if name.endswith((".service", ".scope"))), "")
    return ("" if container else unit), container


def _socket_unit(port: int) -> str:
    """Return the unit whose socket systemd itself holds on a port; "" where it does not say."""
    try:
        answer = subprocess.run(
            ["systemctl", "list-sockets", "--no-legend", "--no-pager", "--full"],
            capture_output=True,
            text=True,
            timeout=SYSTEMD_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    for line in answer.stdout.splitlines():
        address, *rest = line.split()
        if address.endswith(f":{port}") or address == str(port):
            return next((word for word in rest if word.endswith(".socket")), "")
    return ""


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""


def _describe(process: Path, port: int) -> dict[str, Any]:
    unit, container = owner(control_group(_text(process / "cgroup")), control_group(_text(Path("/proc/1/cgroup"))))
    if process.name == "1":
        unit = _socket_unit(port)
    name = _text(process / "comm").strip() or "unknown"
    return {"name": name, "pid": int(process.name), "unit": unit, "container": container}


def read_listeners(ports: set[int]) -> dict[str, dict[str, Any]]:
    """Return who listens on each port, absent where nobody does.

    Each has `name` (``unknown`` where the kernel does not say), `pid`, `unit` and `container` (its id).
    """
    inodes = listening_inodes(ports, [Path("/proc/net/tcp"), Path("/proc/net/tcp6")])
    if not inodes:
        return {}
    wanted = {f"socket:[{inode}]": port for port, of_port in inodes.items() for inode in of_port}
    holders: dict[int, Path] = {}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            descriptors = list((process / "fd").iterdir())
        except OSError:
            continue  # the process has ended
        for descriptor in descriptors:
            # one that it closes meanwhile hides none of the others
            with suppress(OSError):
                port = wanted.get(os.readlink(descriptor))
                # systemd holds the sockets of units that it starts on demand: the program itself says more
                if port is not None and (port not in holders or holders[port].name == "1"):
                    holders[port] = process
    nobody = {"name": "unknown", "pid": None, "unit": "", "container": ""}
    return {str(port): _describe(holders[port], port) if port in holders else dict(nobody) for port in inodes}
