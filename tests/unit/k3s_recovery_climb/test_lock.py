"""One recovery at a time: who is in, who waits, and what a killed one leaves."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible.module_utils.k3s_recovery.lock import LEASE_SECONDS, Lock, LockedError


class Clock:
    def __init__(self) -> None:
        self.time = 1_700_000_000.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def lock(path: Path, run: str, clock: Clock, wait: float = 5) -> Lock:
    return Lock(run, by=f"{run}@host", path=path, wait_seconds=wait, now=clock.now, uptime=clock.now, sleep=clock.sleep)


def test_the_same_run_gets_in_for_each_of_its_steps(path: Path) -> None:
    clock = Clock()
    for _step in range(3):
        with lock(path, "one", clock):
            assert json.loads(path.read_text())["pid"] == os.getpid()


def test_another_run_is_told_who_is_at_work_since_when_and_where(path: Path) -> None:
    clock = Clock()
    with lock(path, "one", clock) as held:
        held.tell("safe_mode")
        with pytest.raises(LockedError, match=r"one@host began it at 22:13:20 UTC, is at the rung safe_mode"):
            lock(path, "two", clock).__enter__()


def test_between_two_steps_a_run_keeps_its_place(path: Path) -> None:
    clock = Clock()
    with lock(path, "one", clock) as held:
        held.tell("restart")
    with pytest.raises(LockedError, match="one@host"):
        lock(path, "two", clock).__enter__()


def test_a_run_that_is_silent_loses_its_place(path: Path) -> None:
    clock = Clock()
    with lock(path, "one", clock):
        pass
    before = clock.time
    with lock(path, "two", clock, wait=2 * LEASE_SECONDS):
        assert LEASE_SECONDS <= clock.time - before <= LEASE_SECONDS + 2
    with pytest.raises(LockedError, match="two@host"):
        lock(path, "one", clock).__enter__()


def test_a_step_that_was_killed_is_followed_at_once(path: Path) -> None:
    clock = Clock()
    held = lock(path, "one", clock).__enter__()
    held.tell("node_object")
    # the kernel lets go of a dead process' lock; nothing else is done for it
    os.close(held._file)
    before = clock.time
    with lock(path, "two", clock):
        assert clock.time == before


def test_a_run_that_is_over_leaves_nobody_waiting(path: Path) -> None:
    clock = Clock()
    with lock(path, "one", clock) as held:
        held.release()
    with lock(path, "two", clock, wait=0):
        pass


def test_a_link_in_its_place_is_not_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="lock"):
        lock(path, "one", Clock()).__enter__()
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_a_clock_that_is_set_back_keeps_nobody_out(path: Path) -> None:
    clock, wall = Clock(), Clock()
    with Lock("one", path=path, now=wall.now, uptime=clock.now):
        pass
    wall.time -= 86400
    clock.time += LEASE_SECONDS + 1
    with Lock("two", path=path, wait_seconds=0, now=wall.now, uptime=clock.now):
        pass


def test_only_its_owner_can_reach_it(path: Path) -> None:
    with lock(path / "file", "one", Clock()):
        assert path.stat().st_mode & 0o777 == 0o700


def test_a_check_sees_who_is_at_work_and_takes_nothing(path: Path) -> None:
    clock = Clock()
    check = lock(path, "check", clock)
    assert check.others() == ""
    assert not path.exists()
    with lock(path, "one", clock) as held:
        held.tell("safe_mode")
        assert "one@host" in check.others()
        assert "safe_mode" in check.others()
    assert "one@host" in check.others()
    clock.time += LEASE_SECONDS + 1
    assert check.others() == ""


def test_a_check_does_not_see_a_killed_step(path: Path) -> None:
    path.write_text(json.dumps({"run": "one", "rung": "restart", "pid": 2**22 + 1, "touched": Clock().time}))
    assert lock(path, "check", Clock()).others() == ""
