"""The report: since when, new or lasting or gone, what is ignored, what cannot be known now; and it fits its schema."""

from __future__ import annotations

import json
import os
import stat
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible.errors import AnsibleActionFail
from ansible.module_utils.drift import findings
from ansible.plugins.action.drift_report import AREAS, SEVERITIES, build, keep, last_of, load_reports, parse_rules

from tests.unit.drift.clean_server import answers, compare

NOW = datetime(2026, 3, 1, 10, 0, tzinfo=timezone.utc)
TODAY = NOW.date()


def finding(item: str = "/etc/x", area: str = "files", aspect: str = "mode", **more: str) -> dict[str, str]:
    return {
        "id": f"{area}:{item}#{aspect}",
        "area": area,
        "item": item,
        "aspect": aspect,
        "expected": "0600",
        "found": "0644",
        "severity": "critical",
        "cure": "ansible-playbook playbooks/site.yml --limit app1",
        "cure_kind": "playbook",
        **more,
    }


def result(*found: dict[str, str], **more: Any) -> dict[str, Any]:
    return {
        "findings": list(found), "could_not_ask": [], "notes": [], "checked": {"files": 3}, "seconds": 1.5, "seen": {},
        "release": {"id": "2026.2.20-0123456789ab", "tag": "2026.2.20", "created_at": "", "by": "ops@control"}, **more,
    }  # fmt: skip


def report(
    results: dict[str, Any],
    before: list[dict[str, Any]] | None = None,
    rules: list[dict[str, Any]] | None = None,
    hours: int = 0,
) -> dict[str, Any]:
    """A report, `hours` after the first; `before`: the newest first."""
    now = NOW + timedelta(hours=hours)
    run = {"run": f"{now:%Y%m%dT%H%M%SZ}-abcdef", "began": now.timestamp() - 4.2}
    parsed = parse_rules(rules or [], now.date())
    return build(run, results, last_of(before or [], results), parsed, commit="abc1234", now=now)


def states(document: dict[str, Any], host: int = 0) -> dict[str, str]:
    return {one["item"]: one["state"] for one in document["hosts"][host]["findings"]}


@pytest.fixture
def schema(project_root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project_root / "docs/schemas/drift.schema.json").read_text(encoding="utf-8"))
    return found


def test_areas_and_severities_are_those_of_the_module() -> None:
    assert AREAS == findings.AREAS
    assert SEVERITIES == findings.SEVERITIES


def test_a_finding_lasts_goes_and_comes_back_as_a_new_one() -> None:
    first = report({"app1": result(finding())})
    assert states(first) == {"/etc/x": "new"}
    second = report({"app1": result(finding(found="0666"), finding("/etc/y"))}, [first], hours=1)
    assert states(second) == {"/etc/x": "lasting", "/etc/y": "new"}
    assert {one["item"]: one["since"] for one in second["hosts"][0]["findings"]} == {
        "/etc/x": "2026-03-01T10:00:00Z",
        "/etc/y": "2026-03-01T11:00:00Z",
    }
    third = report({"app1": result()}, [second, first], hours=2)
    assert third["hosts"][0]["status"] == "clean"
    assert [(one["item"], one["gone_at"]) for one in third["hosts"][0]["gone"]] == [
        ("/etc/x", "2026-03-01T12:00:00Z"),
        ("/etc/y", "2026-03-01T12:00:00Z"),
    ]
    fourth = report({"app1": result(finding())}, [third, second, first], hours=3)
    assert states(fourth) == {"/etc/x": "new"}
    assert fourth["hosts"][0]["findings"][0]["since"] == "2026-03-01T13:00:00Z"


def test_what_another_finding_stands_for_is_neither_gone_nor_unverified(schema: dict[str, Any]) -> None:
    first = report({"app1": result(finding(), finding("/etc/y"), finding("/etc/z"))})
    gathered = {**finding("the stack", "release", "missing"), "details": [finding()["id"], finding("/etc/y")["id"]]}
    unasked = [{"area": "files", "what": "files", "why": "no answer", "cure": "By hand: x"}]
    for more in ({}, {"could_not_ask": unasked}):
        second = report({"app1": result(gathered, **more)}, [first], hours=1)
        jsonschema.validate(second, schema)
        left = [one["item"] for one in second["hosts"][0]["gone"]]
        assert left == ([] if more else ["/etc/z"])
        assert states(second) == {"the stack": "new", **({"/etc/z": "unverified"} if more else {})}


def test_a_host_that_is_away_keeps_what_was_known_of_it() -> None:
    first = report({"app1": result(finding(), seen={"restarts": {"a": 1}})})
    away = report({"app1": {"unreachable": True, "msg": "Task failed: no route to host"}}, [first], hours=1)
    host = away["hosts"][0]
    assert (host["status"], host["message"], states(away)) == (
        "unreachable",
        "no route to host",
        {"/etc/x": "unverified"},
    )
    assert host["release"]["tag"] == "2026.2.20"
    assert host["seen"] == {"restarts": {"a": 1}}
    assert away["summary"]["exit_code"] == 2
    assert away["summary"]["changed"] is True
    still = report({"app1": {"unreachable": True, "msg": "x"}}, [away, first], hours=2)
    assert still["summary"]["changed"] is False
    assert still["hosts"][0]["status_since"] == "2026-03-01T11:00:00Z"
    back = report({"app1": result(finding())}, [still, away, first], hours=3)
    assert states(back) == {"/etc/x": "lasting"}
    assert back["hosts"][0]["findings"][0]["since"] == "2026-03-01T10:00:00Z"


def test_a_host_whose_module_failed_is_not_clean() -> None:
    document = report({"app1": {"msg": "boom"}, "app2": {}})
    assert [host["status"] for host in document["hosts"]] == ["failed", "failed"]
    assert document["hosts"][0]["message"] == "boom"
    assert document["summary"] | {"ignores": []} == document["summary"]
    assert document["summary"]["failed"] == 2


def test_what_could_not_be_looked_at_is_not_gone() -> None:
    first = report({"app1": result(finding("backend", "containers", "health"), finding())})
    blind = result(
        finding("the Docker Engine", "containers", "asked"),
        could_not_ask=[{"area": "containers", "what": "the Docker Engine", "why": "no answer", "cure": "By hand: x"}],
    )
    second = report({"app1": blind}, [first], hours=1)
    assert states(second) == {"backend": "unverified", "the Docker Engine": "new"}
    assert [one["item"] for one in second["hosts"][0]["gone"]] == ["/etc/x"]


def test_a_run_for_some_hosts_forgets_nothing_of_the_others() -> None:
    both = report({"app1": result(finding()), "app2": result(finding("/etc/z"))})
    one = report({"app1": result()}, [both], hours=1)
    again = report({"app1": result(), "app2": result(finding("/etc/z"))}, [one, both], hours=2)
    assert again["hosts"][1]["findings"][0]["since"] == "2026-03-01T10:00:00Z"
    assert again["hosts"][0]["gone"] == []
    assert again["previous"]["run"] == one["run"]


def test_worst_first() -> None:
    document = report(
        {
            "app1": result(
                finding("b", severity="info"),
                finding("a", "backup"),
                finding("c", "clock"),
                finding("d", severity="warning"),
            )
        }
    )
    assert [one["item"] for one in document["hosts"][0]["findings"]] == ["c", "a", "d", "b"]
    assert [document["summary"][name] for name in ("critical", "warning", "info")] == [2, 1, 1]


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (None, [], False),
        (None, [finding()], True),
        ([], [], False),
        ([finding()], [finding(found="0777")], False),
        ([finding()], [], True),
        ([finding()], [finding(), finding("/etc/y")], True),
    ],
)
def test_people_are_told_when_something_changes_only(before: Any, after: Any, *, changed: bool) -> None:
    old = [] if before is None else [report({"app1": result(*before)})]
    assert report({"app1": result(*after)}, old, hours=1)["summary"]["changed"] is changed


# -- rules


RULE = {"host": "app*", "area": "files", "item": "/etc/*", "reason": "moved soon", "until": "2026-03-01"}


def test_a_rule_hides_what_it_names_and_the_host_is_clean() -> None:
    document = report({"app1": result(finding())}, rules=[RULE])
    (one,) = document["hosts"][0]["findings"]
    assert (one["state"], one["ignored_until"], one["ignore_reason"]) == ("ignored", "2026-03-01", "moved soon")
    assert document["hosts"][0]["status"] == "clean"
    assert document["summary"]["exit_code"] == 0
    assert document["summary"]["critical"] == 0
    assert document["summary"]["ignores"][0]["state"] == "used"


@pytest.mark.parametrize(
    "differs", [{"host": "db1"}, {"area": "containers"}, {"item": "/opt/*"}, {"item": "files:/etc/x#owner"}]
)
def test_a_rule_hides_nothing_else(differs: dict[str, str]) -> None:
    document = report({"app1": result(finding())}, rules=[{**RULE, **differs}])
    assert states(document) == {"/etc/x": "new"}
    assert document["summary"]["ignores"][0]["state"] == "unused"


@pytest.mark.parametrize(
    ("differs", "state", "words"),
    [
        ({"until": "2026-02-28"}, "ended", "ended on 2026-02-28"),
        ({"reason": " "}, "refused", "gives no reason"),
        ({"reason": None}, "refused", "gives no reason"),
        ({"until": None}, "refused", "no last day"),
        ({"until": "tomorrow"}, "refused", "no last day"),
        ({"until": "2026-02-31"}, "refused", "no date"),
        ({"item": None, "area": None}, "refused", "would hide everything"),
        ({"items": "x"}, "refused", "which no rule has"),
    ],
)
def test_a_rule_that_cannot_count_brings_the_finding_back_and_says_so(differs: Any, state: str, words: str) -> None:
    document = report({"app1": result(finding())}, rules=[{**RULE, **differs}])
    (one,) = document["hosts"][0]["findings"]
    (rule,) = document["summary"]["ignores"]
    assert one["state"] == "new"
    assert rule["state"] == state
    assert words in rule["message"]
    assert one["note"] == rule["message"]
    assert document["summary"]["exit_code"] == 2


def test_a_rule_whose_day_passes_is_told() -> None:
    hidden = report({"app1": result(finding())}, rules=[RULE])
    back = report({"app1": result(finding())}, [hidden], [RULE], hours=24)
    assert states(back) == {"/etc/x": "lasting"}
    assert back["summary"]["changed"] is True


def test_rules_may_come_as_text_with_a_date_of_yaml() -> None:
    (rule,) = parse_rules("[{area: files, reason: x, until: 2026-12-31}]", TODAY)
    assert (rule["state"], rule["until"]) == ("unused", "2026-12-31")


@pytest.mark.parametrize("given", ["nonsense", 7, ["x"], "[{"])
def test_what_is_no_list_of_rules_is_refused_before_anything_is_asked(given: Any) -> None:
    with pytest.raises(AnsibleActionFail, match="Nothing was looked at"):
        parse_rules(given, date(2026, 1, 1))


# -- files


def test_reports_are_kept_private_and_the_old_ones_go(tmp_path: Path) -> None:
    for hours in range(5):
        keep(tmp_path / "r", report({"app1": result()}, hours=hours), 3)
    kept = sorted(path.name for path in (tmp_path / "r/history").iterdir())
    assert [name[:15] for name in kept] == ["20260301T120000", "20260301T130000", "20260301T140000"]
    newest = tmp_path / "r/drift.json"
    assert stat.S_IMODE(newest.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "r").stat().st_mode) == 0o700
    assert [one["run"][:15] for one in load_reports(tmp_path / "r")] == [
        "20260301T140000", "20260301T130000", "20260301T120000",
    ]  # fmt: skip


def test_a_broken_report_is_passed_over(tmp_path: Path) -> None:
    keep(tmp_path, report({"app1": result(finding())}), 3)
    (tmp_path / "drift.json").write_text("{", encoding="utf-8")
    (tmp_path / "history/20990101T000000Z-x.json").write_text('{"schema_version": 99}', encoding="utf-8")
    assert "app1" in last_of(load_reports(tmp_path), ["app1"])


def test_a_name_that_is_no_text_can_be_written(tmp_path: Path) -> None:
    compared = findings.Comparison("app1")
    compared.add("files", os.fsdecode(b"/etc/docker/\xff"), "unknown", expected="", found="", cure="")
    document = report({"app1": result(*compared.as_dict()["findings"], notes=["\udcff"])})
    keep(tmp_path, document, 3)
    written = json.loads((tmp_path / "drift.json").read_text(encoding="utf-8"))
    assert written["hosts"][0]["findings"][0]["item"] == "/etc/docker/?"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: found.clear(),
        lambda found: found.update(hosts=None),
        lambda found: found.update(hosts=["app1"]),
        lambda found: found.update(run=[]),
        lambda found: found.pop("at"),
        lambda found: found["hosts"][0].pop("status_since"),
        lambda found: found["hosts"][0].update(findings=None),
        lambda found: found["hosts"][0].update(seen=[1]),
        lambda found: found["hosts"][0]["findings"][0].update(severity="bad"),
        lambda found: found["hosts"][0]["findings"][0].pop("since"),
    ],
)
def test_a_report_that_was_spoiled_counts_as_none(tmp_path: Path, spoil: Any) -> None:
    spoiled = report({"app1": result(finding())})
    spoil(spoiled)
    (tmp_path / "drift.json").write_text(json.dumps(spoiled), encoding="utf-8")
    before = list(load_reports(tmp_path))
    assert before == []
    assert states(report({"app1": result(finding())}, before)) == {"/etc/x": "new"}


# -- schema


def test_reports_fit_their_schema(schema: dict[str, Any]) -> None:
    broken = answers()
    broken["engine"] = {"value": None, "why": "no answer within 20 s", "seconds": 20.0}
    whole = {**result(), **compare(broken), "seen": {"restarts": {"a": 1}}}
    first = report(
        {"app1": whole, "app2": {"unreachable": True, "msg": "x"}, "app3": result(finding(), finding("/etc/z"))}
    )
    second = report(
        {"app1": result(), "app2": result(), "app3": {"msg": "x"}},
        [first],
        [RULE, {**RULE, "until": "2020-01-01"}, {**RULE, "reason": ""}],
        hours=1,
    )
    for document in (first, second):
        jsonschema.validate(document, schema)
    assert second["hosts"][0]["gone"]
