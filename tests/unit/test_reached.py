"""A server that ssh does not reach: every playbook says why and what to do, and the status holds it for programs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import reached

from tests.unit.support.templating import ROOT

CLOSED = {"ansible_host": "127.0.0.1", "ansible_port": 9, "ansible_ssh_retries": 0}
"""Where nobody listens."""
REFUSED = "ssh: connect to host 127.0.0.1 port 9: Connection refused"


def run(folder: Path, hosts: dict[str, Any], playbook: str, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "inventory.yml").write_text(yaml.safe_dump({"integr8scode": {"hosts": hosts}}), encoding="utf-8")
    return subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", folder / "inventory.yml", ROOT / playbook, *words],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_status_names_servers_without_an_answer_with_the_reason(tmp_path: Path) -> None:
    broken = {"ansible_connection": "local", "ansible_python_interpreter": "/bin/false"}
    path = tmp_path / "status.json"
    words = ("-e", "format=json", "-e", f"status_file={path}")
    done = run(tmp_path, {"app1": CLOSED, "app2": broken}, "playbooks/status.yml", *words)
    assert done.returncode == 4, done.stdout + done.stderr
    found = json.loads(path.read_text(encoding="utf-8"))["hosts"]
    assert [found[host]["reachable"] for host in ("app1", "app2")] == [False, True]
    (away,) = found["app1"]["problems"]
    assert away == f"UNREACHABLE: {REFUSED}"
    (failed,) = found["app2"]["problems"]
    assert failed.startswith("FAILED to look at it: ")
    said = " ".join(done.stdout.split())
    assert f"app1: The server cannot be reached: {REFUSED}." in said
    assert "app2 was reached, and could not be looked at: " in said


def test_the_status_does_so_where_it_is_the_only_server(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    words = ("-e", "format=json", "-e", f"status_file={path}")
    done = run(tmp_path, {"app1": CLOSED}, "playbooks/status.yml", *words)
    assert done.returncode == 4
    assert json.loads(path.read_text(encoding="utf-8"))["hosts"]["app1"]["reachable"] is False


def test_k3s_recovery_asks_for_the_address_that_may_have_changed(tmp_path: Path) -> None:
    done = run(tmp_path, {"app1": CLOSED}, "playbooks/recover-k3s.yml")
    assert done.returncode == 4
    said = " ".join(done.stdout.split())
    assert f"app1: The server cannot be reached: {REFUSED}." in said
    assert "Has its address changed? Write the one that it has now as ansible_host into hosts.yml." in said
    assert f"ansible -i {tmp_path}/inventory.yml app1 -m ansible.builtin.ping -vvv" in said
    assert "Nothing was changed." in said


def test_a_list_of_what_to_go_back_to_is_called_so_and_is_all_that_its_run_does(tmp_path: Path) -> None:
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    words = ("-e", f"integr8scode_base={tmp_path}/none", "-e", "ansible_become=false", "-e", "rollback_serial=x")
    done = run(tmp_path, {"app1": here, "app2": here}, "playbooks/rollback.yml", "-e", "list=true", *words[:4])
    assert done.returncode == 0, done.stdout
    plays = re.findall(r"PLAY \[(.+)\]", done.stdout)
    assert plays[0] == "Say what there is to go back to"
    assert set(plays[1:]) == {"Go nowhere: this was a list", "Say what runs where"}
    tasks = re.findall(r"TASK \[(.+)\]", done.stdout)
    assert tasks == ["Reach the server", "Look at the server", "Say what there is to go back to"]
    assert all(f"{host}: kept releases, the newest first" in done.stdout for host in ("app1", "app2"))
    # and one that is no list is called what it is, and refuses
    done = run(tmp_path, {"app1": here}, "playbooks/rollback.yml", *words)
    assert re.findall(r"PLAY \[(.+)\]", done.stdout) == ["Refuse early, and lock"]
    assert done.returncode == 2


@pytest.mark.parametrize(
    "playbook",
    ["unlock", "recover-k3s", "renew-kubeconfig", "backup", "diagnostics", "restore", "rollback", "drift-schedule"],
)
def test_what_begins_with_a_module_asks_for_a_word_before(playbook: str) -> None:
    plays = yaml.safe_load((ROOT / f"playbooks/{playbook}.yml").read_text(encoding="utf-8"))
    first = [*plays[0].get("pre_tasks", []), *plays[0].get("tasks", [])][0]
    assert "reached" in first.get("block", [first])[0]


def test_the_status_costs_one_module_of_a_server_and_no_word_before() -> None:
    (play,) = yaml.safe_load((ROOT / "playbooks/status.yml").read_text(encoding="utf-8"))
    assert "integr8scode_state" in play["tasks"][0]
    # what is given an answer asks nothing
    assert play["tasks"][-1]["reached"] == {"answer": "{{ status }}"}


def answer(words: str | None, **arguments: Any) -> dict[str, Any]:
    """What the action says where ssh says `words`; None where the server answers."""
    plugin = reached.ActionModule.__new__(reached.ActionModule)
    plugin._task = SimpleNamespace(args=arguments, async_val=0, check_mode=False)
    plugin._play_context = SimpleNamespace(remote_addr="192.0.2.7", port=2222)

    def shell(script: str, sudoable: bool) -> None:
        assert (script, sudoable) == ("true", False)
        if words is not None:
            raise AnsibleConnectionFailure(words)

    plugin._low_level_execute_command = shell
    known = {"inventory_hostname": "app1", "ansible_inventory_sources": [str(ROOT / "inventories/production")]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reached.ActionBase, "run", lambda *_: {})
        return dict(plugin.run(None, known))


def test_a_server_that_answers_costs_a_word() -> None:
    assert answer(None) == {"changed": False}


@pytest.mark.parametrize(
    ("words", "cures"),
    [
        ("Failed to connect to the host via ssh: no route", ["ansible -i inventories/production app1 -m"]),
        ("ops@app1: Permission denied (publickey).", ["playbooks/bootstrap.yml --limit app1"]),
        ("Host key verification failed.", ["ssh -p 2222 192.0.2.7;", "ssh-keygen -R '[192.0.2.7]:2222';"]),
    ],
)
def test_the_cure_is_that_of_what_ssh_says(words: str, cures: list[str]) -> None:
    said = answer(words)
    assert said["unreachable"] is True
    assert "failed" not in said
    first, cure, last = said["msg"]
    assert first == f"app1: The server cannot be reached: {words.rpartition('ssh: ')[2].rstrip('.')}."
    assert all(one in cure for one in cures)
    assert last == "Nothing was changed."


def test_an_answer_from_before_is_not_asked_for_again() -> None:
    said = answer("would be asked", answer={"unreachable": True, "msg": "no route"}, advice="Look.")
    assert said["msg"][:2] == ["app1: The server cannot be reached: no route.", "Look."]
    said = answer("would be asked", answer={"failed": False, "module_stderr": "no\npython\n"})
    assert said["failed"] is True
    assert said["msg"][0] == "app1 was reached, and could not be looked at: no python"
