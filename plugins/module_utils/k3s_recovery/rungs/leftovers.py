"""What outlives k3s' service: containers' shims with their processes, mounts, network interfaces.

Covers what the vendor's k3s-killall.sh does, but for the packet filter: kube-proxy writes its own chains again, and
rewriting the whole filter under a running Docker would lose what Docker adds meanwhile.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from ansible.module_utils.k3s_recovery.machine import Machine

MOUNTS = ("/run/k3s", "/var/lib/kubelet/pods", "/var/lib/kubelet/plugins", "/run/netns/cni-")
INTERFACES = ("cni0", "flannel.1", "flannel-v6.1", "flannel-wg", "flannel-wg-v6", "kube-ipvs0")
ADDRESS_LEASES = "/var/lib/cni"


def processes(proc: Path) -> dict[int, tuple[int, str]]:
    """Each process with its parent and its command line, from /proc."""
    found = {}
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # the name in brackets may hold anything, the fields after it may not
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, ProcessLookupError):
            continue
        found[int(folder.name)] = (int(fields[1]), command.strip())
    return found


def shims_with_children(found: dict[int, tuple[int, str]], data: str) -> list[int]:
    """The shims of k3s' own containerd below its data folder and all that descends from them; parents first."""
    pattern = re.compile(rf"{re.escape(data)}/data/[^/]+/bin/containerd-shim")
    ordered = sorted(pid for pid, (_parent, command) in found.items() if pattern.match(command))
    for pid in ordered:
        ordered += [child for child, (parent, _command) in found.items() if parent == pid and child not in ordered]
    return ordered


def mounts_below(text: str, places: Iterable[str]) -> list[str]:
    """Mount points of /proc/self/mounts at or below the places, the deepest first."""
    paths = [line.split()[1].encode().decode("unicode_escape") for line in text.splitlines() if len(line.split()) > 1]
    return sorted({path for path in paths if path.startswith(tuple(places))}, reverse=True)


def bridge_ports(links: str) -> list[str]:
    """Interfaces of `ip -o link show` that hang on the pods' bridge."""
    lines = [line for line in links.splitlines() if " master cni0 " in line]
    return [line.split(":")[1].strip().partition("@")[0] for line in lines]


def clean(machine: Machine, data: str) -> list[str]:
    """End and take away all of it; what could not be, as sentences."""
    problems = []
    for pid in shims_with_children(processes(machine.path("/proc")), data):
        machine.kill(pid)
    for path in mounts_below(machine.path("/proc/self/mounts").read_text(encoding="utf-8"), MOUNTS):
        done = machine.run(["umount", "-f", path])
        # a process that was killed a moment ago may still hold it
        if done.code != 0 and machine.run(["umount", "-l", path]).code != 0:
            problems.append(f"{path} is still mounted: {done.words}")
    netns = machine.path("/run/netns")
    for space in sorted(netns.glob("cni-*")) if netns.is_dir() else []:
        machine.run(["ip", "netns", "delete", space.name])
    links = machine.run(["ip", "-o", "link", "show"])
    present = {line.split(":")[1].strip().partition("@")[0] for line in links.out.splitlines() if ":" in line}
    for name in [*bridge_ports(links.out), *(name for name in INTERFACES if name in present)]:
        done = machine.run(["ip", "link", "delete", name])
        if done.code != 0:
            problems.append(f"network interface {name} is still there: {done.words}")
    shutil.rmtree(machine.path(ADDRESS_LEASES), ignore_errors=True)
    return problems
