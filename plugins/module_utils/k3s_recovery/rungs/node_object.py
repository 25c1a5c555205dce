"""The Node object made anew, with what people had written on the old one. Namespaces, rights and volumes stay."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.k3s_recovery.machine import MachineError
from ansible.module_utils.k3s_recovery.record import Record, RungEntry
from ansible.module_utils.k3s_recovery.rungs.base import Context, Rung, RungError
from ansible.module_utils.k3s_recovery.rungs.safe_mode import enter, leave
from ansible.module_utils.k3s_recovery.verify import internal_addresses, leaving

# Written by the kubelet, by k3s and its controllers at a node's registration, or later by themselves.
SYSTEM_ANNOTATIONS = ("k3s.io", "cattle.io", "flannel.alpha.coreos.com", "kubernetes.io", "k8s.io")
# Set and taken away by controllers according to the node's state.
SYSTEM_TAINTS = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
PATIENCE_SECONDS = 20
# With this one k3s' own controller holds a deleted Node object until it has cleaned up after it.
FINALIZER = "wrangler.cattle.io/node"
GONE_SECONDS = 30


def system_key(key: str) -> bool:
    """Whether a label or an annotation belongs to Kubernetes or k3s, by its domain."""
    domain = key.partition("/")[0] if "/" in key else ""
    return any(domain == name or domain.endswith(f".{name}") for name in SYSTEM_ANNOTATIONS)


def saved_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be put back on the node that comes after this one."""
    metadata, spec = node["metadata"], node.get("spec", {})
    taints = spec.get("taints") or []
    return {
        "name": metadata["name"],
        "uid": metadata.get("uid", ""),
        "labels": dict(metadata.get("labels") or {}),
        "annotations": {
            key: value for key, value in (metadata.get("annotations") or {}).items() if not system_key(key)
        },
        "taints": [taint for taint in taints if not str(taint.get("key", "")).startswith(SYSTEM_TAINTS)],
        "cordoned": bool(spec.get("unschedulable")),
        "addresses": internal_addresses(dict(node)),
        "pod_cidr": spec.get("podCIDR", ""),
    }


def restoring_patch(saved: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch that brings the saved things back to a new node; {} when it has them all.

    A label of the system's that the new node has keeps its new value: it may describe the new address or release.
    """
    metadata, spec = node["metadata"], node.get("spec", {})
    has = metadata.get("labels") or {}
    labels = {
        key: value
        for key, value in saved["labels"].items()
        if key not in has or (has[key] != value and not system_key(key))
    }
    present = metadata.get("annotations") or {}
    annotations = {key: value for key, value in saved["annotations"].items() if present.get(key) != value}
    taints = list(spec.get("taints") or [])
    known = {(taint.get("key"), taint.get("effect")) for taint in taints}
    missing = [taint for taint in saved["taints"] if (taint.get("key"), taint.get("effect")) not in known]
    patch: dict[str, Any] = {}
    if labels or annotations:
        kinds = {"labels": labels, "annotations": annotations}
        patch["metadata"] = {kind: values for kind, values in kinds.items() if values}
    if missing:
        patch["spec"] = {"taints": taints + missing}
    if saved["cordoned"] and not spec.get("unschedulable"):
        patch.setdefault("spec", {})["unschedulable"] = True
    return patch


def put_back(context: Context, entry: RungEntry) -> None:
    """Labels, annotations, taints, cordon; tried again while the API is busy with its start.

    Raises RungError, RecordError.
    """
    saved = entry.data["saved"]
    path = f"/api/v1/nodes/{saved['name']}"
    deadline = context.machine.uptime() + PATIENCE_SECONDS
    while True:
        said = "no answer"
        with contextlib.suppress(MachineError):
            node = context.machine.request("GET", path)
            old = node.status == 200 and leaving(node.body, context.deleted)
            patch = restoring_patch(saved, node.body) if node.status == 200 and not old else {}
            answer = context.machine.request("PATCH", path, patch) if patch else node
            said = "the old Node object is still there" if old else answer.message
            if answer.status == 200 and not old:
                break
        if context.machine.uptime() > deadline:
            raise RungError(f"Labels and taints of {saved['name']} could not be put back: {said}. Run again.")
        context.machine.sleep(1)
    entry.data["put_back"] = True
    new_cidr = node.body.get("spec", {}).get("podCIDR", "")
    if saved["pod_cidr"] and new_cidr and new_cidr != saved["pod_cidr"]:
        context.record.add_lost(f"The pods' network is {new_cidr} now, it was {saved['pod_cidr']}.")
    context.record.save()


def owed(record: Record) -> list[RungEntry]:
    """The rungs that deleted a Node object whose labels and taints are not back yet."""
    return [entry for entry in record.rungs if entry.data.get("deleted") and not entry.data.get("put_back")]


def settle(context: Context) -> None:
    """Put back what an earlier rung, or an earlier run, could not. Raises RungError, RecordError."""
    for entry in owed(context.record):
        put_back(context, entry)


class NodeObject(Rung):
    """Save, delete, restart, put back. Killed in between, the next run goes on where this one was."""

    name = "node_object"
    finishes = True

    def apply(self, context: Context) -> str:
        """Everything, or what a killed run left to do. The new one comes at a start, after the old one is gone."""
        safe = False
        if "saved" not in context.entry.data:
            safe = self._reach(context)
            self._save(context)
        saved = context.entry.data["saved"]
        if not context.entry.data.get("deleted"):
            self._delete(context, saved)
        if not context.entry.data.get("gone"):
            self._wait_until_gone(context, saved)
        leave(context)
        context.step("restart")
        context.restart()
        problem = context.wait_up()
        if problem:
            raise RungError(f"With a new Node object k3s does not come up either: {problem}.")
        context.step("put labels and taints back")
        put_back(context, context.entry)
        return (
            f"The Node object {saved['name']} was deleted and made anew by k3s; its labels, taints"
            f"{' and the cordon' if saved['cordoned'] else ''} were put back."
            f"{' k3s ran without network policies meanwhile.' if safe else ''}"
            f"{context.entry.data.get('told', '')}"
        )

    @staticmethod
    def _reach(context: Context) -> bool:
        """Have an API that stays, without network policies where k3s does not stay up with them; whether so."""
        unit = context.diagnosis.facts.get("unit") or {}
        steady = float(unit.get("running_seconds") or 0) >= PATIENCE_SECONDS
        if steady and context.machine.unit().running and context.node().body:
            return False
        enter(context)
        deadline = context.machine.uptime() + context.settings.timeout_seconds
        while not context.node().body:
            if context.machine.uptime() > deadline:
                raise RungError("The API does not come up, so the Node object cannot be reached. Nothing was deleted.")
            context.machine.sleep(1)
        return True

    @staticmethod
    def _save(context: Context) -> None:
        node = context.node().body
        if not node:
            raise RungError("The API went away before the Node object was read. Nothing was deleted.")
        context.step("save the node", saved=saved_of(node))

    @staticmethod
    def _delete(context: Context, saved: Mapping[str, Any]) -> None:
        context.step("delete the node")
        # another uid: it was deleted before the kill and has come back already
        old = _old(context, saved, context.settings.timeout_seconds)
        if old and not old["metadata"].get("deletionTimestamp"):
            answer = context.machine.request("DELETE", f"/api/v1/nodes/{saved['name']}")
            if answer.status not in (200, 202, 404):
                raise RungError(f"The Node object {saved['name']} could not be deleted: {answer.message}.")
        context.step("wait until it is gone", deleted=True)

    @staticmethod
    def _wait_until_gone(context: Context, saved: Mapping[str, Any]) -> None:
        """Let k3s' controller finish with it; a start before that would take the old one for its own and lose it."""
        forced = False
        begun = context.machine.uptime()
        while old := _old(context, saved, context.settings.timeout_seconds):
            passed = context.machine.uptime() - begun
            finalizers = list(old["metadata"].get("finalizers") or [])
            if passed > 2 * GONE_SECONDS:
                holder = ", ".join(finalizers) or "something"
                raise RungError(
                    f"The Node object {saved['name']} was deleted and does not go: {holder} holds it. See to what "
                    f"has set that, then run again; its labels and taints are kept until then."
                )
            if passed > GONE_SECONDS and FINALIZER in finalizers:
                forced = _take_away(context, old) or forced
            context.machine.sleep(1)
        told = f" k3s had not let the old one go within {GONE_SECONDS} s: its finalizer {FINALIZER} was taken away."
        context.step("gone", gone=True, **({"told": told} if forced else {}))

    def undo(self, context: Context) -> str:
        """The safe mode's end, if it was needed; a deleted Node object is made anew by the start that follows.

        Its labels and taints stay owed (`settle`), in this run or the next.
        """
        if leave(context):
            return "The safe mode was ended."
        data = context.entry.data
        # a k3s that runs does not register its node again
        if data.get("deleted") and not data.get("put_back") and _absent(context, str(data["saved"]["name"])):
            context.machine.stop()
            return "The Node object is made anew by the next start."
        return ""


def _old(context: Context, saved: Mapping[str, Any], patience: float) -> dict[str, Any]:
    """The Node object that was saved, {} when it is gone. Waits for an API that does not answer; raises RungError."""
    deadline = context.machine.uptime() + patience
    if not context.machine.unit().running:
        context.machine.start()
    while True:
        said = "no answer"
        with contextlib.suppress(MachineError):
            answer = context.machine.request("GET", f"/api/v1/nodes/{saved['name']}")
            said = answer.message
            if answer.status == 404:
                return {}
            if answer.status == 200:
                return answer.body if answer.body["metadata"].get("uid") == saved["uid"] else {}
        if context.machine.uptime() > deadline:
            raise RungError(f"Whether the Node object {saved['name']} is gone cannot be seen: {said}.")
        context.machine.sleep(1)


def _take_away(context: Context, old: Mapping[str, Any]) -> bool:
    """Take k3s' finalizer from a Node object, others stay; whether that was done. The uid keeps a new one out of it."""
    metadata = old["metadata"]
    others = [one for one in metadata["finalizers"] if one != FINALIZER]
    guard = {key: metadata[key] for key in ("uid", "resourceVersion") if metadata.get(key)}
    patch = {"metadata": {**guard, "finalizers": others}}
    with contextlib.suppress(MachineError):
        answer = context.machine.request("PATCH", f"/api/v1/nodes/{metadata['name']}", patch)
        # 409: it has changed meanwhile
        return answer.status in (200, 404)
    return False


def _absent(context: Context, name: str) -> bool:
    """Whether the API says that there is no such Node object."""
    try:
        return context.machine.request("GET", f"/api/v1/nodes/{name}").status == 404
    except MachineError:
        return False
