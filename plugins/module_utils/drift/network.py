"""Addresses, who listens where, and firewall rules."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.drift.findings import Comparison
from ansible.module_utils.drift.reading import run, text
from ansible.module_utils.k3s_common import addresses_from_kernel, has_default_route
from ansible.module_utils.k3s_recovery.addresses import normal

TCP_LISTEN = "0A"  # include/net/tcp_states.h
UNIT = re.compile(r"([\w@.:\\-]+\.(?:service|socket|scope|slice))(?:/|$)")


# -- addresses


def collect_addresses() -> dict[str, Any]:
    """The server's own addresses, and whether it has a default route."""
    return {
        "addresses": addresses_from_kernel(text("/proc/net/fib_trie"), text("/proc/net/if_inet6")),
        "default_route": has_default_route(text("/proc/net/route"), text("/proc/net/ipv6_route")),
    }


def several(text: object) -> list[str]:
    """Addresses with commas between, in their usual form; none for None."""
    return [normal(one.strip()) for one in str(text or "").split(",") if one.strip()]


def compare_addresses(result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Compare what names an address with the addresses: `node_ip` of k3s' settings, `docker_bridge` of Docker's."""
    cure = result.playbook("recover-k3s")
    for address in several(expected.get("node_ip")):
        result.count("address")
        if address not in facts["addresses"]:
            result.add(
                "address",
                "k3s node-ip",
                "gone",
                expected=address,
                found=facts["addresses"],
                cure=cure,
                severity="critical",
            )
    result.count("address")
    if not expected.get("node_ip") and not facts["default_route"]:
        result.add(
            "address",
            "default route",
            "missing",
            expected="a default route, from which k3s takes its node's address",
            found="none",
            cure="By hand: ip route says what is there; repair the network's configuration, or set k3s_node_ip",
            severity="critical",
        )
    bridge = str(expected.get("docker_bridge") or "")
    if bridge:
        result.count("address")
        address = str(ipaddress.ip_interface(bridge).ip)
        if address not in facts["addresses"]:
            result.add(
                "address",
                "docker0",
                "gone",
                expected=address,
                found="the bridge has another address or is not there",
                cure=result.site("docker"),
                severity="critical",
            )


# -- listeners


def parse_listeners(tables: Iterable[str]) -> list[dict[str, Any]]:
    """Address, port and inode of each listening TCP socket, from the texts of /proc/net/tcp and tcp6."""
    found = []
    for table in tables:
        for line in table.splitlines()[1:]:
            fields = line.split()
            if len(fields) < 10 or fields[3] != TCP_LISTEN:
                continue
            address, _, port = fields[1].partition(":")
            # little-endian words of four bytes
            packed = b"".join(bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8))
            one = ipaddress.ip_address(packed)
            plain = one.ipv4_mapped or one if isinstance(one, ipaddress.IPv6Address) else one
            found.append({"address": str(plain), "port": int(port, 16), "inode": fields[9]})
    return found


def unit_of(cgroup: str) -> str:
    """The systemd unit of a process by the text of its /proc/…/cgroup; "" where none is named."""
    lines = [line.split(":", 2) for line in cgroup.splitlines() if line.count(":") >= 2]
    for line in sorted(lines, key=lambda one: one[1] not in {"name=systemd", ""}):
        units = [name for name in map(str, UNIT.findall(line[2])) if not name.endswith(".slice")]
        if units:
            # what a container runtime makes below a service is that service's
            return next((name for name in units if not name.endswith(".scope")), units[-1])
    return ""


def collect_ports() -> list[dict[str, Any]]:
    """Every listening TCP socket with the program and the unit that hold it."""
    sockets = parse_listeners([text("/proc/net/tcp"), text("/proc/net/tcp6")])
    wanted = {f"socket:[{one['inode']}]" for one in sockets}
    holders: dict[str, dict[str, str]] = {}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or len(holders) == len(wanted):
            continue
        try:
            for descriptor in os.scandir(process / "fd"):
                link = os.readlink(descriptor.path)
                # a socket that systemd has handed on is the service's
                if link in wanted and (link not in holders or process.name != "1"):
                    program = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                    unit = unit_of((process / "cgroup").read_text(encoding="utf-8", errors="replace"))
                    holders[link] = {"program": program, "unit": unit or ("init.scope" if process.name == "1" else "")}
        except OSError:
            continue  # the process has ended
    nobody = {"program": "unknown", "unit": ""}
    found = [{**one, **holders.get(f"socket:[{one['inode']}]", nobody)} for one in sockets]
    return sorted(found, key=lambda one: (one["port"], one["address"]))


def local(address: str) -> bool:
    """Whether only the server itself reaches this address."""
    return ipaddress.ip_address(address).is_loopback


def compare_ports(result: Comparison, expected: Mapping[str, Any], facts: list[Mapping[str, Any]]) -> None:
    """Compare listeners that other machines reach.

    `units`: whose listeners belong here; `published`: pairs of address and port that the release's containers publish
    (docker-proxy's; None when they are not known); `must`: further ports where somebody must listen; `known`: ports
    that the inventory allows.
    """
    published = expected.get("published")
    units, known = set(expected.get("units", [])), {int(port) for port in expected.get("known", [])}
    heard = {(str(one["address"]), int(one["port"])) for one in facts}
    everywhere = {"0.0.0.0", "::", ""}  # noqa: S104  (compared, not bound)
    for address, port in published or []:
        result.count("ports")
        hears = any(p == port and (a == address or (address in everywhere) == (a in everywhere)) for a, p in heard)
        if not hears:
            result.add(
                "ports",
                f"{address or '*'}:{port}",
                "missing",
                expected="a listener",
                found="nobody listens",
                cure=str(expected["publish_cure"]),
                severity="critical",
            )
    for port, cure in (expected.get("must") or {}).items():
        result.count("ports")
        if int(port) not in {p for _, p in heard}:
            result.add(
                "ports",
                f"port {port}",
                "missing",
                expected="a listener",
                found="nobody listens",
                cure=str(cure),
                severity="critical",
            )
    ours = {int(port) for _, port in published or []}
    for one in facts:
        port = int(one["port"])
        if local(str(one["address"])) or port in known:
            continue
        result.count("ports")
        if one["unit"] == "docker.service" and (published is None or port in ours):
            continue
        if one["unit"] in units and one["unit"] != "docker.service":
            continue
        what = f"{one['program']} ({one['unit'] or 'no unit'})"
        by_hand = (
            f"By hand: ss -ltnp 'sport = :{port}' shows who it is; stop it, or allow the port by drift_known_ports"
        )
        result.add(
            "ports", f"port {port}", "unknown", expected="nobody listens for other machines", found=what, cure=by_hand
        )


# -- firewall

# chains and rules that Docker, k3s (kube-router, kube-proxy, flannel) and CNI plugins make and keep themselves
_OTHERS = re.compile(r"DOCKER|KUBE-|FLANNEL|CNI-|cali|br-|docker0|cni0|flannel|kube")
# Docker's, for a container that calls its own published port
_HAIRPIN = re.compile(r"^-A POSTROUTING -s (\S+) -d \1 .*-j MASQUERADE$")
# Docker's, from Engine 28 on: a container's own address, and a port published on 127.0.0.1, are reached from here only
_DIRECT = re.compile(r"^-A PREROUTING -d \S+ ! -i (?:lo|docker0|br-\S+)(?: -p (\w+) -m \1 --dport \d+)? -j DROP$")
# Docker's, where containers of a network shall not see each other
_APART = re.compile(r"^-A FORWARD -i (\S+) -o \1 -j DROP$")
# in chains of the kernel's own, those programs refuse nothing else, whatever interface a rule names
_REFUSES = re.compile(r"^-A (?:PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING) .*-j (?:DROP|REJECT)\b")
# what Docker leaves to people, and all that it writes into it itself
_PEOPLES, _DOCKERS_OWN = "-A DOCKER-USER ", "-A DOCKER-USER -j RETURN"
_IPTABLES_NFT = ("ip", "ip6", "arp", "bridge")
_IPTABLES_TABLES = ("filter", "nat", "mangle", "raw", "security")
_OTHER_TABLES = re.compile(r"docker|kube|flannel|cni|k3s", re.IGNORECASE)


def _is_others(table: str, rule: str) -> bool:
    """Whether one of the programs that keep their own rules has made this one."""
    if rule.startswith(_PEOPLES):
        return rule == _DOCKERS_OWN
    if (table == "raw" and _DIRECT.match(rule)) or _APART.match(rule) or _HAIRPIN.match(rule):
        return True
    return bool(_OTHERS.search(rule)) and not _REFUSES.match(rule)


def unknown_rules(saved: str) -> list[str]:
    """Rules of an iptables-save that none of the programs that keep their own has made; policies that are no ACCEPT."""
    found, table = [], ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":"):
            chain, policy = line[1:].split()[:2]
            # Docker itself sets FORWARD to DROP
            if policy == "DROP" and chain != "FORWARD":
                found.append(f"{table}: policy {policy} of {chain}")
        elif line.startswith("-A ") and not _is_others(table, line.rstrip()):
            found.append(f"{table}: {line}")
    return found


def dockers_rules(saved: str) -> bool:
    """Whether packets still come to Docker's chains: after a flush (iptables -F) the chains are there, and empty."""
    return all(re.search(rf"(?m)^-A {chain} .*-j DOCKER", saved) for chain in ("FORWARD", "PREROUTING"))


def collect_firewall() -> dict[str, Any]:
    """Rules of iptables for both families, and nftables' tables; None where the program is not there."""
    found: dict[str, Any] = {"rules": {}, "tables": None}
    for family, program in (("IPv4", "iptables-save"), ("IPv6", "ip6tables-save")):
        if shutil.which(program, path="/usr/sbin:/sbin:/usr/bin"):
            saved = run(program)
            found["rules"][family] = {
                "unknown": unknown_rules(saved),
                "docker_user": dockers_rules(saved),
            }
    if shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin"):
        out = run("nft", "list", "tables")
        found["tables"] = [
            line.removeprefix("table ").strip() for line in out.splitlines() if line.startswith("table ")
        ]
    return found


def compare_firewall(result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Compare rules: those that nobody owns are findings unless a pattern of `known` fits; Docker's must be there.

    `docker`: whether Docker manages rules here (daemon.json can say no).
    """
    patterns = [re.compile(pattern) for pattern in expected.get("known", [])]
    for family, rules in facts["rules"].items():
        result.count("firewall")
        for rule in rules["unknown"]:
            if any(pattern.search(rule) for pattern in patterns):
                continue
            result.add(
                "firewall",
                f"{family} {rule}",
                "unknown",
                expected="no such rule",
                found="a rule of unknown origin",
                cure=(
                    "By hand: remove it (iptables -D … with the same words, or iptables -P … ACCEPT for a "
                    "policy), or allow it by drift_known_firewall"
                ),
            )
        if expected.get("docker") and family == "IPv4" and not rules["docker_user"]:
            result.add(
                "firewall",
                f"{family} Docker's chains",
                "missing",
                expected="Docker's rules",
                found="none: containers reach nobody",
                cure="By hand: systemctl restart docker.service writes them again (containers live on)",
                severity="critical",
            )
    for table in facts["tables"] or []:
        family, _, name = table.partition(" ")
        result.count("firewall")
        if (family in _IPTABLES_NFT and name in _IPTABLES_TABLES) or _OTHER_TABLES.search(name):
            continue
        if any(pattern.search(table) for pattern in patterns):
            continue
        result.add(
            "firewall",
            f"nftables {table}",
            "unknown",
            expected="no such table",
            found="a table of unknown origin",
            cure=(
                f"By hand: nft list table {table} shows it; nft delete table {table} removes it, or allow it by "
                "drift_known_firewall"
            ),
        )
