"""Public keys that cannot be read are told with the cure, and before a server is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.support.templating import ROOT, evaluate, load, role_variables
from tests.unit.test_reached import CLOSED, run

CURE = (
    "Make a key (ssh-keygen -t ed25519), or write the public key as text into group_vars/all/main.yml. "
    "Nothing was changed."
)


def said(home: Path) -> str:
    return f"bootstrap_authorized_keys cannot be read: Unable to access the file '{home}/.ssh/id_ed25519.pub': File not"


@pytest.fixture
def no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The shipped inventory's variable, on a machine without that key."""
    monkeypatch.setenv("HOME", str(tmp_path))
    found = load("inventories/production/group_vars/all/main.yml")
    return {"bootstrap_authorized_keys": found["bootstrap_authorized_keys"]}


def problems(name: str, variables: dict[str, Any]) -> list[str]:
    found: list[str] = evaluate(f"{{{{ query('unreadable_keys', '{name}') }}}}", variables)
    return found


def test_the_cure_is_told(no_key: dict[str, Any], tmp_path: Path) -> None:
    (problem,) = problems("bootstrap_authorized_keys", no_key)
    assert problem.startswith(said(tmp_path))
    assert problem.endswith(f" found. {CURE}")
    assert "-vvvvv" not in problem


def test_keys_that_can_be_read_are_no_problem(no_key: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id_ed25519.pub").write_text("ssh-ed25519 AAAA me\n", encoding="utf-8")
    assert problems("bootstrap_authorized_keys", no_key) == []
    assert problems("keys", {"keys": ["ssh-ed25519 AAAA me"]}) == []
    assert problems("keys", {}) == []


def test_first_contact_refuses_before_it_logs_in(no_key: dict[str, Any], tmp_path: Path) -> None:
    keys = yaml.safe_load((ROOT / "inventories/production/group_vars/all/main.yml").read_text())
    host = {**CLOSED, "bootstrap_authorized_keys": keys["bootstrap_authorized_keys"]}
    done = run(tmp_path, {"app1": host}, "playbooks/bootstrap.yml")
    assert done.returncode == 2, done.stdout + done.stderr
    assert CURE in " ".join(done.stdout.split())
    assert "Look at the server" not in done.stdout


def test_a_comparison_says_so_in_the_report(no_key: dict[str, Any], tmp_path: Path) -> None:
    (look,) = [task for task in load("roles/drift/tasks/main.yml") if "rescue" in task]
    message = look["rescue"][0]["ansible.builtin.set_fact"]["__drift_failed"]
    failed = {"ansible_failed_result": {"msg": "what Ansible says"}}
    known = role_variables("drift") | failed
    assert evaluate(message, known | no_key).startswith(said(tmp_path))
    assert evaluate(message, known | {"bootstrap_authorized_keys": ["x"]}) == "what Ansible says"


def test_the_timer_is_refused_before_anything_is_made(no_key: dict[str, Any], tmp_path: Path) -> None:
    (task,) = [
        one for one in load("roles/drift_schedule/tasks/refuse.yml") if "unreadable_keys" in str(one.get("vars"))
    ]
    known = role_variables("drift_schedule") | {"groups": {"integr8scode": ["app1"]}, "hostvars": {"app1": no_key}}
    (problem,) = evaluate(task["vars"]["__drift_schedule_unreadable"], known)
    assert problem.startswith(said(tmp_path))
