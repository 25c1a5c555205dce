"""The metrics of a drift report, read by Prometheus' own parser."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible.module_utils.drift_report.metrics import exposition
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.support import drift_reports as reports


def parsed(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Samples by the metric's name without the prefix."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            assert sample.name == family.name
            found.setdefault(family.name.removeprefix("integr8scode_drift_"), []).append((sample.labels, sample.value))
    return found


def value(samples: list[tuple[dict[str, str], float]], **labels: str) -> float:
    (found,) = [number for known, number in samples if known == labels]
    return found


def test_what_a_rule_can_ask() -> None:
    found = parsed(exposition(reports.everything(), notified=False))
    assert value(found["last_run_timestamp_seconds"]) == 1772359872
    assert value(found["run_duration_seconds"]) == 4.2
    assert value(found["host_status"], host="app2", status="drift") == 1
    assert value(found["host_status"], host="app2", status="clean") == 0
    assert value(found["host_status"], host="app4", status="unreachable") == 1
    assert value(found["host_findings"], host="app2", severity="critical") == 2
    assert value(found["host_findings"], host="app1", severity="critical") == 0
    assert value(found["host_ignored_findings"], host="app3") == 1
    assert value(found["host_unanswered_questions"], host="app1") == 0
    assert value(found["notification_success"]) == 0


def test_no_number_where_nobody_knows() -> None:
    found = parsed(exposition(reports.report(reports.unreachable("app9"))))
    assert "host_findings" not in found
    assert value(found["host_status"], host="app9", status="clean") == 0


@pytest.mark.parametrize(("notified", "told"), [(None, []), (True, [({}, 1.0)]), (False, [({}, 0.0)])])
def test_notifications_are_told_where_there_is_a_webhook(notified: bool | None, told: list[Any]) -> None:
    assert parsed(exposition(reports.report(), notified)).get("notification_success", []) == told


def test_names_keep_prometheus_conventions() -> None:
    """https://prometheus.io/docs/practices/naming/: base units, no colon, _total for counters only."""
    text = exposition(reports.everything(), notified=True)
    names = set(re.findall(r"^# TYPE (\S+) gauge$", text, re.MULTILINE))
    assert len(names) == 9
    for name in names:
        assert re.fullmatch(r"integr8scode_drift_[a-z]+(_[a-z]+)*", name)
        assert not name.endswith(("_total", "_count", "_sum", "_bucket", "_info"))
        if "timestamp" in name or "duration" in name:
            assert name.endswith("_seconds")
    assert text.endswith("\n")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_any_name_of_a_server_survives(name: str) -> None:
    found = parsed(exposition({**reports.report(), "hosts": [reports.host(name)]}))
    assert value(found["host_duration_seconds"], host=name) == 2.3
