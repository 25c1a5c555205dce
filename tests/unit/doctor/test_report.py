"""What leaves the server and what people read: no secret, the worst first, the unreachable by name."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.doctor import examination, report
from ansible.module_utils.doctor.finding import Finding
from ansible.module_utils.doctor.runner import Probe
from ansible.plugins.filter.doctor_report import doctor_document, doctor_inventory, doctor_text

SECRET = 'ca$na"ry\\ pass@word'
PROBLEM = Finding("containers", "problem", "backend is down.", "Users wait.", "restart it", "backend", ["last words"])
WELL = Finding("disk", "ok", "Room enough.")


def test_findings_leave_without_secrets() -> None:
    one = Finding("containers", "problem", f"It says {SECRET}.", "", "", "", [f"MONGODB_URL=mongodb://root:{SECRET}@x"])
    text = json.dumps(report.shown([one], [SECRET]))
    assert "ry" not in text.replace("restart", "")
    assert "***MASKED***" in text


def test_without_the_servers_secrets_no_log_line_is_shown() -> None:
    (shown,) = report.shown([PROBLEM], None)
    assert shown["lines"] == [report.WITHHELD]


def test_secrets_are_read_with_a_limit_of_time(tmp_path: Path) -> None:
    assert report.known_secrets(str(tmp_path), 5, lambda path: {"b", "a"}) == ["a", "b"]
    assert report.known_secrets(str(tmp_path), 0.3, lambda path: time.sleep(30) or []) is None  # type: ignore[func-returns-value]


def test_the_worst_comes_first() -> None:
    findings = [WELL, Finding("a", "unknown", "?"), Finding("b", "warning", "!"), PROBLEM]
    assert [one["status"] for one in report.shown(findings, [])] == ["problem", "warning", "unknown", "ok"]


def parameters(**changes: Any) -> dict[str, Any]:
    return {"host": "app1", **changes}


def test_the_module_looks_once_and_changes_nothing(
    run_module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every probe hangs or fails: still an answer, in time, that calls nothing well."""
    monkeypatch.setattr(report, "collect", lambda path: [])
    monkeypatch.setattr(report, "known_secrets", lambda base, limit: [])

    def probes(settings: dict[str, Any]) -> list[Probe]:
        real = examination.NAMES
        assert settings["limit"] == 1
        assert real
        hanging = Probe("docker", lambda _: time.sleep(30), limit=1)
        return [hanging, Probe("disks", lambda _: [{"path": "/", "free_mib": 9000, "free_percent": 50.0,
                                                    "inodes_percent": None, "read_only": False}])]  # fmt: skip

    monkeypatch.setattr(examination, "probes", probes)
    began = time.monotonic()
    answer = run_module("doctor", parameters(base=str(tmp_path), limit_seconds=1))
    assert time.monotonic() - began < 10
    assert not answer["changed"]
    by_check = {one["check"]: one["status"] for one in answer["findings"]}
    assert set(by_check) == set(examination.NAMES)
    assert [name for name, status in by_check.items() if status == "ok"] == ["disk"]
    assert sum(answer["counts"].values()) == len(answer["findings"])
    assert list(tmp_path.iterdir()) == []


def test_the_module_refuses_a_check_that_is_none(run_module: Any) -> None:
    answer = run_module("doctor", parameters(checks=["disk", "moon"]))
    assert answer["failed"]
    assert "no check moon" in answer["msg"]
    assert "disk" in answer["msg"]


def test_every_probe_that_a_check_needs_is_asked() -> None:
    settings = {
        "base": "/b", "limit": 5, "kubeconfigs": "/k", "backups": "/x", "project": "p", "node_ip": "", "names": [],
        "https_port": 1, "frontend_port": 2, "server_name": "",
    }  # fmt: skip
    asked = {probe.name for probe in examination.probes(settings)}
    assert {name for check in examination.CHECKS for name in check.needs} <= asked
    assert {probe.after for probe in examination.probes(settings)} <= asked | {""}


# -- what people read

ANSWER = {
    "status": "problem", "counts": {}, "seconds": 2.5, "at": "2026-05-28T10:00:00+00:00",
    "findings": [PROBLEM.as_dict(), WELL.as_dict()],
}  # fmt: skip
FINE = {**ANSWER, "status": "ok", "findings": [WELL.as_dict()]}


def hostvars(**answers: Any) -> dict[str, dict[str, Any]]:
    return {host: {"__doctor_answer": answer} if answer else {} for host, answer in answers.items()}


def test_the_worst_server_first_and_each_problem_with_its_cure() -> None:
    document = doctor_document(["a", "b", "c"], hostvars(a=FINE, b=ANSWER, c={"unreachable": True, "msg": "No route"}))
    assert [one["host"] for one in document["servers"]] == ["b", "c", "a"]
    assert document["status"] == "problem"
    assert document["unreachable"] == ["c"]
    text = doctor_text(document)
    lines = text.splitlines()
    assert lines[0] == "b: 1 problem (2.5 s)"
    assert lines[1] == "  PROBLEM [containers backend] backend is down."
    assert "      cure: restart it" in lines
    assert "      said: last words" in lines
    assert "  well: disk" in lines
    twice = {**ANSWER, "findings": [PROBLEM.as_dict(), PROBLEM.as_dict()]}
    assert doctor_text(doctor_document(["b"], hostvars(b=twice))).startswith("b: 2 problems (2.5 s)")
    assert "a: nothing is wrong (2.5 s)" in lines
    assert lines[-1] == "Not reached: c"
    assert "c cannot be reached by ssh: No route" in text
    json.dumps(document)


@pytest.mark.parametrize("answer", [None, {"msg": "MODULE FAILURE", "module_stderr": "sudo: a password is required"}])
def test_a_server_that_could_not_be_looked_at_is_a_problem(answer: Any) -> None:
    document = doctor_document(["a"], hostvars(a=answer))
    assert document["status"] == "problem"
    assert document["unreachable"] == ["a"]
    assert document["servers"][0]["findings"][0]["cure"]


def test_how_to_reach_it_names_the_inventory_of_this_run() -> None:
    known = hostvars(a={"unreachable": True, "msg": "No route"})
    known["a"] |= {"ansible_inventory_sources": ["/p/inventories/x"], "playbook_dir": "/p/playbooks"}
    (server,) = doctor_document(["a"], known)["servers"]
    assert server["findings"][0]["cure"].endswith("ansible -i inventories/x a -m ansible.builtin.ping -vvv")


def test_inventories_are_named_from_the_projects_folder() -> None:
    assert doctor_inventory(["/p/inventories/x", "/etc/hosts.yml", "a,b"], "/p") == [
        "inventories/x", "/etc/hosts.yml", "a,b",
    ]  # fmt: skip
    assert doctor_inventory("/p/x", "/p") == ["x"]


def test_what_one_cause_hides_is_one_line() -> None:
    hidden = [Finding(name, "unknown", "Docker is dead.").as_dict() for name in ("mongo", "kafka", "mongo")]
    text = doctor_text(doctor_document(["a"], hostvars(a={**ANSWER, "findings": hidden, "status": "unknown"})))
    assert "  UNKNOWN [mongo, kafka] Docker is dead." in text.splitlines()


def test_all_well_is_short() -> None:
    document = doctor_document(["a"], hostvars(a=FINE))
    assert document["status"] == "ok"
    assert doctor_text(document) == "a: nothing is wrong (2.5 s)\n  well: disk"
