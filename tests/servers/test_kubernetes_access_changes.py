"""What the role kubernetes_access makes of changes made by hand, dead tokens and bad input, on a server of its own.

Needs a server that molecule/k3s/converge.yml has made: with the stack's network, without the stack.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.servers.test_kubernetes_access import FOLDER, WORKERS, kubeconfig, kubectl

CONVERGE = "molecule/k3s/converge.yml"


def changed(output: str) -> int:
    return int(re.findall(r"changed=(\d+)", output)[-1])


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


def test_a_firewall_in_between_is_named_as_such(host: Any, playbook: Any) -> None:
    rule = "INPUT -i br-integr8scode -p tcp --dport 6443 -j DROP"
    host.check_output(f"iptables -I {rule}")
    try:
        found = playbook(CONVERGE, "--tags", "verify", "-e", "kubernetes_access_verify_settle_seconds=0")
    finally:
        host.check_output(f"iptables -D {rule}")

    said = " ".join(found.stdout.split())
    assert found.returncode == 2
    assert "pod-monitor: unreachable: https://host.docker.internal:6443: no answer within 10 s" in said
    assert "a firewall drops what comes from the stack's bridge (br-integr8scode) to TCP port 6443" in said


def test_an_address_is_refused_before_anything_changes(host: Any, playbook: Any) -> None:
    before = host.check_output(f"sha256sum {FOLDER}/*.yaml")

    refused = playbook(
        CONVERGE, "--tags", "kubernetes_access", "-e", "kubernetes_access_server=https://10.213.0.14:6443"
    )

    assert refused.returncode == 2
    assert "it must be https://NAME:PORT" in " ".join(refused.stdout.split())
    assert changed(refused.stdout) == 0
    assert host.check_output(f"sha256sum {FOLDER}/*.yaml") == before
