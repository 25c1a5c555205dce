"""Judges the machine: system, memory, disks, clock, names, control groups, kernel, packages.

Runs on the controller, which loads this file by its path: it needs nothing but the standard library. Each cause is a
dict of `check`, `found` (with the place), `why` and `cure`. What is not in the facts was not asked and is not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

SUPPORTED = {"debian": ("12", "13"), "ubuntu": ("22.04", "24.04")}
VENDOR_ONLY = {"debian": ("12",), "ubuntu": ("22.04",)}
"""Systems whose own packages the role docker refuses (plugins/module_utils/docker_daemon_common.py)."""
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
MIB = 2**20
IMAGE_INODES = 20000
LOCKED_TOO_LONG = 600.0  # seconds; the roles wait for apt half as long
ON_SERVER = "as root on the server"

Cause = dict[str, str]
Facts = Mapping[str, Any]


def cause(check: str, found: str, why: str, cure: str) -> Cause:
    """One cause; whole sentences but for `cure`, which may be a command."""
    return {"check": check, "found": found, "why": why, "cure": cure}


def system(facts: Facts, needs: Facts) -> list[Cause]:
    """The distribution, the processor, and systemd."""
    told = facts.get("system")
    if not told:
        return []
    found = []
    known = ", ".join(f"{name.capitalize()} {' and '.join(versions)}" for name, versions in SUPPORTED.items())
    if told["version"] not in SUPPORTED.get(told["id"], ()):
        why = "Docker's packages and what the roles know of them are of other systems."
        found.append(cause("system", f"The system is {told['name']}.", why, f"install one of these on it: {known}"))
    elif told["version"] in VENDOR_ONLY.get(told["id"], ()) and needs.get("docker_source") == "distribution":
        why = "This project needs Compose v2 and Engine 25."
        cure = "docker_source: vendor in the inventory takes Docker's own packages (roles/docker/README.md)"
        found.append(cause("system", f"{told['name']} itself has no Docker that is new enough.", why, cure))
    if told["machine"] not in MACHINES:
        why = "The images and k3s are built for amd64 and arm64."
        found.append(cause("processor", f"The processor is {told['machine']}.", why, "take a server with one of these"))
    if not told["systemd"]:
        why = "Docker, k3s, the stack and its timers are units of systemd."
        cure = "boot the system with systemd: apt-get install -y systemd-sysv, then reboot"
        found.append(cause("systemd", "Process 1 is not systemd.", why, cure))
    return found


def memory(facts: Facts, needs: Facts) -> list[Cause]:
    """All memory; swap is told, and does not count."""
    told, least = facts.get("memory"), int(needs["memory_mb"])
    total = told["total_bytes"] // MIB if told else least
    if told is None or total >= least:
        return []
    swap = told.get("swap_bytes", 0) // MIB
    text = f"The server has {total} MiB of memory, and {swap} MiB of swap, which does not count."
    why = f"The stack with k3s needs {least} MiB; with less the kernel kills Mongo, Kafka or k3s."
    setting = int(needs.get("memory_setting", least))
    cure = f"give the server more memory, or lower integr8scode_min_memory_mb (now {setting}) if you know better"
    if setting < least:
        cure = "give the server more memory, or take a profile out of integr8scode_profiles, whose services count"
    return [cause("memory", text, why, cure)]


def disks(facts: Facts, needs: Facts) -> list[Cause]:
    """Room, inodes and the right to write, each file system once."""
    rooms: dict[Any, dict[str, Any]] = {}
    for name, place in (facts.get("disk") or {}).items():
        least, setting = (
            (int(needs["disk_mb"]), needs.get("disk_setting", "integr8scode_min_free_disk_mb"))
            if name in {"base", "docker"}
            else (int(needs["reserve_mb"]), "integr8scode_reserve_disk_mb")
        )
        room = rooms.setdefault(place.get("device", place["path"]), {**place, "paths": [], "least": 0, "setting": ""})
        if place["path"] not in room["paths"]:
            room["paths"].append(place["path"])
        if least > room["least"]:
            room.update(least=least, setting=setting)
    return [found for room in rooms.values() for found in _disk(room)]


def _disk(room: Mapping[str, Any]) -> list[Cause]:
    paths, first = ", ".join(room["paths"]), room["paths"][0]
    found = []
    if room.get("read_only"):
        why = "Nothing can be installed or stored there. The kernel does that after errors of a disk."
        cure = f"{ON_SERVER}, `dmesg | tail -n 50` tells why; the disk repaired: mount -o remount,rw {first}"
        found.append(cause("read_only", f"The file system of {paths} is read-only.", why, cure))
    free = room["free_bytes"] // MIB
    if free < room["least"]:
        why = f"A run needs {room['least']} MiB there ({room['setting']}): images, releases, data."
        cure = (
            f"{ON_SERVER}, `du -xh --max-depth=2 {first} | sort -h | tail` and `docker system df` tell what holds the "
            "most; safe to free: journalctl --vacuum-size=200M; apt-get clean"
        )
        found.append(cause("disk", f"{paths} has {free} MiB free.", why, cure))
    inodes = room.get("free_inodes")
    if inodes is not None and inodes < IMAGE_INODES:
        why = f"An image needs some {IMAGE_INODES}: the disk is full of files, whatever room it has."
        cure = f"{ON_SERVER}: du -x --inodes --max-depth=3 {first} | sort -n | tail"
        found.append(cause("inodes", f"{paths} has only {inodes} inodes free.", why, cure))
    return found


def clock(facts: Facts, needs: Facts) -> list[Cause]:
    """The server's clock against this machine's: outside of the time that the question took, by more than a limit."""
    asked, now = facts.get("asked"), facts.get("time")
    if not asked or now is None:
        return []
    before, after = asked
    apart = now - before if now < before else max(0.0, now - after)
    limit = float(needs["clock_seconds"])
    if abs(apart) <= limit:
        return []
    told = facts.get("clock") or {}
    keeper = ""
    if told.get("keeper") is not None:
        keeper = " NTP is on and has not set it." if told["keeper"] else " NTP is off."
    if told.get("synchronized"):
        keeper = " The server says that NTP keeps it: look at this machine's clock first."
    side = "ahead of" if apart > 0 else "behind"
    text = f"The server's clock is {abs(apart):.0f} s {side} this machine's; one of them is wrong.{keeper}"
    why = (
        f"More than {limit:g} s (integr8scode_max_clock_difference_seconds) make certificates and tokens count as "
        "ended or not begun, and apt refuse its lists."
    )
    cure = f"{ON_SERVER}: apt-get install -y systemd-timesyncd; timedatectl set-ntp true; timedatectl status"
    if told.get("container"):
        cure = "set the clock of the machine that the container runs on"
    return [cause("clock", text, why, cure)]


def names(facts: Facts, needs: Facts) -> list[Cause]:
    """The names that this run has to find."""
    told: Mapping[str, str] = facts.get("names") or {}
    wanted = [name for name in needs["names"] if told.get(name)]
    if not wanted:
        return []
    servers = ", ".join(facts.get("servers") or []) or "none, /etc/resolv.conf names no server"
    said = "; ".join(f"{name}: {told[name]}" for name in wanted)
    why = "What is downloaded from there cannot be had."
    cure = (
        f"{ON_SERVER}: cat /etc/resolv.conf; resolvectl status; getent hosts {wanted[0]} (a VPN may have put its own "
        "server there; without a route to the Internet: docs/air-gap.md)"
    )
    return [cause("dns", f"Not resolved (asked: {servers}): {said}.", why, cure)]


def control_groups(facts: Facts, _needs: Facts) -> list[Cause]:
    """Controllers that limits of containers and pods need. A container has those of its machine."""
    told = facts.get("cgroup")
    if not told or facts.get("container") or not told["missing"]:
        return []
    text = f"The kernel offers no control group for {', '.join(told['missing'])} (cgroup v{told['version']})."
    why = "Limits of containers and pods do nothing without, and k3s does not start."
    cure = "boot with control groups of version 2: systemd.unified_cgroup_hierarchy=1 on the kernel's command line"
    if "memory" in told["missing"]:
        cure = (
            "add to the kernel's command line (/etc/default/grub, then update-grub; on a Raspberry Pi "
            "/boot/firmware/cmdline.txt): cgroup_enable=memory cgroup_memory=1, then reboot"
        )
    return [cause("cgroup", text, why, cure)]


def kernel(facts: Facts, _needs: Facts) -> list[Cause]:
    """Kernel modules that k3s and Docker need. A container cannot load any: its machine has them."""
    told = facts.get("kernel")
    if not told or facts.get("container") or not told["missing"]:
        return []
    text = f"The kernel {told['release']} has no module {', '.join(told['missing'])}."
    why = "Networks of containers and pods, and their file systems, need it."
    cure = "reboot with the distribution's own kernel (apt-get install linux-image-amd64, or -arm64)"
    if not told["folder"]:
        text += f" /lib/modules/{told['release']} is not there: the kernel was upgraded since the server was booted."
        cure = "reboot"
    return [cause("kernel", text, why, cure)]


def open_files(facts: Facts, needs: Facts) -> list[Cause]:
    """Whether a container can be given as many open files as the stack's get."""
    told, wanted = facts.get("open_files"), int(needs.get("open_files") or 0)
    if not told or wanted <= told["possible"]:
        return []
    most = told["possible"]
    text = f"A container on this server can have {most} open files at most, and integr8scode_nofile_limit is {wanted}."
    why = "Mongo and Kafka would not start: Docker may not set a higher limit than the server's own."
    cure = f"integr8scode_nofile_limit: {most} in the inventory, or have the hoster raise the server's limit"
    return [cause("open_files", text, why, cure)]


def packages(facts: Facts, _needs: Facts) -> list[Cause]:
    """Packages that are half installed, a lock that nobody gives back, another Docker or Kubernetes."""
    told = facts.get("packages")
    if not told:
        return []
    found, lock = [], told["lock"]
    if (told["broken"] or told["interrupted"]) and not lock:
        some = ", ".join(told["broken"][:5]) + (" …" if len(told["broken"]) > 5 else "")
        text = f"dpkg was interrupted{': ' + some if some else ''}."
        cure = f"{ON_SERVER}: dpkg --configure -a; apt-get -f install"
        found.append(cause("dpkg", text, "apt installs nothing until that is repaired.", cure))
    if lock and lock["seconds"] > LOCKED_TOO_LONG:
        text = (
            f"{lock['name'] or 'A program'} (pid {lock['pid']}), which was started {lock['seconds'] / 60:.0f} minutes "
            "ago, holds apt's lock."
        )
        cure = f"wait for its end and run again; {ON_SERVER} `ps -fp {lock['pid']}` tells what it is at"
        found.append(cause("apt_lock", text, "Nothing can be installed meanwhile.", cure))
    why = "Two of a kind fight for ports, networks and the firewall's rules, and `docker` may mean the other one."
    return found + [
        cause("other_software", f"{name} is installed.", why, f"{ON_SERVER}: {remove}")
        for name, remove in told["others"]
    ]


def k3s(facts: Facts, _needs: Facts) -> list[Cause]:
    """What k3s itself could not run with; each sentence has its cure already."""
    told = facts.get("k3s") or {}
    return [
        cause("k3s", problem.replace("Nothing has been changed.", "").strip(), "", "")
        for problem in told.get("problems", ())
    ]


JUDGES: tuple[Callable[[Facts, Facts], list[Cause]], ...] = (
    system, memory, disks, clock, names, control_groups, kernel, open_files, packages, k3s,
)  # fmt: skip


def causes(facts: Facts, needs: Facts) -> list[Cause]:
    """Everything that is wrong with a machine.

    :param facts: of the module integr8scode_state, with those of its `server` beside them, and `asked`, this machine's
        clock before and after the question.
    :param needs: `memory_mb`, `disk_mb`, `reserve_mb`, `clock_seconds`, `names` (that this run has to find),
            `open_files` (that the stack's containers get).
    """
    return [found for judge in JUDGES for found in judge(facts, needs)]


def notes(facts: Facts) -> list[str]:
    """What is worth a word and stops nothing."""
    said = []
    lock = (facts.get("packages") or {}).get("lock")
    if lock and lock["seconds"] <= LOCKED_TOO_LONG:
        said.append(
            f"{lock['name'] or 'a program'} (pid {lock['pid']}) is at work with apt; the run waits for its end."
        )
    own = facts.get("own_name") or {}
    if own.get("problem"):
        said.append(
            f"the server's own name {own['name']} has no address ({own['problem']}), which makes sudo slow. Add it to "
            f"its /etc/hosts: 127.0.1.1 {own['name']}"
        )
    said += [f"{name} could not be looked at: {problem}." for name, problem in (facts.get("unknown") or {}).items()]
    return said
