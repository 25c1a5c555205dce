"""A probe that hangs, crashes, prints or dies costs its own answer, and no more time than its limit."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

from ansible.module_utils.doctor.runner import Probe, run


def boom(_: Any) -> Any:
    raise RuntimeError("no such thing")


def die(_: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(_: Any) -> Any:
    # a program of its own, which has to go too
    subprocess.run(["sleep", "4711.5"], check=True)


def test_answers_and_failures_side_by_side(quick: Callable[[], float]) -> None:
    found = run(
        [
            Probe("good", lambda _: {"a": [1, "ü"]}),
            Probe("boom", boom),
            Probe("dead", die),
            Probe("hangs", hang, limit=1),
            Probe("loud", lambda _: print("noise") or 1),  # type: ignore[func-returns-value]
            Probe("exits", lambda _: os._exit(3)),
            Probe("odd", lambda _: object()),
        ]
    )
    assert found["good"].value == {"a": [1, "ü"]}
    assert found["boom"].problem == "RuntimeError: no such thing"
    assert found["dead"].problem == found["exits"].problem == "its process ended without an answer"
    assert found["hangs"].problem == "no answer within 1 s"
    assert found["loud"].value == 1
    assert "not JSON serializable" in found["odd"].problem
    assert quick() < 5
    time.sleep(0.1)
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 4711.5" not in listed


def test_nothing_is_printed(capfd: Any) -> None:
    run([Probe("loud", lambda _: os.write(1, b"noise"))])
    assert capfd.readouterr().out == ""


def test_a_probe_gets_the_answer_of_the_one_before_it() -> None:
    found = run([Probe("second", lambda first: first + 1, after="first"), Probe("first", lambda _: 41)])
    assert found["second"].value == 42


def test_a_probe_whose_forerunner_failed_has_its_reason() -> None:
    found = run([Probe("first", boom), Probe("second", lambda first: first, after="first")])
    assert found["second"].problem == "RuntimeError: no such thing"


def test_a_forerunner_that_nobody_asks_is_told() -> None:
    assert run([Probe("second", lambda first: first, after="first")])["second"].problem == "first was not asked"


def test_no_more_than_asked_for_at_a_time() -> None:
    """Three that take 0.2 s, one at a time: 0.6 s."""
    began = time.monotonic()
    run([Probe(str(number), lambda _: time.sleep(0.2)) for number in range(3)], jobs=1)
    assert time.monotonic() - began >= 0.6


def test_a_large_answer_arrives_whole() -> None:
    assert len(run([Probe("large", lambda _: "x" * 3_000_000)])["large"].value) == 3_000_000
