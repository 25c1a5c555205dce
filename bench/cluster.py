"""What a cluster holds and how it fares, asked by a shell on its server: what is there to lose, and what is left.

Whoever asks brings the shell: a function that runs a script as root and returns its exit code and output.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

Shell = Callable[[str], tuple[int, str]]
"""Runs a script as root on the server; returns exit code and standard output and error together."""

KUBECTL = "k3s kubectl --request-timeout=10s"
WORKERS = ("k8s-worker", "pod-monitor")
KUBECONFIGS = "/opt/integr8scode/kubeconfig"
KEPT_KUBECONFIGS = "/root/kubeconfigs-before"
NAMESPACE = "made-before"
LABEL = "example.org/set-by-hand"

RBAC = "serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings"
OBJECTS = "configmaps,secrets,networkpolicies,services,persistentvolumes"

CONTENT = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: work, namespace: {NAMESPACE}}}
data: {{answer: "42"}}
---
apiVersion: v1
kind: Secret
metadata: {{name: work, namespace: {NAMESPACE}}}
stringData: {{word: not-a-secret}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: somebody, namespace: {NAMESPACE}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: somebody, namespace: {NAMESPACE}}}
rules: [{{apiGroups: [""], resources: [configmaps], verbs: [get]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: somebody, namespace: {NAMESPACE}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: somebody}}
subjects: [{{kind: ServiceAccount, name: somebody, namespace: {NAMESPACE}}}]
---
apiVersion: v1
kind: PersistentVolume
metadata: {{name: work}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  hostPath: {{path: /srv/work}}
"""
"""What somebody might have made in a cluster beside the application's own objects."""


class ClusterError(Exception):
    """The cluster does not do what the measurement needs; with the server's own words."""


@dataclass(frozen=True)
class Survey:
    """What is there besides what k3s makes by itself. An object made anew under its old name is another one (UID).

    Attributes:
        namespaces: UID by name.
        rbac: UID by kind, namespace and name: accounts, roles and bindings.
        objects: the same for config maps, secrets, network policies, services and volumes.
        configmap: data of the one that was made before, empty when it is gone.
        node: UID of the Node object.
        label: value of the node's label that was set by hand, empty when it is gone.
        service_account_key: sha256 of the key that signs tokens.
        authority: sha256 of the authority of the API server's certificate.
        tokens: what a worker's kubeconfig of before is answered: empty when it is accepted.
    """

    namespaces: dict[str, str]
    rbac: dict[str, str]
    objects: dict[str, str]
    configmap: dict[str, str]
    node: str
    label: str
    service_account_key: str
    authority: str
    tokens: dict[str, str]


@dataclass(frozen=True)
class Kept:
    """What of a survey another one still has, as pairs of how many are left and how many there were.

    Attributes:
        lost: what is not there any more, by name.
    """

    namespaces: tuple[int, int]
    rbac: tuple[int, int]
    objects: tuple[int, int]
    configmap: bool
    node_label: bool
    service_account_key: bool
    authority: bool
    tokens: tuple[int, int]
    lost: list[str] = field(default_factory=list)

    @property
    def everything(self) -> bool:
        """Whether nothing at all was lost."""
        flags = (self.configmap, self.node_label, self.service_account_key, self.authority)
        counts = (self.namespaces, self.rbac, self.objects, self.tokens)
        return all(flags) and all(left == before for left, before in counts)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def ask(shell: Shell, script: str) -> str:
    """Run a script that has to work; returns its output.

    Raises:
        ClusterError: it ended with another code than 0.
    """
    code, output = shell(script)
    if code:
        raise ClusterError(f"{script.splitlines()[0]} ended with {code}: {output.strip()[-500:]}")
    return output


def fill(shell: Shell) -> None:
    """Put something into the cluster that can be lost, and keep copies of the workers' kubeconfigs.

    Raises:
        ClusterError: it cannot be done.
    """
    ask(shell, f"{KUBECTL} apply -f - <<'CONTENT'\n{CONTENT}CONTENT")
    ask(shell, f"{KUBECTL} label --overwrite node --all {LABEL}=yes")
    keep_kubeconfigs(shell)


def keep_kubeconfigs(shell: Shell) -> None:
    """Copy the workers' kubeconfigs as they are now to where nobody renews them.

    Raises:
        ClusterError: they are not there.
    """
    ask(shell, f"mkdir -p -m 0700 {KEPT_KUBECONFIGS} && cp {KUBECONFIGS}/*.yaml {KEPT_KUBECONFIGS}/")


def _is_made_by_people(item: dict[str, Any]) -> bool:
    """Whether k3s does not make this by itself in every new cluster."""
    meta = item["metadata"]
    where = meta.get("namespace") or (meta["name"] if item["kind"] == "Namespace" else "")
    by_itself = (
        where == "default" or where.startswith("kube-") or "kubernetes.io/bootstrapping" in meta.get("labels", {})
    )
    return not by_itself and meta["name"] not in {"default", "kube-root-ca.crt"}


def _by_name(shell: Shell, kinds: str) -> dict[str, str]:
    found = {}
    for item in json.loads(ask(shell, f"{KUBECTL} get {kinds} --all-namespaces --output json 2>/dev/null"))["items"]:
        if _is_made_by_people(item):
            words = (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"])
            found["/".join(filter(None, words))] = item["metadata"]["uid"]
    return found


def _token_answer(shell: Shell, worker: str) -> str:
    """What the API says to a worker's kubeconfig of before; empty when it is let in."""
    file = f"{KEPT_KUBECONFIGS}/{worker}.yaml"
    call = f"{KUBECTL} --kubeconfig {file} --server https://127.0.0.1:6443 --tls-server-name host.docker.internal"
    code, output = shell(f"{call} auth can-i --list --namespace integr8scode")
    return output.strip().splitlines()[-1] if code else ""


def survey(shell: Shell) -> Survey:
    """Look at a cluster that answers.

    Raises:
        ClusterError: it does not answer.
    """
    nodes = json.loads(ask(shell, f"{KUBECTL} get nodes --output json 2>/dev/null"))["items"]
    node: dict[str, Any] = nodes[0]["metadata"] if nodes else {"uid": "", "labels": {}}
    code, text = shell(f"{KUBECTL} -n {NAMESPACE} get configmap work --output 'jsonpath={{.data}}' 2>/dev/null")
    tls = "/var/lib/rancher/k3s/server/tls"
    key, authority = ask(shell, f"sha256sum {tls}/service.key {tls}/server-ca.crt").splitlines()
    return Survey(
        namespaces=_by_name(shell, "namespaces"),
        rbac=_by_name(shell, RBAC),
        objects=_by_name(shell, OBJECTS),
        configmap=json.loads(text) if code == 0 and text else {},
        node=node["uid"],
        label=node["labels"].get(LABEL, ""),
        service_account_key=key.split()[0],
        authority=authority.split()[0],
        tokens={worker: _token_answer(shell, worker) for worker in WORKERS},
    )


def compare(before: Survey, after: Survey) -> Kept:
    """Say what of `before` is still in `after`."""

    def same(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[int, int]:
        return sum(new.get(name) == uid for name, uid in old.items()), len(old)

    pairs = ((before.namespaces, after.namespaces), (before.rbac, after.rbac), (before.objects, after.objects))
    lost = [name for old, new in pairs for name, uid in old.items() if new.get(name) != uid]
    accepted = [worker for worker, answer in before.tokens.items() if not answer]
    return Kept(
        namespaces=same(*pairs[0]),
        rbac=same(*pairs[1]),
        objects=same(*pairs[2]),
        configmap=bool(before.configmap) and after.configmap == before.configmap,
        node_label=bool(before.label) and after.label == before.label,
        service_account_key=after.service_account_key == before.service_account_key,
        authority=after.authority == before.authority,
        tokens=(sum(not after.tokens[worker] for worker in accepted), len(accepted)),
        lost=lost,
    )


UPLINK = """set -e
set -- $(ip -4 -o address show to 10.215.0.0/24)
device=$2 old=$4 new=10.215.0.%d/24
test -n "$old" && test "$old" != "$new"
ip -4 address flush dev "$device"
ip address add "$new" dev "$device"
ip -4 route replace default via 10.215.0.1 dev "$device"
"""


def change_address(shell: Shell, last: int) -> None:
    """Give the server's second interface the address 10.215.0.`last`, as another network would, and start k3s anew.

    Raises:
        ClusterError: it has it already, or has no such interface.
    """
    ask(shell, UPLINK % last)
    # k3s looks at addresses when it starts: after a reboot, an update, a crash
    ask(shell, "systemctl reset-failed k3s; systemctl restart --no-block k3s")


def restarts(shell: Shell) -> int:
    """How often systemd has started k3s again by itself.

    Raises:
        ClusterError: systemd does not tell.
    """
    return int(ask(shell, "systemctl show k3s --property=NRestarts --value"))


def wait_for_crash_loop(shell: Shell, timeout: float = 300) -> float:
    """Wait until k3s has ended and been started again twice. Returns the seconds until then.

    Raises:
        ClusterError: it has not.
    """
    began = time.monotonic()
    while restarts(shell) < 2:
        if time.monotonic() > began + timeout:
            raise ClusterError(f"k3s does not crash: {restarts(shell)} restarts in {timeout:.0f} s")
        time.sleep(1)
    return time.monotonic() - began


def _is_up(shell: Shell) -> str:
    """What makes this start of k3s different from the next, while it is up for real; empty while it is not.

    Up means: active, the API answers, the node is Ready and its InternalIP is an address of this server.
    """
    script = (
        "systemctl is-active --quiet k3s && ip -4 -o addr show && "
        f"{KUBECTL} get node --output json 2>/dev/null && systemctl show k3s --property=InvocationID,NRestarts"
    )
    code, output = shell(script)
    if code:
        return ""
    addresses, rest = output[: output.index("{")], output[output.index("{") :]
    nodes, end = json.JSONDecoder().raw_decode(rest)
    for node in nodes["items"]:
        ready = [one["status"] for one in node["status"]["conditions"] if one["type"] == "Ready"]
        internal = [one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP"]
        if ready == ["True"] and all(f" {address}/" in addresses for address in internal):
            return rest[end:].strip()
    return ""


def wait_until_stays_up(shell: Shell, stable: float, timeout: float) -> float | None:
    """Wait until k3s is up and stays so for `stable` seconds.

    Returns the seconds until the end of that time, or None when it was not up for so long within `timeout` seconds
    (and what was running at the end of them did not stay).
    """
    began = time.monotonic()
    life, since = "", began
    while True:
        now = time.monotonic()
        found = _is_up(shell)
        if found != life:
            life, since = found, now
        if life and now >= since + stable:
            return now - began
        if not life and now > began + timeout:
            return None
        time.sleep(1)
