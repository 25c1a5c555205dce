"""What the workers may do with their kubeconfigs, tried from containers in the stack's network.

Run by molecule/k3s. Nothing here uses the project's own probe, except the test that proves the probe can fail.
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
IMAGE = "registry.lab.test/hardmax71/integr8scode/backend:2026.2.20"
WORKERS = ("k8s-worker", "pod-monitor")
KUBECTL = "/usr/local/bin/k3s kubectl"
CONVERGE = "molecule/k3s/converge.yml"

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
        ("GET", f"{SETS}/runtime-image-pre-puller", None, 404),
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


def ask(host: Any, worker: str, calls: list[tuple[str, str, Any]]) -> list[int]:
    """Statuses of calls made with a worker's kubeconfig from a container in the stack's network."""
    program = f"CALLS = {json.dumps(calls)!r}\n{PROGRAM}"
    answer = host.run(
        "docker run --rm -i --network integr8scode --add-host host.docker.internal:host-gateway "
        f"-v {FOLDER}/{worker}.yaml:/app/kubeconfig.yaml:ro --entrypoint python3 {IMAGE} - <<'PROGRAM'\n{program}PROGRAM"
    )
    assert answer.rc == 0, answer.stderr
    statuses: list[int] = json.loads(answer.stdout)
    return statuses


def kubeconfig(host: Any, worker: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(host.file(f"{FOLDER}/{worker}.yaml").content_string)
    return loaded


def kubectl(host: Any, command: str) -> str:
    return str(host.check_output(f"{KUBECTL} {command}"))


def changed(output: str) -> int:
    return int(re.findall(r"changed=(\d+)", output)[-1])


@pytest.mark.parametrize("worker", WORKERS)
def test_needed_calls_succeed_from_inside_the_network(host: Any, worker: str) -> None:
    calls = NEEDED[worker]

    assert ask(host, worker, [call[:3] for call in calls]) == [call[3] for call in calls]


@pytest.mark.parametrize("worker", WORKERS)
def test_everything_else_is_refused(host: Any, worker: str) -> None:
    others = [call[:3] for name, calls in NEEDED.items() if name != worker for call in calls]

    statuses = ask(host, worker, FORBIDDEN + others)

    assert statuses == [403] * len(statuses)


def test_a_wrong_token_is_not_let_in(host: Any) -> None:
    """Otherwise the tests above would prove nothing."""
    path = "/tmp/kubeconfig-with-a-wrong-token.yaml"
    server = host.check_output(
        f"sed 's/token: .*/token: wrong/' {FOLDER}/pod-monitor.yaml > {path}; "
        "docker run --rm --network integr8scode --add-host host.docker.internal:host-gateway "
        f"-v {path}:/app/kubeconfig.yaml:ro --entrypoint python3 {IMAGE} -c "
        '"import ssl, urllib.request, urllib.error; c = ssl._create_unverified_context(); r = urllib.request.Request('
        f"'https://host.docker.internal:6443{HERE}/pods', headers={{'Authorization': 'Bearer wrong'}})\n"
        'try: print(urllib.request.urlopen(r, context=c).status)\nexcept urllib.error.HTTPError as e: print(e.code)"'
        f"; rm {path}"
    )
    assert server == "401"


@pytest.mark.parametrize("worker", WORKERS)
def test_the_file_is_for_root_alone_and_names_no_address(host: Any, worker: str) -> None:
    file = host.file(f"{FOLDER}/{worker}.yaml")
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


def test_changes_made_by_hand_are_found_predicted_and_undone(host: Any, playbook: Any) -> None:
    rule = '{"apiGroups":[""],"resources":["secrets"],"verbs":["list"]}'
    kubectl(
        host,
        f'-n integr8scode patch role pod-monitor --type=json -p \'[{{"op":"add","path":"/rules/-","value":{rule}}}]\'',
    )
    kubectl(host, "-n integr8scode delete rolebinding k8s-worker")
    kubectl(host, '-n integr8scode patch networkpolicy executor-deny-all --type=merge -p \'{"spec":{"ingress":[{}]}}\'')

    found = playbook(CONVERGE, "--tags", "verify")
    predicted = playbook(CONVERGE, "--tags", "kubernetes_access", "--check", "--diff")
    secrets = json.loads(kubectl(host, "-n integr8scode get role pod-monitor -o json"))["rules"]
    repaired = playbook(CONVERGE, "--tags", "kubernetes_access,verify")
    again = playbook(CONVERGE, "--tags", "kubernetes_access,verify")

    # the project's own probe says which call of whom is not as it must be, and what to do
    assert found.returncode == 2
    assert "pod-monitor: list secrets: expected 403, got 200" in found.stdout
    assert "k8s-worker: create pod: expected allowed, got 403" in found.stdout
    assert "Cure: run the role kubernetes_access" in found.stdout
    assert (predicted.returncode, changed(predicted.stdout)) == (0, 1)
    for line in ("-  resources: [secrets]", "RoleBinding integr8scode/k8s-worker (create)", "-  ingress:"):
        assert line in predicted.stdout
    assert len(secrets) == 3, "the prediction changed something"
    assert (repaired.returncode, changed(repaired.stdout)) == (0, 1), repaired.stdout
    assert (again.returncode, changed(again.stdout)) == (0, 0), again.stdout


def test_a_dead_token_is_found_and_only_its_file_renewed(host: Any, playbook: Any) -> None:
    before = {worker: kubeconfig(host, worker)["users"][0]["user"]["token"] for worker in WORKERS}
    # the account is made again by the role; tokens of the old one never work again
    kubectl(host, "-n integr8scode delete serviceaccount pod-monitor")

    predicted = playbook(CONVERGE, "--tags", "kubernetes_access", "--check", "-v")
    unchanged = kubeconfig(host, "pod-monitor")["users"][0]["user"]["token"]
    renewed = playbook(CONVERGE, "--tags", "kubernetes_access,verify", "-v")

    after = {worker: kubeconfig(host, worker)["users"][0]["user"]["token"] for worker in WORKERS}
    assert (predicted.returncode, changed(predicted.stdout)) == (0, 2)
    assert "the service account was made again" in predicted.stdout
    assert unchanged == before["pod-monitor"]
    assert (renewed.returncode, changed(renewed.stdout)) == (0, 2), renewed.stdout
    assert "the service account was made again" in renewed.stdout
    assert after["k8s-worker"] == before["k8s-worker"]
    assert after["pod-monitor"] != before["pod-monitor"]


def test_no_token_shows_in_the_most_talkative_run_nor_in_the_journal(host: Any, playbook: Any) -> None:
    tokens = [kubeconfig(host, worker)["users"][0]["user"]["token"] for worker in WORKERS]

    done = playbook(
        CONVERGE, "--tags", "kubernetes_access,verify", "-vvv", "--diff", "-e", "kubernetes_access_renew=true"
    )

    tokens += [kubeconfig(host, worker)["users"][0]["user"]["token"] for worker in WORKERS]
    journal = host.check_output("journalctl --no-pager --since -1h")
    assert done.returncode == 0, done.stdout
    assert "asked for" in done.stdout
    assert len(set(tokens)) == 4
    for token in tokens:
        # its middle is the account's claims, its end the signature
        for part in token.split(".")[1:]:
            assert part not in done.stdout + done.stderr
            assert part not in journal


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("kubernetes_access_namespace=default", "not default"),
        ("kubernetes_access_token_lifetime_seconds=599", "ten minutes"),
        ("kubernetes_access_server=https://10.213.0.14:6443", "address may change"),
    ],
)
def test_bad_input_is_refused_before_anything_changes(host: Any, playbook: Any, setting: str, message: str) -> None:
    before = host.check_output(f"sha256sum {FOLDER}/*.yaml")

    refused = playbook(CONVERGE, "--tags", "kubernetes_access", "-e", setting)

    assert refused.returncode == 2
    assert message in " ".join(refused.stdout.split())
    assert changed(refused.stdout) == 0
    assert host.check_output(f"sha256sum {FOLDER}/*.yaml") == before
