"""What comes back on a node that was made anew."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.k3s_recovery.rungs.node_object import restoring_patch, saved_of, system_key


def node(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "server1",
            "uid": "1",
            "labels": {
                "kubernetes.io/hostname": "server1",
                "node-role.kubernetes.io/worker": "true",
                "node.kubernetes.io/instance-type": "k3s",
                "tier": "single",
            },
            "annotations": {
                "k3s.io/internal-ip": "10.0.0.1",
                "alpha.kubernetes.io/provided-node-ip": "10.0.0.1",
                "flannel.alpha.coreos.com/public-ip": "10.0.0.1",
                "etcd.k3s.cattle.io/local-snapshots-timestamp": "x",
                "example.com/owner": "me",
            },
        },
        "spec": spec,
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
    }


def fresh() -> dict[str, Any]:
    return {
        "metadata": {
            "name": "server1",
            "labels": {"kubernetes.io/hostname": "server1", "node.kubernetes.io/instance-type": "other"},
            "annotations": {"k3s.io/internal-ip": "10.0.0.2"},
        },
        "spec": {},
    }


def test_labels_by_hand_come_back_and_the_systems_stay_as_they_are_now() -> None:
    patch = restoring_patch(saved_of(node()), fresh())
    assert patch["metadata"]["labels"] == {"node-role.kubernetes.io/worker": "true", "tier": "single"}


def test_no_annotation_with_the_old_address_comes_back() -> None:
    assert restoring_patch(saved_of(node()), fresh())["metadata"]["annotations"] == {"example.com/owner": "me"}


def test_taints_and_cordon_come_back_but_for_those_of_the_nodes_condition() -> None:
    saved = saved_of(
        node(
            unschedulable=True,
            taints=[
                {"key": "mine", "value": "a", "effect": "NoSchedule"},
                {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"},
                {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
            ],
        )
    )
    new = fresh()
    new["spec"]["taints"] = [{"key": "from-config", "effect": "NoSchedule"}]
    assert restoring_patch(saved, new)["spec"] == {
        "taints": [
            {"key": "from-config", "effect": "NoSchedule"},
            {"key": "mine", "value": "a", "effect": "NoSchedule"},
        ],
        "unschedulable": True,
    }


def test_a_second_time_there_is_nothing_to_put_back() -> None:
    saved = saved_of(node(unschedulable=True, taints=[{"key": "mine", "effect": "NoSchedule"}]))
    assert restoring_patch(saved, node(unschedulable=True, taints=[{"key": "mine", "effect": "NoSchedule"}])) == {}


def test_whose_a_key_is() -> None:
    assert system_key("node.kubernetes.io/x")
    assert system_key("k3s.io/x")
    assert not system_key("tier")
    assert not system_key("notk3s.io/x")
