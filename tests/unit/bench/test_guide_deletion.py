"""What the comparison counts as kept, and how its table says it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from bench import cluster
from bench.cluster import Survey, compare
from bench.table import markdown

BEFORE = Survey(
    namespaces={"Namespace/work": "1"},
    rbac={"Role/work/somebody": "2", "ServiceAccount/work/somebody": "3"},
    objects={"ConfigMap/work/a": "4"},
    configmap={"answer": "42"},
    node="5",
    label="yes",
    service_account_key="key",
    authority="ca",
    tokens={"k8s-worker": "", "pod-monitor": ""},
)


def test_the_same_cluster_has_kept_everything() -> None:
    kept = compare(BEFORE, BEFORE)
    assert kept.everything
    assert kept.lost == []


def test_an_object_made_anew_under_its_name_is_not_kept() -> None:
    kept = compare(BEFORE, dataclasses.replace(BEFORE, rbac={**BEFORE.rbac, "Role/work/somebody": "other"}))
    assert kept.rbac == (1, 2)
    assert kept.lost == ["Role/work/somebody"]
    assert not kept.everything


def test_a_new_cluster_has_kept_nothing() -> None:
    refused = dict.fromkeys(BEFORE.tokens, "error: You must be logged in to the server")
    empty = Survey({}, {}, {}, {}, "6", "", "new key", "new ca", refused)
    kept = compare(BEFORE, empty)
    assert (kept.namespaces, kept.rbac, kept.objects, kept.tokens) == ((0, 1), (0, 2), (0, 1), (0, 2))
    assert not any((kept.configmap, kept.node_label, kept.service_account_key, kept.authority))


def test_what_k3s_makes_by_itself_is_not_counted() -> None:
    def item(kind: str, name: str, namespace: str = "", **labels: str) -> dict[str, Any]:
        return {"kind": kind, "metadata": {"name": name, "namespace": namespace, "labels": labels, "uid": name}}

    items = [
        item("ConfigMap", "kube-root-ca.crt", "work"),
        item("ServiceAccount", "default", "work"),
        item("Namespace", "kube-system"),
        item("Service", "kubernetes", "default"),
        item("ClusterRole", "view", **{"kubernetes.io/bootstrapping": "rbac-defaults"}),
        item("ConfigMap", "mine", "work"),
        item("PersistentVolume", "mine"),
        item("Namespace", "work"),
    ]
    found = cluster._by_name(lambda _: (0, json.dumps({"items": items})), "all")
    assert sorted(found) == ["ConfigMap/work/mine", "Namespace/work", "PersistentVolume/mine"]


def test_table_says_what_was_not_cured_and_what_was_lost() -> None:
    kept = compare(BEFORE, BEFORE)
    lost = dataclasses.replace(kept, namespaces=(0, 1), service_account_key=False)
    mine = {
        "seconds": 61.2,
        "kept": kept.as_dict(),
        "extra_seconds": None,
        "repair_seconds": 9,
        "note": "rung safe_mode",
    }
    guide = {"seconds": None, "kept": lost.as_dict(), "extra_seconds": 30.4, "repair_seconds": 9, "note": "refused"}
    text = markdown(
        {
            "measured_at": "2026-11-24T01:00:00+00:00",
            "processors": 2,
            "stable_seconds": 20,
            "give_up_seconds": 120,
            "causes": {"a cause": {"playbook": mine, "guide": guide}},
        }
    )
    assert "| k3s stays up after | 61 s | **not cured**; 30 s more after correcting node-ip by hand |" in text
    assert "| namespaces | 1 of 1 | 0 of 1 |" in text
    assert "| key that signs service accounts' tokens | kept | **lost** |" in text
