"""Judges the server itself: Docker, units, room, memory, clock, names."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.doctor.finding import Finding, Seen

# below 10 % the kubelet evicts pods; below these nothing that writes works for long
FULL_PERCENT, FULL_MIB, TIGHT_PERCENT = 3.0, 512, 10.0
# what is beside the stack's own limits: k3s by its documentation ("Resource Profiling"), then the system with Docker
K3S_MIB, SYSTEM_MIB = 1362, 381
LITTLE_MIB = 300
CLOCK_WARNING, CLOCK_PROBLEM = 30.0, 120.0  # seconds; a token's validity allows a minute or two
_DOCKER_SIGNS = (
    ("unable to configure the docker daemon with file", "its /etc/docker/daemon.json cannot be used"),
    ("no space left on device", "a disk is full (see the check disk)"),
    ("start request repeated too quickly", "it failed several times in a row, and systemd gave up"),
    ("failed to start containerd", "containerd does not start"),
    ("address already in use", "something else has its socket"),
)


def _unit(seen: Seen, name: str) -> dict[str, str]:
    """What systemd says of a unit; {} where it says nothing."""
    found: dict[str, str] = (seen["units"] or {}).get("units", {}).get(name, {})
    return found


def docker(seen: Seen) -> list[Finding]:
    """Whether Docker answers, and if not, why."""
    answer = seen.answers["docker"]
    if not answer.problem:
        return [Finding("docker", "ok", f"Docker {answer.value['version']} answers.")]
    unit = _unit(seen, "docker.service")
    state = f"{unit['ActiveState']} ({unit.get('Result', '')})" if unit else "not told by systemd"
    why = (
        "Nothing of the stack can be started, stopped or deployed. Containers live on (live-restore), but published "
        "ports on 127.0.0.1 and names inside the stack may be dead."
    )
    if unit and unit.get("LoadState") != "loaded":
        return [Finding("docker", "problem", "Docker is not installed.", why, seen.play("playbooks/site.yml"))]
    lines: list[str] = (seen["units"] or {}).get("docker_lines", [])[-6:]
    text = "\n".join(lines).lower()
    reason = next((meaning for sign, meaning in _DOCKER_SIGNS if sign in text), "")
    cure = "as root on the server: systemctl reset-failed docker; systemctl start docker; journalctl -u docker -n 50"
    if "daemon.json" in reason:
        cure = seen.play("playbooks/site.yml", "--tags docker")
    elif unit.get("ActiveState") == "active":
        cure = "as root on the server (the containers live on): systemctl restart docker; journalctl -u docker -n 50"
    found = f"Docker does not answer: {answer.problem}. Its unit is {state}{'; ' + reason if reason else ''}."
    return [Finding("docker", "problem", found, why, cure, lines=lines)]


def stack_unit(seen: Seen) -> list[Finding]:
    """Whether the stack is stopped and started with the server."""
    unit = _unit(seen, "integr8scode.service")
    if seen["records"]["release"] is None:
        text = "No release was deployed on this server."
        if seen["records"]["dangling"]:
            text = f"{seen.current} points to a release that is not there."
        return [Finding("stack_unit", "problem", text, "Nothing serves.", seen.play("playbooks/site.yml"))]
    site = seen.site
    if unit.get("LoadState") != "loaded":
        why = (
            "The stack is not stopped with its grace when the server goes down: Mongo and Kafka lose their last words."
        )
        return [Finding("stack_unit", "problem", "integr8scode.service is not there.", why, site)]
    if unit.get("ActiveState") == "failed":
        why = "The stack was not started, or not stopped with its grace."
        cure = "as root on the server: journalctl -u integr8scode -n 50; systemctl restart integr8scode"
        found = f"integr8scode.service has failed ({unit.get('Result')})."
        return [Finding("stack_unit", "problem", found, why, cure)]
    if unit.get("UnitFileState") != "enabled":
        why = "After the next boot nothing serves."
        cure = "as root on the server: systemctl enable integr8scode"
        return [Finding("stack_unit", "problem", "integr8scode.service is not enabled.", why, cure)]
    if unit.get("ActiveState") != "active":
        why = "At the next shutdown the containers are killed without their grace. Or somebody has stopped the stack."
        cure = "as root on the server: systemctl start integr8scode"
        found = f"integr8scode.service is {unit.get('ActiveState')}."
        return [Finding("stack_unit", "warning", found, why, cure)]
    return [Finding("stack_unit", "ok", "integr8scode.service is enabled and active.")]


def disk(seen: Seen) -> list[Finding]:
    """Room and inodes of each file system."""
    found = []
    for one in seen["disks"]:
        inodes = one["inodes_percent"]
        room = f"{one['path']} has {one['free_mib']} MiB ({one['free_percent']:g} %) free"
        room += f" and {inodes:g} % of its inodes." if inodes is not None else "."
        full = one["free_percent"] < FULL_PERCENT or one["free_mib"] < FULL_MIB or (inodes or 100) < FULL_PERCENT
        full = full or inodes == 0
        tight = one["free_percent"] < TIGHT_PERCENT or (inodes or 100) < TIGHT_PERCENT
        cure = (
            f"as root on the server, `docker system df; journalctl --disk-usage; du -xh --max-depth=2 {one['path']} | "
            "sort -h | tail` tells what holds the most; safe to free: journalctl --vacuum-size=200M; "
            "docker builder prune -f"
        )
        if inodes is not None and inodes < TIGHT_PERCENT:
            cure = (
                f"as root on the server, what holds the most files: du -x --inodes --max-depth=3 {one['path']} | "
                "sort -n | tail"
            )
        if one["read_only"]:
            why = "Nothing can be written: Mongo, Kafka and k3s stop."
            cure = (
                "as root on the server, `dmesg | tail -n 50` tells why; a broken disk has to be repaired first, "
                f"then: mount -o remount,rw {one['path']}"
            )
            found.append(Finding("disk", "problem", f"{one['path']} is read-only.", why, cure, one["path"]))
        elif full:
            why = "Mongo, Kafka and k3s stop when they cannot write; their data may need a repair."
            found.append(Finding("disk", "problem", room, why, cure, one["path"]))
        elif tight:
            why = "Below 10 % the kubelet evicts pods, and a deploy may be refused."
            found.append(Finding("disk", "warning", room, why, cure, one["path"]))
    if found:
        return found
    least = min(seen["disks"], key=lambda one: one["free_percent"], default=None)
    text = (
        f"The fullest of them, {least['path']}, has {least['free_percent']:g} % free." if least else "None was found."
    )
    return [Finding("disk", "ok" if least else "unknown", text)]


def _limit(one: dict[str, Any]) -> str:
    """Where a container's limit of memory is said; workers are the ones with little."""
    return "integr8scode_worker_memory" if one["memory_limit"] <= 200 << 20 else "its mem_limit in docker-compose.yaml"


def memory(seen: Seen) -> list[Finding]:
    """What is left, and whether the limits of all containers fit beside k3s and the system."""
    told = seen["memory"]
    found = []
    if told["available_mib"] < LITTLE_MIB:
        text = f"Only {told['available_mib']} MiB of {told['total_mib']} MiB of memory are available."
        why = "The kernel will soon kill a program, mostly the largest: Mongo, Kafka or k3s."
        cure = "more memory, or less beside the stack; who has it, on the server: ps -eo rss,comm --sort=-rss | head"
        found.append(Finding("memory", "problem", text, why, cure))
    docker_answer = seen.answers.get("docker")
    containers: list[dict[str, Any]] = (docker_answer.value or {}).get("containers", []) if docker_answer else []
    limits = sum(one["memory_limit"] for one in containers if one["pid"]) >> 20
    budget = limits + K3S_MIB + SYSTEM_MIB
    if limits and budget > told["total_mib"]:
        text = (
            f"The limits of the running containers ({limits} MiB), k3s ({K3S_MIB}) and the system ({SYSTEM_MIB}) add "
            f"up to {budget} MiB; the server has {told['total_mib']}."
        )
        why = "When all of them need what they may have, the kernel kills one."
        cure = "give the server more memory, or take away what runs beside the stack"
        found.append(Finding("memory", "warning", text, why, cure))
    for one in containers:
        used = one["memory"].get("used", 0)
        if one["memory_limit"] and used > 0.95 * one["memory_limit"]:
            text = f"{one['name']} uses {used >> 20} of the {one['memory_limit'] >> 20} MiB that it may have."
            why = "A little more, and the kernel kills it. Workers come close to it at their first start."
            cure = f"raise {_limit(one)}, then: {seen.site}"
            found.append(Finding("memory", "warning", text, why, cure, one["service"]))
    text = f"{told['available_mib']} of {told['total_mib']} MiB are available; the stack's budget is {budget} MiB."
    return found or [Finding("memory", "ok", text)]


def oom(seen: Seen) -> list[Finding]:
    """Programs that the kernel has killed for memory."""
    killed: list[str] = seen["memory"]["killed"]
    why = "A program without memory was killed; its requests and queued work are lost, and it will happen again."
    found = []
    docker_answer = seen.answers.get("docker")
    for one in (docker_answer.value or {}).get("containers", []) if docker_answer else []:
        if one["oom_killed"] or one["memory"].get("oom_kills"):
            text = f"The kernel has killed a process of {one['name']} for reaching its limit of memory."
            cure = f"raise {_limit(one)} (it has {one['memory_limit'] >> 20} MiB), then: {seen.site}"
            found.append(Finding("oom", "problem", text, why, cure, one["service"]))
    if not found and killed:
        cure = "see the check memory; as root on the server: journalctl -k --since -24h | grep -i 'out of memory'"
        text = f"The kernel has killed {len(killed)} processes for memory within a day."
        found.append(Finding("oom", "warning", text, why, cure, lines=killed[-4:]))
    if found:
        return found
    if seen["memory"]["kernel_log_problem"] and (docker_answer is None or docker_answer.problem):
        return [Finding("oom", "unknown", f"The kernel's log: {seen['memory']['kernel_log_problem']}.")]
    return [Finding("oom", "ok", "Nothing was killed for memory.")]


def clock(seen: Seen) -> list[Finding]:
    """The clock against the controller's, and who keeps it."""
    told = seen["clock"]
    why = "Tokens, certificates and the order of events go by it: logins and Kubernetes refuse what is not valid yet."
    cure = "as root on the server: apt-get install -y systemd-timesyncd; timedatectl set-ntp true; timedatectl status"
    here = float(seen.settings.get("controller_time") or 0)
    apart = told["time"] - here if here else 0.0
    if abs(apart) > CLOCK_WARNING:
        status = "problem" if abs(apart) > CLOCK_PROBLEM else "warning"
        side = "ahead of" if apart > 0 else "behind"
        text = f"The server's clock is {abs(apart):.0f} s {side} this machine's (one of them is wrong)."
        return [Finding("clock", status, text, why, cure)]
    if told["container"]:
        return [Finding("clock", "ok", "The clock agrees with this machine's; it is kept by the container's host.")]
    if not told["synchronized"]:
        keeper = "is switched on but has not set it yet" if told["keeper"] else "is switched off"
        text = f"The clock is right now, but NTP {keeper}."
        return [Finding("clock", "warning", text, why, cure)]
    return [Finding("clock", "ok", "The clock agrees with this machine's and is kept by NTP.")]


def dns(seen: Seen) -> list[Finding]:
    """Whether the server finds the registry and what else a deploy needs."""
    told = seen["names"]
    bad = {name: one["problem"] for name, one in told["names"].items() if one["problem"]}
    servers = ", ".join(told["servers"]) or "none"
    if not told["names"]:
        return [Finding("dns", "unknown", "No release names a registry whose name could be asked for.")]
    if not bad:
        names = ", ".join(told["names"])
        return [Finding("dns", "ok", f"Resolved: {names}.")]
    text = "; ".join(f"{name}: {problem}" for name, problem in bad.items())
    why = "A deploy cannot pull images. What runs, runs on."
    cure = (
        "a VPN may have put its own server into /etc/resolv.conf; on the server: "
        f"cat /etc/resolv.conf; resolvectl status; getent hosts {next(iter(bad))}"
    )
    status = "problem" if told["servers"] and len(bad) == len(told["names"]) else "warning"
    if not told["servers"]:
        status, text = "problem", f"/etc/resolv.conf names no server; {text}"
    return [Finding("dns", status, f"Not resolved by {servers}: {text}.", why, cure)]
