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
    found: list[str] = evaluate(f"{{{{ query('unreadable_keys', '{name}', judge=true) }}}}", variables)
    return found


def test_the_cure_is_told(no_key: dict[str, Any], tmp_path: Path) -> None:
    (problem,) = problems("bootstrap_authorized_keys", no_key)
    assert problem.startswith(said(tmp_path))
    assert problem.endswith(f" found. {CURE}")
    assert "-vvvvv" not in problem


@pytest.mark.parametrize(("source", "lab"), [("lab", True), ("lab/hosts.yml", True), ("production", False)])
def test_where_the_lab_is_not_there_an_inventory_may_be_forgotten(tmp_path: Path, source: str, lab: bool) -> None:
    keys = load("inventories/lab/group_vars/all/main.yml")["bootstrap_authorized_keys"]
    known = {"lab_home": str(tmp_path), "ansible_inventory_sources": [str(ROOT / "inventories" / source)]}
    (problem,) = problems("bootstrap_authorized_keys", known | {"bootstrap_authorized_keys": keys})
    assert ("Your servers: -i inventories/production. The lab itself: make lab." in problem) is lab
    assert ("ssh-keygen" in problem) is not lab
    assert problem.endswith("Nothing was changed.")


def test_keys_that_can_be_read_are_no_problem(no_key: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id_ed25519.pub").write_text("ssh-ed25519 AAAA me\n", encoding="utf-8")
    assert problems("bootstrap_authorized_keys", no_key) == []
    assert problems("keys", {"keys": ["ssh-ed25519 AAAA me"]}) == []
    assert problems("keys", {}) == []


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJkl me@laptop"


@pytest.mark.parametrize(
    "keys",
    [
        [KEY],
        [f'from="10.0.0.*",restrict {KEY}'],
        ["ecdsa-sha2-nistp256 AAAAE2Vj", "sk-ssh-ed25519@openssh.com AAAAGnNr x", "ssh-rsa AAAAB3Nz=="],
        [f"# two people\n{KEY}\n{KEY}\n"],
        ["https://git.example.org/me.keys"],
        [],
    ],
)
def test_public_keys_pass(keys: list[str]) -> None:
    assert problems("keys", {"keys": keys}) == []


def test_a_text_is_no_list() -> None:
    """Its characters would have been the keys, once the user was made."""
    (problem,) = problems("keys", {"keys": KEY})
    assert problem.startswith("bootstrap_authorized_keys is no list of public keys. Write it as")
    assert problem.endswith("Nothing was changed.")


@pytest.mark.parametrize(
    "wrong",
    ["", "~/.ssh/id_ed25519.pub", "-----BEGIN OPENSSH PRIVATE KEY-----\nhidden", f"{KEY}\nssh-ed25519", 5, "ssh-x y"],
)
def test_what_is_no_public_key_is_told_and_not_shown(wrong: Any) -> None:
    (problem,) = problems("keys", {"keys": [KEY, wrong]})
    assert problem.startswith("bootstrap_authorized_keys: entry 2 is no public key")
    assert "hidden" not in problem
    assert "AAAAC3" not in problem


def test_first_contact_refuses_before_it_logs_in(no_key: dict[str, Any], tmp_path: Path) -> None:
    keys = yaml.safe_load((ROOT / "inventories/production/group_vars/all/main.yml").read_text())
    host = {**CLOSED, "bootstrap_authorized_keys": keys["bootstrap_authorized_keys"]}
    done = run(tmp_path, {"app1": host}, "playbooks/bootstrap.yml")
    assert done.returncode == 2, done.stdout + done.stderr
    assert CURE in " ".join(done.stdout.split())
    assert "Look at the server" not in done.stdout


def test_first_contact_judges_what_it_reads() -> None:
    refuse = load("playbooks/bootstrap.yml")[0]["tasks"][0]
    known = {"bootstrap_keys": KEY}
    (problem,) = evaluate(refuse["vars"]["bootstrap_unreadable"], known)
    assert "no list" in problem


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
