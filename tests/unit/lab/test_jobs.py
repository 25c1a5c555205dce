"""Jobs run after what they need, say what they did, and a failure stops what has not begun."""

from __future__ import annotations

import threading

import pytest

from lab.jobs import Job, run_jobs
from lab.settings import LabError


def test_order_and_lines() -> None:
    done: list[str] = []
    lines: list[str] = []

    def action(name: str) -> str:
        done.append(name)
        return "built"

    jobs = [Job("c", lambda: action("c"), ("b",)), Job("b", lambda: action("b"), ("a",)), Job("a", lambda: action("a"))]
    run_jobs(jobs, 2, lines.append)
    assert done == ["a", "b", "c"]
    assert [line.split(" (")[0] for line in lines] == ["[1/3] a: built", "[2/3] b: built", "[3/3] c: built"]


def test_two_run_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=10)

    def meet() -> str:
        both.wait()
        return "met"

    run_jobs([Job("a", meet), Job("b", meet)], 2, lambda _: None)


def test_a_failure_is_told_and_stops_what_has_not_begun() -> None:
    lines: list[str] = []

    def fail() -> str:
        raise LabError("no mirror")

    jobs = [Job("a", fail), Job("b", lambda: "never", ("a",)), Job("c", lambda: "never", ("b",))]
    with pytest.raises(LabError) as caught:
        run_jobs(jobs, 1, lines.append)
    assert str(caught.value) == "a: no mirror\n(not tried after that: b, c)"
    assert lines[0].startswith("[1/3] a: FAILED")
    assert "never" not in "".join(lines)


def test_a_full_disk_is_a_failure_like_any_other() -> None:
    def fail() -> str:
        raise OSError(28, "No space left on device")

    with pytest.raises(LabError, match="No space left on device"):
        run_jobs([Job("a", fail)], 1, lambda _: None)


@pytest.mark.parametrize(
    "jobs",
    [
        [Job("a", lambda: "", ("b",))],
        [Job("a", lambda: ""), Job("a", lambda: "")],
        [Job("a", lambda: "", ("b",)), Job("b", lambda: "", ("a",))],
    ],
)
def test_a_plan_that_cannot_be_run_is_refused(jobs: list[Job]) -> None:
    with pytest.raises(ValueError, match="jobs"):
        run_jobs(jobs, 1, lambda _: None)
