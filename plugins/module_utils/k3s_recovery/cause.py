"""What a diagnosis is made of, and the view of the facts that its checks share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ansible.module_utils.k3s_common import K3sError, parse_version
from ansible.module_utils.k3s_recovery import journal
from ansible.module_utils.k3s_recovery.addresses import Choice, choose, family_of, normal, usable
from ansible.module_utils.k3s_recovery.facts import Facts
from ansible.module_utils.k3s_recovery.journal import Match
from ansible.module_utils.k3s_recovery.probes import Node

# least destructive first; a deleted Node object takes its password with it, so node_object would cure that as well
LADDER = (
    "restart", "configuration", "safe_mode", "node_password", "node_object", "bootstrap_files", "certificates", "token",
    "cluster_reset", "snapshot_restore", "restore", "delete_cluster",
)  # fmt: skip
# Patch releases in which k3s ends itself when its Node object still has the address from before a change (they look at
# it before the kubelet has written the new one): minor version -> first and last. k3s-io/k3s#12639, ended by #12891.
CRASHING_RELEASES = {31: (10, 13), 32: (6, 9), 33: (2, 5), 34: (0, 1)}
RECOVER = "ansible-playbook playbooks/recover-k3s.yml"


@dataclass(frozen=True)
class Cause:
    """Something that is wrong.

    `rung` heals it; with an empty one nobody can automatically, and `cure` says what to do. `details` are for the rung:
    `edits` (dicts of configuration.Edit) for configuration, `files` for bootstrap_files, `node` for node_object and
    node_password, `old` and `new` addresses, `missing` where there is no database at all.
    """

    id: str
    sentence: str
    evidence: list[str]
    rung: str
    cure: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """The facts with what follows from them. `node_ip` is what the operator gives."""

    facts: Facts
    node_ip: str
    stable_seconds: float

    @cached_property
    def node(self) -> Node | None:
        """This server's Node object."""
        return next((one for one in self.facts.api.nodes if one.name == self.facts.node_name), None)

    @cached_property
    def servers(self) -> list[str]:
        """The servers of the cluster on embedded etcd or an external datastore, as far as anything here tells of them.

        By the API, by etcd's own words, or by k3s' load balancers. Empty: nothing tells, so they may be several.
        """
        if self.facts.datastore.kind not in {"etcd", "external"}:
            return []
        names = [one.name for one in self.facts.api.nodes if one.control_plane]
        match = self.matches.get("etcd_member")
        words = match.values.get("members", "").split("expect")[0] if match else ""
        members = re.findall(r"([\w.-]+)=https?://", words)
        return max(names, members, self.facts.known_servers, key=len)

    @property
    def vpn(self) -> bool:
        """Whether k3s brings a VPN up by itself (vpn-auth): it then takes the node's address from there."""
        return any(self.facts.configuration.items(key) for key in ("vpn-auth", "vpn-auth-file"))

    @property
    def settled(self) -> bool:
        """Whether the unit runs and has long enough, or was started by somebody and not by systemd after a crash."""
        unit = self.facts.unit
        return unit.running and (unit.running_seconds >= self.stable_seconds or unit.restarts == 0)

    @property
    def reported(self) -> bool:
        """Whether the kubelet has said something since k3s was started; what the Node object says may be older."""
        node = self.node
        return node is not None and node.reported >= self.facts.now - self.facts.unit.process_seconds - 2

    @cached_property
    def well(self) -> bool:
        """Whether k3s works now, whatever the journal says of the past."""
        node = self.node
        if not self.settled or self.facts.api.problem or node is None or not node.ready or not self.reported:
            return False
        return self.facts.network.problem != "" or all(self.facts.network.has(one) for one in node.internal_ips)

    @cached_property
    def lines(self) -> list[str]:
        """The lines that tell of now: of the start that runs, or of the one that failed last. None when k3s is well."""
        starts, unit = self.facts.journal.starts, self.facts.unit
        if self.well or not starts:
            return []
        if not unit.running and starts[-1].clean:
            return []
        if unit.running and unit.invocation:
            own = [one for one in starts if one.invocation == unit.invocation]
        else:
            own = starts[-1:]
        if unit.restarts == 0 or (unit.running and self.settled):
            return [line for one in own for line in one.lines]
        # between two crashes the one before says more than one that has just begun
        before = [one for one in starts if one not in own][-1:]
        return [line for one in [*before, *own] for line in one.lines]

    @cached_property
    def matches(self) -> dict[str, Match]:
        """Signatures in these lines."""
        found = {one.name: one for one in journal.matches(self.lines)}
        serious = [one for one in self.lines if journal.is_fatal(one)]
        failed = not self.facts.unit.running and self.facts.unit.sub != "start"
        # lines that k3s survives as often as not count where nothing worse is said and it has ended
        weak = {one.name: one for one in journal.matches(serious)} if serious else (found if failed else {})
        unsure = journal.WEAK | (journal.DOUBTFUL if serious else frozenset())
        return {name: one for name, one in found.items() if name not in unsure or name in weak}

    def line(self, name: str) -> list[str]:
        """The line of a signature as evidence; nothing where it is not there."""
        found = self.matches.get(name)
        return [found.line] if found else []

    def wanted(self, family: int) -> str:
        """The address of a family that the operator gives."""
        return next((one for one in split_addresses(self.node_ip) if family_of(one) == family), "")

    def choice(self, family: int, old: str = "", *, by_flannel: bool = True) -> Choice:
        """The address that the node should have: as given, as set and still right, else the one that fits best.

        `old` is an address that it takes the place of, besides node-ip's; without `by_flannel` flannel-iface does not
        tell.
        """
        set_to = [one for one in self.facts.configuration.values("node-ip") if family_of(one) == family]
        right = [one for one in set_to if self.facts.network.has(one)]
        flannel = self.facts.configuration.text("flannel-iface") if by_flannel else ""
        wanted = self.wanted(family) or (right or [""])[0]
        return choose(self.facts.network, wanted, family, flannel=flannel, old=[*set_to, old] if old else set_to)

    @cached_property
    def agents(self) -> list[str]:
        """Nodes that are no servers, by the API; while that is silent, every other node that the database knows."""
        if not self.facts.api.problem:
            return [one.name for one in self.facts.api.nodes if not one.control_plane]
        return [one for one in self.facts.datastore.nodes if one != self.facts.node_name]

    @property
    def k3s_choice(self) -> str:
        """The address that k3s takes without node-ip: of flannel-iface, else of the default route; '' with vpn-auth."""
        if self.vpn:
            return ""
        network = self.facts.network
        named = network.interface(self.facts.configuration.text("flannel-iface"))
        if named is not None and usable(named, 4):
            return usable(named, 4)[0]
        for family in (4, 6):
            for route in network.default_routes(family):
                interface = network.interface(route.interface)
                if interface is not None and usable(interface, family):
                    return usable(interface, family)[0]
        return ""

    @property
    def crashes_when_stale(self) -> bool:
        """Whether this release ends itself over a Node object with an old address."""
        try:
            version = parse_version(self.facts.binary_version)
        except K3sError:
            return False
        first, last = CRASHING_RELEASES.get(version.minor, (1, 0))
        return version.major == 1 and first <= version.patch <= last

    def times(self) -> str:
        """How often it was restarted, as evidence."""
        unit = self.facts.unit
        return f"k3s.service is {unit.active} ({unit.sub}), restarted by systemd {unit.restarts} times"


def split_addresses(text: str) -> list[str]:
    """Addresses with commas between, in their usual form."""
    return [normal(one.strip()) for one in text.split(",") if one.strip()]


def listed(values: list[str]) -> str:
    """Values for a sentence."""
    return ", ".join(values) or "none"
