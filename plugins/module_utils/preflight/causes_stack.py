"""Judges what is on a server already: a switch at work, another installation, ports that are taken, Kubernetes.

Runs on the controller, which loads this file by its path: it needs nothing but the standard library. Causes are as in
causes_machine.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Cause = dict[str, str]
K3S_UNIT = "k3s.service"
SSH_UNITS = ("ssh.service", "sshd.service", "ssh.socket", "sshd.socket")


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


def another_installation(state: Mapping[str, Any]) -> list[Cause]:
    """Containers or volumes of the same Compose project that this project has not made."""
    foreign = state["foreign"]
    if not foreign["containers"] and not foreign["volumes"]:
        return []
    where = sorted({entry["working_dir"] for entry in foreign["containers"]})
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


def ports(state: Mapping[str, Any], wanted: Mapping[str, int]) -> list[Cause]:
    """Ports that somebody else has.

    :param wanted: by the setting that names each; k3s' own are not to be chosen and begin with ``k3s``.
    """
    found = []
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
    :param needs: ``ports`` (by setting), ``kubernetes`` (whether the workers must be able to use it).
    """
    found = work(state) + another_installation(state) + ports(state, needs["ports"])
    return found + (kubernetes(state) if needs.get("kubernetes") else [])
