"""Causes that have to do with addresses: settings with one that is gone, no default route, a stale Node object."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ansible.module_utils.k3s_common import WILDCARDS
from ansible.module_utils.k3s_recovery import configuration as configurations
from ansible.module_utils.k3s_recovery import journal
from ansible.module_utils.k3s_recovery.addresses import family_of, normal, private, usable
from ansible.module_utils.k3s_recovery.cause import RECOVER, Cause, View, listed, split_addresses
from ansible.module_utils.k3s_recovery.configuration import Edit, Setting

# interfaces of VPNs, which may be down for a while
_VPN_NAMES = re.compile(r"(wg|tun|tap|tailscale|nordlynx|nordtun|zt|ppp|vpn)")
_TAILSCALE = ipaddress.ip_network("100.64.0.0/10")


def check(view: View) -> Iterator[Cause]:
    """Every cause of this kind."""
    if view.facts.network.problem:
        return
    # a VPN that k3s brings up itself overrides node-ip and flannel-iface
    node_ip = [] if view.vpn else list(_node_ip(view))
    others = [] if view.vpn else [*_flannel_interface(view), *_default_route(view)]
    others = [
        *_listen_address(view, "bind-address", "bind_address_stale"),
        *_listen_address(view, "advertise-address", "advertise_address_stale"),
        *others,
    ]
    yield from node_ip
    yield from others
    if not node_ip:
        # a restart comes with every correction
        yield from (one for one in _node_object(view) if not others or one.id == "node_object_stale")


def _vpn_down(view: View, gone: list[Setting]) -> str:
    """The VPN's interface that the stale addresses belong to and that is only down, as far as that can be told."""
    interface = view.facts.configuration.text("flannel-iface")
    if _VPN_NAMES.match(interface) and not _has_address(view, interface):
        return interface
    for one in gone:
        address = normal(one.value)
        if address in view.facts.wireguard:
            return view.facts.wireguard[address]
        if family_of(address) == 4 and ipaddress.ip_address(address) in _TAILSCALE:
            return "tailscale0"
    return ""


def _has_address(view: View, name: str) -> bool:
    interface = view.facts.network.interface(name)
    return interface is not None and bool(usable(interface, 4) or usable(interface, 6))


def _bring_up(name: str) -> str:
    how = f"wg-quick up {name}" if name.startswith("wg") else "its own client or service"
    return (
        f"bring {name} up ({how}), then systemctl restart k3s; or, if the node shall leave that network for good, "
        f"{RECOVER} -e recover_k3s_node_ip=ADDRESS"
    )


def stale(view: View, key: str) -> list[Setting]:
    """The settings of `key` that count and name an address which this server does not have."""
    return [one for one in view.facts.configuration.items(key) if one.value and not view.facts.network.has(one.value)]


def _everywhere(view: View, key: str, new: dict[int, str]) -> tuple[list[Edit], list[str]]:
    """The edits that put `new` (by family) in place of each stale value of `key`, and the places that cannot be edited.

    Also where another file wins at present: it would count again when that one goes.
    """
    configuration, network = view.facts.configuration, view.facts.network
    beyond: list[str] = []
    values = [one.value for one in configuration.settings if one.key == key and one.value]
    replacements = {value: new.get(family_of(value) or 4, "") for value in values if not network.has(value)}
    # twice the same address is not what anybody means
    gone = [value for value, one in replacements.items() if not one or one in configuration.values(key)]
    found: dict[tuple[str, int], Edit] = {}
    for value, replacement in replacements.items():
        one = "" if value in gone else replacement
        for edit in configurations.edits(configuration, key, value, one, gone=gone):
            found.setdefault((edit.file, edit.offset), edit)
        beyond += configurations.unreachable(configuration, key, value, remove=not one, gone=gone)
    return list(found.values()), beyond


def _by_hand(places: list[str], key: str, new: str) -> str:
    what = f"set {key} to {new}" if new else f"remove {key}"
    return f"{what} by hand at {listed(places)} (it stands there in a way that is not edited safely), then run it again"


def _node_ip(view: View) -> Iterator[Cause]:
    configuration = view.facts.configuration
    gone = stale(view, "node-ip")
    wanted = split_addresses(view.node_ip)
    if not gone:
        yield from list(_past_k3s(view)) or _node_ip_wanted(view, wanted)
        return
    families = {family_of(one.value) or 4 for one in gone}
    choices = {family: view.choice(family) for family in families}
    old, new = [one.value for one in gone], [choices[family].address for family in sorted(families)]
    evidence = [f"{one.place}: node-ip {one.value}" for one in gone]
    evidence += [f"addresses of this server: {listed(view.facts.network.addresses)}"]
    evidence += view.line("node_ip_gone") + view.line("node_interface")
    sentence = f"{gone[-1].place} sets node-ip {', '.join(old)}, an address that this server does not have (any more)"
    details: dict[str, Any] = {"old": ",".join(old), "new": ",".join(new)}
    down = "" if wanted else _vpn_down(view, gone)
    if down:
        sentence += f"; it belongs to the VPN {down}, which is not up."
        yield Cause("node_ip_stale", sentence, evidence, "", _bring_up(down), details)
        return
    unclear = [one for one in choices.values() if not one.address]
    if unclear:
        candidates = listed([address for one in unclear for address in one.candidates])
        cure = f"{RECOVER} -e recover_k3s_node_ip=ADDRESS, with one of: {candidates}"
        yield Cause("node_ip_stale", f"{sentence}; {unclear[0].reason}.", evidence, "", cure, details)
        return
    edits, beyond = _everywhere(view, "node-ip", {family: one.address for family, one in choices.items()})
    counting = {one.place for one in configuration.items("node-ip")}
    sentence += f". It has to be {', '.join(new)}, {next(iter(choices.values())).reason}."
    if counting & set(beyond):
        yield Cause("node_ip_stale", sentence, evidence, "", _by_hand(beyond, "node-ip", ",".join(new)), details)
        return
    details = {**details, "edits": [asdict(one) for one in edits]}
    yield Cause("node_ip_stale", sentence, evidence, "configuration", details=details)


def _past_k3s(view: View) -> Iterator[Cause]:
    """A node-ip that the kubelet gets past k3s' own setting: no edit of that, and no new Node object, helps."""
    settings, starts = view.facts.configuration.settings, view.facts.journal.starts
    own = split_addresses(",".join(one.value for one in settings if one.key == "node-ip"))
    given = {
        address: one.place
        for one in settings
        if one.key == "kubelet-arg" and not view.well
        for address in split_addresses(one.value.partition("=")[2])
    }
    match = view.matches.get("node_ip_gone")
    if match is not None:
        told = normal(match.values["address"])
        saying = [one for one in starts if any(told == address for address in _said_gone(one.lines))]
        # a k3s whose address went away while it ran says so as well, but not when it has started anew
        anew = len(saying) > 1 or (len(starts) == 1 and view.facts.unit.restarts > 1 and not view.settled)
        given |= {told: given.get(told, "")} if anew else {}
    for address, place in given.items():
        if address in own or view.facts.network.has(address):
            continue
        where = f"kubelet-arg ({place})" if place else "kubelet-arg or a place that is not read"
        cure = f"node-ip {address} comes from {where}: correct it there, then systemctl restart k3s"
        sentence = (
            f"The kubelet is told node-ip {address}, an address that this server does not have (any more), and not by "
            "k3s' node-ip."
        )
        evidence = [f"addresses of this server: {listed(view.facts.network.addresses)}", *view.line("node_ip_gone")]
        yield Cause("node_ip_elsewhere", sentence, evidence, "", cure, {"old": address})


def _said_gone(lines: list[str]) -> list[str]:
    found = [one for one in journal.matches(lines) if one.name == "node_ip_gone"]
    return [normal(one.values["address"]) for one in found]


def _node_ip_wanted(view: View, wanted: list[str]) -> Iterator[Cause]:
    """The operator gives another address than the configuration, or than k3s would take by itself."""
    configuration = view.facts.configuration
    values = configuration.values("node-ip")
    if not wanted or set(wanted) <= set(split_addresses(",".join(values))):
        return
    if not values and [view.k3s_choice] == wanted:
        return
    edits: list[Edit] = []
    if not values:
        edits = configurations.edits(configuration, "node-ip", "", ",".join(wanted))
    for value in values:
        new = next((one for one in wanted if family_of(one) == family_of(value)), "")
        if new and new != value:
            edits += configurations.edits(configuration, "node-ip", value, new)
    if not edits:
        places = [one.place for one in configuration.items("node-ip")]
        cure = _by_hand(places, "node-ip", ",".join(wanted))
        yield Cause("node_ip_wanted", f"node-ip is {listed(values)} and has to be {view.node_ip}.", places, "", cure)
        return
    sentence = (
        f"The node has to have {view.node_ip}, as given, and k3s is set to {listed(values or [view.k3s_choice])}."
    )
    details = {"old": ",".join(values), "new": view.node_ip, "edits": [asdict(one) for one in edits]}
    if not values and not view.k3s_choice:
        yield Cause(
            "no_default_route",
            _NO_ROUTE + f" It gets node-ip {view.node_ip}, as given.",
            view.line("no_default_route"),
            "configuration",
            details=details,
        )
        return
    yield Cause(
        "node_ip_wanted",
        sentence,
        [one.place for one in configuration.items("node-ip")],
        "configuration",
        details=details,
    )


_NO_ROUTE = "This server has no default route and k3s no node-ip: it does not know which address its node has."


def _default_route(view: View) -> Iterator[Cause]:
    configuration, network = view.facts.configuration, view.facts.network
    if configuration.values("node-ip") or view.node_ip or view.k3s_choice or view.well:
        return
    candidates = [one for family in (4, 6) for one in view.choice(family).candidates]
    evidence = [f"addresses of this server: {listed(network.addresses)}", *view.line("no_default_route")]
    cure = f"bring the default route back, or name the node's address: {RECOVER} -e recover_k3s_node_ip=ADDRESS"
    yield Cause("no_default_route", _NO_ROUTE, evidence, "", f"{cure}, with one of: {listed(candidates)}")


def _elsewhere(view: View, address: str) -> bool:
    """Whether an address that this server does not have may be meant: one that others reach it by, as with NAT."""
    known = {*view.facts.configuration.values("node-external-ip"), *view.facts.configuration.values("tls-san")}
    try:
        return address in known or ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def _listen_address(view: View, key: str, name: str) -> Iterator[Cause]:
    gone = [one for one in stale(view, key) if one.value.strip() not in WILDCARDS]
    if not gone or (key == "advertise-address" and _elsewhere(view, gone[-1].value)):
        return
    last = gone[-1]
    family = family_of(last.value) or 4
    # one address would keep the workers' containers out, who come in by docker0's: role k3s refuses any bind-address
    new = "" if key == "bind-address" else view.choice(family, last.value).address
    edits, beyond = _everywhere(view, key, {family: new})
    does = "k3s cannot listen" if key == "bind-address" else "pods look for the API server there and reach nobody"
    becomes = f"It becomes {new}." if new else "It is removed: k3s then takes its default."
    sentence = (
        f"{last.place} sets {key} {last.value}, an address that this server does not have (any more): {does}. {becomes}"
    )
    evidence = [
        f"{last.place}: {key} {last.value}",
        f"addresses of this server: {listed(view.facts.network.addresses)}",
    ]
    evidence += view.line("listen_gone") if key == "bind-address" else []
    if key == "advertise-address" and not new and private(last.value) and not private(view.k3s_choice or last.value):
        sentence = (
            f"{last.place} sets advertise-address {last.value}, an address that this server does not have (any more). "
            f"It is one of a private network, and {view.k3s_choice}, which k3s would take, is not."
        )
        yield Cause(name, sentence, evidence, "", f"{RECOVER} -e recover_k3s_node_ip=ADDRESS", {"old": last.value})
        return
    details = {"old": last.value, "new": new, "edits": [asdict(one) for one in edits]}
    if last.place in beyond or not edits:
        yield Cause(name, sentence, evidence, "", _by_hand(beyond or [last.place], key, new), details)
        return
    yield Cause(name, sentence, evidence, "configuration", details=details)


def _flannel_interface(view: View) -> Iterator[Cause]:
    configuration, network = view.facts.configuration, view.facts.network
    given = configuration.items("flannel-iface")
    if not given or not given[-1].value:
        return
    last = given[-1]
    interface = network.interface(last.value)
    if _has_address(view, last.value):
        return
    chosen = view.choice(4, by_flannel=False).address or view.choice(6, by_flannel=False).address
    holder = network.holder(chosen) if chosen else None
    new = holder.name if holder else ""
    remove = not new
    edits = configurations.edits(configuration, "flannel-iface", last.value, new)
    why = "which has no address" if interface is not None else "which does not exist (any more)"
    # an interface may only be late; a public address is none for a node that had a private interface
    told = view.node_ip or chosen in split_addresses(",".join(configuration.values("node-ip")))
    unclear = not told and (interface is not None or not private(chosen))
    if unclear or (not view.node_ip and (view.agents or _VPN_NAMES.match(last.value))):
        sentence = f"{last.place} sets flannel-iface {last.value}, {why}: the nodes reach each other through it."
        evidence = [f"agents: {listed(view.agents)}", *view.line("flannel_interface")]
        yield Cause("flannel_iface_missing", sentence, evidence, "", _bring_up(last.value), {"old": last.value})
        return
    becomes = f"It becomes {new}, which has {chosen}." if new else "It is removed: k3s then takes the default route's."
    sentence = f"{last.place} sets flannel-iface {last.value}, {why}. {becomes}"
    evidence = [f"interfaces: {listed([one.name for one in network.interfaces if one.kind != 'loopback'][:12])}"]
    evidence += view.line("flannel_interface")
    details = {"old": last.value, "new": new, "edits": [asdict(one) for one in edits]}
    if not edits:
        places = configurations.unreachable(configuration, "flannel-iface", last.value, remove=remove) or [last.place]
        yield Cause("flannel_iface_missing", sentence, evidence, "", _by_hand(places, "flannel-iface", new), details)
        return
    yield Cause("flannel_iface_missing", sentence, evidence, "configuration", details=details)


def _node_object(view: View) -> Iterator[Cause]:
    """The Node object has an address that is gone, while the configuration names none that is."""
    node, network = view.node, view.facts.network
    name = view.facts.node_name
    version = view.facts.binary_version or "this k3s"
    gone = [one for one in node.internal_ips if not network.has(one)] if node else []
    details = {"node": name, "old": ",".join(gone), "new": view.k3s_choice}
    if view.line("node_interface"):
        sentence = (
            f"The address of this server changed, and the Node object {name} still has the old one: {version} looks "
            "for an interface with it for its network policies, finds none and ends itself. A restart does not help."
        )
        evidence = [view.times(), *view.line("node_interface")]
        yield Cause("node_object_stale", sentence, evidence, "safe_mode", details=details)
    elif gone:
        evidence = [f"node {name}: InternalIP {listed(gone)}", f"addresses of this server: {listed(network.addresses)}"]
        sentence = f"The Node object {name} has InternalIP {listed(gone)}, which this server does not have (any more)."
        if view.crashes_when_stale or view.facts.safe_mode:
            sentence += f" {version} would not survive a restart with it."
            yield Cause("node_object_stale", sentence, evidence, "safe_mode", details=details)
        else:
            sentence += f" {version} takes the new one when it starts."
            yield Cause("waiting_for_address", sentence, evidence, "restart", details=details)
    elif node is not None and view.settled and not view.vpn:
        values = split_addresses(",".join(view.facts.configuration.values("node-ip")))
        if values and not set(values) <= set(node.internal_ips):
            sentence = (
                f"node-ip is {listed(values)}, and the node still has {listed(node.internal_ips)}: a restart is due."
            )
            yield Cause("restart_due", sentence, [f"node {name}: InternalIP {listed(node.internal_ips)}"], "restart")
