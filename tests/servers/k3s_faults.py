"""What breaks k3s after a change of address, and what heals it: the rows of the scenario `recover-k3s`.

A cause leaves k3s started, so that its journal shows the symptom. Which server a row runs on decides two things:
recover1 has the release that crashes on a stale Node object, and rows of different servers run side by side.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.servers.k3s_server import CONFIG, DATABASE, DROP_INS, FAULTS, SERVER, TOKEN, K3sServer

LADDER = (
    "restart", "configuration", "safe_mode", "node_password", "node_object", "bootstrap_files", "certificates", "token",
    "restore", "delete_cluster",
)  # fmt: skip
"""The rungs of a server on SQLite, the least destructive first."""

HAND = f"{DROP_INS}/50-hand.yaml"
POLICY = (
    r"Failed to start networking: unable to initialize network policy controller: error getting node subnet: "
    r"failed to find interface with specified node ip"
)
KUBELET = r"Failed to set some node status fields.*not found in the host's network interfaces"


@dataclass(frozen=True)
class Row:
    """A cause with what must follow from it.

    Attributes:
        id: names the test.
        server: on which it is made.
        make: makes it, starts k3s, and returns from where the journal shows it.
        symptoms: regular expressions that the journal must then hold.
        rungs: those that heal it, in order; the last one ends it.
        causes: ids that the diagnosis must name at first.
        backup: whether there is a good backup.
        variables: what the playbook is given besides.
        running: whether k3s runs while the cause is made; else it was stopped, which makes no difference to it later.
        crash_loops: whether systemd starts k3s again and again.
        loses: whether what was made after the backup is lost.
    """

    id: str
    server: str
    make: Callable[[K3sServer], str]
    symptoms: tuple[str, ...]
    rungs: tuple[str, ...]
    causes: tuple[str, ...]
    backup: bool = False
    variables: Callable[[K3sServer], dict[str, str]] = lambda _: {}
    running: bool = False
    crash_loops: bool = True
    loses: bool = False

    @property
    def lower(self) -> list[str]:
        """Every rung below the first of those that heal it."""
        return list(LADDER[: LADDER.index(self.rungs[0])])


def move(server: K3sServer) -> str:
    """Give the server another address, and start k3s again as a reboot or an update would."""
    server.uplink.change(server.uplink.second)
    return server.restart()


def set_in_config(server: K3sServer, name: str, value: str) -> None:
    """Add a setting to config.yaml."""
    server.sh(f"printf '%s: %s\\n' {name} {value} >> {CONFIG}")


def node_ip_in_config(server: K3sServer) -> str:
    """config.yaml names the address from before."""
    set_in_config(server, "node-ip", server.uplink.first)
    return move(server)


def node_ip_in_drop_in(server: K3sServer) -> str:
    """config.yaml names the new address, but a drop-in wins that names the one from before."""
    set_in_config(server, "node-ip", server.uplink.second)
    server.write(HAND, f"# set by hand\nnode-ip: {server.uplink.first}\n")
    return move(server)


def bind_address(server: K3sServer) -> str:
    """k3s is told to listen on the address from before."""
    server.write(HAND, f"bind-address: {server.uplink.first}\n")
    return move(server)


def advertise_address(server: K3sServer) -> str:
    """k3s is told to announce the address from before."""
    server.write(HAND, f"advertise-address: {server.uplink.first}\n")
    return move(server)


def no_default_route(server: K3sServer) -> str:
    """Nothing says which address is the node's."""
    server.uplink.remove_route()
    return server.restart()


def damage_database(server: K3sServer) -> str:
    """The first page of the database is gone, and nothing is in its write-ahead log that could replace it."""
    server.stop()
    checkpoint = (
        f"import sqlite3; c = sqlite3.connect({DATABASE!r}); c.execute('PRAGMA wal_checkpoint(TRUNCATE)'); c.close()"
    )
    server.sh(
        f'python3 -c "{checkpoint}" && rm -f {DATABASE}-wal {DATABASE}-shm'
        f" && head -c 4096 /dev/urandom | dd of={DATABASE} conv=notrunc status=none"
    )
    return server.restart()


def another_token(server: K3sServer) -> str:
    """The token file holds another token than the datastore was made with."""
    server.write(TOKEN, "another-token-that-somebody-wrote-here\n")
    return server.restart()


def newer_ca(server: K3sServer) -> str:
    """A file of the certificates is newer than its copy in the datastore, and different."""
    server.stop()
    server.sh(f"printf '\\n' >> {SERVER}/tls/server-ca.crt")
    return server.restart()


def another_node_password(server: K3sServer) -> str:
    """The node shows another password than the one that the cluster knows."""
    server.write("/etc/rancher/node/password", "0123456789abcdef0123456789abcdef\n")
    return server.restart()


def stubborn_node(server: K3sServer) -> str:
    """The Node object keeps its address even when nothing looks at it: safe mode alone does not help."""
    server.sh(f"mkdir -p {FAULTS} && touch {FAULTS}/stale-node-address")
    return move(server)


def foreign_certificate(server: K3sServer) -> str:
    """The listener's certificate is of another authority, and start looks at names and dates only."""
    server.stop()
    server.sh(f"mkdir -p {FAULTS} && touch {FAULTS}/foreign-listener-certificate")
    return server.restart()


def everything_gone(server: K3sServer) -> str:
    """The database is damaged, and the certificates and the server's token are gone."""
    damage_database(server)
    server.stop()
    server.sh(f"rm -rf {SERVER}/tls {SERVER}/cred {SERVER}/token {SERVER}/node-token {SERVER}/agent-token")
    return server.restart()


def bind_address_and_stale_node(server: K3sServer) -> str:
    """Two at once: what keeps k3s from starting hides that its Node object is stale too."""
    return bind_address(server)


def node_ip_and_token(server: K3sServer) -> str:
    """Two at once: configuration and token."""
    server.write(TOKEN, "another-token-that-somebody-wrote-here\n")
    return node_ip_in_config(server)


LISTEN = r"listen tcp 10\.215\.0\.\d+:6443: bind: cannot assign requested address"
OTHER_TOKEN = re.escape("bootstrap data already found and encrypted with different token")
NOT_A_DATABASE = r"building kine: .*(file is not a database|database disk image is malformed)"

UNTRUSTED = r"Waiting to retrieve agent configuration.*x509: certificate signed by unknown authority"

ROWS = (
    Row(
        "old release without node-ip", "recover1", move, (POLICY,), ("safe_mode",), ("node_object_stale",),
        running=True,
    ),
    Row(
        "bind-address and a stale node", "recover1", bind_address_and_stale_node, (LISTEN,),
        ("configuration", "safe_mode"), ("bind_address_stale",),
    ),
    Row(
        "node that stays stale in safe mode", "recover1", stubborn_node, (POLICY,), ("node_object",),
        ("node_object_stale",),
    ),
    Row(
        "foreign certificate", "recover3", foreign_certificate, (UNTRUSTED,), ("certificates",),
        ("certificate_mismatch",), crash_loops=False,
    ),
    Row(
        "node-ip in config.yaml", "recover2", node_ip_in_config, (KUBELET, POLICY), ("configuration",),
        ("node_ip_stale",), running=True,
    ),
    Row(
        "node-ip in a drop-in", "recover2", node_ip_in_drop_in, (KUBELET, POLICY), ("configuration",),
        ("node_ip_stale",),
    ),
    Row("bind-address", "recover2", bind_address, (LISTEN,), ("configuration",), ("bind_address_stale",)),
    Row(
        "advertise-address", "recover2", advertise_address, ("Starting network policy controller",), ("configuration",),
        ("advertise_address_stale",), crash_loops=False,
    ),
    Row(
        "no default route", "recover2", no_default_route, ("no default routes found",), ("configuration",),
        ("no_default_route",), variables=lambda server: {"node_ip": server.uplink.first},
    ),
    Row(
        "newer certificate file", "recover3", newer_ca, ("newer than datastore and could cause a cluster outage",),
        ("bootstrap_files",), ("certificate_newer_than_datastore",),
    ),
    Row(
        "node password", "recover2", another_node_password, ("Node password rejected",), ("node_password",),
        ("node_password_rejected",), backup=True, crash_loops=False,
    ),
    Row("token", "recover3", another_token, (OTHER_TOKEN,), ("token",), ("token_mismatch",), backup=True),
    Row(
        "damaged database", "recover3", damage_database, (NOT_A_DATABASE,), ("restore",), ("database_damaged",),
        backup=True, running=True, loses=True,
    ),
    Row(
        "node-ip and token", "recover3", node_ip_and_token, (OTHER_TOKEN,), ("configuration", "token"),
        ("node_ip_stale", "token_mismatch"), backup=True,
    ),
)  # fmt: skip
