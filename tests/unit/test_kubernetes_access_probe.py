"""The module kubernetes_access_probe and the program that it runs in containers.

`docker` is a program of the test's own that runs what it is handed on its standard input, with the kubeconfig that is
to be mounted. The Kubernetes API is one in this process, with the rights that the role defines.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible.module_utils import kubernetes_access_calls as calls
from ansible.module_utils import kubernetes_access_probing
from ansible.module_utils.atomic_files import Access
from ansible.modules import kubeconfig_renew, kubernetes_access_probe

from tests.unit.support.fake_kubernetes import FakeKubernetes
from tests.unit.support.kubernetes_access_role import definitions

if TYPE_CHECKING:
    from tests.unit.conftest import RunModule

RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/integr8scode"
DOCKER = f"""#!{sys.executable}
import json, os, subprocess, sys
arguments = sys.argv[1:]
if arguments[1:2] == ["inspect"]:
    sys.exit(arguments[2] == "absent")
with open(os.environ["DOCKER_LOG"], "a") as log:
    log.write(json.dumps(arguments) + "\\n")
if "absent" in arguments:
    sys.stderr.write("docker: Error response from daemon: No such image: absent")
    sys.exit(125)
mount = arguments[arguments.index("--mount") + 1]
source = dict(item.partition("=")[::2] for item in mount.split(","))["source"]
program = sys.stdin.read().replace('"/app/kubeconfig.yaml"', repr(source))
rest = arguments[arguments.index("-"):]
sys.exit(subprocess.run([sys.executable, *rest], input=program, text=True).returncode)
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeKubernetes]:
    with FakeKubernetes(tmp_path) as fake:
        yield fake


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `docker` was called with."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(DOCKER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_LOG", str(tmp_path / "docker.log"))
    return tmp_path / "docker.log"


@pytest.fixture
def arguments(
    run_module: RunModule, cluster: FakeKubernetes, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """The probe's arguments, on a cluster that the role's modules have set up."""
    access = Access(os.geteuid(), os.getegid(), 0o400)
    monkeypatch.setattr(kubeconfig_renew, "Settings", functools.partial(kubeconfig_renew.Settings, access=access))
    admin = {"admin_kubeconfig": str(cluster.admin_path), "timeout": 5}
    common = {
        "workers": ["k8s-worker", "pod-monitor"],
        "namespace": "integr8scode",
        "directory": str(tmp_path / "kubeconfig"),
    }
    assert not run_module("kubernetes_access_objects", {"definitions": definitions(), **admin}).get("failed")
    server = f"https://localhost:{cluster.port}"
    assert not run_module("kubeconfig_renew", {**common, **admin, "server": server}).get("failed")
    return {**common, "image": "application:1", "network": "stack", "settle_seconds": 0}


def test_every_call_is_as_it_must_be_and_nothing_is_changed(
    run_module: RunModule, cluster: FakeKubernetes, arguments: dict[str, Any], log: Path
) -> None:
    before = len(cluster.writes())

    result = run_module("kubernetes_access_probe", arguments)

    assert not result.get("failed"), result
    matrix = result["matrix"]
    assert {worker: len(rows) for worker, rows in matrix.items()} == {"k8s-worker": 29, "pod-monitor": 29}
    allowed = {worker: {r["call"] for r in rows if r["expected"] == "allowed"} for worker, rows in matrix.items()}
    assert allowed["pod-monitor"] == {"list pods", "watch pods", "get pod's log"}
    assert "create pod" in allowed["k8s-worker"]
    # what is asked without a dry run changes nothing, and is refused: exec
    assert {path.rsplit("/", 1)[-1] for _, path in cluster.writes()[before:]} == {"exec?command=true"}
    lines = log.read_text().splitlines()
    assert len(lines) == 2
    assert all('"--pull", "never"' in line and '"--read-only"' in line and "readonly" in line for line in lines)
    assert all(token not in log.read_text() for token in cluster.tokens)


def test_a_right_too_many_and_a_missing_one_fail_with_worker_call_and_cure(
    run_module: RunModule, cluster: FakeKubernetes, arguments: dict[str, Any]
) -> None:
    cluster.objects[f"{RBAC}/roles/pod-monitor"]["rules"].append(
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}
    )
    cluster.objects[f"{RBAC}/roles/k8s-worker"]["rules"][1]["verbs"].remove("create")

    result = run_module("kubernetes_access_probe", arguments)
    predicted = run_module("kubernetes_access_probe", arguments, check=True)

    assert "pod-monitor: list secrets: expected 403, got 200" in result["msg"]
    assert (
        "pod-monitor: rights beyond the table in integr8scode: expected nothing more, got list secrets" in result["msg"]
    )
    assert "k8s-worker: create pod: expected allowed, got 403" in result["msg"]
    assert "Cure: run the role kubernetes_access" in result["msg"]
    assert len(result["problems"]) == 3
    assert not predicted.get("failed")
    assert len(predicted["problems"]) == 3


def test_a_right_that_no_call_tries_is_found(
    run_module: RunModule, cluster: FakeKubernetes, arguments: dict[str, Any]
) -> None:
    cluster.objects[f"{RBAC}/roles/pod-monitor"]["rules"].append(
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create"]}
    )

    result = run_module("kubernetes_access_probe", arguments)

    expected = "pod-monitor: rights beyond the table in integr8scode: expected nothing more, got create jobs.batch"
    assert result["problems"] == [expected]


def test_a_dead_token_fails_once_for_each_worker_with_its_cure(
    run_module: RunModule, cluster: FakeKubernetes, arguments: dict[str, Any]
) -> None:
    cluster.refuse_tokens = True

    result = run_module("kubernetes_access_probe", arguments)

    assert result["msg"].count("answers 401") == 2
    assert "role kubernetes_access renews" in result["msg"]


@pytest.mark.parametrize(
    ("old", "new", "message", "cure"),
    [
        ("localhost:{port}", "localhost:1", "Connection refused", "systemctl status k3s"),
        ("https://localhost", "https://nosuchname.invalid", "cannot be resolved", "extra_hosts"),
        ("token:", "other:", "cannot be used: KeyError", "role kubernetes_access renews"),
    ],
)
def test_what_stops_everything_is_told_apart(
    run_module: RunModule,
    cluster: FakeKubernetes,
    arguments: dict[str, Any],
    old: str,
    new: str,
    message: str,
    cure: str,
) -> None:
    path = Path(arguments["directory"]) / "k8s-worker.yaml"
    text = path.read_text()
    changed = text.replace(old.format(port=cluster.port), new)
    assert changed != text
    path.chmod(0o600)
    path.write_text(changed)

    result = run_module("kubernetes_access_probe", {**arguments, "workers": ["k8s-worker"]})

    assert message in result["msg"]
    assert cure in result["msg"]


def test_an_image_that_is_not_there_is_named(run_module: RunModule, arguments: dict[str, Any]) -> None:
    result = run_module("kubernetes_access_probe", {**arguments, "image": "absent"})
    predicted = run_module("kubernetes_access_probe", {**arguments, "image": "absent"}, check=True)
    none = run_module("kubernetes_access_probe", {**arguments, "image": ""})

    assert "No such image: absent" in result["msg"]
    assert "pull absent, or set kubernetes_access_verify_image" in result["msg"]
    assert predicted["msg"] == "not tried: the image absent is not there yet"
    assert "set kubernetes_access_verify_image" in none["msg"]


@pytest.mark.parametrize(
    ("status", "message", "allowed", "ok"),
    [
        (201, "", True, True),
        (404, "", True, True),
        (403, 'pods is forbidden: User "x" cannot create resource "pods"', True, False),
        (422, "invalid", True, False),
        (403, 'pods is forbidden: User "x" cannot create resource "pods"', False, True),
        # not RBAC: the account has the right and something else stopped it
        (403, "pods is forbidden: exceeded quota", False, False),
        (404, "", False, False),
        (200, "", False, False),
    ],
)
def test_a_row_is_judged_by_status_and_by_who_forbids(status: int, message: str, allowed: bool, ok: bool) -> None:
    call = calls.Call("x", calls.WORKER if allowed else calls.NOBODY, "GET", "/")

    assert calls.judge(call, "k8s-worker", status, message)["ok"] is ok


@pytest.mark.parametrize(
    ("kind", "message", "word"),
    [
        ("tls", "Hostname mismatch, certificate is not valid for 'x'", "k3s_tls_sans"),
        ("tls", "certificate has expired", "date"),
        ("tls", "self-signed certificate in certificate chain", "another certificate authority"),
        ("unreachable", "no answer within 10 s", "br-integr8scode"),
        ("unauthorized", "", "renews"),
    ],
)
def test_every_cause_has_its_own_cure(kind: str, message: str, word: str) -> None:
    assert word in kubernetes_access_probing.cure(kind, message)
