"""The output of a run is written line by line where no terminal reads it, as the progress of a switch needs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# a task that says something and goes on, as one that follows a switch
ACTION = """
import time
from pathlib import Path
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        self._display.display("said at once")
        end = time.monotonic() + 30
        while not Path(self._task.args["path"]).exists() and time.monotonic() < end:
            time.sleep(0.1)
        return {"changed": False, "failed": time.monotonic() >= end}
"""
PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - follow_it: {path: "PATH"}
"""


def test_a_line_is_written_while_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAY.replace("PATH", str(tmp_path / "go")))
    (tmp_path / "action_plugins").mkdir()
    (tmp_path / "action_plugins/follow_it.py").write_text(ACTION)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment |= {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_HOME": str(tmp_path / "home")}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local", "play.yml"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout is not None
        # the task fails unless this line is read before it ends
        said = any("said at once" in line for line in run.stdout)
        (tmp_path / "go").touch()
        rest = run.stdout.read()
    assert (said, run.returncode) == (True, 0), rest
