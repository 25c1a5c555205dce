"""Interfaces, addresses and routes of this server, and which address its node should have."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

PINNED_INTERFACE = "k3s-node"  # an interface with an address that cannot change (role k3s)


@dataclass(frozen=True)
class Interface:
    """A network interface; `addresses` with their prefix (10.0.0.5/24)."""

    name: str
    kind: str  # physical, wireguard, tun, bridge, container (docker, CNI, veth), dummy, pinned, loopback
    addresses: list[str]
    up: bool


@dataclass(frozen=True)
class Route:
    """A route; `destination` is a network, 0.0.0.0/0 and ::/0 for the default ones."""

    destination: str
    interface: str
    metric: int
    gateway: str = ""
    table: str = "main"


@dataclass(frozen=True)
class Network:
    """What the kernel knows."""

    interfaces: list[Interface]
    routes: list[Route]
    rules: list[str] = field(default_factory=list)  # of policy routing, those that are not the kernel's own

    @property
    def addresses(self) -> list[str]:
        """Every address of this server but loopback's, without prefix."""
        raise NotImplementedError


@dataclass(frozen=True)
class Choice:
    """The address that the node should have: one, or none and the candidates."""

    address: str
    reason: str
    candidates: list[str]


def read_network(root: Path = Path("/")) -> Network:
    """Read interfaces and routes. Never raises."""
    raise NotImplementedError


def choose(network: Network, wanted: str = "", family: int = 4) -> Choice:
    """Choose the node's address: `wanted` when it is an address of this server, else the default route's, else the only one."""
    raise NotImplementedError
