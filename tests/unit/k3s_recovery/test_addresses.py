"""Which address the node should have, and what the kernel's answers mean."""

from __future__ import annotations

import importlib
import ipaddress
import struct
from typing import Any

import pytest

addresses = importlib.import_module("ansible.module_utils.k3s_recovery.addresses")
Interface, Route, Rule, Network = addresses.Interface, addresses.Route, addresses.Rule, addresses.Network

ETH0 = Interface("eth0", "physical", ["10.0.0.5/24", "fd00::5/64", "fe80::1/64"], True, ["fe80::1"])
ETH1 = Interface("eth1", "physical", ["192.168.1.5/24"], True)
DOCKER = Interface("docker0", "container", ["172.17.0.1/16"], True)
VPN = Interface("wg0", "wireguard", ["10.8.0.2/32"], True)
DEFAULT = Route("0.0.0.0/0", "eth0", 100, "10.0.0.1")


def network(*interfaces: Any, routes: tuple[Any, ...] = (DEFAULT,)) -> Any:
    return Network(list(interfaces), list(routes))


@pytest.mark.parametrize(
    ("seen", "address"),
    [
        (network(ETH0, ETH1, DOCKER, VPN), "10.0.0.5"),
        # the VPN has the better default route: k3s would take its address, nobody wants that
        (network(ETH0, VPN, routes=(Route("0.0.0.0/0", "wg0", 50), DEFAULT)), "10.0.0.5"),
        (network(ETH1, DOCKER, VPN, routes=()), "192.168.1.5"),
        (network(ETH1, VPN, routes=(Route("0.0.0.0/0", "wg0", 50),)), "192.168.1.5"),
        (network(ETH0, ETH1, Interface("k3s-node", "pinned", ["10.255.0.1/32"], True)), "10.255.0.1"),
        # a metric decides
        (network(ETH0, ETH1, routes=(DEFAULT, Route("0.0.0.0/0", "eth1", 50, "192.168.1.1"))), "192.168.1.5"),
        # two addresses: the one beside the gateway, or the one that the route names
        (network(Interface("eth0", "physical", ["10.9.0.5/24", "10.0.0.7/24"], True)), "10.0.0.7"),
        (
            network(
                Interface("eth0", "physical", ["10.0.0.8/24", "10.0.0.7/24"], True),
                routes=(Route("0.0.0.0/0", "eth0", 0, "10.0.0.1", 254, "10.0.0.7"),),
            ),
            "10.0.0.7",
        ),
    ],
)
def test_the_address_that_a_node_should_have(seen: Any, address: str) -> None:
    assert addresses.choose(seen).address == address


PUBLIC = Interface("eth0", "physical", ["203.0.113.5/24"], True)
LATE = Interface("enp7s0", "physical", [], True)
MOVED = Interface("enp7s0", "physical", ["10.0.0.9/24"], True)
OUTSIDE = (Route("0.0.0.0/0", "eth0", 100, "203.0.113.1"),)


@pytest.mark.parametrize(
    ("seen", "flannel", "old", "address", "reason"),
    [
        (MOVED, "enp7s0", "10.0.0.2", "10.0.0.9", "the address of flannel-iface enp7s0"),
        (LATE, "enp7s0", "10.0.0.2", "", "flannel-iface enp7s0 has no address"),
        (LATE, "gone0", "10.0.0.2", "", "flannel-iface gone0 has no address"),
        (MOVED, "", "10.0.0.2", "10.0.0.9", "the address in the same network as 10.0.0.2"),
        (LATE, "", "10.0.0.2", "", "10.0.0.2 is an address of a private network, and 203.0.113.5 is not"),
        (MOVED, "", "192.168.7.2", "", "192.168.7.2 is an address of a private network, and 203.0.113.5 is not"),
        (MOVED, "eth0", "10.0.0.2", "", "10.0.0.2 is an address of a private network, and 203.0.113.5 is not"),
        # a public one may become another
        (MOVED, "", "198.51.100.7", "203.0.113.5", "the address of the default route's interface"),
        (MOVED, "", "", "203.0.113.5", "the address of the default route's interface"),
    ],
)
def test_a_private_address_does_not_become_a_public_one(
    seen: Any, flannel: str, old: str, address: str, reason: str
) -> None:
    seen = network(PUBLIC, seen, routes=OUTSIDE)
    choice = addresses.choose(seen, flannel=flannel, old=[old] if old else [])
    assert (choice.address, choice.reason) == (address, reason)
    assert "203.0.113.5" in choice.candidates
    # somebody who names it means it
    assert addresses.choose(seen, "203.0.113.5", flannel=flannel, old=[old]).address == "203.0.113.5"


def test_an_address_of_its_own_is_the_nodes_whatever_it_had_before() -> None:
    pinned = Interface("k3s-node", "pinned", ["192.0.2.1/32"], True)
    assert addresses.choose(network(PUBLIC, pinned), flannel="enp7s0", old=["10.0.0.2"]).address == "192.0.2.1"


def test_of_two_uplinks_in_the_same_network_the_default_routes_counts() -> None:
    two = network(ETH0, Interface("eth1", "physical", ["10.0.0.7/24"], True))
    assert addresses.choose(two, old=["10.0.0.2"]).address == "10.0.0.5"
    several = addresses.choose(network(*two.interfaces, routes=()), old=["10.0.0.2"])
    assert (several.address, several.candidates) == ("", ["10.0.0.5", "10.0.0.7"])
    assert not addresses.private("no address")


@pytest.mark.parametrize(
    ("seen", "candidates"),
    [
        (network(ETH0, ETH1, routes=()), ["10.0.0.5", "192.168.1.5"]),
        (network(ETH0, ETH1, routes=(DEFAULT, Route("0.0.0.0/0", "eth1", 100))), ["10.0.0.5", "192.168.1.5"]),
        (network(DOCKER, VPN, routes=()), []),
    ],
)
def test_no_guess_between_several(seen: Any, candidates: list[str]) -> None:
    found = addresses.choose(seen)
    assert (found.address, found.candidates) == ("", candidates)


def test_an_address_that_is_given() -> None:
    seen = network(ETH0, ETH1, VPN)
    assert addresses.choose(seen, "10.8.0.2").address == "10.8.0.2"
    assert addresses.choose(seen, "10.0.0.99").address == ""
    assert (
        addresses.choose(network(ETH0, routes=(DEFAULT, Route("::/0", "eth0", 1, "fe80::2"))), family=6).address
        == "fd00::5"
    )


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def link(name: str, kind: str = "", master: int = 0, flags: int = 1, index: int = 2) -> Any:
    message = struct.pack("=BxHiII", 0, 1, index, flags, 0) + _attribute(3, name.encode() + b"\0")
    message += _attribute(10, struct.pack("=I", master)) if master else b""
    message += _attribute(18, _attribute(1, kind.encode())) if kind else b""
    return addresses.parse_link(message)


@pytest.mark.parametrize(
    ("seen", "members", "kind"),
    [
        (link("lo", flags=9), [], "loopback"),
        (link("eth0"), [], "physical"),
        (link("eth0", "veth"), [], "physical"),
        (link("veth12", "veth", master=4), [], "container"),
        (link("docker0", "bridge"), [], "container"),
        (link("br-1a223c905481", "bridge"), [link("veth1", "veth", master=2)], "container"),
        (link("br0", "bridge"), [link("eth0", master=2)], "bridge"),
        (link("wg0", "wireguard"), [], "wireguard"),
        (link("nordlynx", "wireguard"), [], "wireguard"),
        # k3s' own, with flannel-backend: wireguard-native
        (link("flannel-wg", "wireguard"), [], "container"),
        (link("flannel.1", "vxlan"), [], "container"),
        (link("tun0", "tun"), [], "tun"),
        (link("tap0", "tun", master=3), [], "container"),
        (link("k3s-node", "dummy"), [], "pinned"),
        (link("k3s-node", "bridge"), [], "pinned"),
        (link("dummy0", "dummy"), [], "dummy"),
        (link("bond0", "bond"), [], "physical"),
    ],
)
def test_what_an_interface_is_for(seen: Any, members: list[Any], kind: str) -> None:
    assert addresses._kind(seen, members) == kind


def test_routes_and_rules_of_the_kernel() -> None:
    gateway = ipaddress.ip_address("10.0.0.1").packed
    main = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 3, 0, 1, 0)
    main += _attribute(15, struct.pack("=I", 254)) + _attribute(5, gateway) + _attribute(4, struct.pack("=I", 2))
    assert addresses.parse_route(main, {2: "eth0"}) == Route("0.0.0.0/0", "eth0", 0, "10.0.0.1")
    # wg-quick's table, too large for the header
    other = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 0, 3, 253, 1, 0)
    other += _attribute(15, struct.pack("=I", 51820)) + _attribute(4, struct.pack("=I", 7))
    assert addresses.parse_route(other, {7: "wg0"}) == Route("0.0.0.0/0", "wg0", 0, "", 51820)
    local = struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 255, 2, 254, 2, 0)
    assert addresses.parse_route(local, {}) is None

    rule = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 0, 0, 0, 1, 2) + _attribute(15, struct.pack("=I", 51820))
    assert addresses.parse_rule(rule + _attribute(6, struct.pack("=I", 32765))) == Rule(32765, 51820, False)
    own = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 0, 0, 1, 0) + _attribute(15, struct.pack("=I", 254))
    assert addresses.parse_rule(own) is None


def test_this_machine() -> None:
    found = addresses.read_network()
    assert found.problem == ""
    assert found.has("127.0.0.1")
    assert not found.has("203.0.113.77")
    assert next(one for one in found.interfaces if one.name == "lo").kind == "loopback"
