"""Addresses and routes of this machine, from /proc: a server need not have iproute2."""

import fcntl
import ipaddress
import socket
import struct
from pathlib import Path

_SIOCGIFADDR = 0x8915
_ROUTE_UP = 0x1
_PROC = Path("/proc/net")


def default_route_interface(route_table: str) -> str | None:
    """Return the interface of the first default route in the text of /proc/net/route, or None."""
    for line in route_table.splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 8 and fields[1] == "00000000" and fields[7] == "00000000" and int(fields[3], 16) & _ROUTE_UP:
            return fields[0]
    return None


def local_addresses_of(fib_trie: str) -> set[str]:
    """Return the IPv4 addresses that this machine owns, from the text of /proc/net/fib_trie."""
    found = set()
    address = ""
    for line in fib_trie.splitlines():
        words = line.split()
        if words[:1] in (["|--"], ["+--"]):
            address = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"]:
            found.add(address)
    return found


def local_addresses() -> set[str]:
    """Return every IPv4 and IPv6 address that an interface of this machine has now."""
    found = local_addresses_of((_PROC / "fib_trie").read_text())
    inet6 = _PROC / "if_inet6"
    if inet6.exists():
        for line in inet6.read_text().splitlines():
            found.add(str(ipaddress.IPv6Address(bytes.fromhex(line.split()[0]))))
    return found


def has_address(address: str) -> bool:
    """Say whether an interface of this machine has `address` now."""
    return str(ipaddress.ip_address(address)) in local_addresses()


def interface_address(name: str) -> str:
    """Return the first IPv4 address of an interface.

    Raises:
        OSError: there is no such interface, or it has no IPv4 address.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("256s", name.encode()[:15])
        return socket.inet_ntoa(fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)[20:24])


def flannel_address(name: str) -> str:
    """Return the address of the interface that `flannel-iface` names.

    Raises:
        LookupError: there is no such interface, or it has no address; the text is k3s' own.
    """
    start = f"interface {name} does not have a correct global unicast ip: "
    problem = interface_problem(name)
    if problem:
        raise LookupError(start + problem)
    try:
        return interface_address(name)
    except OSError as error:
        raise LookupError(f"{start}can't find ip for interface {name}") from error


def interface_problem(name: str) -> str:
    """Return Go's words when there is no interface of this name, else nothing."""
    try:
        socket.if_nametoindex(name)
    except OSError:
        return "route ip+net: no such network interface"
    return ""


def choose_address() -> str:
    """Return the address of the interface with the default route, as Kubernetes chooses it.

    Raises:
        LookupError: there is no default route, or its interface has no address; the text is Kubernetes' own.
    """
    interface = default_route_interface((_PROC / "route").read_text())
    if interface is None:
        raise LookupError('no default routes found in "/proc/net/route" or "/proc/net/ipv6_route"')
    try:
        return interface_address(interface)
    except OSError as error:
        raise LookupError("unable to select an IP from default routes.") from error


def listen_error(address: str, port: int) -> str | None:
    """Try to listen; return the error as Go words it, or None when it works."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            text = (error.strerror or str(error)).lower()
            where = "" if address == "0.0.0.0" else address  # noqa: S104  Go's wording for "every address"
            return f"listen tcp {where}:{port}: bind: {text}"
    return None
