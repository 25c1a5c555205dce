"""The unit behind a timer: failed by systemd's word or by the job's own, and run once more."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.atomic_files import Access
from ansible.module_utils.k3s_node import parse_unit
from ansible.module_utils.maintenance import state, timer

JOB = "renew-kubeconfig"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "DIRECTORY", tmp_path / "state")
    monkeypatch.setattr(state, "FOLDER_ACCESS", Access(os.geteuid(), os.getegid(), 0o700))
    monkeypatch.setattr(state, "FILE_ACCESS", Access(os.geteuid(), os.getegid(), 0o600))


@pytest.mark.parametrize(
    ("load", "active", "result", "failed"),
    [
        ("loaded", "inactive", "ok", False),
        ("loaded", "failed", "ok", True),
        ("loaded", "inactive", "failed", True),
        ("loaded", "inactive", "", False),
        ("not-found", "inactive", "failed", False),
    ],
)
def test_failed_by_either(monkeypatch: pytest.MonkeyPatch, load: str, active: str, result: str, failed: bool) -> None:
    asked: list[str] = []

    def unit(name: str) -> Any:
        asked.append(name)
        return parse_unit(f"LoadState={load}\nActiveState={active}\n")

    monkeypatch.setattr(timer, "unit_state", unit)
    if result:
        state.write_state(JOB, result=result)
    assert timer.last_run_failed(JOB) is failed
    assert asked == ["integr8scode-renew-kubeconfig.service"]


def test_a_run_that_fails_again_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 1, "", "Job failed")
    monkeypatch.setattr(timer.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(state.MaintenanceError, match=r"fails as before: Job failed\. Cure: "):
        timer.run_again(JOB)
    state.write_state(JOB, message="the API does not answer")
    with pytest.raises(state.MaintenanceError, match="fails as before: the API does not answer"):
        timer.run_again(JOB)
    done.returncode = 0
    timer.run_again(JOB)


def test_a_run_without_an_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(timer.subprocess, "run", hang)
    with pytest.raises(state.MaintenanceError, match="has not ended for 600 s"):
        timer.run_again(JOB)
