"""What the workers may do with their kubeconfigs, tried from containers in the stack's network.

Changes nothing on the server, and uses nothing of the project's own probe.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from typing import Any

import pytest
import yaml

FOLDER = "/opt/integr8scode/kubeconfig"
REPOSITORY = "registry.lab.test/hardmax71/integr8scode/backend"
WORKERS = ("k8s-worker", "pod-monitor")
KUBECTL = "/usr/local/bin/k3s kubectl"

HERE, ELSEWHERE = "/api/v1/namespaces/integr8scode", "/api/v1/namespaces/default"
SETS = "/apis/apps/v1/namespaces/integr8scode/daemonsets"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "proof", "labels": {"app": "integr8s", "component": "executor"}},
    "spec": {"containers": [{"name": "x", "image": "python:3.12-slim"}], "restartPolicy": "Never"},
}
CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "proof"}, "data": {"a": "b"}}
DAEMON_SET = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "proof"},
    "spec": {
        "selector": {"matchLabels": {"app": "proof"}},
        "template": {"metadata": {"labels": {"app": "proof"}}, "spec": POD["spec"] | {"restartPolicy": "Always"}},
    },
}
NEEDED = {
    "k8s-worker": [
        ("POST", f"{HERE}/configmaps?dryRun=All", CONFIG_MAP, 201),
        ("PATCH", f"{HERE}/configmaps/proof?dryRun=All", {"data": {"a": "c"}}, 404),
        ("POST", f"{HERE}/pods?dryRun=All", POD, 201),
        ("DELETE", f"{HERE}/pods/proof?dryRun=All", None, 404),
        ("GET", f"{SETS}/proof", None, 404),
        ("POST", f"{SETS}?dryRun=All", DAEMON_SET, 201),
        ("PUT", f"{SETS}/proof?dryRun=All", DAEMON_SET, 404),
    ],
    "pod-monitor": [
        ("GET", f"{HERE}/pods", None, 200),
        ("GET", f"{HERE}/pods?watch=1&timeoutSeconds=1", None, 200),
        ("GET", f"{HERE}/pods/proof/log", None, 404),
    ],
}
FORBIDDEN = [
    ("GET", "/api/v1/namespaces/kube-system/secrets", None),
    ("GET", "/api/v1/namespaces/kube-system/pods", None),
    ("GET", f"{HERE}/secrets", None),
    ("GET", f"{ELSEWHERE}/pods", None),
    ("GET", f"{ELSEWHERE}/configmaps", None),
    ("POST", f"{ELSEWHERE}/pods?dryRun=All", POD),
    ("POST", f"{ELSEWHERE}/configmaps?dryRun=All", CONFIG_MAP),
    ("POST", f"{HERE}/pods/proof/exec?command=true", None),
    ("DELETE", "/api/v1/namespaces/integr8scode?dryRun=All", None),
    ("GET", "/api/v1/nodes", None),
    ("GET", "/api/v1/namespaces", None),
]
# runs in the container: statuses of the calls, in their order
PROGRAM = """
import base64, json, ssl, urllib.error, urllib.request, yaml
config = yaml.safe_load(open('/app/kubeconfig.yaml'))
cluster, user = config['clusters'][0]['cluster'], config['users'][0]['user']
context = ssl.create_default_context(cadata=base64.b64decode(cluster['certificate-authority-data']).decode())
statuses = []
for method, path, body in json.loads(CALLS):
    kind = 'application/merge-patch+json' if method == 'PATCH' else 'application/json'
    headers = {'Authorization': 'Bearer ' + user['token'], 'Content-Type': kind}
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(cluster['server'] + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            answer.read()
            statuses.append(answer.status)
    except urllib.error.HTTPError as error:
        statuses.append(error.code)
print(json.dumps(statuses))
"""


def ask(host: Any, file: str, calls: list[tuple[str, str, Any]]) -> list[int]:
    """Statuses of calls made with a kubeconfig from a container in the stack's network."""
    image = host.check_output(f"docker images --quiet {REPOSITORY}").split()[0]
    program = f"CALLS = {json.dumps(calls)!r}\n{PROGRAM}"
    answer = host.run(
        "docker run --rm -i --network integr8scode --add-host host.docker.internal:host-gateway "
        f"-v {file}:/app/kubeconfig.yaml:ro --entrypoint python3 {image} - <<'PROGRAM'\n{program}PROGRAM"
    )
    assert answer.rc == 0, answer.stderr
    statuses: list[int] = json.loads(answer.stdout)
    return statuses


def path(worker: str) -> str:
    return f"{FOLDER}/{worker}.yaml"


def kubeconfig(host: Any, worker: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(host.file(path(worker)).content_string)
    return loaded


def kubectl(host: Any, command: str) -> str:
    return str(host.check_output(f"{KUBECTL} {command}"))


@pytest.mark.parametrize("worker", WORKERS)
def test_needed_calls_succeed_from_inside_the_network(host: Any, worker: str) -> None:
    calls = NEEDED[worker]

    assert ask(host, path(worker), [call[:3] for call in calls]) == [call[3] for call in calls]


@pytest.mark.parametrize("worker", WORKERS)
def test_everything_else_is_refused(host: Any, worker: str) -> None:
    others = [call[:3] for name, calls in NEEDED.items() if name != worker for call in calls]

    statuses = ask(host, path(worker), FORBIDDEN + others)

    assert statuses == [403] * len(statuses)


def test_a_wrong_token_is_not_let_in(host: Any) -> None:
    """Otherwise the tests above would prove nothing."""
    wrong = "/root/kubeconfig-with-a-wrong-token.yaml"
    host.check_output(f"(umask 077 && sed 's/token: .*/token: wrong/' {path('pod-monitor')} > {wrong})")
    try:
        assert ask(host, wrong, [("GET", f"{HERE}/pods", None)]) == [401]
    finally:
        host.check_output(f"rm {wrong}")


@pytest.mark.parametrize("worker", WORKERS)
def test_the_file_is_for_root_alone_and_names_no_address(host: Any, worker: str) -> None:
    file = host.file(path(worker))
    assert (file.mode, file.user, file.group) == (0o400, "root", "root")
    folder = host.file(FOLDER)
    assert (folder.mode, folder.user, folder.group) == (0o700, "root", "root")

    config = kubeconfig(host, worker)

    cluster = config["clusters"][0]["cluster"]
    assert cluster["server"] == "https://host.docker.internal:6443"
    ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
    assert ca.strip() == host.file("/var/lib/rancher/k3s/server/tls/server-ca.crt").content_string.strip()
    context = config["contexts"][0]
    assert config["current-context"] == context["name"]
    assert context["context"]["namespace"] == "integr8scode"
    for word in re.findall(r"[0-9a-fA-F:.]{3,}", file.content_string.replace(ca, "")):
        with pytest.raises(ValueError, match="does not appear to be"):
            ipaddress.ip_address(word.strip(".:"))


def test_roles_bindings_and_network_policy_are_as_documented(host: Any) -> None:
    items = json.loads(kubectl(host, "-n integr8scode get roles,rolebindings,networkpolicies -o json"))["items"]
    objects = {(item["kind"], item["metadata"]["name"]): item for item in items}

    assert set(objects) == {
        *(("Role", worker) for worker in WORKERS),
        *(("RoleBinding", worker) for worker in WORKERS),
        ("NetworkPolicy", "executor-deny-all"),
    }
    granted = {
        worker: {
            (group, resource, verb)
            for rule in objects["Role", worker]["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
        for worker in WORKERS
    }
    assert granted == {
        "k8s-worker": {
            ("", "configmaps", "create"),
            ("", "configmaps", "patch"),
            ("", "pods", "create"),
            ("", "pods", "delete"),
            ("apps", "daemonsets", "get"),
            ("apps", "daemonsets", "create"),
            ("apps", "daemonsets", "update"),
        },
        "pod-monitor": {("", "pods", "list"), ("", "pods", "watch"), ("", "pods/log", "get")},
    }
    for worker in WORKERS:
        subjects = objects["RoleBinding", worker]["subjects"]
        assert subjects == [{"kind": "ServiceAccount", "name": worker, "namespace": "integr8scode"}]
    spec = objects["NetworkPolicy", "executor-deny-all"]["spec"]
    assert spec == {
        "podSelector": {"matchLabels": {"app": "integr8s", "component": "executor"}},
        "policyTypes": ["Ingress", "Egress"],
    }
