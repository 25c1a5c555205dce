"""What must change so that a cluster holds the objects that were asked for, and the changing itself.

An object counts as right when everything that its definition says is so, exactly: a rule, a subject or a port that
somebody added by hand is a difference. What the definition does not speak of (status, other people's labels) is left.

Not built on kubectl: `kubectl diff` fails while the namespace is missing, even if the same file makes it, and
`kubectl apply --server-side --dry-run=server` ends with 0 with and without drift.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.module_utils.kubernetes_access_client import ApiError, ApiRefusedError, Client, wait_until

# kind -> (API path, plural, namespaced)
KINDS: dict[tuple[str, str], tuple[str, str, bool]] = {
    ("v1", "Namespace"): ("/api/v1", "namespaces", False),
    ("v1", "ServiceAccount"): ("/api/v1", "serviceaccounts", True),
    ("rbac.authorization.k8s.io/v1", "Role"): ("/apis/rbac.authorization.k8s.io/v1", "roles", True),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): ("/apis/rbac.authorization.k8s.io/v1", "rolebindings", True),
    ("networking.k8s.io/v1", "NetworkPolicy"): ("/apis/networking.k8s.io/v1", "networkpolicies", True),
}
RBAC = "/apis/rbac.authorization.k8s.io/v1"

Definition = Mapping[str, Any]
OWNERS = ("app.kubernetes.io/part-of", "app.kubernetes.io/managed-by")
"""Labels that say whose an object is."""


class DefinitionError(ApiError):
    """A definition that cannot be used: what is wrong with it."""


@dataclasses.dataclass(frozen=True)
class Change:
    """One object that is not as asked for. `before` is None when it is missing; both hold only what was asked for."""

    title: str
    action: str  # create, update or replace
    before: dict[str, Any] | None
    after: dict[str, Any]


def check_definition(definition: Definition) -> None:
    """Raises DefinitionError unless it names a supported kind, a name, and a namespace where one belongs."""
    key = (str(definition.get("apiVersion")), str(definition.get("kind")))
    if key not in KINDS:
        known = ", ".join(sorted(kind for _, kind in KINDS))
        raise DefinitionError(f"{key[1]} of {key[0]} is not one of the kinds that can be managed: {known}")
    metadata = definition.get("metadata")
    if not isinstance(metadata, Mapping) or not metadata.get("name"):
        raise DefinitionError(f"a {key[1]} without metadata.name")
    if KINDS[key][2] != bool(metadata.get("namespace")):
        wants = "needs" if KINDS[key][2] else "must not have"
        raise DefinitionError(f"{key[1]} {metadata['name']} {wants} metadata.namespace")


def title(definition: Definition) -> str:
    """`Role integr8scode/k8s-worker`."""
    metadata = definition["metadata"]
    where = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{definition['kind']} {where}{metadata['name']}"


def collection_path(definition: Definition) -> str:
    """Where such objects are created."""
    prefix, plural, namespaced = KINDS[(definition["apiVersion"], definition["kind"])]
    middle = f"/namespaces/{definition['metadata']['namespace']}" if namespaced else ""
    return f"{prefix}{middle}/{plural}"


def object_path(definition: Definition) -> str:
    """Where this object is."""
    return f"{collection_path(definition)}/{definition['metadata']['name']}"


def _plain(value: Any) -> Any:
    """Without keys that hold nothing: the API leaves out null and []. {} and list items stay, they have a meaning:
    `ingress: [{}]` lets everything in."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None and item != []}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def projection(live: Mapping[str, Any], definition: Definition) -> dict[str, Any]:
    """The part of `live` that `definition` speaks of: its top-level keys wholly, of metadata only its own keys."""
    result: dict[str, Any] = {}
    for key, wanted in definition.items():
        if key == "metadata":
            metadata = live.get("metadata", {})
            result["metadata"] = {
                name: (
                    {item: metadata.get(name, {})[item] for item in value if item in (metadata.get(name) or {})}
                    if isinstance(value, Mapping)
                    else metadata.get(name)
                )
                for name, value in wanted.items()
            }
        elif key in live:
            result[key] = live[key]
    plain: dict[str, Any] = _plain(result)
    return plain


def merged(live: Mapping[str, Any], definition: Definition) -> dict[str, Any]:
    """`live` with everything that `definition` says put in its place; the rest as it is."""
    result = {**live, **{key: value for key, value in definition.items() if key != "metadata"}}
    metadata = dict(live.get("metadata", {}))
    metadata.pop("managedFields", None)
    for key, value in definition["metadata"].items():
        metadata[key] = {**(metadata.get(key) or {}), **value} if isinstance(value, Mapping) else value
    return {**result, "metadata": metadata}


class Planner:
    """Brings objects to their definitions, in the order given; with `apply` false it only says what it would do."""

    def __init__(self, client: Client, *, apply: bool, timeout: float) -> None:
        self._client = client
        self._apply = apply
        self._timeout = timeout
        # namespaces that do not exist yet and that this run would make
        self._coming: set[str] = set()

    def ensure(self, definition: Definition) -> Change | None:
        """Makes one object right. Returns what was (or would be) done, None when it is right already.

        Raises DefinitionError, ApiRefusedError, ApiUnreachableError, ApiTlsError.
        """
        wanted = projection(definition, definition)
        namespace = str(definition["metadata"].get("namespace", ""))
        live = None if namespace in self._coming else self._client.find(object_path(definition))
        if live is not None and definition["kind"] == "Namespace" and live["metadata"].get("deletionTimestamp"):
            self._wait_deleted(definition)
            live = None
        if live is None:
            return self._create(definition, wanted, dry_run_possible=namespace not in self._coming)
        before = projection(live, definition)
        if before == wanted:
            return None
        if "roleRef" in definition and before.get("roleRef") != wanted["roleRef"]:
            # immutable: the API answers 422 to an update
            if self._apply:
                self._client.need("DELETE", object_path(definition))
                self._client.need("POST", collection_path(definition), definition)
            return Change(title(definition), "replace", before, wanted)
        # the API fills in defaults: what it would store decides whether this is a difference
        path, body = object_path(definition), merged(live, definition)
        if projection(self._client.need("PUT", f"{path}?dryRun=All", body), definition) == before:
            return None
        if self._apply:
            self._client.need("PUT", path, body)
        return Change(title(definition), "update", before, wanted)

    def _create(self, definition: Definition, wanted: dict[str, Any], *, dry_run_possible: bool) -> Change:
        path = collection_path(definition)
        if self._apply:
            self._client.need("POST", path, definition)
        elif dry_run_possible:
            answer = self._client.request("POST", f"{path}?dryRun=All", definition)
            # 409: the namespace that is being deleted still has its name
            if answer.status not in (200, 201, 409):
                raise ApiRefusedError(answer.status, f"{title(definition)} would be refused: {answer.message}")
        if definition["kind"] == "Namespace" and not self._apply:
            self._coming.add(str(definition["metadata"]["name"]))
        return Change(title(definition), "create", None, wanted)

    def _wait_deleted(self, definition: Definition) -> None:
        """A namespace that is being deleted takes no new object: waits until it is gone (not in a prediction)."""
        if not self._apply:
            return
        path = object_path(definition)
        if not wait_until(lambda: self._client.find(path) is None, self._timeout):
            name = definition["metadata"]["name"]
            raise ApiError(
                f"namespace {name} has been in deletion for more than {self._timeout:g} s. Cure: see what holds it "
                f"with `k3s kubectl get namespace {name} -o yaml` (status.conditions), then run this again"
            )

    def wait_default_account(self, namespace: str) -> None:
        """Waits for the account `default` of a fresh namespace: until it exists, every pod is refused (403).

        Raises ApiError when it does not come in time.
        """
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
        if self._apply and not wait_until(lambda: self._client.find(path) is not None, self._timeout):
            raise ApiError(
                f"namespace {namespace} got no service account `default` within {self._timeout:g} s, so no pod can "
                "start there. Cure: k3s' controller-manager makes it; look at `journalctl -u k3s`, run this again"
            )


def former_namespaces(client: Client, definitions: Iterable[Definition]) -> list[str]:
    """Namespaces that these definitions have made under another name: they have the labels that say so.

    They are told, never removed: people may have made something there.
    """
    wanted = [definition["metadata"] for definition in definitions if definition["kind"] == "Namespace"]
    labels = [{key: value for key, value in (one.get("labels") or {}).items() if key in OWNERS} for one in wanted]
    marks = [one for one in labels if len(one) == len(OWNERS)]
    live = client.need("GET", "/api/v1/namespaces").get("items", []) if marks else []
    return sorted(
        one["metadata"]["name"]
        for one in live
        if one["metadata"]["name"] not in {metadata["name"] for metadata in wanted}
        and not one["metadata"].get("deletionTimestamp")
        and any(mark.items() <= (one["metadata"].get("labels") or {}).items() for mark in marks)
    )


def foreign_grants(client: Client, definitions: Iterable[Definition]) -> list[str]:
    """Bindings, not among `definitions`, that give rights to one of their service accounts.

    Returns titles with the role that each grants. Objects of other people are reported, never removed.
    """
    definitions = list(definitions)
    accounts = [d["metadata"] for d in definitions if d["kind"] == "ServiceAccount"]
    subjects = {("ServiceAccount", a["namespace"], a["name"]) for a in accounts}
    subjects |= {("User", "", f"system:serviceaccount:{a['namespace']}:{a['name']}") for a in accounts}
    subjects |= {("Group", "", f"system:serviceaccounts:{a['namespace']}") for a in accounts}
    own = {title(d) for d in definitions if d["kind"] == "RoleBinding"}
    found = []
    for kind, path in (("RoleBinding", f"{RBAC}/rolebindings"), ("ClusterRoleBinding", f"{RBAC}/clusterrolebindings")):
        for binding in client.need("GET", path).get("items", []):
            name = title({**binding, "kind": kind})
            here = {(s.get("kind"), s.get("namespace", ""), s.get("name")) for s in binding.get("subjects") or []}
            if name not in own and subjects & here:
                found.append(f"{name} ({binding['roleRef']['kind']} {binding['roleRef']['name']})")
    return sorted(found)
