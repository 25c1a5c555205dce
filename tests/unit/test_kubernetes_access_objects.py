"""The module kubernetes_access_objects with the role's own definitions, against a Kubernetes API in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible.module_utils import kubernetes_access_calls as calls
from ansible.module_utils import kubernetes_access_plan as plan

from tests.unit.support.fake_kubernetes import FakeKubernetes
from tests.unit.support.kubernetes_access_role import definitions

if TYPE_CHECKING:
    from tests.unit.conftest import RunModule

RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/integr8scode"
POLICY = "/apis/networking.k8s.io/v1/namespaces/integr8scode/networkpolicies/executor-deny-all"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeKubernetes]:
    with FakeKubernetes(tmp_path) as fake:
        yield fake


def arguments(cluster: FakeKubernetes, **changes: Any) -> dict[str, Any]:
    return {"definitions": definitions(), "admin_kubeconfig": str(cluster.admin_path), "timeout": 1, **changes}


def test_the_roles_rules_are_exactly_what_the_workers_call() -> None:
    rules = {d["metadata"]["name"]: d["rules"] for d in definitions() if d["kind"] == "Role"}

    granted = {
        name: {(g, r, v) for rule in its for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}
        for name, its in rules.items()
    }

    assert granted == calls.RIGHTS


def test_every_right_is_tried_by_a_call() -> None:
    allowed = {worker: sum(worker in c.allowed for c in calls.calls("ns", "x")) for worker in calls.RIGHTS}

    assert allowed == {worker: len(rights) for worker, rights in calls.RIGHTS.items()}


def test_a_fresh_cluster_gets_every_object_and_the_second_run_changes_nothing(
    run_module: RunModule, cluster: FakeKubernetes
) -> None:
    first = run_module("kubernetes_access_objects", arguments(cluster))
    writes = len(cluster.writes())
    second = run_module("kubernetes_access_objects", arguments(cluster))

    assert first["changed"]
    assert first["changes"][0] == "create Namespace integr8scode"
    assert len(first["changes"]) == len(definitions())
    assert (second["changed"], second["changes"], len(cluster.writes())) == (False, [], writes)


def test_a_prediction_for_a_missing_namespace_is_what_the_run_does(
    run_module: RunModule, cluster: FakeKubernetes
) -> None:
    predicted = run_module("kubernetes_access_objects", arguments(cluster), check=True, diff=True)
    assert cluster.writes() == []

    done = run_module("kubernetes_access_objects", arguments(cluster), diff=True)

    assert (predicted["changed"], predicted["changes"], predicted["diff"]) == (True, done["changes"], done["diff"])


def test_a_prediction_for_a_server_without_k3s_creates_everything(run_module: RunModule, tmp_path: Path) -> None:
    args = {"definitions": definitions(), "admin_kubeconfig": str(tmp_path / "none.yaml")}

    predicted = run_module("kubernetes_access_objects", args, check=True)
    refused = run_module("kubernetes_access_objects", args)

    assert len(predicted["changes"]) == len(definitions())
    assert refused["failed"]
    assert "run the role k3s first" in refused["msg"]


def add_rule(cluster: FakeKubernetes) -> str:
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    cluster.objects[f"{RBAC}/roles/pod-monitor"]["rules"].append(rule)
    return "update Role integr8scode/pod-monitor"


def take_a_verb(cluster: FakeKubernetes) -> str:
    cluster.objects[f"{RBAC}/roles/k8s-worker"]["rules"][1]["verbs"].remove("delete")
    return "update Role integr8scode/k8s-worker"


def delete_binding(cluster: FakeKubernetes) -> str:
    del cluster.objects[f"{RBAC}/rolebindings/k8s-worker"]
    return "create RoleBinding integr8scode/k8s-worker"


def add_subject(cluster: FakeKubernetes) -> str:
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": "integr8scode"}
    cluster.objects[f"{RBAC}/rolebindings/k8s-worker"]["subjects"].append(subject)
    return "update RoleBinding integr8scode/k8s-worker"


def bind_another_role(cluster: FakeKubernetes) -> str:
    cluster.objects[f"{RBAC}/rolebindings/pod-monitor"]["roleRef"] = {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "cluster-admin",
    }
    return "replace RoleBinding integr8scode/pod-monitor"


def let_everything_in(cluster: FakeKubernetes) -> str:
    # an empty rule is not "no rule": it matches every peer
    cluster.objects[POLICY]["spec"]["ingress"] = [{}]
    return "update NetworkPolicy integr8scode/executor-deny-all"


def select_other_pods(cluster: FakeKubernetes) -> str:
    cluster.objects[POLICY]["spec"]["podSelector"]["matchLabels"]["component"] = "nobody"
    return "update NetworkPolicy integr8scode/executor-deny-all"


def mount_tokens(cluster: FakeKubernetes) -> str:
    account = cluster.objects["/api/v1/namespaces/integr8scode/serviceaccounts/k8s-worker"]
    account["automountServiceAccountToken"] = True
    return "update ServiceAccount integr8scode/k8s-worker"


@pytest.mark.parametrize(
    "damage",
    [
        add_rule,
        take_a_verb,
        delete_binding,
        add_subject,
        bind_another_role,
        let_everything_in,
        select_other_pods,
        mount_tokens,
    ],
)
def test_a_change_by_hand_is_predicted_and_undone(run_module: RunModule, cluster: FakeKubernetes, damage: Any) -> None:
    run_module("kubernetes_access_objects", arguments(cluster))
    expected = damage(cluster)
    writes = len(cluster.writes())

    predicted = run_module("kubernetes_access_objects", arguments(cluster), check=True, diff=True)
    assert len(cluster.writes()) == writes
    done = run_module("kubernetes_access_objects", arguments(cluster), diff=True)
    after = run_module("kubernetes_access_objects", arguments(cluster))

    assert predicted["changes"] == done["changes"] == [expected]
    assert predicted["diff"] == done["diff"]
    assert done["diff"][0]["before"] != done["diff"][0]["after"]
    assert not after["changed"]


def test_labels_of_others_are_left_and_are_no_difference(run_module: RunModule, cluster: FakeKubernetes) -> None:
    run_module("kubernetes_access_objects", arguments(cluster))
    cluster.objects["/api/v1/namespaces/integr8scode"]["metadata"]["labels"]["team"] = "x"
    cluster.objects[f"{RBAC}/roles/k8s-worker"]["metadata"]["labels"] = {"team": "y"}

    result = run_module("kubernetes_access_objects", arguments(cluster))

    assert result["changes"] == ["update Role integr8scode/k8s-worker"]
    assert cluster.objects["/api/v1/namespaces/integr8scode"]["metadata"]["labels"]["team"] == "x"
    assert cluster.objects[f"{RBAC}/roles/k8s-worker"]["metadata"]["labels"]["team"] == "y"


def test_bindings_made_by_others_are_reported_and_left(run_module: RunModule, cluster: FakeKubernetes) -> None:
    run_module("kubernetes_access_objects", arguments(cluster))
    cluster.put_object(
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/helpful",
        {
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "helpful"},
            "roleRef": {"kind": "ClusterRole", "name": "admin"},
            "subjects": [{"kind": "Group", "name": "system:serviceaccounts:integr8scode"}],
        },
    )

    result = run_module("kubernetes_access_objects", arguments(cluster))

    assert result["foreign_bindings"] == ["ClusterRoleBinding helpful (ClusterRole admin)"]
    assert any("helpful" in warning["event"]["msg"] if isinstance(warning, dict) else "helpful" in warning
               for warning in result["warnings"])  # fmt: skip
    assert not result["changed"]


def test_a_namespace_of_another_name_from_before_is_told_and_left(
    run_module: RunModule, cluster: FakeKubernetes
) -> None:
    run_module("kubernetes_access_objects", arguments(cluster))
    (made,) = [one for one in definitions() if one["kind"] == "Namespace"]
    cluster.put_object("/api/v1/namespaces/former", {**made, "metadata": {**made["metadata"], "name": "former"}})
    half = {"app.kubernetes.io/managed-by": "ansible"}
    cluster.put_object(
        "/api/v1/namespaces/theirs", {"kind": "Namespace", "metadata": {"name": "theirs", "labels": half}}
    )
    writes = len(cluster.writes())

    result = run_module("kubernetes_access_objects", arguments(cluster))

    assert result["former_namespaces"] == ["former"]
    assert (result["changed"], len(cluster.writes())) == (False, writes)

    leaving = {**made["metadata"], "name": "former", "deletionTimestamp": "2026-02-20T10:00:00Z"}
    cluster.put_object("/api/v1/namespaces/former", {**made, "metadata": leaving})
    assert run_module("kubernetes_access_objects", arguments(cluster))["former_namespaces"] == []


def test_a_namespace_without_its_default_account_is_waited_for_and_named(
    run_module: RunModule, cluster: FakeKubernetes
) -> None:
    cluster.default_account = False

    result = run_module("kubernetes_access_objects", arguments(cluster))

    assert result["failed"]
    assert "no service account `default` within 1 s" in result["msg"]
    # what was made before is not hidden
    assert result["changed"]


def test_a_namespace_in_deletion_is_not_used(run_module: RunModule, cluster: FakeKubernetes) -> None:
    run_module("kubernetes_access_objects", arguments(cluster))
    cluster.objects["/api/v1/namespaces/integr8scode"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    predicted = run_module("kubernetes_access_objects", arguments(cluster), check=True)
    result = run_module("kubernetes_access_objects", arguments(cluster))

    assert len(predicted["changes"]) == len(definitions())
    assert result["failed"]
    assert "in deletion for more than 1 s" in result["msg"]


def test_a_server_that_is_not_ready_or_gone_is_named(run_module: RunModule, cluster: FakeKubernetes) -> None:
    cluster.ready = False
    frozen = run_module("kubernetes_access_objects", arguments(cluster))
    admin = cluster.admin_path.read_text().replace(f":{cluster.port}", ":1")
    cluster.admin_path.write_text(admin)
    gone = run_module("kubernetes_access_objects", arguments(cluster))

    assert "500 [-]etcd failed" in frozen["msg"]
    assert "does not answer" in gone["msg"]
    assert "Connection refused" in gone["msg"]
    assert "systemctl status k3s" in gone["msg"]


def test_another_authority_is_named_as_such(run_module: RunModule, cluster: FakeKubernetes, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = FakeKubernetes(tmp_path / "other")
    document = yaml.safe_load(other.admin_path.read_text())
    document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{cluster.port}"
    cluster.admin_path.write_text(yaml.safe_dump(document))

    with other:
        result = run_module("kubernetes_access_objects", arguments(cluster))

    assert "not trusted" in result["msg"]
    assert "another CA" in result["msg"]


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}, "not one of the kinds"),
        ({"apiVersion": "v1", "kind": "Namespace", "metadata": {}}, "without metadata.name"),
        ({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x", "namespace": "y"}}, "must not have"),
        ({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "x"}}, "needs metadata.namespace"),
    ],
)
def test_a_definition_that_cannot_be_used_is_refused_before_anything_is_asked(
    run_module: RunModule, cluster: FakeKubernetes, definition: dict[str, Any], message: str
) -> None:
    result = run_module("kubernetes_access_objects", arguments(cluster, definitions=[*definitions(), definition]))

    assert message in result["msg"]
    assert cluster.requests == []


def test_what_the_api_leaves_out_is_no_difference() -> None:
    definition = {"apiVersion": "v1", "kind": "Role", "metadata": {"name": "x"}, "rules": [{"verbs": [], "a": None}]}

    assert plan.projection({**definition, "rules": [{}], "status": 1}, definition) == plan.projection(
        definition, definition
    )
