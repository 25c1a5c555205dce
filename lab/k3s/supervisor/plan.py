"""What the settings come to on this machine: names and addresses, checked before anything is written."""

import ipaddress
import os
import socket
from dataclasses import dataclass

from . import network
from .flags import Effect
from .logs import FatalError
from .node import parse_taint
from .pki import Names
from .settings import Settings

EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  k3s listens everywhere unless told otherwise


@dataclass(frozen=True)
class Plan:
    """Names and addresses of this server."""

    node_name: str
    node_address: str
    bind_address: str
    port: int
    advertise_address: str
    advertise_port: int
    cluster_cidr: str
    service_cidr: str
    cluster_domain: str

    @property
    def local_host(self) -> str:
        """Where this machine itself reaches the API server."""
        return "127.0.0.1" if self.bind_address == EVERY_ADDRESS else self.bind_address

    @property
    def service_address(self) -> str:
        """The address of the service `kubernetes`: the first of the service range."""
        return str(next(ipaddress.ip_network(self.service_cidr).hosts()))


def _address(option: str, text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise FatalError(f"Error: invalid {option} address: {text}") from error


def _network(option: str, text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise FatalError(f"Error: invalid {option} {text}: {error}") from error


def _own_address(settings: Settings) -> str:
    """Return the node's address where `node-ip` is not given: flannel's interface decides, else the default route.

    Raises:
        FatalError: there is none.
    """
    interface = settings.text("flannel-iface")
    try:
        return network.flannel_address(interface) if interface else network.choose_address()
    except LookupError as error:
        raise FatalError(f"Error: {error}" if interface else str(error)) from error


def make_plan(settings: Settings) -> Plan:
    """Work out names and addresses.

    Raises:
        FatalError: an option asks for another kind of server, an address is none, or there is no default route.
    """
    refused = settings.with_effect(Effect.REFUSED)
    if refused:
        raise FatalError(
            f"Error: the lab's k3s is one server with its own datastore and cannot do what --{refused[0]} asks for; "
            "use a real k3s to try that"
        )
    if os.geteuid() != 0:
        raise FatalError("Error: server must run as root, or with --rootless and certain environment variables")
    node_addresses = [_address("node-ip", item) for item in settings.items("node-ip")] or [_own_address(settings)]
    for taint in settings.items("node-taint"):
        parse_taint(taint)
    port = settings.number("https-listen-port", 6443)
    bind = settings.text("bind-address")
    advertise = settings.text("advertise-address")
    mode = settings.text("write-kubeconfig-mode")
    if mode and (not mode.isdigit() or set(mode) - set("01234567")):
        raise FatalError(f'Error: strconv.ParseInt: parsing "{mode}": invalid syntax')
    return Plan(
        node_name=(settings.text("node-name") or socket.gethostname()).lower(),
        node_address=node_addresses[0],
        bind_address=_address("bind-address", bind) if bind else EVERY_ADDRESS,
        port=port,
        advertise_address=_address("advertise-address", advertise) if advertise else node_addresses[0],
        advertise_port=settings.number("advertise-port", port),
        cluster_cidr=_network("cluster-cidr", (settings.items("cluster-cidr") or ["10.42.0.0/16"])[0]),
        service_cidr=_network("service-cidr", (settings.items("service-cidr") or ["10.43.0.0/16"])[0]),
        cluster_domain=settings.text("cluster-domain", "cluster.local"),
    )


def serving_names(plan: Plan, settings: Settings) -> Names:
    """Return what the API server's certificate must name (k3s' own names, the node's, and every `tls-san`)."""
    dns = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    dns += [f"kubernetes.default.svc.{plan.cluster_domain}", "localhost", plan.node_name]
    addresses = ["127.0.0.1", "::1", plan.service_address, plan.advertise_address]
    addresses += settings.items("node-ip") or [plan.node_address]
    addresses += settings.items("node-external-ip")
    if plan.bind_address != EVERY_ADDRESS:
        addresses.append(plan.bind_address)
    for name in settings.items("tls-san"):
        try:
            addresses.append(str(ipaddress.ip_address(name)))
        except ValueError:
            dns.append(name)
    return Names("kube-apiserver", dns=tuple(dns), addresses=tuple(addresses))
