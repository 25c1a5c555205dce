"""What is said of a server that no module runs on."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.preflight import causes_machine, contact

SAID = """preflight=1
uid=1000
user=ops
machine=aarch64\r
has=systemd
id=debian
version=13
name=Debian GNU/Linux 13 (trixie)
MemTotal=2048000
SwapTotal=0
roomk=1024 docker /dev/vda1 /var/lib
roomi=- docker /dev/vda1 /var/lib
roomk=1024 base /dev/vda1 /opt/with blanks
"""


def causes(said: str, *, password: bool = False) -> list[dict[str, str]]:
    parsed = contact.parse(said)
    assert parsed is not None
    return contact.causes(parsed, "app1", " -i inventories/production", "last words", password)


@pytest.mark.parametrize(
    "before",
    [
        "",
        "Task failed: ",
        "Task failed: Failed to connect to the host via ssh: ",
        'Data could not be sent to remote host "192.0.2.1". Make sure this host can be reached over ssh: ',
    ],
)
def test_of_a_connection_that_fails_ssh_says_why(before: str) -> None:
    words = "ssh: connect to host 192.0.2.1 port 22: Connection timed out"
    assert contact.ssh_words(f"{before}{words}\r\n") == words
    cause = contact.away("app1", " -i x", before + words)
    assert cause["found"] == f"The server cannot be reached: {words}."
    assert cause["cure"] == "what ssh says: ansible -i x app1 -m ansible.builtin.ping -vvv"


def test_a_lab_that_is_not_there_may_be_a_forgotten_inventory() -> None:
    refused = "ssh: connect to host 127.0.0.1 port 22110: Connection refused"
    cure = contact.away("lab1", " -i inventories/lab", refused)["cure"]
    assert cure.startswith("Where no -i is given the servers are those of the lab, which is not there.")
    assert "-i inventories/production" in cure
    assert "make lab." in cure
    for inventory, words in (
        (" -i inventories/lab", "Permission denied (publickey)."),
        (" -i inventories/production", refused),
        (" -i inventories/lab -i inventories/production", refused),
        ("", refused),
    ):
        assert "make lab" not in contact.away("lab1", inventory, words)["cure"]


def test_a_server_without_python_and_sudo_has_its_other_causes_named() -> None:
    parsed = contact.parse(SAID)
    assert parsed is not None
    needs = {"memory_mb": 7000, "disk_mb": 6000, "reserve_mb": 1024, "clock_seconds": 60, "names": []}
    assert [one["check"] for one in causes_machine.causes(contact.facts(parsed), needs)] == ["memory", "disk"]
    python, sudo = causes(SAID)
    assert (python["check"], sudo["check"]) == ("python", "sudo")
    bootstrap = "ansible-playbook -i inventories/production playbooks/bootstrap.yml --limit app1"
    assert bootstrap in python["cure"]
    assert bootstrap in sudo["cure"]


@pytest.mark.parametrize(
    ("more", "password", "checks", "says"),
    [
        ("has=python3\npython=3.13\nhas=sudo\n", False, ["sudo"], "asks ops for a password"),
        ("has=python3\npython=3.13\nhas=sudo\n", True, ["module"], "last words"),
        ("has=python3\npython=3.13\nhas=sudo\nhas=sudo-without-password\n", False, ["module"], "last words"),
        ("has=python3\npython=3.9\nuid=0\n", False, ["python"], "Python is 3.9"),
        ("uid=0\n", False, ["python"], "no Python 3"),
    ],
)
def test_why_no_module_ran(more: str, password: bool, checks: list[str], says: str) -> None:
    found = causes(SAID + more, password=password)
    assert [one["check"] for one in found] == checks
    assert says in found[0]["found"]


def test_an_answer_that_is_none_is_told_apart() -> None:
    assert contact.parse("This account is currently not available.\n") is None


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_script_runs_in_a_shell(shell: str, tmp_path: Path) -> None:
    places = {"here": str(tmp_path), "there": f"{tmp_path}/not/yet"}
    done = subprocess.run(
        [shell, "-c", contact.script("/no/such/python", places)], capture_output=True, text=True, check=True
    )
    said = contact.parse(done.stdout)
    assert said is not None, done
    assert done.stderr == ""
    assert "python" not in said
    facts: dict[str, Any] = contact.facts(said)
    assert facts["memory"]["total_bytes"] > 0
    assert {name: room["path"] for name, room in facts["disk"].items()} == dict.fromkeys(places, str(tmp_path))
    assert facts["system"]["machine"] in {"x86_64", "aarch64"}
