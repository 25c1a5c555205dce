"""A restore and the lock that deploys take: the role's own tasks here, where a folder stands for a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
STANDS = "The data were not replaced."
BACKUP = "application-app1-20261124T001500Z.tar.gz"
OTHERS: dict[str, dict[str, Any] | None] = {
    "free": None,
    "held": {"run": "other", "action": "deploy", "what": "2026.2.20", "by": "ci@runner"},
    "left": {"run": "other", "action": "restore", "what": BACKUP, "by": "ops@desk", "since": "then", "heartbeat": 1},
}
"""By server: who holds the lock before."""


def part(name: str) -> dict[str, Any]:
    return {"ansible.builtin.include_role": {"name": "backup", "tasks_from": name}}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder with one for each server, and what the run has said."""
    folder = tmp_path_factory.mktemp("restore")
    for name, owner in OTHERS.items():
        (folder / name).mkdir()
        if owner:
            (folder / name / "lock").mkdir()
            (folder / name / "lock/owner.json").write_text(json.dumps({"heartbeat": time.time(), **owner}))
    look = {
        "ansible.builtin.copy": {
            "src": "{{ integr8scode_base }}/lock/owner.json",
            "dest": "{{ integr8scode_base }}/seen.json",
            "remote_src": True,
        }
    }
    lock = {**part("restore_lock.yml"), "vars": {"__backup_restore_stands": STANDS}}
    play = {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [{"block": [lock, look], "always": [part("restore_unlock.yml")]}],
    }
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "integr8scode_base": f"{folder}/{{{{ inventory_hostname }}}}",
        "__backup_restore_found": {"backups": {"application": {"path": f"/var/backups/{BACKUP}"}}},
    }
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": variables, "hosts": dict.fromkeys(OTHERS)}}))
    run = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", folder / "hosts.yml", folder / "play.yml"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 2, run.stdout + run.stderr
    # a long line is broken anywhere
    return folder, " ".join(run.stdout.split())


@pytest.mark.parametrize("name", ["free", "left"])
def test_the_lock_says_which_restore_is_at_work_and_is_given_back(ran: tuple[Path, str], name: str) -> None:
    folder, _ = ran
    seen = json.loads((folder / name / "seen.json").read_text())
    assert (seen["action"], seen["what"], seen["phase"]) == ("restore", BACKUP, "preparing")
    assert seen["run"] != "other"
    assert not (folder / name / "lock/owner.json").exists()


def test_a_held_one_is_left_alone_and_told_after_what_stands(ran: tuple[Path, str]) -> None:
    folder, said = ran
    assert not (folder / "held/seen.json").exists()
    assert json.loads((folder / "held/lock/owner.json").read_text())["run"] == "other"
    assert STANDS in said
    assert "held: Another run works on this server: deploy 2026.2.20 by ci@runner" in said
    # site.yml has changed something by then
    assert "Nothing was changed" not in said


def test_one_that_was_left_over_is_named(ran: tuple[Path, str]) -> None:
    _, said = ran
    assert f"left: the lock of restore {BACKUP} by ops@desk (since then) was left over." in said
    assert "the data may be incomplete" in said
