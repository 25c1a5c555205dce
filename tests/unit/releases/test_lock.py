"""The lock of a deploy: who gets in, who is told what, and whose lock is left over."""

from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path

import pytest
from ansible.module_utils.releases import lock
from ansible.module_utils.releases.lock import LockedError, Owner

LEASE = 1800.0


def owner(run: str, **more: object) -> Owner:
    body: dict[str, object] = {
        "run": run,
        "action": "deploy",
        "what": "2026.2.20",
        "by": f"{run}@desk",
        "controller": {"host": "desk", "pid": 77, "started": "1"},
        **more,
    }
    return Owner.from_dict(body)


def take(base: Path, run: str, *, active: bool = False, gone: str = "") -> Owner | None:
    return lock.take(base, owner(run), lease_seconds=LEASE, unit_active=lambda: active, gone_run=gone)


def rewrite(base: Path, **changes: object) -> None:
    path = lock.owner_path(base)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_free_lock_is_taken_with_the_time_and_the_start_of_the_server(tmp_path: Path) -> None:
    assert take(tmp_path / "base", "one") is None
    found = lock.read_owner(tmp_path / "base")
    assert found is not None
    assert (found.run, found.phase, found.boot) == ("one", "preparing", lock.boot_marker())
    assert abs(found.heartbeat - time.time()) < 5
    assert found.since.endswith("Z")


def test_another_run_is_told_who_what_from_where_since_when_and_what_to_do(tmp_path: Path) -> None:
    take(tmp_path, "one")
    rewrite(tmp_path, since="2026-11-29T08:00:00Z", heartbeat=time.time() - 42)
    with pytest.raises(LockedError) as told:
        take(tmp_path, "two")
    text = str(told.value)
    for part in (
        "Nothing was changed.",
        "deploy 2026.2.20 by one@desk from desk (process 77)",
        "since 2026-11-29T08:00:00Z",
        "preparing, last heard of 42 s ago",
        "run one",
        "playbooks/unlock.yml",
    ):
        assert part in text
    assert lock.read_owner(tmp_path).run == "one"  # type: ignore[union-attr]


def test_the_same_run_renews_its_lock_and_keeps_its_beginning(tmp_path: Path) -> None:
    take(tmp_path, "one")
    rewrite(tmp_path, since="2026-11-29T08:00:00Z", heartbeat=5, phase="switching")
    assert take(tmp_path, "one") is None
    found = lock.read_owner(tmp_path)
    assert found is not None
    assert (found.since, found.phase) == ("2026-11-29T08:00:00Z", "switching")
    assert found.heartbeat > 5


@pytest.mark.parametrize("heartbeat", [0.0, 1e11])
def test_a_silent_run_is_replaced_after_its_lease(tmp_path: Path, heartbeat: float) -> None:
    take(tmp_path, "one")
    rewrite(tmp_path, heartbeat=heartbeat)
    replaced = take(tmp_path, "two")
    assert replaced is not None
    assert replaced.run == "one"
    assert lock.read_owner(tmp_path).run == "two"  # type: ignore[union-attr]


def test_a_run_whose_process_is_known_to_have_ended_is_replaced_at_once(tmp_path: Path) -> None:
    take(tmp_path, "one")
    with pytest.raises(LockedError):
        take(tmp_path, "two", gone="zero")
    assert take(tmp_path, "two", gone="one").run == "one"  # type: ignore[union-attr]


def test_a_switch_lives_as_long_as_its_unit_whatever_became_of_its_controller(tmp_path: Path) -> None:
    take(tmp_path, "one")
    lock.beat(tmp_path, "one", "switching")
    rewrite(tmp_path, heartbeat=0)
    with pytest.raises(LockedError, match="the server is switching"):
        take(tmp_path, "two", active=True, gone="one")
    assert take(tmp_path, "two", active=False).run == "one"  # type: ignore[union-attr]


def test_a_restore_lives_as_long_as_its_process_here_whatever_became_of_its_controller(tmp_path: Path) -> None:
    lock.take(tmp_path, owner("one", action="restore"), lease_seconds=LEASE, unit_active=lambda: False)
    system = multiprocessing.get_context("fork")
    begun = system.Event()

    def restore() -> None:
        with lock.restoring(tmp_path, "one"):
            begun.set()
            time.sleep(60)

    process = system.Process(target=restore)
    process.start()
    try:
        assert begun.wait(20)
        rewrite(tmp_path, heartbeat=0)
        with pytest.raises(LockedError, match=r"restore 2026.2.20 .* the server is replacing its data"):
            take(tmp_path, "two", gone="one")
        found = lock.read_owner(tmp_path)
    finally:
        process.kill()
        process.join()
    assert found is not None
    assert take(tmp_path, "two").run == "one"  # type: ignore[union-attr]
    assert not lock.restore_active(tmp_path)
    terms = {"lease_seconds": LEASE, "unit_active": lambda: True}
    why = lock.why_stale(found, restore_at_work=lambda: False, **terms)  # type: ignore[arg-type]
    assert why == "the restore has ended without a word"
    assert lock.why_stale(found, **terms) == "", "nobody has looked"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("active", "seconds", "waits"), [([True, True, False], 60, 2), ([False], 60, 0), ([True], 0, 0)]
)
def test_a_switch_is_let_end_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, active: list[bool], seconds: float, waits: int
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(lock, "switch_active", lambda: active.pop(0))
    lock.wait_for_switch(seconds, sleep=slept.append)
    assert (len(slept), active) == (waits, [])


def test_a_restore_is_heard_of_and_its_run_goes_on_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    take(tmp_path, "one")
    with lock.restoring(tmp_path, "one"):
        assert lock.restore_active(tmp_path)
        rewrite(tmp_path, heartbeat=0)
        deadline = time.monotonic() + 10
        while lock.read_owner(tmp_path).heartbeat == 0:  # type: ignore[union-attr]
            assert time.monotonic() < deadline
    assert lock.read_owner(tmp_path).phase == "preparing"  # type: ignore[union-attr]


def test_a_restore_does_not_begin_without_its_lock(tmp_path: Path) -> None:
    take(tmp_path, "two")
    with pytest.raises(LockedError, match="Run one has lost its lock"), lock.restoring(tmp_path, "one"):
        pytest.fail("it has begun")


def test_a_switch_does_not_outlive_the_server(tmp_path: Path) -> None:
    take(tmp_path, "one")
    lock.beat(tmp_path, "one", "switching")
    rewrite(tmp_path, boot="another start")
    replaced = take(tmp_path, "two", active=True)
    assert replaced is not None
    assert (
        lock.why_stale(replaced, lease_seconds=LEASE, unit_active=lambda: True)
        == "the server has been started again since"
    )


def test_a_beat_says_the_phase_and_keeps_it(tmp_path: Path) -> None:
    take(tmp_path, "one")
    rewrite(tmp_path, heartbeat=0)
    lock.beat(tmp_path, "one", "switching")
    lock.beat(tmp_path, "one")
    found = lock.read_owner(tmp_path)
    assert found is not None
    assert found.phase == "switching"
    assert found.heartbeat > 0


def test_a_run_that_lost_its_lock_is_told_at_its_next_beat(tmp_path: Path) -> None:
    with pytest.raises(LockedError, match="nobody holds it"):
        lock.beat(tmp_path, "one")
    take(tmp_path, "two")
    with pytest.raises(LockedError, match="two@desk"):
        lock.beat(tmp_path, "one")


def test_only_the_holder_gives_it_back(tmp_path: Path) -> None:
    assert not lock.release(tmp_path, "one")
    assert not (tmp_path / "lock").exists()
    take(tmp_path, "one")
    assert not lock.release(tmp_path, "two")
    assert lock.release(tmp_path, "one")
    assert lock.read_owner(tmp_path) is None
    assert not lock.release(tmp_path, "one")


def test_a_lock_that_nobody_understands_is_removed_by_people_only(tmp_path: Path) -> None:
    take(tmp_path, "one")
    lock.owner_path(tmp_path).write_text("{")
    with pytest.raises(LockedError, match=r"cannot be understood.*unlock\.yml"):
        take(tmp_path, "two")
    assert lock.remove(tmp_path)
    assert not lock.remove(tmp_path)
    assert take(tmp_path, "two") is None


def test_a_look_changes_nothing(tmp_path: Path) -> None:
    arguments = {"lease_seconds": LEASE, "unit_active": lambda: False}
    assert lock.in_the_way(tmp_path, "two", **arguments) is None  # type: ignore[arg-type]
    assert not (tmp_path / "lock").exists()
    take(tmp_path, "one")
    before = lock.owner_path(tmp_path).read_bytes()
    with pytest.raises(LockedError):
        lock.in_the_way(tmp_path, "two", **arguments)  # type: ignore[arg-type]
    assert lock.owner_path(tmp_path).read_bytes() == before


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    take(tmp_path, "one")
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o700
    assert lock.owner_path(tmp_path).stat().st_mode & 0o777 == 0o600


def test_the_mark_of_a_start_is_the_same_until_the_next() -> None:
    assert lock.boot_marker() == lock.boot_marker()
    assert lock.boot_marker().count(".") == 1


@pytest.mark.parametrize(("state", "expected"), [("active", True), ("activating", True), ("inactive", False)])
def test_the_unit_is_asked_of_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, expected: bool
) -> None:
    program = tmp_path / "systemctl"
    program.write_text(f'#!/bin/sh\n[ "$4" = integr8scode-switch.service ] && echo {state}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert lock.switch_active() is expected


def test_a_systemd_that_cannot_be_asked_is_no_sign_of_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "systemctl"
    program.write_text("#!/bin/sh\necho 'Failed to connect to bus: Connection reset by peer' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert lock.switch_active()
