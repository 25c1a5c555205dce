"""Begins a run of drift.yml, and writes its report: what is new, lasts or is gone, and what is accepted for a while."""

from __future__ import annotations

import getpass
import hashlib
import hmac
import json
import os
import re
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

SCHEMA_VERSION = 1
NEWEST = "drift.json"
SEVERITIES = ("critical", "warning", "info")
# as in plugins/module_utils/drift/findings.py
AREAS = (
    "server", "address", "clock", "disk", "docker", "files", "packages", "units", "kernel", "users", "firewall",
    "ports", "release", "containers", "networks", "volumes", "registry", "k3s", "kubernetes", "expiry", "backup",
)  # fmt: skip
_OF_HOST = {"name": str, "status": str, "status_since": str, "findings": list}
_OF_FINDING = dict.fromkeys(("id", "area", "item", "aspect", "severity", "since", "state"), str)
RULE_FIELDS = ("host", "area", "item", "reason", "until")
Document = dict[str, Any]


def timestamp(moment: datetime) -> str:
    """A moment as the report writes it: UTC, seconds, Z."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


# -- reports on the controller


def _has(one: Any, fields: Mapping[str, type]) -> bool:
    return isinstance(one, dict) and all(isinstance(one.get(name), kind) for name, kind in fields.items())


def _is_whole(report: Any) -> bool:
    """Whether a report has what later ones compare with: somebody may have changed it, or a disk have spoiled it."""
    if not _has(report, {"run": str, "at": str, "hosts": list}) or report.get("schema_version") != SCHEMA_VERSION:
        return False
    hosts = report["hosts"]
    if not all(_has(host, _OF_HOST) and isinstance(host.get("seen", {}), dict) for host in hosts):
        return False
    return all(
        _has(one, _OF_FINDING) and one["severity"] in SEVERITIES and one["area"] in AREAS
        for host in hosts
        for one in host["findings"]
    )


def load_reports(directory: Path) -> Iterable[Document]:
    """Earlier reports, the newest first; one that cannot be read, or is of another form, is passed over."""
    paths = [directory / NEWEST, *sorted((directory / "history").glob("*.json"), reverse=True)]
    runs = set()
    for path in paths:
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if _is_whole(report) and report["run"] not in runs:
            runs.add(report["run"])
            yield report


def last_of(reports: Iterable[Document], hosts: Iterable[str]) -> dict[str, tuple[Document, Document]]:
    """For each host its part of the newest report that has it, and that report: a run may be for some hosts only."""
    waiting = set(hosts)
    found: dict[str, tuple[Document, Document]] = {}
    for report in reports:
        for entry in report.get("hosts", []):
            if entry.get("name") in waiting:
                waiting.discard(entry["name"])
                found[entry["name"]] = (entry, report)
        if not waiting:
            break
    return found


def write_private(path: Path, text: str) -> None:
    """Replace a file that its owner alone can read."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def keep(directory: Path, document: Document, number: int) -> Path:
    """Write the report as the newest one and into the history, of which the last `number` stay. Raises OSError."""
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    # one after the other: of parents that it makes on the way, mkdir does not restrict the mode
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(directory / "history" / f"{document['run']}.json", text)
    write_private(directory / NEWEST, text)
    for old in sorted((directory / "history").glob("*.json"))[: -max(1, number)]:
        old.unlink(missing_ok=True)
    return directory / NEWEST


# -- rules


def parse_rules(given: Any, today: date) -> list[dict[str, str]]:
    """`drift_ignore` with what became of each rule: `unused` (so far), `ended` or `refused` with a message.

    Raises AnsibleActionFail when it is no list of dictionaries.
    """
    if isinstance(given, str):
        try:
            given = yaml.safe_load(given)
        except yaml.YAMLError:
            given = None
    if isinstance(given, Mapping):
        given = [given]
    if not isinstance(given, list) or not all(isinstance(rule, Mapping) for rule in given):
        raise AnsibleActionFail(
            "drift_ignore is no list of rules. Nothing was looked at. Write it as "
            '-e \'{"drift_ignore": [{"area": "files", "item": "/etc/x", "reason": "why", "until": "2026-12-31"}]}\'.'
        )
    return [_rule(one, today) for one in given]


def _problem(one: Mapping[str, Any], rule: Mapping[str, str]) -> str:
    """Why a rule cannot count; "" when it can."""
    unknown = sorted(set(map(str, one)) - set(RULE_FIELDS))
    if unknown:
        return f"it has {', '.join(unknown)}, which no rule has ({', '.join(RULE_FIELDS)})"
    if not rule["reason"].strip():
        return "it gives no reason"
    if not (rule["item"] or rule["area"]):
        return "it names neither an area nor an item, and would hide everything"
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", rule["until"]):
        return "it has no last day (until: YYYY-MM-DD)"
    try:
        date.fromisoformat(rule["until"])
    except ValueError:
        return f"its last day {rule['until']} is no date"
    return ""


def _rule(one: Mapping[str, Any], today: date) -> dict[str, str]:
    rule = {field: str(one.get(field) or "") for field in RULE_FIELDS}
    why = _problem(one, rule)
    if why:
        return {**rule, "state": "refused", "message": f"The rule does not count: {why}."}
    if date.fromisoformat(rule["until"]) < today:
        return {**rule, "state": "ended", "message": f"The rule ended on {rule['until']} and counts no more."}
    return {**rule, "state": "unused", "message": ""}


def _fits(rule: Mapping[str, str], host: str, finding: Mapping[str, Any]) -> bool:
    return (
        fnmatchcase(host, rule["host"] or "*")
        and fnmatchcase(finding["area"], rule["area"] or "*")
        and (fnmatchcase(finding["item"], rule["item"] or "*") or fnmatchcase(finding["id"], rule["item"] or "*"))
    )


def apply_rules(host: str, finding: dict[str, Any], rules: list[dict[str, str]]) -> None:
    """Mark a finding as ignored by the first rule that counts, or say that one that fits counts no more."""
    for rule in rules:
        if not _fits(rule, host, finding):
            continue
        if rule["state"] in {"used", "unused"}:
            rule["state"] = "used"
            finding |= {"state": "ignored", "ignored_until": rule["until"], "ignore_reason": rule["reason"]}
            finding.pop("note", None)
            return
        finding.setdefault("note", rule["message"])


# -- one host


def _host(
    name: str, result: Mapping[str, Any], old: Mapping[str, Any], rules: list[dict[str, str]], at: str
) -> Document:
    answered = "findings" in result
    before = {one["id"]: one for one in old.get("findings", [])}
    entry: Document = {
        "name": name,
        "status": "",
        "status_since": at,
        "message": "",
        "seconds": float(result.get("seconds", 0.0)),
        "release": result.get("release") if answered else old.get("release"),
        "notes": list(result.get("notes", [])),
        "checked": dict(result.get("checked", {})),
        "could_not_ask": list(result.get("could_not_ask", [])),
        "findings": [],
        "gone": [],
        "seen": dict(result.get("seen", {})) if answered else dict(old.get("seen", {})),
    }
    for one in result.get("findings", []):
        same = before.get(one["id"])
        finding = {**one, "since": same["since"] if same else at, "state": "lasting" if same else "new"}
        apply_rules(name, finding, rules)
        entry["findings"].append(finding)
    here = {name for one in entry["findings"] for name in (one["id"], *one.get("details", ()))}
    blind = {one["area"] for one in entry["could_not_ask"]}
    for one in before.values():
        if one["id"] in here:
            continue
        # what could not be looked at is not gone
        if not answered or (one["area"] in blind and one["aspect"] != "asked"):
            finding = {**one, "state": "unverified"}
            apply_rules(name, finding, rules)
            entry["findings"].append(finding)
        else:
            gone = {key: value for key, value in one.items() if key not in {"ignored_until", "ignore_reason", "note"}}
            entry["gone"].append({**gone, "gone_at": at})
    for listed in (entry["findings"], entry["gone"]):
        listed.sort(
            key=lambda one: (SEVERITIES.index(one["severity"]), AREAS.index(one["area"]), one["item"], one["aspect"])
        )
    if answered:
        dirty = any(one["state"] != "ignored" for one in entry["findings"])
        entry["status"] = "drift" if dirty else "clean"
    else:
        entry["status"] = "unreachable" if result.get("unreachable") else "failed"
        words = str(result.get("msg") or "the module drift_facts has not answered").removeprefix("Task failed: ")
        entry["message"] = " ".join(words.split())[:500]
    if old.get("status") == entry["status"]:
        entry["status_since"] = old["status_since"]
    return entry


def _changed(entry: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether somebody should be told: the status is another, or findings came, went, or became (un)ignored."""
    if not old:
        return bool(entry["status"] != "clean")

    def counted(host: Mapping[str, Any]) -> set[str]:
        return {one["id"] for one in host.get("findings", []) if one["state"] != "ignored"}

    return bool(entry["status"] != old.get("status") or counted(entry) != counted(old))


def build(
    run: Mapping[str, Any],
    results: Mapping[str, Mapping[str, Any]],
    previous: Mapping[str, tuple[Document, Document]],
    rules: list[dict[str, str]],
    *,
    commit: str,
    now: datetime,
) -> Document:
    """The document of a run.

    :param run: `run` and `began` (seconds since 1970), as the begin of the run has returned them.
    :param results: the module's result by host; without `findings` it has failed, or the host was not reached.
    :param previous: see `last_of`.
    :param rules: see `parse_rules`; what became of each is written into it.
    """
    at = timestamp(now)
    old = {name: entry for name, (entry, _) in previous.items()}
    hosts = [_host(name, results[name], old.get(name, {}), rules, at) for name in sorted(results)]
    counted = [one for host in hosts for one in host["findings"] if one["state"] != "ignored"]
    states = [one["state"] for host in hosts for one in host["findings"]]
    statuses = [host["status"] for host in hosts]
    newest = max((report for _, report in previous.values()), key=lambda report: str(report["at"]), default=None)
    summary: Document = {
        "hosts": len(hosts),
        **{status: statuses.count(status) for status in ("clean", "drift", "unreachable", "failed")},
        **{severity: [one["severity"] for one in counted].count(severity) for severity in SEVERITIES},
        **{state: states.count(state) for state in ("new", "lasting", "ignored", "unverified")},
        "gone": sum(len(host["gone"]) for host in hosts),
        "exit_code": 0 if statuses.count("clean") == len(hosts) else 2,
        "changed": any(_changed(host, old.get(host["name"], {})) for host in hosts),
        "ignores": rules,
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "run": run["run"],
        "at": at,
        "seconds": round(max(0.0, now.timestamp() - float(run["began"])), 1),
        "controller": {"host": socket.gethostname(), "user": getpass.getuser()},
        "project_commit": commit,
        "previous": None if newest is None else {"run": newest["run"], "at": newest["at"]},
        "hosts": hosts,
        "summary": summary,
    }


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ansible's entry point. `state: begun` makes the run's id and key, `state: written` writes the report."""

    _requires_connection = False
    _VALID_ARGS = frozenset({"state", "directory", "hosts", "run", "keep", "ignore", "commit", "register", "programs"})

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do one of both."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self._task.args
        directory = Path(str(arguments["directory"])).expanduser().resolve()
        hosts = [str(host) for host in arguments["hosts"]]
        work: dict[str, Callable[[], dict[str, Any]]] = {
            "begun": lambda: self._begin(directory, hosts, arguments),
            "written": lambda: self._write(directory, hosts, arguments, task_vars or {}),
        }
        try:
            return {**result, "changed": False, **work[str(arguments["state"])]()}
        except OSError as error:
            raise AnsibleActionFail(
                f"the report cannot be kept in {directory} on the controller: {error.strerror or error}. Set "
                "drift_report_dir to a folder that you may write. Nothing was changed."
            ) from error

    def _begin(self, directory: Path, hosts: list[str], arguments: Mapping[str, Any]) -> dict[str, Any]:
        # bad rules are told before anything is asked
        parse_rules(arguments.get("ignore") or [], datetime.now(timezone.utc).date())
        now = datetime.now(timezone.utc)
        previous = last_of(load_reports(directory), hosts)
        key = secrets.token_bytes(32)
        return {
            "programs": {
                name: hmac.new(key, Path(path).read_bytes(), hashlib.sha256).hexdigest()
                for name, path in (arguments.get("programs") or {}).items()
            },
            "run": f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}",
            "key": key.hex(),
            "began": now.timestamp(),
            "seen": {name: entry.get("seen", {}) for name, (entry, _) in previous.items()},
        }

    def _write(
        self, directory: Path, hosts: list[str], arguments: Mapping[str, Any], task_vars: Mapping[str, Any]
    ) -> dict[str, Any]:
        now = datetime.now(timezone.utc)
        variables = task_vars["hostvars"]
        results = {}
        for host in hosts:
            found = variables[host].get(str(arguments["register"]))
            why = variables[host].get("__drift_failed")
            results[host] = {"msg": why} if why else (found if isinstance(found, Mapping) else {})
        rules = parse_rules(arguments.get("ignore") or [], now.date())
        previous = last_of(load_reports(directory), hosts)
        commit = str(arguments.get("commit") or "").strip()
        document = build(arguments["run"], results, previous, rules, commit=commit, now=now)
        # plain types, and nothing that JSON could not hold
        document = json.loads(json.dumps(document))
        path = keep(directory, document, int(arguments["keep"]))
        return {"path": str(path), "ansible_facts": {"drift_report": document}}
