"""Judges what is on a server already: a switch at work, another installation, ports that are taken, Kubernetes.

And what of the inventory cannot be on it: another base or other networks than the running ones.

Runs on the controller, which loads this file by its path: it needs nothing but the standard library. Causes are as in
causes_machine.py.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

Cause = dict[str, str]
DOCKER_UNIT = "docker.service"
K3S_UNIT = "k3s.service"
SSH_UNITS = ("ssh.service", "sshd.service", "ssh.socket", "sshd.socket")
# what stands in the folder names of an installation that this project has made (releases/layout.py)
_OURS = re.compile(r"(?P<base>/.+)/(?:releases/[^/]+|current)")
EDGE_SOCKET = "edge/run/admin.sock"
HIGHEST_PORT = 65535
SOCKET_PATH_BYTES = 107  # unix(7): 108 with the zero at its end


def _cause(check: str, found: str, why: str, cure: str) -> Cause:
    return {"check": check, "found": found, "why": why, "cure": cure}


def work(state: Mapping[str, Any]) -> list[Cause]:
    """Whether the server switches at this moment; whose lock is left over is judged when it is taken."""
    switching = state.get("switching", False)
    if switching is None:
        text = "systemd does not answer, so nobody knows whether it switches between releases at this moment."
        why = "No switch could be started."
        return [_cause("systemd", text, why, "see `systemctl status` on the server; run again when it answers")]
    if not switching:
        return []
    who = (state.get("lock") or {}).get("description") or "nobody knows whose."
    text = f"The server switches between releases at this moment: {who}"
    cure = "wait for its end (`journalctl -fu integr8scode-switch` on the server shows it), then run again"
    return [_cause("switch", text, "It goes on without its controller.", cure)]


def current(state: Mapping[str, Any]) -> list[Cause]:
    """Whether a release could take the place of the running one."""
    problem = state.get("current_problem")
    return [_cause("release", problem, "", "")] if problem else []


def another_installation(state: Mapping[str, Any], base: str = "") -> list[Cause]:
    """Containers or volumes of the same Compose project that this project has not made, or has made elsewhere."""
    foreign = state["foreign"]
    if not foreign["containers"] and not foreign["volumes"]:
        return []
    where = sorted({entry["working_dir"] for entry in foreign["containers"]})
    ours = {match["base"] for one in where if (match := _OURS.fullmatch(one))}
    if len(ours) == 1 and all(_OURS.fullmatch(one) for one in where):
        (elsewhere,) = ours
        text = f"Integr8sCode is installed in {elsewhere} on this server, and integr8scode_base is {base}."
        why = "Releases, secrets and containers hold the paths of their base, and nothing moves them."
        cure = (
            f"put integr8scode_base back to {elsewhere}, and kubernetes_access_directory to {elsewhere}/kubeconfig; "
            "another base is for a fresh server"
        )
        return [_cause("installation", text, why, cure)]
    names = sorted(entry["name"] for entry in foreign["containers"]) or foreign["volumes"]
    text = (
        "Another installation with the Compose project name 'integr8scode' is on this server"
        f"{' (from ' + ', '.join(where) + ')' if where else ''}: {', '.join(names)}."
    )
    cure = (
        "move its data away and remove it (`docker compose down` in its folder keeps the volumes, `down --volumes` "
        "deletes them)"
    )
    return [_cause("installation", text, "Deploying would seize its containers and volumes.", cure)]


def _is_ours(state: Mapping[str, Any], port: str, holder: Mapping[str, Any]) -> bool:
    """Whether k3s or the stack holds it, as on every second run."""
    if holder["unit"] == K3S_UNIT:
        return True
    # without a userland proxy the engine itself holds them
    if holder["name"] not in {"docker-proxy", "dockerd"}:
        return False
    published = state.get("published", {}).get(port)
    if published:
        # one of an installation that is not this project's is told as such
        return bool(published["ours"])
    # an engine that cannot be asked (site.yml mends that) may still publish the ports of what was deployed
    return state.get("release") is not None and not state["docker"]["available"]


def _who(state: Mapping[str, Any], port: str, holder: Mapping[str, Any]) -> tuple[str, str]:
    """Who holds a port, and what takes it away."""
    pid = f"pid {holder['pid']}" if holder["pid"] else "of a process that the server does not show"
    published = state.get("published", {}).get(port)
    container = published["name"] if published else holder["container"][:12]
    if container:
        return f"{holder['name']} ({pid}, container {container})", f"docker stop {container}"
    if holder["name"] == "sshd" or holder["unit"] in SSH_UNITS:
        return f"sshd ({pid})", "move sshd to another port: whoever stops it locks themselves out"
    if holder["unit"].endswith(".socket"):
        return f"{holder['unit']} of systemd", f"systemctl disable --now {holder['unit']}"
    if holder["unit"].endswith(".service"):
        return f"{holder['name']} ({pid}, unit {holder['unit']})", f"systemctl disable --now {holder['unit']}"
    unit = f", {holder['unit']}" if holder["unit"] else ""
    return f"{holder['name']} ({pid}{unit})", f"kill {holder['pid']}" if holder["pid"] else "ss -ltnp tells more"


def login(state: Mapping[str, Any]) -> list[Cause]:
    """Whether MongoDB's login is the one that its volume was made with."""
    names = [f"integr8scode_{name}" for name in state.get("other_secrets", ())]
    if not names:
        return []
    text = f"{' and '.join(names)}: what the inventory says is not what the stack runs with."
    why = (
        "MongoDB made its root user when its volume was empty and keeps that login: another one here would lock the "
        "application out."
    )
    where = " in vault.yml (vault_integr8scode_mongo_root_password)" if names[-1].endswith("_password") else ""
    cure = (
        f"put the former value back{where}; if you have changed the login in the database already: "
        "-e integr8scode_mongo_login_was_changed=true (docs/troubleshooting.md, Mongo's password)"
    )
    return [_cause("secret", text, why, cure)]


def ports(state: Mapping[str, Any], wanted: Mapping[str, int]) -> list[Cause]:
    """Ports that somebody else has, and those that cannot be.

    :param wanted: by the setting that names each; k3s' own are not to be chosen and begin with ``k3s``.
    """
    found = _impossible(wanted)
    for setting, number in wanted.items():
        port = str(number)
        holder = state["listeners"].get(port)
        if holder is None or _is_ours(state, port, holder):
            continue
        who, cure = _who(state, port, holder)
        if setting.startswith("integr8scode_"):
            cure += f", or choose another port ({setting})"
        why = f"{'k3s' if setting.startswith('k3s') else 'The stack'} listens there."
        found.append(_cause("port", f"Port {port} is taken by {who}.", why, f"as root on the server: {cure}"))
    return found


def _impossible(wanted: Mapping[str, int]) -> list[Cause]:
    """Ports that are none, and ports that two of this server's own want."""
    found = []
    for setting, number in wanted.items():
        if not 1 <= number <= HIGHEST_PORT:
            why = f"A port is a number from 1 to {HIGHEST_PORT}."
            found.append(_cause("port", f"{setting} is {number}.", why, "choose another port"))
        others = [other for other in wanted if other != setting and wanted[other] == number]
        # told by the last of those that can be chosen
        if setting.startswith("integr8scode_") and others and setting == _last_chosen([setting, *others]):
            what = " and ".join(
                other if other.startswith("integr8scode_") else f"another service ({other})" for other in others
            )
            why = f"Port {number} is that of {what}, and only one of them can listen there."
            found.append(_cause("port", f"{setting} is {number}.", why, "choose another port"))
    return found


def _last_chosen(settings: list[str]) -> str:
    return max(one for one in settings if one.startswith("integr8scode_"))


def base(needs: Mapping[str, Any]) -> list[Cause]:
    """Whether the stack can live in its base, and finds the workers' kubeconfigs there."""
    place = str(needs.get("base") or "")
    if not place:
        return []
    found = []
    if not re.fullmatch(r"/[A-Za-z0-9._+@/-]*[A-Za-z0-9._+@-]", place):
        text = f"integr8scode_base is {place!r}."
        why = "It stands in a unit of systemd, in lists with a colon between paths, and in mounts of containers."
        cure = "choose an absolute path of letters, digits and . _ + @ -, without / at its end"
        found.append(_cause("base", text, why, cure))
    length, most = len(place.encode()), SOCKET_PATH_BYTES - len(EDGE_SOCKET) - 1
    if length > most:
        text = f"integr8scode_base has {length} characters: {place}."
        why = f"The edge is led by a socket below it ({EDGE_SOCKET}), whose path Linux takes up to a length only."
        found.append(_cause("base", text, why, f"choose a base of {most} characters or less"))
    directory = str(needs.get("kubeconfigs") or "")
    if directory and PurePosixPath(directory) != PurePosixPath(place, "kubeconfig"):
        text = f"kubernetes_access_directory is {directory}, and integr8scode_base is {place}."
        why = "The stack takes the workers' kubeconfigs from the folder kubeconfig in its base."
        found.append(_cause("base", text, why, f"set kubernetes_access_directory: {place}/kubeconfig"))
    return found


def networks(state: Mapping[str, Any], needs: Mapping[str, Any]) -> list[Cause]:
    """Whether the networks that are asked for can be, and are those that run."""
    wanted: Mapping[str, Mapping[str, str]] = needs.get("networks") or {}
    asked, found = {}, []
    for setting, one in wanted.items():
        try:
            asked[setting] = ipaddress.ip_network(str(one["value"]))
        except ValueError as error:
            why = "Docker makes no network of that."
            found.append(_cause("network", f"{setting}: {error}.", why, "write it as 172.31.209.0/24"))
    for setting, network in asked.items():
        name, part = wanted[setting]["network"], wanted[setting]["part"]
        now = (state.get("networks") or {}).get(name, {}).get(part, "")
        if now and ipaddress.ip_network(now) != network:
            text = f"{setting} is {network}, and the stack's network {name} has {now}."
            why = "A network keeps its addresses while containers are in it, and a deploy never stops all of them."
            cure = (
                f"put {setting} back; or, when users can do without for some minutes, remove containers and networks "
                f"(volumes stay) and run again: as root on the server, cd {needs.get('base', '')}/current && docker "
                "compose down"
            )
            found.append(_cause("network", text, why, cure))
    return found + _edge_address(asked, str(needs.get("edge_address") or ""))


def _edge_address(asked: Mapping[str, Any], address: str) -> list[Cause]:
    """Whether the edge's fixed address is one of its network, and free."""
    subnet, taken = asked.get("integr8scode_proxy_subnet"), asked.get("integr8scode_proxy_ip_range")
    if not address or subnet is None or taken is None:
        return []
    setting, why = "integr8scode_edge_proxy_address", "The frontend finds the edge at that address alone."
    if taken.version != subnet.version or not taken.subnet_of(subnet):
        text = f"integr8scode_proxy_ip_range {taken} is no part of integr8scode_proxy_subnet {subnet}."
        return [_cause("network", text, "Docker makes no network of that.", "choose a part of the subnet")]
    try:
        fits = ipaddress.ip_address(address) in subnet and ipaddress.ip_address(address) not in taken
    except ValueError as error:
        return [_cause("network", f"{setting}: {error}.", why, f"choose an address of {subnet} outside {taken}")]
    if fits:
        return []
    text = f"{setting} {address} is not in {subnet} (integr8scode_proxy_subnet), or in {taken}, which containers get."
    return [_cause("network", text, why, f"choose an address of {subnet} outside {taken}")]


def bare(state: Mapping[str, Any]) -> bool:
    """Whether neither Docker nor k3s nor anything of the stack is on the server."""
    units = [state.get("units", {}).get(name) for name in (DOCKER_UNIT, K3S_UNIT)]
    absent = all(unit is not None and not unit["enabled"] and unit["active"] in {"", "inactive"} for unit in units)
    return absent and not state["docker"]["available"] and not state.get("release") and not state.get("releases")


def installed() -> list[Cause]:
    """What is said of a bare server that a release shall run on."""
    text = "Nothing is installed on the server yet: no Docker, no k3s, nothing of Integr8sCode."
    cure = "make it with playbooks/site.yml first (README, 'Your own servers', step 5), which ships a release as well"
    return [_cause("installed", text, "A release is shipped to a server that is made already.", cure)]


def kubernetes(state: Mapping[str, Any]) -> list[Cause]:
    """Whether the workers can use it."""
    found = [(worker, answer["problem"]) for worker, answer in state.get("kubernetes", {}).items() if answer["problem"]]
    if not found:
        return []
    said = "; ".join(f"{worker}: {problem}" for worker, problem in found)
    cure = (
        "`systemctl status k3s` on the server; playbooks/recover-k3s.yml brings k3s back, playbooks/site.yml renews "
        "the kubeconfigs. To ship all the same: -e integr8scode_verify_kubernetes=false"
    )
    return [_cause("kubernetes", f"The workers cannot use Kubernetes ({said}).", "No execution would run.", cure)]


def causes(state: Mapping[str, Any], needs: Mapping[str, Any]) -> list[Cause]:
    """Everything on a server that stands in the way of a run.

    :param state: the answer of the module ``integr8scode_state``.
    :param needs: ``ports`` (by setting), ``kubernetes`` (whether the workers must be able to use it), ``installed``
        (whether Docker and k3s must be there), ``base`` and ``kubeconfigs`` (folders), ``networks`` (by setting:
        ``network``, ``part`` of it and ``value``), ``edge_address``.
    """
    found = work(state) + current(state) + another_installation(state, str(needs.get("base") or "")) + base(needs)
    found += networks(state, needs) + login(state) + ports(state, needs["ports"])
    if needs.get("installed") and bare(state):
        # of what is not there nothing else can be said
        return found + installed()
    return found + (kubernetes(state) if needs.get("kubernetes") else [])
