"""The schema of the report: what it refuses, and that real reports keep it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible.module_utils.drift_report.document import AREAS

from tests.unit.support import drift_reports as reports


def test_a_report_with_one_of_each_keeps_it() -> None:
    reports.check("drift.schema.json", reports.everything())


def test_it_knows_the_areas(project_root: Path) -> None:
    for area in AREAS:
        reports.report(reports.host("app1", reports.finding(area=area)))
    with pytest.raises(jsonschema.ValidationError):
        reports.report(reports.host("app1", reports.finding(area="weather")))


@pytest.mark.parametrize(
    "wrong",
    [
        reports.host("app1", reports.finding(severity="bad")),
        reports.host("app1", reports.finding(state="ignored")),
        reports.host("app1", reports.finding(ignored_until="2026-04-01")),
        reports.host("app1", reports.finding(since="yesterday")),
        reports.host("app1", reports.finding(found="two\nlines")),
        reports.host("app1", reports.finding(cure="")),
        reports.host("app1", reports.finding(), status="clean"),
        reports.host("app1", gone=[reports.finding()]),
        reports.host("app1", could_not_ask=[{"area": "docker", "what": "", "why": "", "cure": ""}]),
        reports.host("app1", password="x"),
        reports.host("app1", status="fine"),
    ],
    ids=str,
)
def test_what_is_wrong_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        reports.report(wrong)
