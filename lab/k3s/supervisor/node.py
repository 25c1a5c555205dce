"""The node: what k3s' kubelet, cloud controller and network policy controller do to the Node object, without pods.

Which of them is looked at when an address changed is in `versions.stale_node_is_fatal`.
"""

import os
import platform
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import faults, logs, network, node_password
from .api import ApiError, Client, certificate_error
from .logs import FatalError

LEASE_SECONDS = 10
AGENT_SECONDS = 5
# the kubelet writes an unchanged status this rarely (nodeStatusReportFrequency)
STATUS_SECONDS = 300
# k3s' controller holds a deleted Node object with it until it has forgotten the node's password
FINALIZER = "wrangler.cattle.io/node"
_WITHOUT_FINALIZER = "$deleteFromPrimitiveList/finalizers"
# how long a start lives before its network policy controller looks at the node: the unit is "running" by then
_NETWORK_POLICY_DELAY = 2.0
_NETWORK_POLICY_ERROR = (
    "Failed to start networking: unable to initialize network policy controller: error getting node subnet: "
    "failed to find interface with specified node ip"
)
_CONDITIONS = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)


@dataclass(frozen=True)
class NodeConfig:
    """What the configuration says about the node."""

    name: str
    address: str
    external_addresses: tuple[str, ...]
    labels: tuple[str, ...]
    taints: tuple[str, ...]
    version: str
    flannel_iface: str
    ca_name: str
    network_policy: bool
    stale_node_is_fatal: bool
    password_file: Path


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def _memory_kib() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1])
    return 0


def parse_taint(text: str) -> dict[str, str]:
    """Read `key=value:Effect` or `key:Effect`.

    Raises:
        FatalError: it is neither.
    """
    left, colon, effect = text.rpartition(":")
    key, _equals, value = left.partition("=")
    if not colon or not key or effect not in {"NoSchedule", "PreferNoSchedule", "NoExecute"}:
        raise FatalError(f"Error: invalid taint spec: {text}")
    return {"key": key, "effect": effect, **({"value": value} if value else {})}


class Node:
    """Registers the node and keeps it alive.

    Args:
        config: what the configuration says.
        admin: client with all rights (k3s' own controllers), past the listener.
        kubelet: client with the node's certificate, through the listener.
    """

    def __init__(self, config: NodeConfig, admin: Client, kubelet: Client) -> None:
        self._config = config
        self._admin = admin
        self._kubelet = kubelet
        self._path = f"/api/v1/nodes/{config.name}"
        self._status_written = 0.0
        self._address_lost = False
        self._was_there = False

    def run(self, stop: threading.Event) -> None:
        """Start the node's parts in k3s' order, then keep lease and status fresh until `stop`.

        Raises:
            FatalError: what ends k3s, with its message.
        """
        while problem := self._not_ready():
            logs.info(f"Waiting to retrieve agent configuration; server is not ready: {problem}")
            if stop.wait(AGENT_SECONDS):
                return
        present = self._admin.get(self._path)
        if present is not None and self._config.network_policy and self._config.stale_node_is_fatal:
            stop.wait(_NETWORK_POLICY_DELAY)
            self._start_network_policy(present)
            present = self._admin.get(self._path)
        if present is None:
            self._register()
        self._write_status()
        self._write_metadata()
        if self._config.network_policy:
            logs.debug("Waiting for Ready condition to be updated for network policy controller")
            stop.wait(_NETWORK_POLICY_DELAY)
            self._start_network_policy(self._admin.get(self._path))
        while not stop.is_set():
            try:
                self._forget_deleted()
                self._renew_lease()
                self._write_status_when_due()
            except (ApiError, OSError) as error:
                logs.kubelet_error(
                    "kubelet_node_status.go:548", "Error updating node status, will retry", err=str(error)
                )
            stop.wait(LEASE_SECONDS)

    def _not_ready(self) -> str:
        """Say why the agent has no configuration yet, in k3s' order and words; nothing when it has."""
        url = f"https://{self._kubelet.host}:{self._kubelet.port}"
        try:
            self._kubelet.request("GET", "/readyz")
        except ssl.SSLCertVerificationError as error:
            return f'CA cert validation failed: Get "{url}/cacerts": {certificate_error(error, self._config.ca_name)}'
        try:
            self._forget_deleted()
            node_password.verify(self._admin, self._config.name, self._config.password_file)
        except node_password.RejectedError as error:
            logs.error(f"unable to verify hash for node '{self._config.name}': hash does not match")
            return str(error)
        interface = self._config.flannel_iface
        problem = network.interface_problem(interface) if interface else ""
        return f"unable to find interface {interface}: {problem}" if problem else ""

    def _forget_deleted(self) -> None:
        """Do what k3s' controller does when somebody has deleted a Node object, a moment after its own start.

        Of this node or of another one, such as a server that a backup comes from.
        """
        node = self._admin.get(self._path)
        leaving = node is not None and "deletionTimestamp" in node["metadata"]
        if self._was_there and (node is None or leaving):
            node_password.forget(self._admin, self._config.name)
            if leaving:
                self._let_go(self._path)
                node = None
        self._was_there = node is not None
        for other in (self._admin.get("/api/v1/nodes") or {"items": []})["items"]:
            metadata = other["metadata"]
            if metadata["name"] != self._config.name and "deletionTimestamp" in metadata:
                node_password.forget(self._admin, metadata["name"])
                self._let_go(f"/api/v1/nodes/{metadata['name']}")

    def _let_go(self, path: str) -> None:
        self._admin.request("PATCH", path, {"metadata": {_WITHOUT_FINALIZER: [FINALIZER]}})

    def _start_network_policy(self, node: dict[str, Any] | None) -> None:
        addresses = (node or {}).get("status", {}).get("addresses", [])
        internal = [entry["address"] for entry in addresses if entry["type"] == "InternalIP"]
        if not any(network.has_address(address) for address in internal):
            raise FatalError(_NETWORK_POLICY_ERROR)
        logs.info("Starting network policy controller version v2.2.1, built on 2025-08-05T00:00:00Z, go1.24.6")

    def _register(self) -> None:
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        labels = {
            "beta.kubernetes.io/arch": machine,
            "beta.kubernetes.io/instance-type": "k3s",
            "beta.kubernetes.io/os": "linux",
            "kubernetes.io/arch": machine,
            "kubernetes.io/hostname": self._config.name,
            "kubernetes.io/os": "linux",
            "node.kubernetes.io/instance-type": "k3s",
        }
        for text in self._config.labels:
            key, _equals, value = text.partition("=")
            labels[key] = value
        spec: dict[str, Any] = {"providerID": f"k3s://{self._config.name}"}
        if self._config.taints:
            spec["taints"] = [parse_taint(text) for text in self._config.taints]
        body = {"metadata": {"name": self._config.name, "labels": labels}, "spec": spec}
        self._kubelet.create("/api/v1/nodes", body)
        logs.info(f"Successfully registered node {self._config.name}")

    def _write_metadata(self) -> None:
        """Write what k3s' own controllers write, which a kubelet may not."""
        annotations = {"k3s.io/hostname": self._config.name}
        if not self._keeps_addresses(self._admin.get(self._path)):
            annotations |= {
                "k3s.io/internal-ip": self._config.address,
                "alpha.kubernetes.io/provided-node-ip": self._config.address,
                "flannel.alpha.coreos.com/public-ip": self._config.address,
            }
        labels = {"node-role.kubernetes.io/control-plane": "true"}
        metadata = {"annotations": annotations, "labels": labels, "finalizers": [FINALIZER]}
        self._admin.request("PATCH", self._path, {"metadata": metadata})

    @staticmethod
    def _keeps_addresses(node: dict[str, Any] | None) -> bool:
        """Say whether the fault is asked for with which an existing object keeps its addresses."""
        has_some = bool((node or {}).get("metadata", {}).get("annotations", {}).get("k3s.io/internal-ip"))
        return has_some and faults.wanted(faults.STALE_NODE_ADDRESS)

    def _status(self) -> dict[str, Any]:
        resources = {
            "cpu": str(os.cpu_count() or 1),
            "memory": f"{_memory_kib()}Ki",
            "ephemeral-storage": str(os.statvfs("/").f_blocks * os.statvfs("/").f_frsize),
            "pods": "110",
        }
        addresses = [{"type": "InternalIP", "address": self._config.address}]
        addresses += [{"type": "ExternalIP", "address": address} for address in self._config.external_addresses]
        addresses.append({"type": "Hostname", "address": self._config.name})
        uname = os.uname()
        return {
            "capacity": resources,
            "allocatable": resources,
            "addresses": [*addresses, {"$patch": "replace"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {
                "machineID": _read("/etc/machine-id"),
                "systemUUID": _read("/etc/machine-id"),
                "bootID": _read("/proc/sys/kernel/random/boot_id"),
                "kernelVersion": uname.release,
                "osImage": _os_image(),
                "containerRuntimeVersion": "none://lab",
                "kubeletVersion": self._config.version,
                "kubeProxyVersion": "",
                "operatingSystem": "linux",
                "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(uname.machine, uname.machine),
            },
        }

    def _write_status(self) -> None:
        node = self._admin.get(self._path)
        if node is None:
            raise ApiError(404, f'nodes "{self._config.name}" not found')
        before = {condition["type"]: condition for condition in node.get("status", {}).get("conditions", [])}
        now = _now()
        conditions = []
        for kind, status, reason, message in _CONDITIONS:
            old = before.get(kind, {})
            since = old.get("lastTransitionTime", now) if old.get("status") == status else now
            conditions.append({
                "type": kind, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": now, "lastTransitionTime": since,
            })  # fmt: skip
        if not network.has_address(self._config.address):
            logs.kubelet_error(
                "kubelet_node_status.go:714",
                "Failed to set some node status fields",
                err=f'failed to validate nodeIP: node IP: "{self._config.address}" not found in the host\'s network '
                "interfaces",
                node=self._config.name,
            )
        written = {**self._status(), "conditions": conditions}
        if self._keeps_addresses(node):
            del written["addresses"]
        self._kubelet.request("PATCH", f"{self._path}/status", {"status": written})
        self._status_written = time.monotonic()

    def _write_status_when_due(self) -> None:
        lost = not network.has_address(self._config.address)
        due = time.monotonic() - self._status_written >= STATUS_SECONDS
        if due or lost or lost != self._address_lost:
            self._address_lost = lost
            self._write_status()

    def _renew_lease(self) -> None:
        base = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
        lease = self._kubelet.get(f"{base}/{self._config.name}")
        if lease is not None:
            lease["spec"]["renewTime"] = now
            self._kubelet.request("PUT", f"{base}/{self._config.name}", lease)
            return
        node = self._kubelet.get(self._path)
        owner = [] if node is None else [
            {"apiVersion": "v1", "kind": "Node", "name": self._config.name, "uid": node["metadata"]["uid"]}
        ]  # fmt: skip
        body = {
            "metadata": {"name": self._config.name, "ownerReferences": owner},
            "spec": {"holderIdentity": self._config.name, "leaseDurationSeconds": 40, "renewTime": now},
        }
        self._kubelet.create(base, body)


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
