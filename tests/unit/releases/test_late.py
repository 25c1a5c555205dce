"""The line that a killed switch owes the history: written by the next run, once, and only where its release serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.history import append_history
from ansible.module_utils.releases import late, lock, switch
from ansible.modules import release_lock
from ansible.plugins.filter import releases as filters
from ansible.plugins.filter import status_table

from tests.unit.conftest import RunModule
from tests.unit.releases.fake_server import FakeServer, Killed


@pytest.fixture
def killed(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    """A server with release two, whose switch was killed when it served and before the history had its line."""
    server.deployed("one")
    server.release("two")
    server.executions = {"e1": server.clock.time() + 9999}

    def dies(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(switch, "append_history", dies)
        with pytest.raises(Killed):
            server.switch("two", executions_wait_seconds=2)
    assert (server.current, len(server.history())) == ("two", 1)
    return server


@pytest.fixture
def ask(run_module: RunModule, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(release_lock, "RUNS", server.runs)
    monkeypatch.setattr(lock, "switch_active", lambda: False)

    def run(*, check: bool = False, **more: Any) -> dict[str, Any]:
        return run_module("release_lock", {"base": str(server.base), "run": "next", **more}, check=check)

    return run


def test_the_next_run_writes_it_once_and_says_that_it_is_late(killed: FakeServer, ask: Any) -> None:
    answer = ask()
    assert answer["recorded"].startswith("run run02 was cut off after release two served; its line in the history")
    assert ask()["recorded"] == ""
    assert ask(run="other", gone_run="next")["recorded"] == ""
    _, line = killed.history()
    told = {name: line[name] for name in ("action", "result", "release", "previous", "serving", "by", "from", "run")}
    assert told == {
        "action": "deploy", "result": "ok", "release": "two", "previous": "one", "serving": "two", "by": "ops@desk",
        "from": "desk", "run": "run02",
    }  # fmt: skip
    assert "cut off after this release was verified" in line["message"]
    assert "1 executions are lost: e1" in line["message"]
    assert line["written_by_run"] == "next"
    assert line["written_at"]
    assert line["seconds"] > 0
    assert status_table._history_line(line).endswith(" s, written down by the run after it")
    assert filters.replaced_locks([{"item": "app1", **answer}])[-1] == f"app1: {answer['recorded']}."


def test_a_lock_that_was_given_back_or_removed_meanwhile_does_not_hide_it(killed: FakeServer, ask: Any) -> None:
    lock.remove(killed.base)
    assert "run02" in ask()["recorded"]


def test_a_check_writes_nothing(killed: FakeServer, ask: Any) -> None:
    assert ask(check=True)["recorded"] == ""
    assert len(killed.history()) == 1


def test_one_whose_release_serves_no_more_gets_none(killed: FakeServer, ask: Any) -> None:
    (killed.base / "current").unlink()
    (killed.base / "current").symlink_to("releases/one")
    assert ask()["recorded"] == ""


def test_one_that_a_later_switch_has_passed_gets_none(killed: FakeServer, ask: Any) -> None:
    append_history(killed.base, {"at": "2999-01-01T00:00:00+00:00", "action": "rollback", "result": "ok", "run": "x"})
    assert ask()["recorded"] == ""


def test_one_that_failed_to_point_current_gets_none(killed: FakeServer, ask: Any) -> None:
    with (killed.runs / "run02/progress.jsonl").open("a") as file:
        file.write(json.dumps({"at": 1.0, "step": "current", "state": "failed"}) + "\n")
    assert ask()["recorded"] == ""


def test_another_installation_s_run_is_not_this_one_s(killed: FakeServer, ask: Any, tmp_path: Path) -> None:
    path = killed.runs / "run02/job.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base": "/elsewhere"}))
    assert ask()["recorded"] == ""


def test_records_that_cannot_be_read_are_passed_over(killed: FakeServer, ask: Any) -> None:
    (killed.runs / "run00").mkdir()
    (killed.runs / "run01/job.json").write_text('{"speed": 1}')
    assert "run02" in ask()["recorded"]


def test_a_history_that_cannot_be_written_keeps_nobody_from_the_lock(
    killed: FakeServer, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(late, "append_history", full)
    answer = ask()
    assert answer["owner"]["run"] == "next"
    assert answer["recorded"] == "a line that the history lacks could not be written: No space left on device"
