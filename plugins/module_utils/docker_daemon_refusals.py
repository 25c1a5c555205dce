"""What the module docker_daemon_packages refuses, before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.docker_daemon_common import (
    COMPOSE_PACKAGES,
    ENGINE_PACKAGES,
    FOREIGN_PACKAGES,
    DockerDaemonError,
    System,
    is_older,
)
from ansible.module_utils.docker_daemon_engine import Daemon

CURE = {
    "distribution": (
        "Enable the distribution's updates (noble-updates on Ubuntu 24.04), install Debian 13 or Ubuntu 24.04, or set "
        "docker_source: vendor on a server that has no Docker yet."
    ),
    "vendor": "Raise docker_vendor_*_version.",
}


def minimum_of(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Package -> oldest version, for the engine and Compose by every name that they have in this source."""
    source = parameters["source"]
    return {
        ENGINE_PACKAGES[source]: parameters["engine_min_version"],
        **dict.fromkeys(COMPOSE_PACKAGES[source], parameters["compose_min_version"]),
    }


def refuse_old(versions: Mapping[str, str], parameters: Mapping[str, Any], system: System) -> None:
    """Raise DockerDaemonError when the engine's or Compose's version is older than its minimum."""
    for package, lowest in minimum_of(parameters).items():
        if package not in versions:
            continue  # Compose's name on another system
        version = versions[package]
        if not version:
            raise DockerDaemonError(
                f"{package} is not there although apt-get said that it installed it on {system.name}."
            )
        if is_older(version, lowest):
            raise DockerDaemonError(
                f"{package} {version} on {system.name} is older than {lowest}, the oldest that works here (health "
                f"checks' start_interval, Compose's waiting). {CURE[parameters['source']]}"
            )


def refuse_foreign(present: Mapping[str, str], source: str, system: System) -> None:
    """Raise DockerDaemonError when this server has Docker from another source: a change of source is made by hand."""
    foreign = [name for name in FOREIGN_PACKAGES[source] if name in present]
    if not foreign:
        return
    others = {"distribution": f"from another source than {system.name}", "vendor": "which Docker's repository replaces"}
    back = ""
    if {"distribution": "docker-ce", "vendor": "docker.io"}[source] in foreign:
        back = f" To keep it instead: docker_source: {'vendor' if source == 'distribution' else 'distribution'}."
    raise DockerDaemonError(
        f"This server has {', '.join(foreign)}, {others[source]} (docker_source: {source}). To install over it would "
        "stop every container at a moment that you did not choose. Change it by hand: stop the stack (systemctl stop "
        "integr8scode) and what else runs (docker stop), then apt-get remove --allow-change-held-packages "
        f"{' '.join(foreign)}, then run this again. No container runs meanwhile; images, containers and volumes in "
        f"/var/lib/docker stay, as long as nothing is purged.{back} Nothing has been changed."
    )


def refuse_interruption(daemon: Daemon, packages: list[str], *, allowed: bool) -> None:
    """Raise DockerDaemonError when the restart that comes with an upgrade would stop running containers."""
    running = daemon.running_containers() if packages and not allowed else []
    if running and not daemon.api("/info").get("LiveRestoreEnabled"):
        raise DockerDaemonError(
            f"Another version of {', '.join(packages)} restarts Docker, and with live-restore off that would stop "
            f"{len(running)} running containers ({', '.join(running[:8])}). Set docker_live_restore: true and let it "
            "be applied with the present versions first, or docker_allow_container_restart: true when you may stop "
            "them. Nothing has been changed."
        )
