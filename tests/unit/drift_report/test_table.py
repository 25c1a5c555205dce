"""The table of a drift report: short when all is well, readable in 80 columns, told by Ansible as it is."""

from __future__ import annotations

import yaml
from ansible.module_utils.drift_report.table import WIDTH, table
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.support import drift_reports as reports


def test_one_line_for_each_clean_server_and_one_for_all() -> None:
    text = table(reports.report(reports.host("app1"), reports.host("app2")), "reports/drift.html")
    assert text.splitlines() == [
        "All 2 servers are what was deployed (2026-03-01 10:11 UTC, 4 s).",
        "app1: clean (release 2026.2.20)",
        "app2: clean (release 2026.2.20)",
    ]


def test_many_clean_servers_are_a_paragraph() -> None:
    hosts = [reports.host(f"app{number:03}") for number in range(60)]
    lines = table(reports.report(*hosts)).splitlines()
    assert len(lines) < 12
    assert "app059" in lines[-1]
    assert max(map(len, lines)) <= WIDTH


def test_everything_that_somebody_must_know() -> None:
    shown = table(reports.everything(), "reports/drift.html", ["The notification was not taken."])
    text = " ".join(shown.split())
    for wanted in (
        "5 servers: 1 not what was deployed, 1 unreachable, 1 could not be looked at",
        "app4: UNREACHABLE for 2 days",
        "app5: FAILED for 2 days",
        "The look at the server ended after 60 s.",
        "app2: DRIFT: 5 findings: 2 critical, 2 warning, 1 info (3 new, 1 gone,",
        "CRITICAL  containers: backend (image digest)",
        "since    2026-02-27 10:11 UTC (2 days)",
        "note: A newer release is in the registry: 2026.2.21.",
        "gone: files: /etc/old (mode)",
        "app3: clean (release 2026.2.20, 1 ignored, 1 gone)",
        "The rule for files /etc/* on app2 ended on 2026-02-01.",
        "The notification was not taken.",
        "Report: reports/drift.html",
    ):
        assert " ".join(wanted.split()) in text, wanted
    # what needs somebody comes first
    order = [shown.index(f"\n{name}: ") for name in ("app5", "app4", "app2", "app1")]
    assert order == sorted(order)


def test_lines_fit_and_only_commands_are_longer_so_that_they_can_be_copied() -> None:
    lines = table(reports.everything()).splitlines()
    long = [line for line in lines if len(line) > WIDTH]
    assert all(line.startswith("      cure     ansible-playbook ") for line in long)
    assert any("--limit app2 # a-long-word" in line for line in lines)


def test_new_and_lasting_are_told_apart() -> None:
    host = reports.host("app1", reports.finding("/etc/new"), reports.finding("/etc/old", state="lasting"))
    lines = table(reports.report(host)).splitlines()
    assert next(line for line in lines if "/etc/new" in line).endswith("  NEW")
    assert "NEW" not in next(line for line in lines if "/etc/old" in line)


def test_no_server() -> None:
    assert table(reports.report()).startswith("No server was looked at")


def test_a_terminal_is_not_steered() -> None:
    nasty = "a\x1b[2Jb\u202ec\nd\x9b1m"
    host = reports.host("app1", reports.finding(item="x", expected="", found="y", note=nasty), notes=[nasty])
    text = table(reports.report(host))
    assert "a?[2Jb?c d?1m" in text
    assert not any(char in text for char in "\x1b\x9b\u202e")


@given(st.text(max_size=300), st.text(max_size=300))
def test_ansible_shows_it_line_by_line(found: str, note: str) -> None:
    """YAML keeps a text's lines only where none of them ends with a space."""
    one = {**reports.finding(), "found": found, "note": note}
    text = table({**reports.report(), "hosts": [reports.host("app1", one)]})
    assert not any(line != line.rstrip() for line in text.splitlines())
    assert yaml.safe_load(yaml.safe_dump(text)) == text
    assert all(len(line) <= WIDTH for line in text.splitlines() if "cure" not in line)
