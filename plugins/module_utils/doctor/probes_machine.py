"""Asks the server itself: disks, memory, clock, names, units, and what the project has written down. Read only."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.maintenance.state import DIRECTORY as JOBS

UNITS = (
    "docker.service", "docker.socket", "containerd.service", "k3s.service", "integr8scode.service",
    "integr8scode-switch.service", "integr8scode-backup.timer", "integr8scode-backup.service",
    "integr8scode-renew-kubeconfig.timer", "integr8scode-renew-kubeconfig.service",
)  # fmt: skip
_UNIT_KEYS = "Id,LoadState,UnitFileState,ActiveState,SubState,Result,NRestarts"
HISTORY_LINES = 50


class ProbeRefused(Exception):  # noqa: N818
    """What was asked does not answer; the text says why."""


def command(argv: Sequence[str], timeout: float = 10) -> str:
    """Output of a command. Raises ProbeRefused when it fails, is not there or does not end."""
    shown = " ".join(argv[:3]) + (" …" if len(argv) > 3 else "")
    # without the controller's language, so that words can be compared
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin", "LC_ALL": "C", "HOME": "/root"}
    try:
        done = subprocess.run(argv, capture_output=True, timeout=timeout, check=False, env=environment)
    except subprocess.TimeoutExpired:
        raise ProbeRefused(f"`{shown}` has not ended within {timeout:g} s") from None
    except OSError as error:
        raise ProbeRefused(f"`{argv[0]}` cannot be run ({error.strerror or error})") from error
    if done.returncode:
        words = " ".join(done.stderr.decode(errors="replace").split())[:300]
        raise ProbeRefused(f"`{shown}` failed: {words or f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="replace")


def disks(paths: Sequence[str]) -> list[dict[str, Any]]:
    """Room on each file system below these paths, each once; those that are not there are passed over."""
    found: dict[int, dict[str, Any]] = {}
    for path in paths:
        try:
            device, room = os.stat(path).st_dev, os.statvfs(path)
        except OSError:
            continue
        if not room.f_blocks:
            continue
        found.setdefault(
            device,
            {
                "path": path,
                "free_mib": room.f_bavail * room.f_frsize >> 20,
                "free_percent": round(100 * room.f_bavail / room.f_blocks, 1),
                # some file systems (btrfs) count no inodes
                "inodes_percent": round(100 * room.f_favail / room.f_files, 1) if room.f_files else None,
                "read_only": bool(room.f_flag & os.ST_RDONLY),
            },
        )
    return list(found.values())


def memory() -> dict[str, Any]:
    """Memory and swap in MiB, and the kernel's lines of the last day about processes that it killed for memory."""
    values = {}
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0]) >> 10
    try:
        text = command(["journalctl", "--dmesg", "--since=-24h", "--no-pager", "--output=short-iso", "--lines=20000"])
        killed, problem = [line for line in text.splitlines() if "Killed process" in line][-8:], ""
    except ProbeRefused as error:
        killed, problem = [], str(error)
    return {
        "total_mib": values["MemTotal"],
        "available_mib": values.get("MemAvailable", 0),
        "swap_free_mib": values.get("SwapFree", 0),
        "killed": killed,
        "kernel_log_problem": problem,
    }


def clock() -> dict[str, Any]:
    """The time, and whether something keeps it right. A container's clock is its machine's: nothing here keeps it."""
    before = time.time()
    contained = Path("/run/systemd/container").exists()
    found: dict[str, Any] = {"time": before, "container": contained, "keeper": None, "synchronized": None}
    if contained:
        return found
    text = command(["timedatectl", "show", "--property=NTP,NTPSynchronized"])
    told = dict(line.partition("=")[::2] for line in text.splitlines())
    return {**found, "keeper": told.get("NTP") == "yes", "synchronized": told.get("NTPSynchronized") == "yes"}


def names(wanted: Sequence[str]) -> dict[str, Any]:
    """Each name with its addresses, or why there are none; and the servers that are asked."""
    found: dict[str, Any] = {}
    for name in wanted:
        try:
            answers = socket.getaddrinfo(name, 443, proto=socket.IPPROTO_TCP)
            found[name] = {"addresses": sorted({str(one[4][0]) for one in answers}), "problem": ""}
        except (OSError, UnicodeError) as error:
            found[name] = {"addresses": [], "problem": getattr(error, "strerror", None) or str(error)}
    text = _text(Path("/etc/resolv.conf"))
    return {"names": found, "servers": re.findall(r"(?m)^nameserver\s+(\S+)", text)}


def parse_units(text: str) -> dict[str, dict[str, str]]:
    """`systemctl show` of several units, by name."""
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.strip().split("\n\n")]
    return {block["Id"]: block for block in blocks if block.get("Id")}


def units() -> dict[str, Any]:
    """What systemd says of the units that matter here, and the last lines of a Docker that does not run."""
    found = parse_units(command(["systemctl", "show", *UNITS, f"--property={_UNIT_KEYS}"]))
    lines: list[str] = []
    if found.get("docker.service", {}).get("ActiveState") != "active":
        text = command(["journalctl", "--unit=docker", "--lines=40", "--no-pager", "--output=cat"])
        lines = [line[:600] for line in text.splitlines()]
    return {"units": found, "docker_lines": lines}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _json(path: Path) -> Any:
    """What a file of JSON holds; None where it is not there, {} where it cannot be read."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def records(base: str, backups: str) -> dict[str, Any]:
    """What the project has written down: release, lock, history, maintenance jobs, the newest backup of each kind."""
    root = Path(base)
    current = root / "current"
    history = []
    for line in _text(root / "history.jsonl").splitlines()[-HISTORY_LINES:]:
        # a line that a crash cut off is passed over
        try:
            history.append(json.loads(line))
        except ValueError:
            continue
    environment = dict(re.findall(r"(?m)^(KAFKA_CLUSTER_ID|COMPOSE_PROFILES)=(.*)$", _text(current / ".env")))
    return {
        "release": _json(current / "release.json"),
        "dangling": current.is_symlink() and not current.exists(),
        "environment": environment,
        "lock": _json(root / "lock" / "owner.json"),
        "history": [one for one in history if isinstance(one, dict)],
        "jobs": {path.stem: _json(path) for path in sorted(JOBS.glob("*.json"))} if JOBS.is_dir() else {},
        "backups": _newest(Path(backups)),
    }


def _newest(folder: Path) -> dict[str, float]:
    """When the newest backup of each kind was made, seconds since 1970."""
    found: dict[str, float] = {}
    for path in folder.glob("*-*.tar.gz*") if folder.is_dir() else ():
        if not path.name.endswith(".json"):
            kind = path.name.partition("-")[0]
            found[kind] = max(found.get(kind, 0.0), path.stat().st_mtime)
    return found
