"""Interfaces, addresses and routes of this server, and which address its node should have.

Asked of the kernel by netlink: /proc knows only the main table, where wg-quick and VPN clients put nothing, and a
server need not have iproute2.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

PINNED_INTERFACE = "k3s-node"  # an interface with an address that cannot change (role k3s)
VPN_KINDS = frozenset({"wireguard", "tun"})
UPLINK_KINDS = frozenset({"physical", "bridge"})

_GET_LINK, _GET_ADDRESS, _GET_ROUTE, _GET_RULE = 18, 22, 26, 34
_LOOPBACK, _UP = 0x8, 0x1
# flags of addresses: temporary (IPv6 privacy; a second IPv4 address has the same bit); failed, deprecated, unchecked
_TEMPORARY, _UNUSABLE = 0x01, 0x08 | 0x20 | 0x40
_CONTAINER_NAMES = re.compile(r"(docker|cni|cbr|flannel|kube-|cali|lxc|virbr|podman|veth|nodelocaldns)")
_VPN_LINKS = {"wireguard": "wireguard", "tun": "tun", "ovpn": "tun", "ovpn-dco": "tun", "xfrm": "tun", "vti": "tun"}
_PRIVATE = [ipaddress.ip_network(one) for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")]
_OVERLAY_LINKS = frozenset({"vxlan", "ipip", "sit", "gre", "geneve", "ip6tnl", "nlmon"})


@dataclass(frozen=True)
class Interface:
    """A network interface; `addresses` with their prefix (10.0.0.5/24), the first of a family is the one that it uses.

    `fleeting` are those of them that no node should have (temporary, deprecated or link-local ones).
    """

    name: str
    kind: str  # physical, wireguard, tun, bridge (of an uplink), container (docker, CNI, veth), dummy, pinned, loopback
    addresses: list[str]
    up: bool
    fleeting: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Route:
    """A route; `destination` is a network, 0.0.0.0/0 and ::/0 for the default ones; `source` its preferred address."""

    destination: str
    interface: str
    metric: int
    gateway: str = ""
    table: int = 254
    source: str = ""

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.destination else 4

    @property
    def default(self) -> bool:
        """Whether it is for everything, or for one half of it as VPN clients do (0.0.0.0/1)."""
        return self.destination.endswith(("/0", "/1"))


@dataclass(frozen=True)
class Rule:
    """A rule of policy routing that is not the kernel's own. `selective`: only for some sources or interfaces."""

    priority: int
    table: int
    selective: bool


@dataclass(frozen=True)
class Network:
    """What the kernel knows. With a `problem`, nothing can be said about addresses."""

    interfaces: list[Interface] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    problem: str = ""

    @property
    def addresses(self) -> list[str]:
        """Every address of this server but loopback's, without prefix."""
        return [bare(text) for one in self.interfaces if one.kind != "loopback" for text in one.addresses]

    def has(self, address: str) -> bool:
        """Whether `address` is one of this server's now, loopback's included."""
        wanted = normal(address)
        return any(bare(text) == wanted for one in self.interfaces for text in one.addresses)

    def interface(self, name: str) -> Interface | None:
        """The interface of that name."""
        return next((one for one in self.interfaces if one.name == name), None)

    def holder(self, address: str) -> Interface | None:
        """The interface that has `address`."""
        wanted = normal(address)
        return next((one for one in self.interfaces if wanted in map(bare, one.addresses)), None)

    def default_routes(self, family: int) -> list[Route]:
        """Default routes of the main table, the preferred first."""
        found = [one for one in self.routes if one.table == 254 and one.family == family]
        return sorted((one for one in found if one.destination.endswith("/0")), key=lambda one: one.metric)


@dataclass(frozen=True)
class Choice:
    """The address that the node should have: one with the reason, or none, why, and the candidates."""

    address: str
    reason: str
    candidates: list[str]


def bare(text: str) -> str:
    """The address of `text` without its prefix."""
    return text.partition("/")[0]


def normal(text: str) -> str:
    """An address in its usual form; what is none as it is."""
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        return text


def family_of(address: str) -> int:
    """4 or 6; 0 for what is no address."""
    try:
        return ipaddress.ip_address(address).version
    except ValueError:
        return 0


def _messages(request: int, header: bytes) -> Iterator[bytes]:
    """The kernel's answers to a dump request, without their netlink headers. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.settimeout(5)
        # NLM_F_REQUEST | NLM_F_DUMP
        link.send(struct.pack("=IHHII", 16 + len(header), request, 0x301, 1, 0) + header)
        while True:
            data = link.recv(1 << 18)
            while len(data) >= 16:
                length, kind = struct.unpack_from("=IH", data)
                if kind == 3:
                    return
                if kind == 2:
                    raise OSError(f"netlink refuses request {request}: {struct.unpack_from('=i', data, 16)[0]}")
                yield data[16:length]
                data = data[(length + 3) & ~3 :]


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes of a netlink message, by number."""
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        # the two high bits are flags
        found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")


def _number(data: bytes | None) -> int:
    return struct.unpack("=I", data)[0] if data and len(data) == 4 else 0


def _address(data: bytes) -> str:
    return str(ipaddress.ip_address(data)) if len(data) in {4, 16} else ""


@dataclass(frozen=True)
class Link:
    """An interface as the kernel describes it; `master` is the number of the bridge that it belongs to, or 0."""

    index: int
    name: str
    kind: str
    master: int
    flags: int


def parse_link(message: bytes) -> Link:
    """Read a RTM_NEWLINK message."""
    index, flags = struct.unpack_from("=4xiI", message)
    found = attributes(message[16:])
    kind = _text(attributes(found.get(18, b"")).get(1, b""))
    return Link(index, _text(found.get(3, b"")), kind, _number(found.get(10)), flags)


def parse_route(message: bytes, names: dict[int, str]) -> Route | None:
    """Read a RTM_NEWROUTE message; None for what is not a route to other machines (local, broadcast, cached)."""
    family, length, table, kind, flags = struct.unpack_from("=BB2xB2xBI", message)
    # unicast, and not a clone in the cache
    if kind != 1 or family not in {2, 10} or flags & 0x200:
        return None
    found = attributes(message[12:])
    empty = "0.0.0.0" if family == 2 else "::"  # noqa: S104  (read, not bound)
    several = found.get(9, b"")  # routes with several next hops name the interface in each
    out = _number(found.get(4)) or (struct.unpack_from("=4xi", several)[0] if len(several) >= 8 else 0)
    return Route(
        destination=f"{_address(found[1]) if 1 in found else empty}/{length}",
        interface=names.get(out, ""),
        metric=_number(found.get(6)),
        gateway=_address(found.get(5, b"")),
        table=_number(found.get(15)) or table,
        source=_address(found.get(7, b"")),
    )


def parse_rule(message: bytes) -> Rule | None:
    """Read a RTM_NEWRULE message; None for the kernel's own three and for rules that look nothing up."""
    _family, to, source, table, action = struct.unpack_from("=BBBxB2xB", message)
    found = attributes(message[12:])
    number = _number(found.get(15)) or table
    if action != 1 or number in {253, 254, 255}:
        return None
    return Rule(_number(found.get(6)), number, bool(to or source or 3 in found or 17 in found))


def _kind(link: Link, members: list[Link]) -> str:
    """What an interface is for."""
    if link.flags & _LOOPBACK:
        return "loopback"
    if link.name == PINNED_INTERFACE:
        return "pinned"
    # flannel's own WireGuard back end is no VPN of the operator's
    if _CONTAINER_NAMES.match(link.name) or link.kind in _OVERLAY_LINKS:
        return "container"
    if link.kind in _VPN_LINKS:
        # a tap device that belongs to a bridge is a virtual machine's
        return "container" if link.master else _VPN_LINKS[link.kind]
    if link.kind == "bridge":
        return "bridge" if any(one.kind in {"", "bond", "vlan", "macvlan", "team"} for one in members) else "container"
    if link.kind == "veth":
        # what is left without a bridge is this server's own uplink, where the server is a container
        return "container" if link.master else "physical"
    return "dummy" if link.kind == "dummy" else "physical"


def _interfaces(links: list[Link]) -> list[Interface]:
    found: dict[int, tuple[list[str], list[str]]] = {one.index: ([], []) for one in links}
    for message in _messages(_GET_ADDRESS, struct.pack("=B7x", 0)):
        family, prefix, flags, scope, index = struct.unpack_from("=BBBBi", message)
        values = attributes(message[8:])
        raw = values.get(2, values.get(1)) if family == 2 else values.get(1)
        if index not in found or raw is None:
            continue
        flags = _number(values.get(8)) or flags
        every, fleeting = found[index]
        every.append(f"{_address(raw)}/{prefix}")
        # scope: 253 link, 254 host
        if flags & _UNUSABLE or (family == 10 and flags & _TEMPORARY) or scope >= 253:
            fleeting.append(_address(raw))
    by_bridge = {one.index: [other for other in links if other.master == one.index] for one in links}
    return [
        Interface(
            one.name, _kind(one, by_bridge[one.index]), found[one.index][0], bool(one.flags & _UP), found[one.index][1]
        )
        for one in links
    ]


def read_network() -> Network:
    """Ask the kernel. Never raises."""
    try:
        links = [parse_link(message) for message in _messages(_GET_LINK, struct.pack("=B15x", 0))]
        interfaces = _interfaces(links)
        names = {one.index: one.name for one in links}
        routes = [parse_route(message, names) for message in _messages(_GET_ROUTE, struct.pack("=B11x", 0))]
        rules = [parse_rule(message) for message in _messages(_GET_RULE, struct.pack("=B11x", 0))]
    except (OSError, struct.error, ValueError) as error:
        return Network(problem=f"the kernel does not tell addresses and routes: {error}")
    return Network(interfaces, [one for one in routes if one], [one for one in rules if one])


def usable(interface: Interface, family: int) -> list[str]:
    """The addresses of an interface that a node can have, in the kernel's order."""
    found = [bare(text) for text in interface.addresses if family_of(bare(text)) == family]
    return [one for one in found if one not in interface.fleeting and not ipaddress.ip_address(one).is_link_local]


def _of_route(route: Route, interface: Interface, family: int) -> list[str]:
    """The addresses with which an interface uses a route: the one that the route names, or those beside its gateway."""
    found = usable(interface, family)
    if route.source in found:
        return [route.source]
    if route.gateway:
        gateway = ipaddress.ip_address(route.gateway)
        beside = [bare(text) for text in interface.addresses if gateway in ipaddress.ip_interface(text).network]
        return [one for one in beside if one in found][:1] or found
    return found


def _by_default_route(network: Network, family: int) -> list[str]:
    """Addresses of the uplink with the preferred default route; several where that is not clear."""
    found: list[str] = []
    best: int | None = None
    for route in network.default_routes(family):
        interface = network.interface(route.interface)
        if interface is None or interface.kind not in UPLINK_KINDS:
            continue
        if best is not None and route.metric > best:
            break
        best = route.metric
        found += [one for one in _of_route(route, interface, family) if one not in found]
    return found


def private(address: str) -> bool:
    """Whether an address is one of those for private networks (RFC 1918, and IPv6's own)."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in network for network in _PRIVATE if network.version == found.version)


def _of_uplinks(network: Network, family: int, old: Sequence[str], candidates: list[str]) -> Choice:
    """The default route's address, unless the `old` ones were in the network of another uplink; no guess."""
    near = [
        bare(text)
        for one in network.interfaces
        for text in one.addresses
        if bare(text) in candidates and any(_within(each, text) for each in old)
    ]
    routed = _by_default_route(network, family)
    if len(routed) == 1 and (not near or routed[0] in near):
        return Choice(routed[0], "the address of the default route's interface", candidates)
    if len(near) == 1:
        return Choice(near[0], f"the address in the same network as {', '.join(old)}", candidates)
    if not routed and len(candidates) == 1:
        return Choice(candidates[0], "the only address of this server's uplinks", candidates)
    return Choice("", "it is not clear which address the node should have", near or routed or candidates)


def _within(address: str, text: str) -> bool:
    return family_of(address) == family_of(bare(text)) and (
        ipaddress.ip_address(address) in ipaddress.ip_interface(text).network
    )


def choose(
    network: Network, wanted: str = "", family: int = 4, *, flannel: str = "", old: Sequence[str] = ()
) -> Choice:
    """Choose the node's address of a family.

    `wanted` when it is this server's, else the pinned interface's, else that of `flannel` (flannel-iface, where it is
    set, and then no other), else that of the uplink in whose network the `old` ones of the node were, else the default
    route's, else the only one of an uplink. Never a VPN's or a container network's unless asked for; never a public
    one in place of a private one; no guess between several.
    """
    uplinks = [one for one in network.interfaces if one.kind in UPLINK_KINDS and one.up]
    candidates = [address for one in uplinks for address in usable(one, family)]
    if wanted:
        if network.has(wanted):
            return Choice(normal(wanted), "as given", candidates)
        return Choice("", f"{wanted} is no address of this server", candidates)
    pinned = network.interface(PINNED_INTERFACE)
    if pinned is not None and usable(pinned, family):
        return Choice(
            usable(pinned, family)[0], f"the address of {PINNED_INTERFACE}, which does not change", candidates
        )
    old = [one for one in old if family_of(one) == family]
    if flannel:
        interface = network.interface(flannel)
        own = usable(interface, family) if interface is not None else []
        if not own:
            word = "IPv6 address" if family == 6 else "address"
            return Choice("", f"flannel-iface {flannel} has no {word}", candidates)
        found = Choice(own[0], f"the address of flannel-iface {flannel}", candidates)
    else:
        found = _of_uplinks(network, family, old, candidates)
    gone = [one for one in old if private(one)]
    if gone and found.address and not private(found.address):
        return Choice("", f"{gone[0]} is an address of a private network, and {found.address} is not", candidates)
    return found
