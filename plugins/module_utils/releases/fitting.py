"""Whether a release fits the server as it is, and the one before could be put back: asked before anything changes."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

from ansible.module_utils.integr8scode_docker import docker_errors
from ansible.module_utils.releases.compose import Compose, ComposeError, EngineLostError
from ansible.module_utils.releases.containers import Stack, patiently
from ansible.module_utils.releases.layout import Layout, Release
from ansible.module_utils.server_state.listeners import read_listeners
from ansible.module_utils.server_state.stack import networks, published_ports

NETWORKS = {
    "STACK_SUBNET": ("integr8scode", "subnet"),
    "PROXY_SUBNET": ("integr8scode_proxy", "subnet"),
    "PROXY_IP_RANGE": ("integr8scode_proxy", "ip_range"),
}
"""Variables of a release, and what each says of which network."""
EDGE_ADDRESS = "EDGE_PROXY_ADDRESS"
PORTS = ("HTTPS_PORT", "FRONTEND_PORT", "EDGE_ADMIN_PORT")


class RefusedError(Exception):
    """The release cannot be switched to; nothing that runs was changed."""


def refuse_misfit(release: Release, layout: Layout, stack: Stack) -> None:
    """Refuse a release that this server's networks and ports have no place for.

    And one from which there would be no way back to the release that serves.

    :raises RefusedError: with every cause and its cure.
    :raises EngineLostError: the engine stays away.
    """
    there = patiently(lambda: _asked(stack))
    causes = [*_networks(release, layout.base, there["networks"]), *_ports(release, there["published"])]
    if previous := layout.current_release():
        causes += _way_back(previous, release)
    if causes:
        raise RefusedError("\n".join(causes))


def _asked(stack: Stack) -> dict[str, dict[str, Any]]:
    """The project's networks, and what containers publish. Raises what `patiently` bears."""
    try:
        return {
            "networks": networks(stack.client, stack.project),
            "published": published_ports(stack.client, stack.project),
        }
    except docker_errors.APIError as error:
        raise EngineLostError(str(error)) from error


def _networks(release: Release, base: Path, there: dict[str, dict[str, str]]) -> list[str]:
    """Where the release wants other addresses than the networks that are there have."""
    causes = []
    for variable, (name, part) in NETWORKS.items():
        wanted, now = release.value(variable), there.get(name, {}).get(part, "")
        if wanted and now and ipaddress.ip_network(wanted) != ipaddress.ip_network(now):
            causes.append(f"release {release.id} has {variable} {wanted}, and the stack's network {name} has {now}.")
    proxy, address = there.get("integr8scode_proxy", {}), release.value(EDGE_ADDRESS)
    if not causes and address and proxy.get("subnet"):
        edge, subnet = ipaddress.ip_address(address), ipaddress.ip_network(proxy["subnet"])
        others = ipaddress.ip_network(proxy["ip_range"]) if proxy.get("ip_range") else None
        if edge not in subnet or (others is not None and edge in others):
            causes.append(
                f"release {release.id} has {EDGE_ADDRESS} {address}, which is not in the stack's network "
                f"integr8scode_proxy {subnet}, or in its part {others}, which containers get."
            )
    if causes:
        causes.append(
            "A network keeps its addresses while containers are in it, and no deploy or rollback stops all of them. "
            f"Cure: ship that tag with today's addresses (ansible-playbook deploy.yml -e tag={release.tag}); or, "
            "when users can do without for some minutes, remove containers and networks (volumes stay) and run again: "
            f"as root on the server, cd {base}/current && docker compose down"
        )
    return causes


def _ports(release: Release, published: dict[str, dict[str, Any]]) -> list[str]:
    """Where somebody else has a port that the release publishes."""
    wanted = {value: variable for variable in PORTS if (value := release.value(variable))}
    free = {port: name for port, name in wanted.items() if not published.get(port, {}).get("ours")}
    listeners = read_listeners({int(port) for port in free}) if free else {}
    causes = []
    for port, variable in free.items():
        holder = listeners.get(port)
        if holder is None and port not in published:
            continue
        who = f"container {published[port]['name']}" if holder is None or port in published else _process(holder)
        causes.append(
            f"release {release.id} publishes port {port} ({variable}), which is taken by {who}. Cure: free it "
            f"(`ss -ltnp` on the server tells more), or ship that tag with today's ports "
            f"(ansible-playbook deploy.yml -e tag={release.tag})"
        )
    return causes


def _process(holder: dict[str, Any]) -> str:
    return f"{holder['name']} (pid {holder['pid']})" if holder["pid"] else "a process that the server does not show"


def _way_back(previous: Release, release: Release) -> list[str]:
    """Why the release that serves could not be put back."""
    if previous.id == release.id:
        return []
    try:
        patiently(Compose(previous).hashes)
    except (ComposeError, OSError) as error:
        cause = (
            f"release {previous.id} serves, and could not be put back if {release.id} were no good: {error}. Cure: "
            f"mend what `docker compose config` says in {previous.path}, and run again. To go on without a way back: "
            f"remove {previous.path / 'release.json'}"
        )
        return [cause]
    return []
