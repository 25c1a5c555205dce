"""The module k3s_recover: one step in each execution, with a fake server below it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.backups.store import Backup, BackupError

from tests.unit.conftest import RunModule
from tests.unit.k3s_recovery_climb.fake_server import FakeServer
from tests.unit.k3s_recovery_climb.test_climb import a_backup


class Bench:
    """A server, and the module's calls on it."""

    def __init__(self, tmp_path: Path, run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
        from ansible.module_utils.k3s_recovery import lock
        from ansible.modules import k3s_recover

        self.server = FakeServer(tmp_path / "root", {"node_ip_stale"})
        self.path = tmp_path
        self._run = run_module
        self.backups_made = 0
        self.room = True
        monkeypatch.setattr(k3s_recover, "Server", lambda **_more: self.server)
        monkeypatch.setattr(k3s_recover, "create", self._backup)
        monkeypatch.setattr(lock.Lock.__init__, "__kwdefaults__", {
            **(lock.Lock.__init__.__kwdefaults__ or {}), "path": tmp_path / "lock",
        })  # fmt: skip
        (tmp_path / "base" / "kubeconfig").mkdir(parents=True)

    def _backup(self, _directory: Path, **_more: Any) -> Backup:
        if not self.room:
            raise BackupError("no room for the backup")
        self.backups_made += 1
        return a_backup(self.path / "backup.tar.gz")

    def call(self, state: str, *, check: bool = False, **more: Any) -> dict[str, Any]:
        arguments = {
            "state": state, "run": "one", "host": "server1", "by": "me@here", "directory": str(self.path / "recovery"),
            "base": str(self.path / "base"), "stable_seconds": 10, "timeout_seconds": 30, "wait_seconds": 0, **more,
        }  # fmt: skip
        return self._run("k3s_recover", arguments, check=check)


@pytest.fixture
def bench(tmp_path: Path, run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, run_module, monkeypatch)


def test_from_the_beginning_to_the_end(bench: Bench) -> None:
    begun = bench.call("begin")
    assert (begun["needed"], begun["kubeconfigs"], begun["locked"]) == (True, True, "")
    assert "found whole" in begun["told"][0]
    step = bench.call("step")
    assert (step["rung"], step["outcome"], step["done"], step["healed"]) == ("configuration", "healed", True, True)
    assert step["new_cluster"] is False
    finished = bench.call("finish", reconnect={"healed": True})
    assert finished["report"]["result"] == "healed"
    line = json.loads((bench.path / "base/history.jsonl").read_text())
    assert (line["action"], line["rung"]) == ("recover-k3s", "configuration")
    again = bench.call("begin", run="two")
    assert (again["changed"], again["needed"], again["report"]["result"]) == (False, False, "healthy")
    assert bench.backups_made == 1


def test_a_check_plans_and_changes_nothing(bench: Bench) -> None:
    planned = bench.call("begin", check=True)
    assert planned["report"]["result"] == "planned"
    assert [cause["id"] for cause in planned["report"]["causes"]] == ["node_ip_stale"]
    assert "configuration, safe_mode, node_object" in planned["told"][-1]
    assert bench.backups_made == 0
    assert not (bench.path / "recovery").exists()
    assert bench.call("step", check=True)["skipped"]


def test_a_check_keeps_nobody_waiting_and_waits_for_nobody(bench: Bench) -> None:
    bench.call("begin", run="check", check=True)
    begun = bench.call("begin", run="real")
    assert (begun["locked"], begun["needed"]) == ("", True)
    planned = bench.call("begin", run="check", by="other", check=True)
    assert "me@here" in planned["told"][0]
    assert (planned["locked"], planned["report"]["result"]) == ("", "planned")
    assert bench.call("step", run="real")["healed"]


def test_no_room_fails_before_anything(bench: Bench) -> None:
    bench.room = False
    failed = bench.call("begin")
    assert failed["failed"]
    assert "no room" in failed["msg"]
    assert bench.server.log == []
    assert not (bench.path / "recovery").exists()
    bench.room = True
    # and keeps the next run from nothing
    assert bench.call("begin", run="two")["locked"] == ""


def test_another_run_is_told_and_not_failed_at_once(bench: Bench) -> None:
    bench.call("begin")
    second = bench.call("begin", run="two")
    assert not second.get("failed")
    assert "me@here" in second["locked"]
    assert bench.call("begin", run="two", wait_seconds=1)["failed"]


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"only_rungs": ["rstart"]}, "There is no rung rstart"),
        ({"delete_cluster": "server2"}, "this server is server1"),
    ],
)
def test_wrong_wishes_are_refused(bench: Bench, more: dict[str, Any], word: str) -> None:
    failed = bench.call("begin", **more)
    assert failed["failed"]
    assert word in failed["msg"]
    assert bench.backups_made == 0


def test_a_failure_is_remembered_as_one(bench: Bench) -> None:
    bench.server.never_heals = {"node_ip_stale"}
    bench.call("begin")
    while not bench.call("step")["done"]:
        pass
    finished = bench.call("finish", reconnect={"healed": False})
    assert finished["report"]["result"] == "failed"
    assert {rung["state"] for rung in finished["report"]["rungs"]} <= {"undone", "skipped"}
    # over: the next run begins a new recovery with a new backup
    bench.call("begin", run="two")
    assert bench.backups_made == 2


def test_a_rung_that_was_cut_off_keeps_the_recovery_open(bench: Bench) -> None:
    bench.call("begin")
    (record,) = (bench.path / "recovery").glob("2*/journal.json")
    body = json.loads(record.read_text())
    body["rungs"] = [{"name": "configuration", "cause": "node_ip_stale", "state": "applying"}]
    record.write_text(json.dumps(body))
    finished = bench.call("finish", reconnect={"healed": False, "problem": "MODULE FAILURE"})
    assert any("Run the playbook again" in line for line in finished["sentences"])
    begun = bench.call("begin", run="two")
    assert "did not come to its end" in begun["told"][0]
    assert bench.backups_made == 1
    assert bench.call("step", run="two")["healed"]
