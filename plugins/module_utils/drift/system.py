"""The operating system: packages, units and timers, kernel, clock, disks, memory."""

from __future__ import annotations

import ctypes
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.docker_daemon_common import is_older
from ansible.module_utils.docker_daemon_vendor import is_pinned
from ansible.module_utils.drift.findings import Comparison
from ansible.module_utils.drift.reading import run, text

CLOCK_SECONDS = 60.0
UNIT_PROPERTIES = (
    "Id", "LoadState", "ActiveState", "SubState", "UnitFileState", "FragmentPath", "DropInPaths", "NeedDaemonReload",
    "Result", "NRestarts", "MainPID",
)  # fmt: skip
STA_UNSYNC = 0x0040  # adjtimex(2)


# -- packages


def collect_packages(names: list[str]) -> dict[str, dict[str, str]]:
    """Version and want (`install`, `hold`) of each installed package among `names`. Raises UnansweredError."""
    form = "${Package} ${Version} ${db:Status-Want} ${db:Status-Status}\\n"
    # ends with 1 when it knows none of a name; what it knows it prints all the same
    out = run("dpkg-query", "--show", f"--showformat={form}", *names, codes=(0, 1)) if names else ""
    rows = [line.split() for line in out.splitlines()]
    return {row[0]: {"version": row[1], "want": row[2]} for row in rows if len(row) == 4 and row[3] == "installed"}


def _compare_pin(result: Comparison, wanted: Mapping[str, Any], found: Mapping[str, str]) -> None:
    """Compare a package with its pinned version, and see that it is on hold."""
    name, pin, cure = str(wanted["name"]), str(wanted["pin"]), result.site(str(wanted["role"]))
    if not is_pinned(found["version"], pin):
        result.add("packages", name, "version", expected=pin, found=found["version"], cure=cure)
    if found["want"] != "hold":
        result.add("packages", name, "hold", expected="on hold", found="any upgrade changes its version", cure=cure)


def compare_packages(result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Compare packages: `packages` (name, role, minimum, pin) must be there, `foreign_packages` must not."""
    for wanted in expected.get("packages", []):
        name, cure = str(wanted["name"]), result.site(str(wanted["role"]))
        found = facts.get(name)
        result.count("packages")
        if found is None:
            result.add("packages", name, "missing", expected="installed", found="not installed", cure=cure)
            continue
        pin = str(wanted.get("pin") or "")
        if pin:
            _compare_pin(result, wanted, found)
            continue
        minimum = str(wanted.get("minimum") or "")
        if minimum and is_older(str(found["version"]), minimum):
            result.add(
                "packages",
                name,
                "version",
                expected=f"{minimum} or newer",
                found=found["version"],
                cure=f"By hand: apt-get install --only-upgrade {name}, then {cure}",
                severity="critical",
            )
    for name in expected.get("foreign_packages", []):
        result.count("packages")
        if name in facts:
            result.add(
                "packages",
                name,
                "unknown",
                expected="not installed: it takes the place of the Docker of docker_source",
                found=facts[name]["version"],
                cure=f"By hand: apt-get remove {name} at a moment of your choice, then {result.site('docker')}",
            )


# -- units


def parse_show(out: str) -> dict[str, dict[str, str]]:
    """What `systemctl show` prints of several units, by the name that was asked for (Names holds aliases)."""
    units: dict[str, dict[str, str]] = {}
    for block in out.strip().split("\n\n"):
        values = dict(line.partition("=")[::2] for line in block.splitlines())
        if values.get("Id"):
            units[values["Id"]] = values
    return units


def collect_units(names: list[str]) -> dict[str, dict[str, str]]:
    """What systemd says of these units. Raises UnansweredError."""
    return parse_show(run("systemctl", "show", f"--property={','.join(UNIT_PROPERTIES)}", *names)) if names else {}


def compare_units(result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Compare units: `units` have `name`, `role`, `active`, `enabled` (None: not looked at) and `dropins` (patterns).

    `recovered_by` names the playbook that has it start or succeed again; else the role's does.
    """
    for wanted in expected.get("units", []):
        name, cure = str(wanted["name"]), result.site(str(wanted["role"]))
        start = result.playbook(wanted["recovered_by"]) if wanted.get("recovered_by") else ""
        found = facts.get(name, {})
        result.count("units")
        if found.get("LoadState", "not-found") != "loaded":
            state = found.get("LoadState", "not-found")
            result.add("units", name, "missing", expected="loaded", found=state, cure=cure, severity="critical")
            continue
        if wanted.get("enabled") is not None:
            meant = "enabled" if wanted["enabled"] else "not enabled"
            is_now = found.get("UnitFileState", "")
            if (is_now == "enabled") != bool(wanted["enabled"]):
                result.add("units", name, "enabled", expected=meant, found=is_now, cure=cure, severity="critical")
        if wanted.get("active") and found.get("ActiveState") not in {"active", "reloading"}:
            is_now = f"{found.get('ActiveState')} ({found.get('SubState')})"
            cure = start or cure
            result.add("units", name, "active", expected="active", found=is_now, cure=cure, severity="critical")
        if not wanted.get("active") and found.get("ActiveState") == "failed":
            result.add(
                "units",
                name,
                "result",
                expected="success",
                found=found.get("Result", "failed"),
                cure=str(start or f"By hand: journalctl -u {name} -n 50 says why; then systemctl start {name}"),
            )
        if found.get("NeedDaemonReload") == "yes":
            by_hand = "By hand: systemctl daemon-reload"
            result.add(
                "units",
                name,
                "reload",
                expected="systemd has read its files",
                found="it has read older ones",
                cure=by_hand,
            )
        extra = [path for path in found.get("DropInPaths", "").split() if not _known(path, wanted.get("dropins", []))]
        for path in extra:
            by_hand = f"By hand: move {path} away and run systemctl daemon-reload, or keep it by a rule of drift_ignore"
            result.add(
                "units", name, f"drop-in {path}", expected="no such file", found="it changes the unit", cure=by_hand
            )
        file = wanted.get("file")
        if file and found.get("FragmentPath") and found["FragmentPath"] != file:
            by_hand = f"By hand: remove {found['FragmentPath']} and run systemctl daemon-reload"
            result.add("units", name, "file", expected=file, found=found["FragmentPath"], cure=by_hand)


def _known(path: str, patterns: list[str]) -> bool:
    # below /usr/lib it is a package's
    return path.startswith(("/usr/lib/", "/lib/")) or any(re.fullmatch(pattern, path) for pattern in patterns)


# -- kernel


def collect_kernel(expected: Mapping[str, Any]) -> dict[str, Any]:
    """Kernel modules and settings that are asked for, and whether this server has a kernel of its own."""
    loaded = {line.split()[0] for line in text("/proc/modules").splitlines()}
    modules = {
        name: name.replace("-", "_") in loaded or os.path.isdir(f"/sys/module/{name.replace('-', '_')}")
        for name in expected.get("modules", [])
    }
    settings: dict[str, str | None] = {}
    for name in expected.get("sysctls", {}):
        try:
            settings[name] = " ".join(Path("/proc/sys", *name.split(".")).read_text(encoding="utf-8").split())
        except OSError:
            settings[name] = None
    return {"container": in_container(), "release": os.uname().release, "modules": modules, "settings": settings}


def in_container() -> bool:
    """Whether this server is a container, by the word that systemd leaves at its start."""
    return os.path.exists("/run/systemd/container") or os.path.exists("/.dockerenv")


def compare_kernel(result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Compare `modules` and `sysctls`. In a container the kernel is another's: that is not applicable, never drift."""
    if facts["container"]:
        return
    cure = result.site("k3s")
    for name in expected.get("modules", []):
        result.count("kernel")
        if not facts["modules"].get(name):
            result.add(
                "kernel",
                name,
                "module",
                expected="loaded",
                found="not loaded",
                cure=cure,
                severity="critical",
                absent=True,
            )
    for name, value in expected.get("sysctls", {}).items():
        found = facts["settings"].get(name)
        shown = "the kernel does not have it" if found is None else found
        result.same(
            "kernel",
            name,
            "setting",
            expected=" ".join(str(value).split()),
            found=shown,
            cure=cure,
            severity="critical",
            absent=found is None,
        )


# -- clock


class _Timex(ctypes.Structure):
    """The head of struct timex (adjtimex(2)), and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("room", ctypes.c_byte * 400),
    )


def collect_clock() -> dict[str, Any]:
    """The server's time (seconds since 1970), and whether something keeps it right (None: unknown)."""
    synchronised: bool | None = None
    try:
        # modes 0 only reads
        buffer = _Timex(modes=0)
        if ctypes.CDLL(None).adjtimex(ctypes.byref(buffer)) >= 0:
            synchronised = not buffer.status & STA_UNSYNC
    except (OSError, AttributeError):
        synchronised = None
    return {"time": time.time(), "synchronised": synchronised, "container": in_container()}


def compare_clock(result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Compare the clock with the controller's: `controller_time` (when it was asked) and `clock_max_seconds`.

    The way from the controller to the server takes time, so a server is ahead by that much at least.
    """
    limit = float(expected.get("clock_max_seconds", CLOCK_SECONDS))
    asked = float(expected.get("controller_time", 0) or 0)
    if asked:
        result.count("clock")
        ahead = float(facts["time"]) - asked
        if ahead < -limit or ahead > limit + float(expected.get("way_seconds", 30)):
            word = "ahead of" if ahead > 0 else "behind"
            result.add(
                "clock",
                "time",
                "offset",
                expected=f"at most {limit:g} s from the controller's",
                found=f"{abs(ahead):.0f} s {word} the controller's",
                cure=(
                    "By hand: find out which of both is wrong (date -u on each), and have it keep its time: "
                    "timedatectl set-ntp true"
                ),
                severity="critical",
            )
    if facts["container"] or facts["synchronised"] is None:
        return
    result.same(
        "clock",
        "time",
        "synchronised",
        expected=True,
        found=facts["synchronised"],
        cure="By hand: timedatectl set-ntp true (systemd-timesyncd or chrony must be installed)",
    )


# -- disks and memory


def collect_disks(paths: list[str]) -> list[dict[str, Any]]:
    """Room on the file systems of these paths (or their nearest parents), each file system once."""
    found: dict[int, dict[str, Any]] = {}
    for one in paths:
        path = Path(one)
        while not path.exists():
            path = path.parent
        status = os.statvfs(path)
        device = os.stat(path).st_dev
        if device in found:
            continue
        found[device] = {
            "path": str(path),
            "free_bytes": status.f_bavail * status.f_frsize,
            "free_percent": round(100 * status.f_bavail / status.f_blocks, 1) if status.f_blocks else 100.0,
            # some file systems (btrfs) count no inodes
            "free_inodes_percent": round(100 * status.f_favail / status.f_files, 1) if status.f_files else 100.0,
            "read_only": bool(status.f_flag & os.ST_RDONLY),
        }
    return list(found.values())


def compare_disks(result: Comparison, expected: Mapping[str, Any], facts: list[Mapping[str, Any]]) -> None:
    """Compare room: `min_free_mb`, `min_free_percent` and `min_free_inodes_percent`; critical below a third of it."""
    cure = (
        "By hand: docker system df, journalctl --disk-usage and du -x say what uses it; safe to free: journalctl "
        "--vacuum-size=200M, docker builder prune -f (docker image prune would take the images that a rollback needs)"
    )
    least, percent = int(expected.get("min_free_mb", 2000)), float(expected.get("min_free_percent", 5))
    inodes = float(expected.get("min_free_inodes_percent", 5))
    for disk in facts:
        path = str(disk["path"])
        result.count("disk", 2)
        free = disk["free_bytes"] / 2**20
        if free < least or disk["free_percent"] < percent:
            result.add(
                "disk",
                path,
                "room",
                expected=f"{least} MiB and {percent:g} % free",
                found=f"{free:.0f} MiB, {disk['free_percent']:g} %",
                cure=cure,
                severity="critical" if free < least / 3 or disk["free_percent"] < percent / 3 else "warning",
            )
        if disk["free_inodes_percent"] < inodes:
            result.add(
                "disk",
                path,
                "inodes",
                expected=f"{inodes:g} % free",
                found=f"{disk['free_inodes_percent']:g} %",
                cure="By hand: find the folder with very many files (du --inodes -x / | sort -n | tail) and clear it",
                severity="critical" if disk["free_inodes_percent"] < inodes / 3 else "warning",
            )
        if disk["read_only"]:
            by_hand = (
                "By hand: dmesg says why the kernel mounted it read-only; check the disk, then mount -o remount,rw"
            )
            result.add(
                "disk",
                path,
                "read-only",
                expected="it can be written",
                found="read-only",
                cure=by_hand,
                severity="critical",
            )


def collect_server() -> dict[str, Any]:
    """Memory, pending restarts and what the distribution says."""
    values = dict(line.partition(":")[::2] for line in text("/proc/meminfo").splitlines())
    return {
        "memory_total_mb": int(values["MemTotal"].split()[0]) >> 10,
        "memory_available_mb": int(values["MemAvailable"].split()[0]) >> 10,
        "reboot_required": os.path.exists("/run/reboot-required"),
        "k3s_restart_pending": os.path.exists("/run/k3s-restart.pending"),
        "docker_pending": text("/run/docker-daemon.pending").strip(),
        "hostname": os.uname().nodename,
    }


def compare_server(result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Compare memory with `min_memory_mb`, and tell what waits for a restart."""
    result.count("server", 3)
    least = int(expected.get("min_memory_mb", 0))
    if facts["memory_total_mb"] < least:
        by_hand = (
            "By hand: give the server more memory, or lower integr8scode_min_memory_mb if it is known to be enough"
        )
        result.add(
            "server", "memory", "size", expected=f"{least} MiB", found=f"{facts['memory_total_mb']} MiB", cure=by_hand
        )
    if facts["memory_available_mb"] < int(expected.get("min_available_mb", 200)):
        by_hand = "By hand: docker stats and systemd-cgtop say who uses it"
        result.add(
            "server",
            "memory",
            "available",
            expected=f"{expected.get('min_available_mb', 200)} MiB",
            found=f"{facts['memory_available_mb']} MiB",
            cure=by_hand,
            severity="critical",
        )
    if facts["k3s_restart_pending"]:
        result.add(
            "units",
            "k3s.service",
            "pending",
            expected="runs with its newest files",
            found="waits for a restart",
            cure=result.site("k3s"),
        )
    if facts["docker_pending"]:
        result.add(
            "units",
            "docker.service",
            "pending",
            expected="runs with its newest files",
            found=f"waits for a {facts['docker_pending']}",
            cure=result.site("docker"),
        )
    if facts["reboot_required"]:
        result.notes.append("The distribution wants a reboot (/run/reboot-required).")
