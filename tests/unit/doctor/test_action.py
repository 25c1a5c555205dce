"""The action plugin of the doctor: what the controller knows of the lock's holder is told to the module."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.releases import holder
from ansible.plugins.action import doctor as action

HERE = {**holder.identity(), "pid": os.getpid(), "started": holder.started(os.getpid())}
DEAD = {**HERE, "started": "1"}


class Asked:
    """The action with a server whose lock is as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, held: dict[str, Any], **args: Any) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.held = held
        self.plugin = action.ActionModule.__new__(action.ActionModule)
        self.plugin._task = SimpleNamespace(args={"host": "app1", "base": "/b", **args}, async_val=0, check_mode=False)
        self.plugin._execute_module = self._execute
        monkeypatch.setattr(action.ActionBase, "run", lambda *_: {})

    def _execute(self, *, module_name: str, module_args: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        assert task_vars == {}
        self.calls.append((module_name, module_args))
        return self.held if module_name == "release_lock" else {"findings": []}

    def run(self) -> dict[str, Any]:
        return dict(self.plugin.run(None, {}))


@pytest.mark.parametrize(
    ("controller", "gone"), [(DEAD, "r1"), (HERE, ""), ({**DEAD, "machine": "another"}, ""), ({}, "")]
)
def test_the_run_of_a_dead_process_is_told(
    monkeypatch: pytest.MonkeyPatch, controller: dict[str, Any], gone: str
) -> None:
    asked = Asked(monkeypatch, {"owner": {"run": "r1", "controller": controller}})
    assert asked.run() == {"findings": []}
    assert asked.calls == [
        ("release_lock", {"state": "read", "base": "/b"}),
        ("doctor", {"host": "app1", "base": "/b", "gone_run": gone}),
    ]


@pytest.mark.parametrize("held", [{"owner": None}, {"failed": True, "locked": True, "owner": None, "msg": "?"}])
def test_without_a_holder_nobody_is_gone(monkeypatch: pytest.MonkeyPatch, held: dict[str, Any]) -> None:
    asked = Asked(monkeypatch, held)
    assert asked.run() == {"findings": []}
    assert asked.calls[-1][1]["gone_run"] == ""


def test_a_server_that_is_away_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, {"unreachable": True, "msg": "no route"})
    assert asked.run() == {"unreachable": True, "msg": "no route"}
    assert len(asked.calls) == 1


def test_for_other_checks_the_lock_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, {}, checks=["disk"])
    asked.run()
    assert [name for name, _ in asked.calls] == ["doctor"]


def test_a_task_cannot_say_who_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "gone_run" in Asked(monkeypatch, {}, gone_run="x").run()["msg"]
