"""From facts to causes: what is wrong with k3s, in plain sentences, and which rung of the recovery heals it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ansible.module_utils.k3s_recovery import causes_addresses, causes_data, causes_system
from ansible.module_utils.k3s_recovery.addresses import family_of
from ansible.module_utils.k3s_recovery.cause import LADDER, RECOVER, Cause, View, listed, split_addresses
from ansible.module_utils.k3s_recovery.cautions import warnings
from ansible.module_utils.k3s_recovery.facts import Facts

__all__ = ["LADDER", "Cause", "Diagnosis", "diagnose", "sentences"]


# What looks like damage of the data and is none: while it lasts, no rung may put older data in their place.
FIRST = frozenset({"disk_full", "read_only", "clock_wrong", "too_many_files", "port_taken", "permission"})
DATA_RUNGS = frozenset({"cluster_reset", "snapshot_restore", "restore", "delete_cluster"})


@dataclass(frozen=True)
class Diagnosis:
    """The judgement of one look at a server.

    `causes` are in the ladder's order, those that a person has to heal first. With a `refusal` recovery must not go on.
    `expected_ip` is the InternalIP that the node must have (two with a comma between), '' where that is not known.
    """

    healthy: bool
    causes: list[Cause]
    warnings: list[str]
    refusal: str
    facts: dict[str, Any]
    expected_ip: str = ""


def _several(view: View) -> str:
    """A refusal where this server is one of several, which share what a recovery would change."""
    several = view.servers
    if len(several) < 2:
        return ""
    return (
        f"This cluster has {len(several)} servers ({listed(several)}): recovering one by itself could split it. Way "
        "out: as long as the others have a majority, remove this one there (k3s kubectl delete node), delete "
        f"{view.facts.data_dir}/server/db here and let it join again with server: and token. Nothing has been changed."
    )


def refusal(view: View) -> str:
    """Why recovery must not go on here, with the way out; empty when it may."""
    facts = view.facts
    if facts.unit.problem:
        return (
            f"systemd does not answer here ({facts.unit.problem}): nothing can be said of k3s. Look why (systemctl "
            "status; dmesg), reboot if it does not come back. Nothing has been changed."
        )
    if facts.configuration.command == "agent" or (facts.unit.agent and not facts.unit.loaded):
        return (
            "This is an agent, its cluster is kept by a server: run the recovery there. Here, correct K3S_URL in "
            "/etc/systemd/system/k3s-agent.service.env and node-ip in its config.yaml. Nothing has been changed."
        )
    if not facts.unit.loaded and not facts.unit.masked:
        return (
            "k3s is not installed as k3s.service here: ansible-playbook playbooks/site.yml installs it, "
            "playbooks/restore.yml brings a backup back. Nothing has been changed."
        )
    joined = facts.configuration.items("server")
    if joined and joined[-1].value:
        return (
            f"This server joined another one ({joined[-1].place}: server {joined[-1].value}), so they are several. "
            "Recover the cluster by the vendor's instructions for high availability. Nothing has been changed."
        )
    for address in split_addresses(view.node_ip):
        if not family_of(address) or not (facts.network.problem or facts.network.has(address)):
            return (
                f"recover_k3s_node_ip {address} is no address of this server, which has "
                f"{listed(facts.network.addresses)}. Nothing has been changed."
            )
    return _several(view)


def _expected(view: View, causes: list[Cause]) -> str:
    """The InternalIP that the node must have."""
    if view.vpn:
        return ""
    if view.node_ip:
        return ",".join(split_addresses(view.node_ip))
    values = view.facts.configuration.values("node-ip")
    if values:
        healed = next((one.details for one in causes if one.id == "node_ip_stale"), {})
        kept = [one for one in split_addresses(",".join(values)) if view.facts.network.has(one)]
        return ",".join(dict.fromkeys([*kept, *split_addresses(str(healed.get("new", "")))]))
    node = view.node
    if view.well and node is not None:
        return ",".join(node.internal_ips)
    return view.k3s_choice


def _held_back(cause: Cause, first: list[str]) -> Cause:
    """A cause that is judged again when those before it are gone."""
    cure = f"do first what is said of {listed(first)}, then {RECOVER}: the data may be whole"
    return replace(cause, rung="", cure=cure)


def diagnose(facts: Facts, *, node_ip: str = "", stable_seconds: float = 60) -> Diagnosis:
    """Judge the facts.

    `node_ip` is the address that the operator gives ('' when none; two with a comma between). `stable_seconds` is how
    long a k3s that crashed must have run to count as up again.
    """
    view = View(facts, node_ip, stable_seconds)
    refused = refusal(view)
    found: dict[str, Cause] = {}
    for check in (causes_system.check, causes_addresses.check, causes_data.check):
        for cause in check(view):
            found.setdefault(cause.id, cause)
    if not found:
        last = causes_system.fallback(view)
        if last is not None:
            found[last.id] = last
    first = [one.id for one in found.values() if one.id in FIRST]
    if first:
        found = {name: _held_back(one, first) if one.rung in DATA_RUNGS else one for name, one in found.items()}
    causes = sorted(found.values(), key=lambda one: LADDER.index(one.rung) if one.rung else -1)
    shown = facts.as_dict() | {"data_dir": facts.data_dir, "node_name": facts.node_name}
    shown["network_policy_disabled"] = facts.configuration.switch("disable-network-policy")
    return Diagnosis(
        healthy=view.well and not causes and not refused,
        causes=causes,
        warnings=warnings(view),
        refusal=refused,
        facts=shown,
        expected_ip=_expected(view, causes),
    )


def sentences(diagnosis: Diagnosis) -> list[str]:
    """The diagnosis as lines for a person."""
    facts = diagnosis.facts
    unit = facts["unit"]
    store = facts["datastore"]["kind"]
    state = f"{unit['active']} ({unit['sub']}) for {unit['running_seconds']:.0f} s"
    what = f"k3s {facts['version'] or '(no working program)'} on {facts['hostname']}, datastore {store}"
    lines = [f"{what}: {state}, restarted by systemd {unit['restarts']} times."]
    if diagnosis.refusal:
        lines.append(f"Refused: {diagnosis.refusal}")
    if diagnosis.healthy:
        lines.append(
            f"Nothing is wrong: the API answers, the node is Ready with {diagnosis.expected_ip or 'its VPN address'}."
        )
    for number, cause in enumerate(diagnosis.causes, 1):
        lines.append(f"{number}. {cause.sentence}")
        lines += [f"   seen: {one}" for one in cause.evidence]
        lines += [f"   change: {edit['sentence']}" for edit in cause.details.get("edits", [])]
        if cause.cure:
            lines.append(f"   do this: {cause.cure}")
        elif cause.rung:
            lines.append(f"   healed by: {cause.rung}")
    lines += [f"Note: {one}" for one in diagnosis.warnings]
    return lines
