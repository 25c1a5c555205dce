"""What goes into a diagnostics archive, by its place in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.diagnostics.sources import KUBERNETES_KINDS, Source, command, file, kubernetes, value
from ansible.module_utils.integr8scode_docker import PROJECT_LABEL, connect

UNITS = (
    "docker", "containerd", "k3s", "integr8scode", "integr8scode-switch", "integr8scode-backup",
    "integr8scode-renew-kubeconfig", "ssh", "systemd-networkd", "systemd-resolved",
)  # fmt: skip
COMMANDS: dict[str, list[str]] = {
    "system/uname.txt": ["uname", "-a"],
    "system/uptime.txt": ["uptime"],
    "system/memory.txt": ["free", "-m"],
    "system/disks.txt": ["df", "-hT"],
    "system/inodes.txt": ["df", "-i"],
    "system/mounts.txt": ["findmnt", "--df"],
    # names only: arguments and environments may hold anything
    "system/processes.txt": ["ps", "-eo", "pid,ppid,user,rss,pcpu,etimes,stat,comm", "--sort=-rss"],
    "system/clock.txt": ["timedatectl", "show"],
    "system/packages.txt": ["dpkg-query", "-W", "-f=${Package} ${Version} ${db:Status-Abbrev}\n"],
    "system/units.txt": ["systemctl", "list-units", "--all", "--no-pager", "--plain"],
    "system/failed-units.txt": ["systemctl", "status", "--failed", "--no-pager", "--lines=20"],
    "system/timers.txt": ["systemctl", "list-timers", "--all", "--no-pager"],
    "system/kernel.log": ["journalctl", "--dmesg", "--since=-24h", "--no-pager", "--output=short-iso"],
    "network/addresses.txt": ["ip", "-statistics", "address"],
    "network/routes.txt": ["ip", "route", "show", "table", "all"],
    "network/routes6.txt": ["ip", "-6", "route", "show"],
    "network/rules.txt": ["ip", "rule"],
    "network/listeners.txt": ["ss", "-lntup"],
    "network/nftables.txt": ["nft", "list", "ruleset"],
    "network/iptables.txt": ["iptables-save"],
    "docker/version.txt": ["docker", "version"],
    "docker/info.txt": ["docker", "info"],
    "docker/containers.txt": [
        "docker",
        "ps",
        "--all",
        "--no-trunc",
        "--format=table {{.Names}}\t{{.Image}}\t{{.Status}}",
    ],
    "docker/images.txt": ["docker", "images", "--digests"],
    "docker/disk.txt": ["docker", "system", "df", "--verbose"],
    "docker/networks.json": ["docker", "network", "inspect", "bridge", "integr8scode", "integr8scode_proxy"],
    "docker/volumes.txt": ["docker", "volume", "ls"],
    "k3s/version.txt": ["k3s", "--version"],
    "k3s/unit.txt": ["systemctl", "show", "k3s"],
}
FILES = (
    "etc/os-release", "etc/hosts", "etc/resolv.conf", "etc/docker/daemon.json", "etc/rancher/k3s/config.yaml",
    "etc/rancher/k3s/config.yaml.d/*.yaml", "etc/systemd/system/k3s.service", "etc/systemd/system/k3s.service.d/*.conf",
    "etc/systemd/system/integr8scode*", "etc/systemd/system/docker.service.d/*.conf",
    "var/lib/integr8scode/maintenance/*.json", "var/lib/integr8scode/recovery/*/report.json",
    "var/lib/integr8scode/recovery/*/journal.json", "var/lib/integr8scode/runs/*/result.json",
    "var/lib/integr8scode/runs/*/progress.jsonl", "proc/meminfo", "proc/pressure/*",
)  # fmt: skip
PROJECT_FILES = (
    "history.jsonl", "lock/owner.json", "edge/haproxy.cfg", "releases/*/release.json", "current/docker-compose.yaml",
    "current/digests.yaml", "current/.env", "current/haproxy.cfg", "files/*/*",
)  # fmt: skip


def inspect_containers(_earlier: Any) -> list[dict[str, Any]]:
    """`docker inspect` of the project's containers, environments included: for the caller alone.

    Raises EngineUnavailableError.
    """
    client = connect(timeout=8)
    found = client.containers.list(all=True, filters={"label": PROJECT_LABEL}, ignore_removed=True)
    return [one.attrs for one in found]


def _containers(
    inspected: Sequence[Mapping[str, Any]] | None, docker_root: Path, lines: int
) -> Iterator[tuple[str, Source]]:
    if inspected is None:
        # without Docker its files still tell the last words
        for path in sorted(docker_root.glob("containers/*/*-json.log")):
            yield f"logs/containers/{path.parent.name[:12]}.jsonl", file(path, grows=True)
        return
    for one in inspected:
        name = str(one["Name"]).lstrip("/")
        yield f"docker/inspect/{name}.json", value(one)
        argv = ["docker", "logs", "--timestamps", f"--tail={lines}", str(one["Id"])]
        yield f"logs/containers/{name}.log", command(argv, 30)


def contents(
    base: Path,
    inspected: Sequence[Mapping[str, Any]] | None,
    *,
    hours: int,
    lines: int,
    root: Path = Path("/"),
) -> list[tuple[str, Source]]:
    """Place and source of each part, the most telling first: what comes last may be left out for time or size.

    :param inspected: what Docker says of the containers; None where it does not answer.
    :param hours: how far back journals go.
    :param lines: at most so many lines of each log.
    """
    parts: list[tuple[str, Source]] = []
    parts += [(f"project/{path.relative_to(base)}", file(path)) for path in _there(base, PROJECT_FILES)]
    parts += [(place, command(argv)) for place, argv in COMMANDS.items() if not place.startswith("docker/")]
    parts += [(f"files/{path.relative_to(root)}", file(path)) for path in _there(root, FILES)]
    if inspected is not None:
        parts += [(place, command(argv)) for place, argv in COMMANDS.items() if place.startswith("docker/")]
        compose = ["docker", "compose", "--project-directory", str(base / "current"), "ps", "--all", "--format=json"]
        parts.append(("docker/compose-ps.json", command(compose)))
    parts += [(f"k3s/{kind}.json", kubernetes(kind)) for kind in KUBERNETES_KINDS]
    journal = ["journalctl", f"--since=-{hours}h", f"--lines={lines}", "--no-pager", "--output=short-iso"]
    parts += [(f"logs/journal/{unit}.log", command([*journal, f"--unit={unit}"], 30)) for unit in UNITS]
    parts += _containers(inspected, root / "var/lib/docker", lines)
    return parts


def _there(root: Path, patterns: Sequence[str]) -> list[Path]:
    return [path for pattern in patterns for path in sorted(root.glob(pattern)) if path.is_file()]
