"""The processes of a run's tasks look for garbage rarely: that was a tenth of the time of a deploy without a change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ACTION = """
import gc
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        return {"changed": False, "thresholds": gc.get_threshold(), "frozen": gc.get_freeze_count()}
"""
PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - seen_in_a_task:
      register: seen
    - ansible.builtin.copy: {content: "{{ seen | to_json }}", dest: "PATH"}
"""


def test_a_task_inherits_it(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAY.replace("PATH", str(tmp_path / "seen.json")))
    (tmp_path / "action_plugins").mkdir()
    (tmp_path / "action_plugins/seen_in_a_task.py").write_text(ACTION)
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_HOME": str(tmp_path / "home")}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local", "play.yml"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=120)
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["thresholds"][0] == 100_000
    # the modules of Ansible itself
    assert seen["frozen"] > 10_000
