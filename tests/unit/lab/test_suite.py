"""Counting what `make test` ran, and finding all that it must run."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from lab import suite
from lab.settings import ROOT, LabError, Settings
from lab.suite import Counts, Part, Suite

REPORT = '<testsuites><testsuite tests="{0}" failures="{1}" errors="{2}" skipped="{3}"/></testsuites>'


def test_junit_reports_are_summed(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(REPORT.format(10, 1, 2, 3))
    (tmp_path / "b.xml").write_text(REPORT.format(5, 0, 0, 0))
    total = suite.read_junit(tmp_path.glob("*.xml"))
    assert (total.passed, total.failed, total.skipped) == (9, 3, 3)
    assert str(total) == "9 passed, 3 failed, 3 skipped"
    assert str(Counts(9, 0)) == "9 passed, 0 failed"


def test_half_a_report_is_not_a_good_one(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<testsuites><testsuite tests=")
    with pytest.raises(LabError, match=r"a\.xml"):
        suite.read_junit(tmp_path.glob("*.xml"))


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> object:
    def run_part(part: Part) -> tuple[Counts, str]:
        made = Suite(Settings(tmp_path), {part.name: part}, tmp_path / "reports")
        made.run(part.name)
        return made.results[part.name], capsys.readouterr().out

    return run_part


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_each_linter_counts_and_all_are_heard(run: object, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    part = Part(
        "lint", [python("print('E501 too long'); raise SystemExit(1)"), python(f"open({str(seen)!r}, 'w')")], own=2
    )
    counts, output = run(part)  # type: ignore[operator]
    assert (counts.passed, counts.failed) == (1, 1)
    assert seen.exists()
    assert "E501 too long" in output


def test_reports_of_a_part_count_and_a_crash_is_never_success(run: object, tmp_path: Path) -> None:
    report = tmp_path / "reports" / "site" / "deep" / "junit-site.xml"
    text = REPORT.format(4, 0, 0, 0)
    write = f"from pathlib import Path; p = Path({str(report)!r}); p.parent.mkdir(); p.write_text({text!r})"
    counts, _ = run(Part("site", [python(write)], own=1))  # type: ignore[operator]
    assert (counts.passed, counts.failed) == (5, 0)
    counts, _ = run(Part("site", [python(f"{write}; raise SystemExit(3)")], own=0))  # type: ignore[operator]
    assert (counts.passed, counts.failed) == (4, 1)


def test_what_is_cleaned_up_is_cleaned_up_after_a_failure_too(run: object, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    part = Part("site", [["/no/such/program"]], [python(f"open({str(seen)!r}, 'w')")], own=1)
    counts, output = run(part)  # type: ignore[operator]
    assert counts.failed == 1
    assert seen.exists()
    assert "/no/such/program cannot be run" in output


def test_what_an_ended_run_left_is_cleaned_up_first(run: object, tmp_path: Path) -> None:
    left = tmp_path / "left"
    left.touch()
    clean = python(f"from pathlib import Path; Path({str(left)!r}).unlink(missing_ok=True)")
    part = Part("site", [python(f"import os; raise SystemExit(os.path.exists({str(left)!r}))")], [clean], own=1)
    counts, _ = run(part)  # type: ignore[operator]
    assert (counts.passed, counts.failed) == (1, 0)
    part.cleanup = [python("raise SystemExit(1)")]
    counts, output = run(part)  # type: ignore[operator]
    assert counts.failed == 1
    assert "cleaning up failed" in output


def test_a_part_that_hangs_is_ended(run: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "PART_MINUTES", 0.01)
    counts, output = run(Part("unit", [python("import time; time.sleep(60)")]))  # type: ignore[operator]
    assert counts.failed == 1
    assert "ended after" in output


def test_every_shell_script_is_found() -> None:
    found = suite.shell_scripts()
    assert {".ci/run", "lab/environment.sh", "lab/server/lab-init", "lab/depot/start-registry"} <= set(found)
    assert not [name for name in found if name.endswith(".py")]


def test_every_scenario_is_a_part_and_the_slowest_begins(tmp_path: Path) -> None:
    for name in ("docker", "site", "k3s"):
        (tmp_path / "molecule" / name).mkdir(parents=True)
        (tmp_path / "molecule" / name / "molecule.yml").write_text("---\n")
    (tmp_path / "molecule" / "shared").mkdir()
    assert suite.scenarios(tmp_path) == ["site", "docker", "k3s"]
    assert set(suite.scenarios(ROOT)) <= set(suite.make_parts(tmp_path, long=False))


def test_long_runs_are_asked_for(tmp_path: Path) -> None:
    assert all("INTEGR8SCODE_TEST_LONG" in part.environment for part in suite.make_parts(tmp_path, long=True).values())


def test_a_short_run_leaves_out_what_takes_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[str] = []
    monkeypatch.setattr(Suite, "run", lambda _self, name: ran.append(name))
    monkeypatch.setattr(suite, "prepare", lambda *_, **__: None)
    monkeypatch.setattr(suite, "install", lambda *_: None)
    suite.run_suite(Settings(tmp_path))
    short = set(ran)
    ran.clear()
    suite.run_suite(Settings(tmp_path), long=True)
    assert set(ran) - short == suite.ONLY_LONG
    ran.clear()
    suite.run_suite(Settings(tmp_path), ["deploy"])
    assert ran == ["deploy"]


def test_one_lane_where_the_machine_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(suite, "_free_memory_mb", lambda: suite.LANE_MEMORY_MB)
    assert suite.lane_count() == 2
    monkeypatch.setattr(suite, "_free_memory_mb", lambda: suite.LANE_MEMORY_MB - 1)
    assert suite.lane_count() == 1


def test_whoever_is_free_takes_the_next_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = Suite(Settings(tmp_path), {}, tmp_path)
    began: list[str] = []
    site_ends = threading.Event()

    def run(name: str) -> None:
        began.append(name)
        if name == "site":
            assert site_ends.wait(30)
        if name == "k3s":
            site_ends.set()

    monkeypatch.setattr(made, "run", run)
    monkeypatch.setattr(suite, "lane_count", lambda: 2)
    # the last one begins while the first still runs
    made.run_side_by_side(["docker", "k3s", "site"])
    assert began[0] == "site"
    assert sorted(began) == ["docker", "k3s", "site"]


def test_long_runs_have_longer(run: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "PART_MINUTES", 0.001)
    part = Part("unit", [python("import time; time.sleep(0.5)")], own=1)
    assert run(part)[0].failed == 1  # type: ignore[operator]
    part.environment["INTEGR8SCODE_TEST_LONG"] = "1"
    assert run(part)[0].failed == 0  # type: ignore[operator]


def test_what_failed_is_told_with_its_message(tmp_path: Path) -> None:
    report = tmp_path / "junit-site.xml"
    report.write_text(
        '<testsuites><testsuite><testcase classname="a.test_b" name="test_c"/>'
        '<testcase classname="a.test_b" name="test_d"><failure message="first&#10;second">long</failure></testcase>'
        '<testcase classname="a.test_b" name="test_e"><error message="fixture">long</error></testcase>'
        "</testsuite></testsuites>"
    )
    (tmp_path / "junit-cut.xml").write_text("<testsuites>")
    told = suite.read_failures(sorted(tmp_path.glob("*.xml")))
    assert told == ["failure a.test_b::test_d\n    first\n    second", "error a.test_b::test_e\n    fixture"]


PLAYBOOK = """\
TASK [server : Look] *****************************
fatal: [one]: FAILED! => {}

TASK [app : Install] *****************************
ok: [two]
failed: [one] (item=x) =>
    changed: false
    msg: no room

PLAY RECAP ***************************************
"""


def test_what_ended_a_playbook_is_told_with_its_task() -> None:
    told = suite.read_failed_tasks(PLAYBOOK)
    assert told == [
        "TASK [server : Look]\n    fatal: [one]: FAILED! => {}",
        "TASK [app : Install]\n    failed: [one] (item=x) =>\n        changed: false\n        msg: no room",
    ]


def test_only_the_last_failed_tasks_are_told() -> None:
    assert len(suite.read_failed_tasks(PLAYBOOK * 5)) == suite.TASKS_TOLD


def test_what_failed_is_told_although_cleaning_up_takes_its_report_away(tmp_path: Path) -> None:
    report = tmp_path / "reports" / "site" / "junit-site.xml"
    text = (
        '<testsuites><testsuite tests="1" failures="1"><testcase classname="a" name="b"><failure message="why"/>'
        "</testcase></testsuite></testsuites>"
    )
    write = f"from pathlib import Path; Path({str(report)!r}).write_text({text!r}); raise SystemExit(1)"
    part = Part("site", [python(write)], [python(f"import os; os.unlink({str(report)!r})")], own=1)
    whole = Suite(Settings(tmp_path), {"site": part}, tmp_path / "reports")
    whole.run("site")
    assert whole.failures == ["failure a::b\n    why"]
