"""Whether k3s is well again: it runs and goes on running, its node is right, what the cluster held is still there."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.k3s_common import DATA_FOLDER
from ansible.module_utils.k3s_recovery.machine import Machine, MachineError
from ansible.module_utils.kine_database import Inventory

# Starts that end in a crash before a rung counts as failed: the first may still be one that was on its way.
CRASHES = 2
# systemd takes a moment to begin a job; a unit that is not even starting after this long does not
BEGIN_SECONDS = 15
# Roles that k3s and Kubernetes write again at each start, so their content may differ after one.
RECONCILED = frozenset({"admin", "edit", "view", "cluster-admin"})
RECONCILED_PREFIXES = ("system:", "k3s-", "kube-", "local-path", "helm-kube-system", "clustercidrs-")
# Kinds whose number changes all the time without anybody's doing.
PASSING = frozenset({
    "events", "leases", "masterleases", "pods", "endpointslices", "services", "endpoints", "controllerrevisions",
    "minions", "csinodes", "replicasets", "jobs", "tokenreviews", "ranges", "nodes", "peerserverleases", "serviceips",
})  # fmt: skip


@dataclass(frozen=True)
class NodeView:
    """The server's node in the API. `problem` says why it is not as it has to be; empty when it is."""

    problem: str
    body: dict[str, Any]

    @property
    def name(self) -> str:
        """Its name; empty when there is none."""
        return str(self.body.get("metadata", {}).get("name", ""))


def internal_addresses(node: dict[str, Any]) -> list[str]:
    """The InternalIPs of a Node object."""
    addresses = node.get("status", {}).get("addresses") or []
    return [str(item["address"]) for item in addresses if item.get("type") == "InternalIP"]


def leaving(node: Mapping[str, Any], deleted: Collection[str] = ()) -> bool:
    """Whether a Node object is on its way out, or is one of the `deleted` ones (their uids): not the one to come."""
    metadata = node.get("metadata", {})
    return bool(metadata.get("deletionTimestamp")) or metadata.get("uid") in deleted


def see_node(machine: Machine, *, name: str, address: str, deleted: Collection[str] = ()) -> NodeView:
    """Look at the node now.

    `address`: the InternalIP that it must have, several with a comma between; "" for any. `deleted`: uids of Node
    objects that were deleted and do not count.
    """
    try:
        answer = machine.request("GET", "/api/v1/nodes")
    except MachineError as error:
        return NodeView(str(error), {})
    if answer.status != 200:
        return NodeView(f"the API answers {answer.message}", {})
    nodes = {str(item["metadata"]["name"]): item for item in answer.body.get("items") or []}
    node = nodes.get(name)
    if node is None:
        return NodeView(f"there is no node {name} (there is: {', '.join(nodes) or 'none'})", {})
    if leaving(node, deleted):
        return NodeView(f"node {name} is being deleted", node)
    conditions = node.get("status", {}).get("conditions") or []
    ready = [item for item in conditions if item.get("type") == "Ready"]
    found = internal_addresses(node)
    if not ready or ready[0].get("status") != "True":
        return NodeView(f"node {name} is not Ready: {ready[0].get('message', '') if ready else 'no word yet'}", node)
    if address and not set(address.replace(" ", "").split(",")) <= set(found):
        return NodeView(f"node {name} has InternalIP {', '.join(found) or 'none'}, and {address} is right", node)
    return NodeView("", node)


class Watch:
    """Counts starts and crashes of the unit while something waits for it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._begun = machine.uptime()
        self._seen: list[str] = []
        self._steady: tuple[str, int] | None = None
        self._steady_since = 0.0
        self.running = False
        self.running_seconds = 0.0
        self.words = ""

    def look(self) -> str:
        """Look at the unit once; why it will not come up, empty while there is hope."""
        unit = self._machine.unit()
        now = self._machine.uptime()
        self.running = unit.running
        self.words = f"k3s is not up: its unit is {unit.active} ({unit.sub})"
        starting = unit.active in {"active", "activating", "reloading"}
        if starting and unit.invocation and unit.invocation not in self._seen:
            self._seen.append(unit.invocation)
        steady = (unit.invocation, unit.restarts)
        if not unit.running or steady != self._steady:
            self._steady, self._steady_since = (steady if unit.running else None), now
        self.running_seconds = now - self._steady_since if unit.running else 0.0
        fallen = unit.sub == "auto-restart" or unit.active == "failed"
        crashes = len(self._seen) - (0 if fallen or not self._seen else 1)
        if crashes >= CRASHES:
            return f"k3s started {crashes} times and crashed each time"
        if not self._seen and now - self._begun > BEGIN_SECONDS:
            return f"k3s does not even start: its unit is {unit.active} ({unit.sub})"
        return ""


def wait_until_up(
    machine: Machine, *, name: str, address: str, timeout: float, stable: float, deleted: Collection[str] = ()
) -> str:
    """Wait until k3s is up, its node right, and both stay so; why that did not happen, or "".

    `timeout`: seconds until it has to be up; `stable`: seconds for which the same start has to run then; `deleted`: as
    for `see_node`.
    """
    watch = Watch(machine)
    deadline = machine.uptime() + timeout
    while True:
        hopeless = watch.look()
        if hopeless:
            return hopeless
        seen = see_node(machine, name=name, address=address, deleted=deleted).problem if watch.running else ""
        problem = seen if watch.running else watch.words
        if not problem and watch.running_seconds >= stable:
            return ""
        # once it is up only a new start can take away the time that it needs to prove itself
        if machine.uptime() > deadline + (stable if not problem else 0):
            return problem or f"k3s was started anew again and again, it ran {watch.running_seconds:.0f} s at last"
        machine.sleep(1)


def service_key(machine: Machine, data: str = DATA_FOLDER) -> str:
    """A checksum of the key that signs service accounts' tokens; "" when there is none. `data`: k3s' data folder."""
    try:
        return hashlib.sha256(machine.path(f"{data}/server/tls/service.key").read_bytes()).hexdigest()
    except OSError:
        return ""


def reconciled(key: str) -> bool:
    """Whether k3s writes what is under this key of the datastore itself, so that only its presence counts."""
    parts = key.strip("/").split("/")
    name, namespace = parts[-1], parts[-2] if len(parts) > 3 else ""
    return name in RECONCILED or name.startswith(RECONCILED_PREFIXES) or namespace.startswith("kube-")


def differences(before: Inventory, after: Inventory) -> list[str]:
    """What the cluster held before and does not hold any more, as sentences: namespaces, rights, policies, accounts."""
    found = [f"namespace {name} is gone" for name in before.namespaces if name not in after.namespaces]
    for key, value in sorted(before.rbac.items()):
        if key not in after.rbac:
            found.append(f"{key} is gone")
        elif after.rbac[key] != value and not reconciled(key):
            found.append(f"{key} is not as it was")
    return found


def another(before: Inventory, after: Inventory) -> str:
    """Why this is not the cluster that it was, or "".

    Rights that were changed or a namespace that is gone prove nothing: what the cluster runs, or somebody, may have
    done so as soon as the API was up. A database never goes back by itself.
    """
    if after.revision < before.revision:
        return f"its database is at revision {after.revision} and was at {before.revision}"
    if before.bootstrap_keys and not after.bootstrap_keys:
        return "its database does not hold its keys any more"
    own = {name for name in before.namespaces if name != "default" and not name.startswith("kube-")}
    if own and own.isdisjoint(after.namespaces):
        return f"of its namespaces none is left ({', '.join(sorted(own))})"
    return ""


def older_than(kept: Mapping[str, Any], after: Inventory) -> str:
    """Why this is not the cluster of the last backup, of which `kept` (facts.Kept) tells; "" where nothing does."""
    if not kept or after.revision >= int(kept["revision"]):
        return ""
    missing = [name for name in kept["namespaces"] if name not in after.namespaces]
    without = f", without the namespaces {', '.join(missing)}" if missing else ""
    return (
        f"its database is at revision {after.revision}, and was at {kept['revision']} in the backup {kept['backup']}"
        f"{without}"
    )


def fewer(before: Inventory, after: Inventory) -> list[str]:
    """Kinds of lasting objects of which there are fewer now, as sentences. Somebody may have deleted them meanwhile."""
    return [
        f"{kind}: {count} before, {after.objects.get(kind, 0)} now"
        for kind, count in sorted(before.objects.items())
        if kind not in PASSING and after.objects.get(kind, 0) < count
    ]


def summary(found: Inventory) -> dict[str, Any]:
    """The numbers that a report tells."""
    return {
        "namespaces": len(found.namespaces),
        "rbac": len(found.rbac),
        "objects": sum(found.objects.values()),
        "revision": found.revision,
    }
