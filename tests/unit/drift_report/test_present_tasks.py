"""The role's tasks that tell the report, run by ansible-playbook as a person runs them, as loudly as it can."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.drift_report.test_webhook import SECRET, Receiver, receiver
from tests.unit.support import drift_reports as reports

__all__ = ["receiver"]

PLAY = """\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: drift, tasks_from: present.yml}
"""


def run(project_root: Path, folder: Path, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    (folder / "play.yml").write_text(PLAY)
    (folder / "variables.json").write_text(json.dumps({"drift_report_dir": str(folder), **variables}))
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", "app1,app2,", str(folder / "play.yml")]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(project_root / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_HOME": str(folder / "ansible"),
    }
    return subprocess.run(
        [*command, "-e", f"@{folder / 'variables.json'}", *arguments],
        cwd=project_root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "drift.json").write_text(json.dumps(reports.everything()))
    return tmp_path


def test_the_table_is_shown_once_and_line_by_line(project_root: Path, folder: Path) -> None:
    done = run(project_root, folder)
    assert done.returncode == 0, done.stdout
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines.count("app4: UNREACHABLE for 2 days") == 1
    assert lines.count(f"Report: {folder}/drift.html") == 1
    shown = [line for line in done.stdout.splitlines() if line.startswith("        ")]
    assert len(shown) > 30
    assert [line for line in shown if len(line) > 80 and "cure" not in line and "Report: " not in line] == []
    assert (folder / "drift.html").exists()


@pytest.mark.parametrize("code", [200, 404])
def test_the_address_is_not_told_at_the_loudest(
    project_root: Path, folder: Path, receiver: Receiver, code: int
) -> None:
    receiver.codes = [code]
    done = run(project_root, folder, "-vvvv", drift_webhook_url=receiver.url)
    assert done.returncode == 0, done.stdout
    assert len(receiver.received) == 1
    assert ("The notification was not taken" in done.stdout) == (code == 404)
    assert SECRET not in done.stdout + done.stderr
    assert not any(SECRET in path.read_text() for path in folder.glob("*.*") if path.name != "variables.json")


def test_a_page_that_cannot_be_written_fails_after_the_table(project_root: Path, folder: Path) -> None:
    done = run(project_root, folder, drift_html_file="/nonexistent/drift.html")
    assert done.returncode == 2
    assert "app4: UNREACHABLE" in done.stdout
    assert "/nonexistent/drift.html could not be written" in done.stdout
