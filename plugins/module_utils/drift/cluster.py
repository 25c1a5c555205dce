"""The cluster: release, Node, namespaces, and the objects that the role kubernetes_access makes. Only GET is sent."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.drift.findings import Comparison
from ansible.module_utils.drift.network import several
from ansible.module_utils.drift.probes import UnansweredError
from ansible.module_utils.drift.reading import describe, run
from ansible.module_utils.kubernetes_access_client import ApiError, Client, read_admin
from ansible.module_utils.kubernetes_access_plan import foreign_grants, object_path, projection, title

BINARY = "/usr/local/bin/k3s"
OWN_NAMESPACES = {"default", "kube-system", "kube-public", "kube-node-lease"}
# what Kubernetes and k3s bind to cluster-admin themselves
ADMIN_BINDINGS = ("cluster-admin", "helm-kube-system-", "k3s-")
# groups and a user to which every account of the cluster, and so each worker, or whoever asks without one, belongs
EVERYBODY = {"system:serviceaccounts", "system:authenticated", "system:unauthenticated", "system:anonymous"}
RBAC = "/apis/rbac.authorization.k8s.io/v1"
INSIDE = {
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "Role": RBAC + "/namespaces/{namespace}/roles",
    "RoleBinding": RBAC + "/namespaces/{namespace}/rolebindings",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
}


def _node(one: Mapping[str, Any]) -> dict[str, Any]:
    status = one.get("status", {})
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    return {
        "name": one["metadata"]["name"],
        "version": status.get("nodeInfo", {}).get("kubeletVersion", ""),
        "ready": conditions.get("Ready", "Unknown"),
        "pressure": sorted(name for name, state in conditions.items() if name.endswith("Pressure") and state == "True"),
        "internal_ips": [a["address"] for a in status.get("addresses", []) if a.get("type") == "InternalIP"],
        "labels": one["metadata"].get("labels") or {},
        "unschedulable": bool(one.get("spec", {}).get("unschedulable")),
        "taints": sorted(f"{t['key']}:{t['effect']}" for t in one.get("spec", {}).get("taints") or []),
    }


def collect_cluster(expected: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """What the API server says. Raises UnansweredError with the cause."""
    try:
        with contextlib.closing(Client(read_admin(expected["admin_kubeconfig"]), timeout=timeout)) as client:
            return _collect(client, expected)
    except FileNotFoundError as error:
        raise UnansweredError(f"{error.filename} is not there") from None
    except ApiError as error:
        raise UnansweredError(str(error).partition(" Cure:")[0]) from None


def _wide_grants(bindings: Mapping[str, list[Mapping[str, Any]]]) -> list[str]:
    """Bindings that give rights to everybody, Kubernetes' own left out; told as `foreign_grants` does."""
    found = []
    for kind, items in bindings.items():
        for one in items:
            own = (one["metadata"].get("labels") or {}).get("kubernetes.io/bootstrapping") == "rbac-defaults"
            if not own and any(subject.get("name") in EVERYBODY for subject in one.get("subjects") or []):
                found.append(f"{title({**one, 'kind': kind})} ({one['roleRef']['kind']} {one['roleRef']['name']})")
    return found


def _collect(client: Client, expected: Mapping[str, Any]) -> dict[str, Any]:
    definitions = expected["definitions"]
    namespace = str(expected["namespace"])
    live = {title(one): client.find(object_path(one)) for one in definitions}
    inside = {
        kind: [
            one["metadata"]["name"] for one in client.need("GET", path.format(namespace=namespace)).get("items") or []
        ]
        for kind, path in INSIDE.items()
    }
    bindings = {
        kind: client.need("GET", f"{RBAC}/{kind.lower()}s").get("items") or []
        for kind in ("ClusterRoleBinding", "RoleBinding")
    }
    admins = [
        one["metadata"]["name"]
        for one in bindings["ClusterRoleBinding"]
        if one.get("roleRef", {}).get("name") == "cluster-admin"
    ]
    return {
        "version": str(client.need("GET", "/version").get("gitVersion", "")),
        "nodes": [_node(one) for one in client.need("GET", "/api/v1/nodes").get("items") or []],
        "namespaces": [one["metadata"]["name"] for one in client.need("GET", "/api/v1/namespaces").get("items") or []],
        "objects": {
            title(one): None if (found := live[title(one)]) is None else projection(found, one) for one in definitions
        },
        "uids": {
            str(one["metadata"]["name"]): str((live[title(one)] or {}).get("metadata", {}).get("uid", ""))
            for one in definitions
            if one["kind"] == "ServiceAccount"
        },
        "inside": inside,
        "foreign": sorted({*foreign_grants(client, definitions), *_wide_grants(bindings)}),
        "admins": admins,
    }


def collect_binary() -> dict[str, str]:
    """The release of the program that the next start of k3s runs; "" where there is none. Raises UnansweredError."""
    if describe(BINARY) is None:
        return {"version": ""}
    match = re.match(r"k3s version (\S+)", run("k3s", "--version"))
    if match is None:
        raise UnansweredError("k3s --version names no release")
    return {"version": match[1]}


def compare_binary(result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Compare the program with `version`; that it is missing is told with the files."""
    if facts["version"]:
        cure = result.site("k3s")
        result.same("k3s", BINARY, "version", expected=expected["version"], found=facts["version"], cure=cure)


def _different(wanted: Any, found: Any, path: str = "") -> list[str]:
    """Where two objects differ, as paths (`rules[0].verbs`)."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        names = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
        return [
            one for name in names for one in _different(wanted.get(name), found.get(name), f"{path}.{name}".strip("."))
        ]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        return [
            one
            for number, (left, right) in enumerate(zip(wanted, found, strict=True))
            if left != right
            for one in _different(left, right, f"{path}[{number}]")
        ]
    return [path]


def _nodes(result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    heal = result.playbook("recover-k3s")
    name = str(expected.get("node_name") or "").lower()
    own = [one for one in facts["nodes"] if one["name"] == name] or (facts["nodes"] if len(facts["nodes"]) == 1 else [])
    result.count("k3s", 5)
    if not own:
        found = [one["name"] for one in facts["nodes"]] or "none"
        result.add(
            "k3s", f"Node {name}", "missing", expected="this server's Node", found=found, cure=heal, severity="critical"
        )
        return
    node = own[0]
    item = f"Node {node['name']}"
    if name and node["name"] != name:
        result.add("k3s", item, "name", expected=name, found=node["name"], cure=heal)
    result.same("k3s", item, "ready", expected="True", found=node["ready"], cure=heal, severity="critical")
    result.same(
        "k3s",
        item,
        "version",
        expected=expected["version"],
        found=node["version"],
        cure=result.site("k3s"),
        severity="critical",
    )
    if node["unschedulable"]:
        by_hand = f"By hand: k3s kubectl uncordon {node['name']}"
        result.add(
            "k3s", item, "schedulable", expected="takes pods", found="cordoned", cure=by_hand, severity="critical"
        )
    # what pods are placed by; k3s itself sets labels of its configuration only when the Node is made
    for label, value in {"kubernetes.io/hostname": node["name"], **expected.get("node_labels", {})}.items():
        set_label = f"By hand: k3s kubectl label node {node['name']} --overwrite {label}={value}"
        is_now = node["labels"].get(label, "not set")
        result.same("k3s", item, f"label {label}", expected=value, found=is_now, cure=set_label)
    for pressure in node["pressure"]:
        by_hand = "By hand: free what it is short of; it goes by itself then"
        result.add("k3s", item, pressure, expected="none", found="under pressure", cure=by_hand, severity="critical")
    for taint in node["taints"]:
        if taint.startswith(("node.kubernetes.io/", "node-role.kubernetes.io/")):
            continue  # follows from what is found elsewhere
        by_hand = f"By hand: k3s kubectl taint node {node['name']} {taint}-"
        result.add("k3s", item, f"taint {taint}", expected="no such taint", found="pods are kept away", cure=by_hand)
    addresses = expected.get("addresses") or []
    # a node-ip that the server does not have is told as such, once
    wanted_ip = [one for one in several(expected.get("node_ip")) if one in addresses]
    for address in node["internal_ips"]:
        if (wanted_ip and address not in wanted_ip) or (addresses and address not in addresses):
            result.add(
                "address",
                item,
                "InternalIP",
                expected=wanted_ip or "an address of this server",
                found=address,
                cure=heal,
                severity="critical",
            )
    for other in facts["nodes"]:
        if other["name"] != node["name"] and len(facts["nodes"]) > 1 and other["ready"] != "True":
            by_hand = f"By hand: k3s kubectl delete node {other['name']} if that server is gone for good"
            result.add(
                "k3s",
                f"Node {other['name']}",
                "unknown",
                expected="no Node of another server",
                found="not Ready",
                cure=by_hand,
            )


def compare_cluster(result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Compare the cluster.

    `version`, `node_name`, `node_ip`, `addresses` (the server's own), `definitions` and `namespace` (the role
    kubernetes_access'), `known_namespaces`.
    """
    result.same(
        "k3s",
        "API server",
        "version",
        expected=expected["version"],
        found=facts["version"],
        cure=result.site("k3s"),
        severity="critical",
    )
    _nodes(result, expected, facts)
    cure = result.site("kubernetes_access")
    own: dict[str, set[str]] = {}
    for definition in expected["definitions"]:
        name = title(definition)
        own.setdefault(definition["kind"], set()).add(str(definition["metadata"]["name"]))
        wanted, found = projection(definition, definition), facts["objects"].get(name)
        result.count("kubernetes")
        if found is None:
            result.add(
                "kubernetes", name, "missing", expected="an object", found="none", cure=cure, severity="critical"
            )
        elif found != wanted:
            places = _different(wanted, found)
            result.add(
                "kubernetes",
                name,
                "content",
                expected="as the role kubernetes_access defines it",
                found=f"differs at {', '.join(places[:5])}",
                cure=cure,
                severity="critical",
            )
    namespace = str(expected["namespace"])
    for name in facts["namespaces"]:
        result.count("kubernetes")
        if name not in OWN_NAMESPACES | {namespace} | set(expected.get("known_namespaces", [])):
            by_hand = (
                f"By hand: k3s kubectl delete namespace {name} if nobody needs it, or name it in drift_known_namespaces"
            )
            result.add(
                "kubernetes",
                f"Namespace {name}",
                "unknown",
                expected="no such namespace",
                found="made by others",
                cure=by_hand,
            )
    for kind, names in facts["inside"].items():
        for name in names:
            result.count("kubernetes")
            if name in own.get(kind, ()) or (kind == "ServiceAccount" and name == "default"):
                continue
            by_hand = f"By hand: k3s kubectl -n {namespace} delete {kind.lower()} {name}"
            result.add(
                "kubernetes",
                f"{kind} {namespace}/{name}",
                "unknown",
                expected="no such object",
                found="made by others",
                cure=by_hand,
            )
    for grant in facts["foreign"]:
        kind, name = grant.split()[:2]
        where = f" -n {name.partition('/')[0]}" if "/" in name else ""
        by_hand = f"By hand: k3s kubectl{where} delete {kind.lower()} {name.rpartition('/')[2]}"
        result.add(
            "kubernetes",
            f"{kind} {name}",
            "grants",
            expected="workers have no right but their own",
            found=grant,
            cure=by_hand,
            severity="critical",
        )
    for name in facts["admins"]:
        result.count("kubernetes")
        if not name.startswith(ADMIN_BINDINGS):
            by_hand = f"By hand: k3s kubectl delete clusterrolebinding {name}"
            result.add(
                "kubernetes",
                f"ClusterRoleBinding {name}",
                "unknown",
                expected="no administrator but k3s' own",
                found="binds cluster-admin",
                cure=by_hand,
                severity="critical",
            )
