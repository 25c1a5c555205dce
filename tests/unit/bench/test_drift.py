"""What the comparison of drift reports asks, and how its table says it."""

from __future__ import annotations

import subprocess

from bench.drift import QUESTIONS, registry_questions
from bench.table import drift_markdown
from lab.settings import REGISTRY_PASSWORD


def test_table_sets_each_side_beside_its_own() -> None:
    seconds = {"ssh": [4.0, 6.0, 5.0], "playbook": [9.0, 8.0, 7.0], "one": [8.0], "ten": [36.0]}
    text = drift_markdown({"measured_at": "2026-11-29T01:00:00+00:00", "processors": 2, "seconds": seconds})
    assert "| one server, playbooks/drift.yml | 8.0 s (7.0 to 9.0) | 1.60 |" in text
    assert "| ten servers (one whole, nine thin) | 36.0 s (36.0 to 36.0) | 4.50 |" in text


def test_the_registrys_password_is_on_no_command_line() -> None:
    script = registry_questions("2026.2.20")
    commands = [line for line in script.splitlines() if line.startswith("curl")]
    assert len(commands) == 4
    assert not any(REGISTRY_PASSWORD in command for command in commands)
    # both parts of the script are one for a shell
    subprocess.run(["sh", "-n"], input=QUESTIONS.read_text("utf-8") + script, text=True, check=True)
