"""What people are told: each change once, in order, and again where it was not taken."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.drift_report.changes import Known, compare, nothing_known

from tests.unit.support import drift_reports as reports

A, B = reports.finding("/etc/a"), reports.finding("/etc/b")


def told(known: Known, *hosts: dict[str, Any]) -> tuple[list[str], Known]:
    """Kinds and items of what is told now, and what is known then."""
    changes, after = compare(known, reports.report(*hosts))
    return [f"{change.host} {change.kind} {change.finding.get('item', '')}".strip() for change in changes], after


def test_a_first_run_that_finds_nothing_is_quiet() -> None:
    assert told(nothing_known(), reports.host("app1"))[0] == []


def test_a_first_run_tells_what_it_finds() -> None:
    first, _ = told(nothing_known(), reports.host("app1", A), reports.unreachable("app2"))
    assert first == ["app1 new /etc/a", "app2 unreachable"]


def test_each_change_once() -> None:
    _, known = told(nothing_known(), reports.host("app1", A))
    again, known = told(known, reports.host("app1", {**A, "state": "lasting"}))
    more, known = told(known, reports.host("app1", {**A, "state": "lasting"}, B))
    less, known = told(known, reports.host("app1", B))
    clean, known = told(known, reports.host("app1"))
    assert (again, more, less) == ([], ["app1 new /etc/b"], ["app1 gone /etc/a"])
    assert clean == ["app1 gone /etc/b", "app1 clean"]
    assert told(known, reports.host("app1"))[0] == []


def test_what_another_finding_stands_for_now_is_not_gone() -> None:
    _, known = told(nothing_known(), reports.host("app1", A, B))
    gathered = reports.finding("the stack", area="release", aspect="missing", details=[A["id"]])
    assert told(known, reports.host("app1", gathered))[0] == ["app1 new the stack", "app1 gone /etc/b"]


def test_what_was_not_taken_is_told_again_with_what_came_since() -> None:
    known = nothing_known()
    first, _ = told(known, reports.host("app1", A))
    second, _ = told(known, reports.host("app1", {**A, "state": "lasting"}, B))
    assert first == ["app1 new /etc/a"]
    assert second == ["app1 new /etc/a", "app1 new /etc/b"]


def test_what_came_and_went_before_it_could_be_told_is_not_told() -> None:
    assert told(nothing_known(), reports.host("app1", gone=[{**A, "gone_at": reports.AT}]))[0] == []


def test_a_server_that_is_away_keeps_its_findings() -> None:
    _, known = told(nothing_known(), reports.host("app1", A))
    away, known = told(known, reports.unreachable("app1"))
    still, known = told(known, reports.unreachable("app1"))
    back, known = told(known, reports.host("app1", {**A, "state": "lasting"}, B))
    assert (away, still, back) == (["app1 unreachable"], [], ["app1 answers", "app1 new /etc/b"])


def test_a_server_that_comes_back_clean() -> None:
    _, known = told(nothing_known(), reports.unreachable("app1"))
    assert told(known, reports.host("app1"))[0] == ["app1 clean"]


def test_from_unreachable_to_failed() -> None:
    _, known = told(nothing_known(), reports.unreachable("app1"))
    assert told(known, reports.host("app1", status="failed"))[0] == ["app1 failed"]


def test_worse_is_told_and_better_is_not() -> None:
    _, known = told(nothing_known(), reports.host("app1", A))
    worse, known = told(known, reports.host("app1", {**A, "severity": "critical"}))
    better, known = told(known, reports.host("app1", {**A, "severity": "info"}))
    assert (worse, better) == (["app1 worse /etc/a"], [])


def test_what_is_ignored_is_not_told_until_its_rule_ends() -> None:
    assert told(nothing_known(), reports.host("app1", reports.set_aside("/etc/a")))[0] == []
    _, known = told(nothing_known(), reports.host("app1", A))
    aside, known = told(known, reports.host("app1", reports.set_aside("/etc/a")))
    ended, _ = told(known, reports.host("app1", {**A, "state": "lasting"}))
    assert (aside, ended) == (["app1 ignored /etc/a", "app1 clean"], ["app1 new /etc/a"])


def test_what_could_not_be_seen_now_is_not_gone() -> None:
    _, known = told(nothing_known(), reports.host("app1", A))
    assert told(known, reports.host("app1", {**A, "state": "unverified"}))[0] == []


def test_servers_that_were_not_looked_at_stay_as_they_were() -> None:
    _, known = told(nothing_known(), reports.host("app1", A), reports.host("app2", B))
    none, known = told(known, reports.host("app2", B))
    assert none == []
    assert told(known, reports.host("app1"), reports.host("app2", B))[0] == ["app1 gone /etc/a", "app1 clean"]


def test_sentences_name_what_to_do() -> None:
    changes, _ = compare(nothing_known(), reports.everything())
    sentences = [change.sentence() for change in changes]
    assert (
        "app2: new CRITICAL: files: /etc/rancher/k3s/config.yaml (mode). "
        "Cure: ansible-playbook playbooks/site.yml --limit app1"
    ) in sentences
    assert any(sentence.startswith("app4: UNREACHABLE: ssh: no answer") for sentence in sentences)
    assert all("\n" not in sentence for sentence in sentences)
