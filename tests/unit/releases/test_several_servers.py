"""Locks and ends of a run over several servers, with real playbooks on this machine in place of servers.

A folder stands for each server, and a command for what the role does with it.
"""

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

from tests.unit.support.templating import evaluate, load

HOSTS = ["a", "b", "c"]
ROLE = "integr8scode"


def part(name: str) -> dict[str, Any]:
    return {"ansible.builtin.include_role": {"name": ROLE, "tasks_from": name}}


PLAYS = [
    {
        "hosts": "all",
        "gather_facts": False,
        "any_errors_fatal": True,
        "tasks": [
            {
                "ansible.builtin.set_fact": {
                    "__integr8scode_tag": "2026.2.20",
                    "__integr8scode_state": {"release": {"id": "old"}},
                }
            },
            part("lock_all.yml"),
            {"ansible.builtin.command": "ls {{ folder }}", "register": "seen"},
        ],
    },
    {
        "hosts": "all",
        "gather_facts": False,
        "serial": "{{ steps | default([1, '100%']) }}",
        "max_fail_percentage": 0,
        "tasks": [
            {
                "block": [
                    part("beat_all.yml"),
                    {"ansible.builtin.ping": {}, "vars": {"ansible_connection": "{{ way[inventory_hostname] }}"}},
                    {"name": "Ship", "ansible.builtin.command": "test ! -e {{ integr8scode_base }}/bad"},
                    {"ansible.builtin.file": {"path": "{{ integr8scode_base }}/shipped", "state": "touch"}},
                    {
                        "ansible.builtin.copy": {"content": "{{ thief }}", "dest": "{{ folder }}/b/lock/owner.json"},
                        "when": "thief is defined and inventory_hostname == 'a'",
                    },
                    {
                        "ansible.builtin.set_fact": {"__integr8scode_switch": {"done": False, "after": 7}},
                        "when": "switches is defined",
                    },
                    {**part("follow.yml"), "when": "switches is defined"},
                    {
                        "release_lock": {
                            "state": "released",
                            "base": "{{ integr8scode_base }}",
                            "run": "{{ integr8scode_run }}",
                        }
                    },
                    part("done.yml"),
                ],
                "rescue": [part("failed.yml")],
            }
        ],
    },
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {
                "ansible.builtin.debug": {
                    "msg": "{{ ansible_play_hosts_all | run_summary(hostvars, integr8scode_run) }}"
                },
                "run_once": True,
            }
        ],
    },
]
# in place of the one that asks the server: news comes twice, and each time nothing was heard of the run for long
SWITCH = """
import json, time
from pathlib import Path
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        folder, args = Path(task_vars["folder"]), self._task.args
        locks = [path for path in (folder / one / "lock/owner.json" for one in "abc") if path.exists()]
        owners = {path: json.loads(path.read_text()) for path in locks}
        heard = [path.parts[-3] for path, one in owners.items() if one["heartbeat"] > time.time() - 60]
        news = folder / task_vars["inventory_hostname"] / "news"
        with news.open("a") as file:
            file.write(json.dumps([args["state"], args["after"], args["follow_seconds"], heard]) + "\\n")
        for path, one in owners.items():
            # two servers of a batch do this at once
            fresh = path.with_name(f"owner.{task_vars['inventory_hostname']}")
            fresh.write_text(json.dumps({**one, "heartbeat": 1.0}))
            fresh.replace(path)
        if len(news.read_text().splitlines()) < 2:
            return {"changed": True, "done": False, "after": 8}
        return {"changed": True, "result": "ok", "release": "new", "lost": []}
"""
GONE = {"ansible_host": "127.0.0.1", "ansible_port": 1}
"""Where ssh finds nobody."""


class Servers:
    """Folders that stand for servers, and a run over them."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, root
        for host in HOSTS:
            (folder / host).mkdir()
        (folder / "play.yml").write_text(yaml.safe_dump(PLAYS))
        (folder / "action_plugins").mkdir()
        (folder / "action_plugins/release_switch.py").write_text(SWITCH)

    def run(self, order: list[str] | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "folder": str(self.folder),
            "integr8scode_base": f"{self.folder}/{{{{ inventory_hostname }}}}",
            "integr8scode_run": "this-run",
            "way": dict.fromkeys(HOSTS, "local"),
        }
        inventory = {"all": {"vars": variables, "hosts": dict.fromkeys(order or HOSTS)}}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(inventory, sort_keys=False))
        return subprocess.run(
            [
                Path(sys.executable).parent / "ansible-playbook",
                "-i",
                self.folder / "hosts.yml",
                "-e",
                json.dumps(more),
                self.folder / "play.yml",
            ],
            cwd=self.root,
            env={**os.environ, "ANSIBLE_CONFIG": str(self.root / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def hold(self, host: str, **more: Any) -> Path:
        """Let another run hold a server."""
        owner = {"run": "other", "action": "deploy", "what": "2026.2.19", "by": "ops@elsewhere", **more}
        path = self.folder / host / "lock" / "owner.json"
        path.parent.mkdir()
        path.write_text(json.dumps({"heartbeat": time.time(), **owner}))
        return path

    def locked(self) -> list[str]:
        return [host for host in HOSTS if (self.folder / host / "lock/owner.json").exists()]

    def shipped(self) -> list[str]:
        return [host for host in HOSTS if (self.folder / host / "shipped").exists()]


@pytest.fixture
def servers(tmp_path: Path, project_root: Path) -> Servers:
    return Servers(tmp_path, project_root)


def test_all_are_locked_in_one_order_and_given_back_one_by_one(servers: Servers) -> None:
    run = servers.run(["c", "a", "b"])
    assert run.returncode == 0, run.stdout + run.stderr
    order = [line.partition("(item=")[2][0] for line in run.stdout.splitlines() if "(item=" in line]
    assert order == ["a", "b", "c"]
    assert servers.shipped() == HOSTS
    assert servers.locked() == []


def test_one_that_is_another_run_s_keeps_this_run_from_all(servers: Servers) -> None:
    other = servers.hold("b")
    before = other.read_bytes()
    run = servers.run()
    assert run.returncode == 2
    assert "Nothing was changed." in run.stdout
    assert "b: Another run works on this server: deploy 2026.2.19 by ops@elsewhere" in run.stdout
    assert servers.shipped() == []
    assert servers.locked() == ["b"]
    assert other.read_bytes() == before
    # the third was not asked for once it was clear
    assert not (servers.folder / "c/lock").exists()


def test_a_dead_run_s_lock_is_taken_over_and_named(servers: Servers) -> None:
    servers.hold("b", heartbeat=1)
    run = servers.run()
    assert run.returncode == 0, run.stdout
    assert "b: the lock of deploy 2026.2.19 by ops@elsewhere" in run.stdout
    assert servers.shipped() == HOSTS


def test_a_failure_leaves_the_rest_untouched_and_nothing_locked(servers: Servers) -> None:
    (servers.folder / "a/bad").touch()
    run = servers.run()
    assert run.returncode == 2
    assert servers.shipped() == []
    assert servers.locked() == []
    for line in ("a: failed at Ship; old was left as it is", "b: untouched; old serves", "c: untouched; old serves"):
        assert line in run.stdout


def test_a_server_that_gets_out_of_reach_at_its_turn_is_not_called_untouched(servers: Servers) -> None:
    run = servers.run(steps=[2, "100%"], way={"a": "ssh", "b": "local", "c": "local"}, **GONE)
    assert servers.shipped() == ["b"]
    for line in ("a: got out of reach before it switched; old was left as it is", "b: old serves"):
        assert line in run.stdout, run.stdout
    assert "c: failed at beat_all | Stop where a server was lost; old was left as it is" in run.stdout
    assert run.returncode != 0


def test_who_failed_is_told_once_the_others_of_its_batch_are_done(servers: Servers) -> None:
    (servers.folder / "a/bad").touch()
    run = servers.run(steps=[2, "100%"])
    for line in ("a: failed at Ship; old was left as it is", "b: old serves", "c: untouched; old serves"):
        assert line in run.stdout, run.stdout


def test_a_run_that_takes_longer_than_its_lease_says_that_it_lives(servers: Servers) -> None:
    # a third of a second is over before the first batch, so what waits is renewed before each
    run = servers.run(integr8scode_lock_lease_seconds=1)
    assert run.returncode == 0, run.stdout + run.stderr
    order = [line.partition("(item=")[2][0] for line in run.stdout.splitlines() if "(item=" in line]
    assert order == ["a", "b", "c", "a", "b", "c", "b", "c"]


def test_while_a_batch_switches_those_that_wait_hear_that_the_run_lives(servers: Servers) -> None:
    run = servers.run(switches=True)
    assert run.returncode == 0, run.stdout + run.stderr
    news = {host: [json.loads(line) for line in (servers.folder / host / "news").open()] for host in HOSTS}
    assert news["a"] == [["followed", 7, 600, ["a", "b", "c"]], ["followed", 8, 600, ["a", "b", "c"]]]
    assert servers.shipped() == HOSTS
    assert "a: new serves" in run.stdout


def test_a_lock_that_was_lost_meanwhile_ends_the_run_and_nobody_says_that_nothing_was_changed(
    servers: Servers,
) -> None:
    thief = {"run": "other", "action": "deploy", "what": "2026.2.19", "by": "ops@elsewhere", "heartbeat": time.time()}
    run = servers.run(integr8scode_lock_lease_seconds=1, thief=json.dumps(thief))
    assert run.returncode == 2, run.stdout + run.stderr
    assert servers.shipped() == ["a"]
    # the other run's
    assert servers.locked() == ["b"]
    assert "No further server is touched." in run.stdout
    assert "b: Run this-run has lost its lock on this server: deploy 2026.2.19 by ops@elsewhere" in run.stdout
    assert "Nothing was changed" not in run.stdout
    assert "b: failed at beat | Stop where a lock was lost; old was left as it is" in run.stdout


@pytest.mark.parametrize("name", ["switch.yml", "rollback.yml"])
def test_who_switches_hands_back_in_time_to_say_that_the_run_lives(project_root: Path, name: str) -> None:
    tasks = yaml.safe_load((project_root / "roles" / ROLE / "tasks" / name).read_text())
    tasks = [one for task in tasks for one in task.get("block", [task])]
    (place,) = [number for number, task in enumerate(tasks) if "release_switch" in task]
    assert tasks[place]["release_switch"]["follow_seconds"] == "{{ __integr8scode_beat_seconds }}"
    assert tasks[place + 1]["ansible.builtin.include_tasks"] == "follow.yml"


@pytest.mark.parametrize("name", ["main.yml", "rollback.yml"])
def test_a_server_that_went_away_does_not_keep_the_others_locked(project_root: Path, name: str) -> None:
    # no rescue runs for a server that is unreachable, and failed.yml, which unlocks the others, is in one
    tasks = yaml.safe_load((project_root / "roles" / ROLE / "tasks" / name).read_text())
    last = [task for entry in tasks for task in entry.get("always", [])]
    assert last
    assert all(task.get("ignore_unreachable") is True for task in last)


@pytest.mark.parametrize("name", ["main.yml", "rollback.yml"])
@pytest.mark.parametrize(
    ("switch", "runs"),
    [
        ({"result": "unchanged", "given_back": "this-run"}, False),
        # what ended before its switch, in a play where an earlier run's was kept
        ({"result": "ok", "given_back": "earlier-run"}, True),
        ({"result": "ok", "given_back": ""}, True),
        ({"result": "rolled_back", "failed": True}, True),
        ({"failed": True, "msg": "out of reach"}, True),
        ({"skipped": True}, True),
        (None, True),
    ],
)
@pytest.mark.parametrize("run", ["integr8scode_run", "__integr8scode_own_run"])
def test_the_lock_is_given_back_unless_the_switch_says_that_it_is(
    name: str, switch: dict[str, Any] | None, runs: bool, run: str
) -> None:
    if name == "rollback.yml" and run != "integr8scode_run":
        pytest.skip("a rollback is always named")
    tasks = [task for entry in load(f"roles/{ROLE}/tasks/{name}") for task in entry.get("always", [])]
    known = {"integr8scode_run": "", run: "this-run"} | ({} if switch is None else {"__integr8scode_switch": switch})
    assert evaluate("{{ " + tasks[0]["when"] + " }}", known) is runs
