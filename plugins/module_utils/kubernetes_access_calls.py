"""What a worker may do and what not, tried for real with its kubeconfig. Runs inside a container, from stdin.

    python3 - WORKER NAMESPACE SETTLE_SECONDS < kubernetes_access_calls.py

Standard library and PyYAML only, since it runs in the application's image. Prints one JSON object:
`fatal` (null, or {"kind": unreachable|tls|unauthorized|kubeconfig, "message"}), `results` (a list of {"call",
"expected", "got", "ok", "message"}). Nothing it asks can change anything: writes are dry runs on names that do not
exist. The token appears in no output.
"""

from __future__ import annotations

import base64
import dataclasses
import http.client
import json
import socket
import ssl
import sys
import time
import urllib.parse
import uuid
from typing import Any

import yaml

KUBECONFIG = "/app/kubeconfig.yaml"
TIMEOUT = 10.0
DRY = "dryRun=All"
BOTH = frozenset({"k8s-worker", "pod-monitor"})
WORKER, MONITOR, NOBODY = frozenset({"k8s-worker"}), frozenset({"pod-monitor"}), frozenset[str]()
# what every authenticated account may do (ClusterRole system:basic-user): ask about itself
BASIC = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"})


class FatalError(Exception):
    """Nothing more can be asked. `kind` says which cure is the right one."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclasses.dataclass(frozen=True)
class Call:
    """One request. `allowed` holds the workers for which it must succeed; for the others it must be 403."""

    name: str
    allowed: frozenset[str]
    method: str
    path: str
    body: dict[str, Any] | None = None


# worker -> (API group, resource, verb) that it needs, and no other
RIGHTS: dict[str, frozenset[tuple[str, str, str]]] = {
    "k8s-worker": frozenset(
        [("", "configmaps", verb) for verb in ("create", "patch")]
        + [("", "pods", verb) for verb in ("create", "delete")]
        + [("apps", "daemonsets", verb) for verb in ("get", "create", "update")]
    ),
    "pod-monitor": frozenset([("", "pods", "list"), ("", "pods", "watch"), ("", "pods/log", "get")]),
}


def pod(name: str) -> dict[str, Any]:
    """An executor's pod as the application makes it: nothing privileged, no token."""
    container = {
        "name": "executor",
        "image": "docker.io/library/python:3.12-slim",
        "command": ["true"],
        "resources": {"requests": {"cpu": "200m", "memory": "128Mi"}, "limits": {"cpu": "1000m", "memory": "128Mi"}},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "integr8s", "component": "executor"}},
        "spec": {"containers": [container], "restartPolicy": "Never", "automountServiceAccountToken": False},
    }


def daemon_set(name: str) -> dict[str, Any]:
    """A DaemonSet like the application's image pre-puller."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "pause", "image": "pause:3.10"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


def calls(namespace: str, name: str) -> list[Call]:
    """Every call that is tried, by every worker. `name` must be one that no object has."""
    here, default, system = (f"/api/v1/namespaces/{n}" for n in (namespace, "default", "kube-system"))
    sets = f"/apis/apps/v1/namespaces/{namespace}/daemonsets"
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"probe": "x"}}
    token = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    }
    new_namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    policies = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    return [
        Call("create configmap", WORKER, "POST", f"{here}/configmaps?{DRY}", config_map),
        Call("patch configmap", WORKER, "PATCH", f"{here}/configmaps/{name}?{DRY}", {"data": {"probe": "y"}}),
        Call("create pod", WORKER, "POST", f"{here}/pods?{DRY}", pod(name)),
        Call("delete pod", WORKER, "DELETE", f"{here}/pods/{name}?{DRY}"),
        Call("get daemonset", WORKER, "GET", f"{sets}/runtime-image-pre-puller"),
        Call("create daemonset", WORKER, "POST", f"{sets}?{DRY}", daemon_set(name)),
        Call("update daemonset", WORKER, "PUT", f"{sets}/{name}?{DRY}", daemon_set(name)),
        Call("list pods", MONITOR, "GET", f"{here}/pods?limit=1"),
        Call("watch pods", MONITOR, "GET", f"{here}/pods?watch=1&timeoutSeconds=1"),
        Call("get pod's log", MONITOR, "GET", f"{here}/pods/{name}/log"),
        Call("exec in pod", NOBODY, "POST", f"{here}/pods/{name}/exec?command=true"),
        Call("list secrets", NOBODY, "GET", f"{here}/secrets?limit=1"),
        Call("list configmaps", NOBODY, "GET", f"{here}/configmaps?limit=1"),
        Call("ask for another account's token", NOBODY, "POST", f"{here}/serviceaccounts/default/token?{DRY}", token),
        Call("delete network policy", NOBODY, "DELETE", f"{policies}/{name}?{DRY}"),
        Call("bind cluster-admin", NOBODY, "POST", f"{rbac}/namespaces/{namespace}/rolebindings?{DRY}", binding),
        Call("list secrets in kube-system", NOBODY, "GET", f"{system}/secrets?limit=1"),
        Call("list pods in kube-system", NOBODY, "GET", f"{system}/pods?limit=1"),
        Call("list pods in default", NOBODY, "GET", f"{default}/pods?limit=1"),
        Call("create pod in default", NOBODY, "POST", f"{default}/pods?{DRY}", pod(name)),
        Call("create configmap in default", NOBODY, "POST", f"{default}/configmaps?{DRY}", config_map),
        Call("list pods everywhere", NOBODY, "GET", "/api/v1/pods?limit=1"),
        Call("list nodes", NOBODY, "GET", "/api/v1/nodes?limit=1"),
        Call("list namespaces", NOBODY, "GET", "/api/v1/namespaces?limit=1"),
        Call("create namespace", NOBODY, "POST", f"/api/v1/namespaces?{DRY}", new_namespace),
        Call("delete namespace", NOBODY, "DELETE", f"/api/v1/namespaces/{name}?{DRY}"),
    ]


class Api:
    """The API as the kubeconfig's current context names it. Raises FatalError for a file that cannot be used."""

    def __init__(self, path: str) -> None:
        try:
            with open(path, encoding="utf-8") as file:
                document = yaml.safe_load(file)
            name = document["current-context"]
            context = next(c["context"] for c in document["contexts"] if c["name"] == name)
            cluster = next(c["cluster"] for c in document["clusters"] if c["name"] == context["cluster"])
            user = next(u["user"] for u in document["users"] if u["name"] == context["user"])
            self.server = str(cluster["server"])
            self._token = str(user["token"])
            self._context = ssl.create_default_context(
                cadata=base64.b64decode(cluster["certificate-authority-data"]).decode("ascii")
            )
        except (OSError, ValueError, KeyError, TypeError, StopIteration, yaml.YAMLError) as error:
            raise FatalError("kubeconfig", f"{path} cannot be used: {type(error).__name__}") from None
        # as in the application's own Python, 3.12
        self._context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        parts = urllib.parse.urlsplit(self.server)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._connection = http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT, context=self._context)

    def ask(self, call: Call) -> tuple[int, dict[str, Any]]:
        """Status and JSON object ({} when it is none) of one call. Raises FatalError."""
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        # a log is text: with only JSON accepted the API would answer 406
        if call.path.endswith("/log"):
            headers["Accept"] = "*/*"
        if call.body is not None:
            patch = call.method == "PATCH"
            headers["Content-Type"] = "application/merge-patch+json" if patch else "application/json"
        try:
            self._connection.request(
                call.method, call.path, None if call.body is None else json.dumps(call.body).encode(), headers
            )
            response = self._connection.getresponse()
            text = response.read().decode("utf-8", errors="replace")
        except ssl.SSLCertVerificationError as error:
            self._connection.close()
            raise FatalError("tls", f"{self.server}: {error.verify_message.rstrip('.')}") from None
        except ssl.SSLError as error:
            self._connection.close()
            raise FatalError("tls", f"{self.server}: {error.reason or error}") from None
        except socket.gaierror:
            raise FatalError("unreachable", f"the name {self._host} cannot be resolved") from None
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            what = f"no answer within {TIMEOUT:g} s" if isinstance(error, TimeoutError) else str(error)
            raise FatalError("unreachable", f"{self.server}: {what or type(error).__name__}") from None
        if response.status == 401:
            raise FatalError("unauthorized", f"{self.server} answers 401 to the token in the kubeconfig")
        try:
            body = json.loads(text)
        except ValueError:
            body = {}
        return response.status, body if isinstance(body, dict) else {}


def judge(call: Call, worker: str, status: int, message: str) -> dict[str, Any]:
    """One row of the matrix.

    403 counts as forbidden only when it is RBAC that forbids ("cannot ..."): quotas and admission say 403 as well.
    404 counts as allowed: who may not ask gets 403, not 404.
    """
    must = worker in call.allowed
    by_rbac = status == 403 and " cannot " in message
    ok = status in (200, 201, 202, 404) if must else by_rbac
    return {
        "call": call.name,
        "expected": "allowed" if must else "403",
        "got": str(status),
        "ok": ok,
        "message": "" if ok else message[:300],
    }


def extra_rights(rules: list[dict[str, Any]], worker: str, *, own_namespace: bool) -> list[str]:
    """The rights among a SelfSubjectRulesReview's that are not in the table (`create pods/exec`)."""
    needed = RIGHTS[worker] if own_namespace else frozenset()
    extra = set()
    for rule in rules:
        limit = f" named {', '.join(rule['resourceNames'])}" if rule.get("resourceNames") else ""
        for group in rule.get("apiGroups") or [""]:
            for resource in rule.get("resources") or []:
                if resource in BASIC:
                    continue
                for verb in rule.get("verbs") or []:
                    if (group, resource, verb) not in needed:
                        extra.add(f"{verb} {resource}{'.' + group if group else ''}{limit}")
    return sorted(extra)


def review(api: Api, worker: str, namespace: str, *, own: bool) -> dict[str, Any]:
    """A row that says whether the API knows of any right beyond the table in that namespace. Raises FatalError."""
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    status, answer = api.ask(Call("review", NOBODY, "POST", path, body))
    extra = extra_rights(answer.get("status", {}).get("resourceRules") or [], worker, own_namespace=own)
    got = "nothing more" if status == 201 and not extra else ", ".join(extra) or str(status)
    return {
        "call": f"rights beyond the table in {namespace}",
        "expected": "nothing more",
        "got": got,
        "ok": got == "nothing more",
        "message": "",
    }


def rows(api: Api, worker: str, namespace: str) -> list[dict[str, Any]]:
    """The whole matrix of one worker, once. Raises FatalError."""
    result = []
    for call in calls(namespace, f"access-probe-{uuid.uuid4().hex[:12]}"):
        status, body = api.ask(call)
        result.append(judge(call, worker, status, str(body.get("message", ""))))
    places = (namespace, "default", "kube-system")
    return result + [review(api, worker, place, own=place == namespace) for place in places]


def probe(worker: str, namespace: str, settle: float, path: str = KUBECONFIG) -> dict[str, Any]:
    """Tries the matrix until it is as it must be, for at most `settle` seconds: RBAC and a start take a moment."""
    deadline = time.monotonic() + settle
    while True:
        report: dict[str, Any] = {"worker": worker, "fatal": None, "results": []}
        try:
            api = Api(path)
            report["server"] = api.server
            report["results"] = rows(api, worker, namespace)
        except FatalError as error:
            report["fatal"] = {"kind": error.kind, "message": str(error)}
        good = report["fatal"] is None and all(row["ok"] for row in report["results"])
        if good or time.monotonic() >= deadline:
            return report
        time.sleep(1)


if __name__ == "__main__":
    print(json.dumps(probe(sys.argv[1], sys.argv[2], float(sys.argv[3]))))
