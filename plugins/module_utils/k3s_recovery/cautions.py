"""What is not wrong yet, but will be or may surprise: VPNs, networks that overlap, room, certificates."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from ansible.module_utils.k3s_recovery.addresses import UPLINK_KINDS, VPN_KINDS, Network, family_of
from ansible.module_utils.k3s_recovery.cause import View, listed
from ansible.module_utils.k3s_recovery.causes_addresses import stale
from ansible.module_utils.k3s_recovery.listeners import AUTHORITIES

NEAR_DAYS = 30
NEAR_DAYS_AUTHORITY = 180
TIGHT_PERCENT = 10.0
TIGHT_MEMORY = 256 << 20
_CLUSTER_NETWORKS = {"cluster-cidr": "10.42.0.0/16", "service-cidr": "10.43.0.0/16"}
_KIND = {"wireguard": "WireGuard", "tun": "tunnel"}
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def warnings(view: View) -> list[str]:
    """All of them, as sentences."""
    found = [
        *vpn(view),
        *overlaps(view),
        *_unused_settings(view),
        *_nodes(view),
        *_machine(view),
        *_certificates(view),
    ]
    return list(dict.fromkeys(found))


def vpn_default(network: Network) -> list[str]:
    """The VPN interfaces that this server's own traffic to everywhere goes through: by the main table or by a rule."""
    kinds = {one.name: one.kind for one in network.interfaces}
    best = {route.interface for family in (4, 6) for route in network.default_routes(family)[:1]}
    # two halves of everything win over a default route
    best |= {one.interface for one in network.routes if one.table == 254 and one.destination.endswith("/1")}
    tables = {rule.table for rule in network.rules if not rule.selective}
    best |= {one.interface for one in network.routes if one.default and one.table in tables}
    return sorted(name for name in best if kinds.get(name) in VPN_KINDS)


def vpn(view: View) -> Iterator[str]:
    """What a VPN does to this server's traffic."""
    network = view.facts.network
    kinds = {one.name: one.kind for one in network.interfaces}
    for name in vpn_default(network):
        advice = "Leave the LAN and the cluster's networks out of what it routes (AllowedIPs)"
        if name == "nordlynx":
            advice = "nordvpn set lan-discovery enabled"
        sentence = (
            f"The {_KIND[kinds[name]]} interface {name} took the default route: replies to others may go into the VPN."
        )
        if not view.facts.configuration.values("node-ip") and view.k3s_choice in {
            address.partition("/")[0] for one in network.interfaces if one.name == name for address in one.addresses
        }:
            sentence += f" Without node-ip k3s takes {view.k3s_choice} for its node at its next start: pin k3s_node_ip."
        yield f"{sentence} {advice}."
    if view.facts.lan_discovery == "disabled":
        yield (
            "NordVPN's LAN discovery is off: machines of the LAN and containers may not reach this server. "
            "Cure: nordvpn set lan-discovery enabled."
        )


def _networks(network: Network, kinds: frozenset[str]) -> list[tuple[str, IpNetwork]]:
    """Networks that are reached through interfaces of these kinds, without default routes and link-local ones."""
    names = {one.name for one in network.interfaces if one.kind in kinds}
    found = []
    for route in network.routes:
        if route.interface not in names or route.default:
            continue
        target = ipaddress.ip_network(route.destination, strict=False)
        if not target.is_link_local and not target.is_multicast and target.prefixlen < target.max_prefixlen:
            found.append((route.interface, target))
    return found


def overlaps(view: View) -> Iterator[str]:
    """Networks of Docker, k3s and the outside that are in each other's way."""
    network = view.facts.network
    bridges = [
        (name, target)
        for name, target in _networks(network, frozenset({"container"}))
        if not name.startswith(("cni", "flannel", "kube-", "cali"))
    ]
    outside = _networks(network, VPN_KINDS | UPLINK_KINDS)
    cluster = []
    for key, default in _CLUSTER_NETWORKS.items():
        for text in view.facts.configuration.values(key) or [default]:
            try:
                cluster.append((f"k3s' {key}", ipaddress.ip_network(text, strict=False)))
            except ValueError:
                yield f"{key} {text} is no network."
    pairs = [(one, other) for one in bridges for other in outside + cluster]
    pairs += [(one, other) for one in cluster for other in outside]
    for (name, first), (other, second) in pairs:
        if first.version == second.version and first.overlaps(second):
            what = f"The network {first} of {name} overlaps {second} of {other}"
            yield f"{what}: packets for one go to the other. Give the bridge (or k3s) another network."


def _unused_settings(view: View) -> Iterator[str]:
    """Addresses that are gone, in places that do not count now, and such that may be meant."""
    configuration, network = view.facts.configuration, view.facts.network
    if network.problem:
        yield f"Addresses could not be judged: {network.problem}."
        return
    if not stale(view, "node-ip"):
        for one in configuration.settings:
            if one.key == "node-ip" and one.value and not network.has(one.value):
                yield f"{one.place} has node-ip {one.value}, which is gone; another file wins over it at present."
    for one in stale(view, "advertise-address"):
        if family_of(one.value) and ipaddress.ip_address(one.value).is_global:
            yield f"{one.place} advertises {one.value}, which no interface has: right behind NAT, wrong otherwise."
    if view.well and not configuration.values("node-ip") and not view.k3s_choice and not view.vpn:
        yield "There is no default route and no node-ip: k3s will not start again. Set k3s_node_ip."


def _nodes(view: View) -> Iterator[str]:
    own = view.facts.node_name
    others = [one for one in view.facts.api.nodes if one.name != own]
    old = [one.name for one in others if one.control_plane and not one.ready]
    if old and view.facts.datastore.kind == "sqlite":
        yield f"Nodes {listed(old)} are this server under an earlier name: k3s kubectl delete node {' '.join(old)}."
    agents = [one.name for one in others if not one.control_plane]
    if agents and view.node_ip:
        yield f"Agents ({listed(agents)}) reach this server by their K3S_URL: look whether it is the old address."


def _machine(view: View) -> Iterator[str]:
    facts = view.facts
    for disk in facts.disks:
        if disk.free_percent < TIGHT_PERCENT or disk.free_inodes_percent < TIGHT_PERCENT:
            room = f"{disk.free_percent:g} % of its room and {disk.free_inodes_percent:g} % of its inodes"
            yield f"{disk.path} has {room} left: below 10 % the kubelet evicts pods."
    if 0 < facts.memory_available_bytes < TIGHT_MEMORY:
        yield f"Only {facts.memory_available_bytes >> 20} MiB of memory are available."
    if facts.journal.problem:
        yield f"{facts.journal.problem}: what k3s itself said is not part of this diagnosis."
    if facts.unit.loaded and not facts.unit.enabled:
        yield "k3s.service is not enabled: it will not start at boot. Cure: systemctl enable k3s."
    if view.well and facts.unit.running_seconds < view.stable_seconds:
        yield f"k3s was started {facts.unit.running_seconds:.0f} seconds ago: too little to say that it stays up."


def _certificates(view: View) -> Iterator[str]:
    now = view.facts.now
    for one in view.facts.certificates:
        days = (one.not_after - now) / 86400
        if one.place.endswith(AUTHORITIES):
            if days < NEAR_DAYS_AUTHORITY:
                yield f"{one.place}, an authority, ends in {days:.0f} days: plan k3s certificate rotate-ca."
        elif not one.problem and 0 <= days < NEAR_DAYS:
            yield f"{one.place} ends in {days:.0f} days: a restart of k3s renews it (playbooks/renew-kubeconfig.yml)."
