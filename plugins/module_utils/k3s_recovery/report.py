"""What a recovery tells in the end: as JSON for programs, and as sentences for a person at three in the morning."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.atomic_files import Access, write_file
from ansible.module_utils.k3s_recovery.diagnosis import Diagnosis
from ansible.module_utils.k3s_recovery.record import Record

FILE = "report.json"
# Rungs after which the application's namespace, rights and accounts may be missing or older.
DATA_CAUSES = {"database_damaged", "database_missing_all_gone", "token_mismatch", "etcd_damaged"}
OTHER_CLUSTER = ("restore", "snapshot_restore", "delete_cluster")


def iso(moment: float) -> str:
    """A time for people and programs, in UTC."""
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="seconds")


def healing_rung(record: Record) -> str:
    """The rung that healed; "" when none did (yet)."""
    healed = [entry.name for entry in record.rungs if entry.state == "healed"]
    return healed[-1] if healed else ""


def healthy(diagnosis: Diagnosis, *, host: str, by: str, now: float) -> dict[str, Any]:
    """The report where nothing was wrong."""
    draft = Record(folder=Path(), id="", by=by, started_at=now, warnings=list(diagnosis.warnings))
    draft.before["addresses"] = draft.before["addresses_now"] = [diagnosis.expected_ip] if diagnosis.expected_ip else []
    return {**report(draft, healed=True, host=host, now=now, reconnect={}), "result": "healthy"}


def planned(diagnosis: Diagnosis, plan: Sequence[str], *, host: str, by: str, now: float) -> dict[str, Any]:
    """The report of a check: what is wrong, and what would be tried."""
    draft = Record(folder=Path(), id="", by=by, started_at=now, warnings=list(diagnosis.warnings))
    draft.causes = [asdict(cause) for cause in diagnosis.causes]
    told = report(draft, healed=True, host=host, now=now, reconnect={})
    return {**told, "result": "planned", "plan": list(plan)}


def report(record: Record, *, healed: bool, host: str, now: float, reconnect: Mapping[str, Any]) -> dict[str, Any]:
    """The report. `healed`: whether k3s is well; `reconnect`: what was done for the application after that."""
    return {
        "host": host,
        "id": record.id,
        "at": iso(record.started_at),
        "by": record.by,
        "runs": record.runs,
        "result": "healed" if healed and not reconnect.get("problem") else "failed",
        "seconds": round(now - record.started_at, 1),
        "causes": [{key: cause[key] for key in ("id", "sentence", "evidence", "rung")} for cause in record.causes],
        "warnings": record.warnings,
        "healed_by": healing_rung(record) if healed else "",
        "rungs": [
            {
                "name": entry.name,
                "cause": entry.cause,
                "run": entry.run,
                "state": entry.state,
                "seconds": entry.seconds,
                "sentence": entry.sentence,
                "undone": entry.undone,
            }
            for entry in record.rungs
        ],
        "backup": {key: record.backup.get(key) for key in ("path", "database", "reused")},
        "kept": record.kept if healed else {},
        "lost": lost_sentences(record),
        "network_policy_off_seconds": round(record.network_policy_off_seconds, 1),
        "restored_from": record.restored_from,
        "address": {
            "before": ", ".join(record.before.get("addresses") or old_addresses(record)),
            "now": ", ".join(record.before.get("addresses_now") or []),
        },
        "kubeconfigs": {"renewed": list(reconnect.get("renewed") or [])},
        "restarted": list(reconnect.get("restarted") or []),
        "verified_from_compose_network": reconnect.get("verified"),
        "problem": record.problem or str(reconnect.get("problem") or ""),
        "next": next_steps(record, reconnect, healed=healed, host=host),
    }


def old_addresses(record: Record) -> list[str]:
    """Addresses that the diagnosis calls old, where the API could not be asked for the node's."""
    found = [str((cause.get("details") or {}).get("old") or "") for cause in record.causes]
    return [address for address in dict.fromkeys(found) if address][:1]


def lost_sentences(record: Record) -> list[str]:
    """Everything that is not as it was."""
    lost = list(record.lost)
    if record.network_policy_off_seconds:
        lost.append(f"Network policies were not enforced for {record.network_policy_off_seconds:.0f} s.")
    return lost


def next_steps(record: Record, reconnect: Mapping[str, Any], *, healed: bool, host: str) -> list[str]:
    """What a person has to do now."""
    steps = []
    edited = [entry for entry in record.rungs if entry.name == "configuration" and entry.state in ("healed", "kept")]
    if edited:
        steps.append(
            "The server's configuration was corrected. If the inventory's k3s_node_ip or k3s_config names the old "
            "address or interface, correct it there as well: site.yml would write or demand the old one again."
        )
    if not healed:
        if any(entry.unfinished for entry in record.rungs):
            steps.append("A rung was cut off. Run the playbook again: it finishes or undoes what was begun.")
        if DATA_CAUSES & {cause["id"] for cause in record.causes} and not record.restored_from:
            steps.append(
                "If there is a backup elsewhere, copy it with its .json into the backups' folder on the server and run "
                "again. If there is none, a new, empty cluster is the last resort: "
                f"ansible-playbook playbooks/recover-k3s.yml --limit {host} -e recover_k3s_delete_cluster={host}"
            )
        steps.append("Look at what k3s says: journalctl -u k3s -n 50, on the server.")
        if record.backup.get("path"):
            steps.append(
                f"Everything as it was before is in the backup {record.backup['path']} (playbooks/restore.yml), the "
                f"originals of changed files are in {record.folder}."
            )
    elif reconnect.get("problem"):
        steps.append(f"k3s is well, but what depends on it is not: {reconnect['problem']}")
        steps.append("Run playbooks/site.yml.")
    return steps


def sentences(told: Mapping[str, Any]) -> list[str]:
    """The report for a person: short, the most important first."""
    lines = [_headline(told)]
    lines += [f"Was wrong: {cause['sentence']}" for cause in told["causes"]]
    for rung in told["rungs"]:
        lines.append(f"{rung['name']} ({rung['state']}, {rung['seconds']:.0f} s): {rung['sentence']}")
    kept = told["kept"]
    if kept:
        key = {True: "the same", False: "another one", None: "not compared"}[kept.get("service_account_key")]
        count = (
            "the data of etcd, which were not counted"
            if kept.get("namespaces") is None
            else f"{kept['namespaces']} namespaces, {kept['rbac']} roles, bindings, accounts and policies, "
            f"{kept['objects']} objects"
        )
        lines.append(f"Kept: {count}; the service accounts' key is {key}.")
    lines += [f"Lost: {line}" for line in told["lost"]] or (["Lost: nothing."] if told["result"] == "healed" else [])
    if told["backup"].get("path"):
        word = {
            "verified": "opened and found whole",
            "raw": "kept as it is, it cannot be opened",
            "snapshot": "a snapshot of etcd",
        }.get(str(told["backup"].get("database")), "there was none")
        lines.append(f"Backup: {told['backup']['path']} (database: {word}).")
    lines += [_reconnected(told)] if told["result"] == "healed" else []
    lines += [f"Next: {line}" for line in told["next"]]
    return lines


def _headline(told: Mapping[str, Any]) -> str:
    if told["result"] == "healed":
        by = f" by the rung {told['healed_by']}" if told["healed_by"] else ""
        now = told["address"]["now"]
        return f"k3s on {told['host']} is well again after {told['seconds']:.0f} s{by}{f', at {now}' if now else ''}."
    if told["healed_by"]:
        return f"k3s on {told['host']} is well again after {told['seconds']:.0f} s, but not all that depends on it."
    return f"k3s on {told['host']} is NOT well after {told['seconds']:.0f} s. {told['problem']}"


def _reconnected(told: Mapping[str, Any]) -> str:
    renewed, restarted = told["kubeconfigs"]["renewed"], told["restarted"]
    words = [
        f"kubeconfigs renewed: {', '.join(renewed) or 'none had to be'}",
        f"restarted: {', '.join(restarted) or 'nothing had to be'}",
        {
            True: "the API answers from inside the compose network",
            False: "the API does NOT answer from inside the compose network",
            None: "not verified from the compose network (no release runs here, or Docker does not answer)",
        }[told["verified_from_compose_network"]],
    ]
    return f"Application: {'; '.join(words)}."


def write(record: Record, told: Mapping[str, Any]) -> None:
    """Write the report beside the record. Raises OSError."""
    text = json.dumps(told, indent=1, ensure_ascii=False) + "\n"
    write_file(record.folder / FILE, text.encode(), Access(os.geteuid(), os.getegid(), 0o600))


def history_entry(told: Mapping[str, Any], *, now: float) -> dict[str, Any]:
    """The line of the server's history."""
    entry = {
        "at": iso(now),
        "action": "recover-k3s",
        "result": "ok" if told["result"] == "healed" else "failed",
        "rung": told["healed_by"],
        "rungs": [rung["name"] for rung in told["rungs"]],
        "causes": [cause["id"] for cause in told["causes"]],
        "backup": told["backup"].get("path") or "",
        "by": told["by"],
        "seconds": told["seconds"],
    }
    if told["problem"]:
        entry["message"] = told["problem"]
    return entry
