"""The module release_lock, and what its action plugin adds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.releases import holder, lock
from ansible.plugins.action import release_lock as action

from tests.unit.conftest import RunModule

RUN = "20261129T080000Z-1a2b3c"


@pytest.fixture(autouse=True)
def _no_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "switch_active", lambda: False)


@pytest.fixture
def ask(run_module: RunModule, tmp_path: Path) -> Any:
    def run(*, check: bool = False, **args: Any) -> dict[str, Any]:
        return run_module("release_lock", {"base": str(tmp_path), **args}, check=check)

    return run


def held(run: str = RUN, **more: Any) -> dict[str, Any]:
    return {"run": run, "action": "deploy", "what": "2026.2.20", "by": "ops@desk", **more}


def test_a_lock_is_taken_read_and_given_back_without_a_change(ask: Any, tmp_path: Path) -> None:
    taken = ask(**held(controller={"host": "desk", "pid": 7}))
    assert not taken["changed"]
    assert taken["owner"]["run"] == RUN
    assert "deploy 2026.2.20 by ops@desk from desk (process 7)" in taken["description"]
    read = ask(state="read")
    assert (read["owner"]["run"], read["stale"]) == (RUN, "")
    back = ask(state="released", run=RUN)
    assert (back["released"], back["changed"], back["owner"]) == (True, False, None)
    assert not lock.owner_path(tmp_path).exists()


def test_another_run_is_refused_and_told_the_holder(ask: Any) -> None:
    ask(**held())
    for check in (False, True):
        refused = ask(**held("other"), check=check)
        assert refused["failed"]
        assert refused["locked"]
        assert refused["owner"]["run"] == RUN
        assert refused["msg"].startswith("Nothing was changed. Another run works on this server: deploy 2026.2.20")


def test_a_check_takes_nothing(ask: Any, tmp_path: Path) -> None:
    assert ask(**held(), check=True)["owner"] is None
    assert not (tmp_path / "lock").exists()
    ask(**held())
    assert not ask(state="released", run=RUN, check=True)["released"]
    assert ask(state="released", force=True, check=True)["released"], "what a person would remove"
    assert lock.read_owner(tmp_path) is not None


def test_a_dead_run_is_replaced_and_named(ask: Any) -> None:
    ask(**held())
    answer = ask(**held("next"), gone_run=RUN)
    assert (answer["owner"]["run"], answer["replaced"]["run"]) == ("next", RUN)


def test_a_switch_that_works_keeps_its_lock(ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(**held())
    lock.beat(tmp_path, RUN, lock.SWITCHING)
    monkeypatch.setattr(lock, "switch_active", lambda: True)
    assert not ask(state="released", run=RUN)["released"]
    monkeypatch.setattr(lock, "switch_active", lambda: False)
    assert ask(state="released", run=RUN)["released"]


def test_a_restore_at_work_keeps_its_lock(ask: Any, tmp_path: Path) -> None:
    ask(**held(action="restore"))
    with lock.restoring(tmp_path, RUN):
        assert not ask(state="released", run=RUN)["released"]
        assert ask(state="read", gone_run=RUN)["stale"] == ""
        at_work = lock.owner_path(tmp_path).read_text()
    # its process was killed
    lock.owner_path(tmp_path).write_text(at_work)
    assert ask(state="read")["stale"] == "the restore has ended without a word"
    assert ask(state="released", run=RUN)["released"]


def test_people_remove_any_lock(ask: Any, tmp_path: Path) -> None:
    ask(**held())
    assert not ask(state="released", run="other")["released"]
    lock.owner_path(tmp_path).write_text("?")
    assert ask(state="read")["failed"]
    assert ask(state="released", force=True, check=True)["released"]
    assert ask(state="released", force=True)["released"]
    assert not ask(state="released", force=True)["released"]


def test_a_run_that_lives_renews_what_is_its_own_and_takes_nothing(ask: Any, tmp_path: Path) -> None:
    lost = ask(state="renewed", run=RUN)
    assert (lost["failed"], lost["locked"]) == (True, True)
    assert lost["msg"].startswith(f"Run {RUN} has lost its lock on this server: nobody holds it.")
    assert lock.read_owner(tmp_path) is None
    ask(**held())
    path = lock.owner_path(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "heartbeat": 5.0}))
    assert ask(state="renewed", run=RUN, check=True)["owner"]["heartbeat"] == 5
    assert ask(state="renewed", run=RUN)["owner"]["heartbeat"] > 5
    assert ask(state="renewed", run="other")["failed"]
    path.write_text("?")
    # it was at work: what it has changed only it knows
    for state in ("renewed", "released"):
        assert "Nothing was changed" not in ask(state=state, run=RUN)["msg"]
    assert "Nothing was changed" in ask(**held())["msg"]


@pytest.mark.parametrize("state", ["held", "renewed", "released"])
def test_a_lock_without_a_run_is_refused(ask: Any, state: str) -> None:
    assert "run is missing" in ask(state=state)["msg"]


def test_a_place_that_cannot_be_written_is_named(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("a file")
    answer = ask(**held())
    assert answer["failed"]
    assert str(tmp_path) in answer["msg"]


# The action plugin


def identity_of(pid: int) -> dict[str, Any]:
    return {**holder.identity(), "pid": pid, "started": holder.started(pid)}


class Asked:
    """The action with a server that answers as it is told."""

    def __init__(self, answers: list[dict[str, Any]], **args: Any) -> None:
        self.calls: list[dict[str, Any]] = []
        self._answers = iter(answers)
        self.plugin = action.ActionModule.__new__(action.ActionModule)
        self.plugin._task = SimpleNamespace(args=args, async_val=0, check_mode=False, diff=False)
        self.plugin._execute_module = self._execute

    def _execute(self, *, module_name: str, module_args: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        assert (module_name, task_vars) == ("release_lock", {})
        self.calls.append(json.loads(json.dumps(module_args)))
        return next(self._answers)

    def run(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        monkeypatch.setattr(action.ActionBase, "run", lambda *_: {})
        return dict(self.plugin.run(None, {}))


def test_the_server_is_told_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked([{"owner": None}], run=RUN)
    assert asked.run(monkeypatch) == {"owner": None}
    assert asked.calls == [{"run": RUN, "controller": holder.identity()}]


def test_nobody_takes_a_lock_for_a_run_that_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action, "orphaned", lambda: True)
    asked = Asked([], run=RUN)
    answer = asked.run(monkeypatch)
    assert answer["failed"]
    assert answer["msg"].startswith("Nothing was changed. The ansible-playbook")
    assert asked.calls == []
    # giving it back is right whoever does it
    assert Asked([{"owner": None}], run=RUN, state="released").run(monkeypatch) == {"owner": None}


def test_the_lock_of_a_dead_process_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    dead = {"run": "old", "controller": {**identity_of(os.getpid()), "started": "1"}}
    asked = Asked([{"failed": True, "locked": True, "owner": dead}, {"owner": {"run": RUN}}], run=RUN)
    assert asked.run(monkeypatch)["owner"] == {"run": RUN}
    assert asked.calls[1]["gone_run"] == "old"


@pytest.mark.parametrize("other", [{}, {"machine": "0" * 12}])
def test_a_holder_that_lives_or_is_elsewhere_is_not(monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]) -> None:
    alive = {"run": "old", "controller": {**identity_of(os.getpid()), **other}}
    asked = Asked([{"failed": True, "locked": True, "owner": alive}], run=RUN)
    answer = asked.run(monkeypatch)
    assert answer["failed"]
    assert answer["holder_lives"] is (None if other else True)
    assert len(asked.calls) == 1


@pytest.mark.parametrize("name", ["controller", "gone_run"])
def test_a_task_cannot_say_who_it_is(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    asked = Asked([], run=RUN, **{name: "x"})
    assert name in asked.run(monkeypatch)["msg"]
