"""Drift reports as playbooks/drift.yml writes them, for tests of what is made of them."""

from __future__ import annotations

import functools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema

SCHEMAS = Path(__file__).resolve().parents[3] / "docs/schemas"
AT = "2026-03-01T10:11:12Z"
HOSTILE = "<script>document.title='hacked'</script>&\"'<img src=//evil.example/x onerror=document.title='hacked'>"


@functools.cache
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    rules = json.loads((SCHEMAS / schema).read_text())
    jsonschema.Draft202012Validator.check_schema(rules)
    return jsonschema.Draft202012Validator(rules)


def check(schema: str, content: Any) -> None:
    """Fail where `content` does not keep the named schema of docs/schemas."""
    _validator(schema).validate(content)


def finding(item: str = "/etc/hosts", **changed: Any) -> dict[str, Any]:
    made = {
        "area": "files",
        "item": item,
        "aspect": "mode",
        "expected": "0644",
        "found": "0600",
        "severity": "warning",
        "since": AT,
        "state": "new",
        "cure": "ansible-playbook playbooks/site.yml --limit app1",
        "cure_kind": "playbook",
        **changed,
    }
    return {"id": f"{made['area']}:{made['item']}#{made['aspect']}", **made}


def set_aside(item: str = "/etc/motd", **changed: Any) -> dict[str, Any]:
    return finding(item, state="ignored", ignored_until="2026-04-01", ignore_reason="a trial", **changed)


def host(name: str = "app1", *findings: dict[str, Any], **changed: Any) -> dict[str, Any]:
    drifts = any(one["state"] != "ignored" for one in findings)
    return {
        "name": name,
        "status": "drift" if drifts else "clean",
        "status_since": "2026-02-27T10:11:12Z",
        "message": "",
        "seconds": 2.3,
        "release": {
            "id": "2026.2.20-0123456789ab",
            "tag": "2026.2.20",
            "created_at": "2026-02-20T08:00:00Z",
            "by": "ci",
        },
        "notes": [],
        "checked": {"files": 61, "containers": 13},
        "could_not_ask": [],
        "findings": list(findings),
        "gone": [],
        **changed,
    }


def unreachable(name: str = "app9", **changed: Any) -> dict[str, Any]:
    gone = {"status": "unreachable", "message": "ssh: no answer from 192.0.2.9 port 22", "seconds": 0, "release": None}
    return host(name, **{**gone, "checked": {}, **changed})


def report(*hosts: dict[str, Any], ignores: list[dict[str, Any]] | None = None, **changed: Any) -> dict[str, Any]:
    """A report that keeps its schema, with the counts that follow from its hosts."""
    statuses = Counter(one["status"] for one in hosts)
    found = [one for each in hosts for one in each["findings"]]
    severities = Counter(one["severity"] for one in found if one["state"] != "ignored")
    states = Counter(one["state"] for one in found)
    made = {
        "schema_version": 1,
        "run": "20260301T101112Z-a1b2c3",
        "at": AT,
        "seconds": 4.2,
        "controller": {"host": "control1", "user": "ops"},
        "project_commit": "ef4dd45",
        "previous": {"run": "20260301T091112Z-d4e5f6", "at": "2026-03-01T09:11:12Z"},
        "hosts": sorted(hosts, key=lambda one: one["name"]),
        "summary": {
            "hosts": len(hosts),
            **{status: statuses[status] for status in ("clean", "drift", "unreachable", "failed")},
            **{severity: severities[severity] for severity in ("critical", "warning", "info")},
            **{state: states[state] for state in ("new", "lasting", "ignored", "unverified")},
            "gone": sum(len(one["gone"]) for one in hosts),
            "exit_code": 0 if statuses["clean"] == len(hosts) else 2,
            "changed": True,
            "ignores": ignores or [],
        },
        **changed,
    }
    check("drift.schema.json", made)
    return made


def everything() -> dict[str, Any]:
    """A report with one of each, and texts that try to break out."""
    return report(
        host("app1"),
        host(
            "app2",
            finding(
                "backend",
                area="containers",
                aspect="image digest",
                expected="sha256:" + "ab" * 32,
                found="sha256:" + "cd" * 32,
                severity="critical",
                since="2026-02-27T10:11:12Z",
                state="lasting",
                cure="ansible-playbook deploy.yml -e tag=2026.2.20 --limit app2 # " + "a-long-word" * 9,
            ),
            finding("/etc/rancher/k3s/config.yaml", severity="critical"),
            finding(
                "/opt/integr8scode/" + "a-folder-with-a-long-name/" * 6 + "file.toml", found="missing", expected=""
            ),
            finding(
                HOSTILE, expected=HOSTILE, found=HOSTILE, cure="By hand: " + HOSTILE, cure_kind="manual", note=HOSTILE
            ),
            finding(
                "6443/tcp",
                area="ports",
                aspect="open",
                severity="info",
                state="unverified",
                since="2025-12-01T00:00:00Z",
            ),
            set_aside(HOSTILE + "2"),
            notes=["A newer release is in the registry: 2026.2.21. " + HOSTILE],
            gone=[{**finding("/etc/old"), "gone_at": AT}],
        ),
        host("app3", set_aside(), gone=[{**finding("/etc/old"), "gone_at": AT}]),
        unreachable("app4", message="ssh: no answer " + HOSTILE),
        host("app5", status="failed", message="The look at the server ended after 60 s.", release=None),
        ignores=[
            {
                "host": "app2",
                "area": "files",
                "item": "/etc/*",
                "reason": "a trial",
                "until": "2026-02-01",
                "state": "ended",
                "message": "The rule for files /etc/* on app2 ended on 2026-02-01.",
            }
        ],
    )
