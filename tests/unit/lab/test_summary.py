"""What `make lab` says at its end can be run, and means the lab."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab import summary
from lab.settings import Settings
from tests.unit.support.commands import problems_of, runs


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    lab = Settings(tmp_path)
    lab.state.mkdir()
    (lab.state / "lab.json").write_text(json.dumps({"docker_host": "unix:///run/lab.sock"}))
    (lab.state / "sources.json").write_text(json.dumps({"used": {"docker.io/library/mongo:8.0.20": "stand-in"}}))
    variables = {"lab_index": 1, "vault_integr8scode_user_password": "one", "vault_integr8scode_admin_password": "two"}
    monkeypatch.setattr(summary, "inventory_hosts", lambda: {"lab1": variables})
    monkeypatch.setattr(summary, "fetch_public_ca", lambda *_: None)
    return summary.summary(lab)


def test_its_commands_mean_the_lab_whatever_the_terminal_has_set(told: str) -> None:
    # what a command is for stands after some spaces
    lines = [line.strip().split("   ")[0] for line in told.splitlines() if line.strip().startswith("ansible-playbook")]
    found = [run for line in lines for run in runs(line)]
    assert [run.playbook for run in found] == ["playbooks/status.yml", "deploy.yml"]
    assert {run.playbook: problems_of(run) for run in found if problems_of(run)} == {}
    assert [run.inventories for run in found] == [["inventories/lab"]] * 2


def test_it_tells_addresses_and_logins(told: str) -> None:
    assert "https://localhost:22111/api/v1/health/live" in told
    assert "user / one   admin / two" in told
