"""What becomes of k3s when its restore fails: the role's own tasks here, with a systemctl that only notes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
REASON = "k3s.tar.gz cannot be restored: it is damaged"
FAILING = f"""
from pathlib import Path
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        if task_vars["database_is_lost"]:
            Path(task_vars["k3s_config"]["data-dir"], "server/db/state.db").unlink()
        return {{"failed": True, "msg": "{REASON}"}}
"""
NOTHING = FAILING.partition("        if task_vars")[0] + "        return {}\n"
SYSTEMCTL = """#!/bin/sh
echo "$@" >> {folder}/asked
case "$*" in
  *show*--value*) cat {folder}/was ;;
  *show*) echo LoadState=loaded; echo ActiveState=inactive ;;
  *start*) echo 'Job for k3s.service failed.' >&2; exit {code} ;;
esac
"""


CASES: dict[str, dict[str, Any]] = {
    "active": {"was": "active"},
    "activating": {"was": "activating"},
    "stopped": {"was": "inactive"},
    "lost": {"was": "active", "database_is_lost": True},
    "broken": {"was": "active", "start_fails": True},
}
"""Each is a server of one run."""


def server(folder: Path, was: str, database_is_lost: bool = False, start_fails: bool = False) -> dict[str, Any]:
    """The folder that stands for a server; its variables."""
    (folder / "data/server/db").mkdir(parents=True)
    (folder / "data/server/db/state.db").touch()
    (folder / "was").write_text(f"{was}\n")
    program = folder / "systemctl"
    program.write_text(SYSTEMCTL.format(folder=folder, code=int(start_fails)))
    program.chmod(0o755)
    return {
        "folder": str(folder),
        "k3s_config": {"data-dir": str(folder / "data")},
        "database_is_lost": database_is_lost,
    }


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[str], list[str]]]:
    """By case: what the run ended with beside the reason, and the starts that systemd was asked for."""
    folder = tmp_path_factory.mktemp("restore")
    (folder / "action_plugins").mkdir()
    (folder / "action_plugins/k3s_restore.py").write_text(FAILING)
    for name in ("k3s_backup", "release_lock"):
        (folder / f"action_plugins/{name}.py").write_text(NOTHING)
    play = {
        "hosts": "all",
        "gather_facts": False,
        "environment": {"PATH": "{{ folder }}:" + os.environ["PATH"]},
        "tasks": [{"ansible.builtin.include_role": {"name": "backup", "tasks_from": "restore_files.yml"}}],
    }
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "__backup_restore_found": {"backups": {"k3s": {"path": "k3s.tar.gz"}}},
        "__backup_restore_identity": "",
        "__backup_restore_run": "this-run",
    }
    hosts = {name: server(folder / name, **case) for name, case in CASES.items()}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": variables, "hosts": hosts}}))
    run = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", folder / "hosts.yml", folder / "play.yml"],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": "json",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 2, run.stdout + run.stderr
    last = json.loads(run.stdout[run.stdout.index("{") :])["plays"][0]["tasks"][-1]
    assert last["task"]["name"].endswith("Say why it failed"), run.stdout
    found = {}
    for name in CASES:
        reason, *now = last["hosts"][name]["msg"]
        assert reason == REASON
        asked = (folder / name / "asked").read_text().splitlines()
        found[name] = (now, [line for line in asked if "start" in line.split()])
    return found


@pytest.mark.parametrize("was", ["active", "activating"])
def test_one_that_worked_is_started_without_waiting_for_it(failed: Any, was: str) -> None:
    (now,), (start,) = failed[was]
    assert "is being started again" in now
    assert "--no-block" in start.split()


def test_one_that_was_stopped_stays_so(failed: Any) -> None:
    assert failed["stopped"] == ([], [])


def test_one_whose_database_is_gone_is_not_started(failed: Any) -> None:
    (now,), starts = failed["lost"]
    assert "a start would make an empty cluster" in now
    assert starts == []


def test_a_start_that_fails_is_told_beside_the_reason(failed: Any) -> None:
    (now,), _ = failed["broken"]
    assert now.startswith("k3s could not be started again: Unable to start service k3s.service: Job for")
