"""The action integr8scode_preflight: one question, one answer with everything, and a shell where no module runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import integr8scode_preflight as action

from tests.unit.preflight.test_causes import NEEDS, SERVER, WELL, holder
from tests.unit.preflight.test_contact import SAID

SECRET = "integr8scode_user_password has 5 characters, 12 are the least."
LOOKED = (
    "system",
    "clock",
    "names",
    "servers",
    "cgroup",
    "kernel",
    "open_files",
    "packages",
    "k3s",
    "own_name",
    "container",
    "unknown",
)
NEEDED = {
    **NEEDS,
    "registries": ["ghcr.io"],
    "k3s_host": "github.com",
    "k3s_version": "v1.34.4+k3s1",
    "tag_named": False,
}


def state(**changes: Any) -> dict[str, Any]:
    server = {name: changes.pop(name, WELL[name]) for name in LOOKED}
    server["k3s"] = {"installed_version": "", **server["k3s"]}
    return {**SERVER, "memory": WELL["memory"], "disk": WELL["disk"], "server": server, **changes}


class Asked:
    """The action with a server that answers as it is told; an exception is raised by the question."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: Any, shell: Any = None, **more: Any) -> None:
        self.modules: list[dict[str, Any]] = []
        self.scripts: list[str] = []
        self.warned: list[str] = []
        self.answer, self.shell = answer, shell
        self.plugin = action.ActionModule.__new__(action.ActionModule)
        arguments = {"look": {"base": "/opt/integr8scode"}, "needs": NEEDED, "secrets": [], **more}
        self.plugin._task = SimpleNamespace(args=arguments, async_val=0, check_mode=False)
        self.plugin._play_context = None
        become = SimpleNamespace(get_option=lambda *_, **__: None)
        self.plugin._connection = SimpleNamespace(become=become)
        self.plugin._display = SimpleNamespace(warning=self.warned.append)
        self.plugin._execute_module = self._module
        self.plugin._low_level_execute_command = self._shell
        monkeypatch.setattr(action.ActionBase, "run", lambda *_: {})

    def _module(self, *, module_name: str, module_args: dict[str, Any], task_vars: Any) -> Any:
        assert (module_name, task_vars) == ("integr8scode_state", {"inventory_hostname": "app1"})
        self.modules.append(module_args)
        if isinstance(self.answer, Exception):
            raise self.answer
        return {"time": action.time.time(), **self.answer}

    def _shell(self, script: str, sudoable: bool) -> Any:
        assert not sudoable
        self.scripts.append(script)
        if isinstance(self.shell, Exception):
            raise self.shell
        return {"stdout": self.shell, "stderr": "what it says"}

    def run(self) -> dict[str, Any]:
        return dict(self.plugin.run(None, {"inventory_hostname": "app1"}))


def test_a_server_that_is_well_costs_one_question_and_is_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, state(), k3s_token="t" * 20)
    answer = asked.run()
    assert "failed" not in answer
    assert answer["server"]["system"]["id"] == "debian"
    assert asked.modules == [{"base": "/opt/integr8scode", "k3s_token": "t" * 20}]
    assert (asked.scripts, asked.warned) == ([], [])


def test_mongos_login_goes_to_the_server_as_arguments_that_no_log_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, state(), mongo_login={"username": "root", "password": "hidden-hidden"})
    asked.run()
    (given,) = asked.modules
    assert (given["mongo_root_username"], given["mongo_root_password"]) == ("root", "hidden-hidden")
    asked = Asked(monkeypatch, state(), mongo_login={})
    asked.run()
    assert not {"mongo_root_username", "mongo_root_password"} & asked.modules[0].keys()


def test_everything_is_told_at_once_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    ill = state(memory={"total_bytes": 1}, listeners={"443": holder()}, names={"ghcr.io": "dead", "github.com": "dead"})
    answer = Asked(monkeypatch, ill, secrets=[SECRET]).run()
    assert answer.keys() == {"failed", "changed", "msg"}
    head, *lines, tail = answer["msg"]
    assert head == "app1: 4 causes to see to before anything can be done."
    assert tail == "Nothing was changed."
    assert [line.split()[1] for line in lines] == ["secret:", "port:", "memory:", "dns:"]
    assert lines[0] == f"1. secret: {SECRET}"
    assert "Cure: as root on the server: systemctl disable --now nginx.service" in lines[1]
    assert "ghcr.io: dead; github.com: dead" in lines[3]


def test_an_image_that_cannot_be_had_is_told_with_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    images = {"problem": "ghcr.io/x/backend:1 does not exist in the registry"}
    answer = Asked(monkeypatch, state(memory={"total_bytes": 1}, images=images)).run()
    assert [line.split()[1] for line in answer["msg"][1:-1]] == ["memory:", "images:"]
    assert answer["msg"][2] == f"2. images: {images['problem']}"
    # a registry without an address is told once
    nameless = state(names={"ghcr.io": "dead", "github.com": "203.0.113.1"}, images=images)
    answer = Asked(monkeypatch, nameless).run()
    assert [line.split()[1] for line in answer["msg"][1:-1]] == ["dns:"]
    # ... unless that is what somebody knows better
    answer = Asked(monkeypatch, nameless, skip=["dns"]).run()
    assert [line.split()[1] for line in answer["msg"][1:-1]] == ["images:"]
    assert "failed" not in Asked(monkeypatch, state(images={"digests": {}, "missing": []})).run()


def test_a_login_goes_to_the_server_only_with_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    login = [{"registry": "ghcr.io", "username": "ops", "password": "hidden-hidden"}]
    asked = Asked(monkeypatch, state(), registry_login=login)
    asked.run()
    look = {"base": "/opt/integr8scode", "images": {"services": {}, "renewed": "ghcr.io"}}
    named = Asked(monkeypatch, state(), registry_login=login, look=look)
    named.run()
    assert "registry_login" not in asked.modules[0]
    assert named.modules[0]["registry_login"] == login


def test_what_else_the_inventory_says_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Asked(monkeypatch, state(), secrets=[SECRET], settings=["a name is an example"]).run()
    assert answer["msg"][1:3] == [f"1. secret: {SECRET}", "2. setting: a name is an example"]


def test_a_note_is_told_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, state(), notes=["no setting is named so"])
    assert "failed" not in asked.run()
    assert asked.warned == ["app1: no setting is named so"]


def test_a_clock_that_is_wrong_is_found_by_the_question_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Asked(monkeypatch, state(time=action.time.time() - 7200)).run()
    assert "s behind this machine's" in answer["msg"][1]


def test_what_may_be_skipped_is_told_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ill = state(memory={"total_bytes": 1})
    asked = Asked(monkeypatch, ill, skip=["memory"])
    assert "failed" not in asked.run()
    (warning,) = asked.warned
    assert warning.startswith("app1: told to go on all the same, memory: The server has 0 MiB")
    answer = Asked(monkeypatch, ill, skip=["memory", "secret"]).run()
    assert answer["failed"]
    assert "there is no secret, only apt_lock, cgroup" in answer["msg"]


@pytest.mark.parametrize(
    ("release", "tag_named", "installed", "names"),
    [
        (None, False, "", ["ghcr.io", "github.com"]),
        (None, False, "v1.34.4+k3s1", ["ghcr.io"]),
        ({"id": "1"}, False, "v1.34.4+k3s1", []),
        ({"id": "1"}, True, "v1.34.4+k3s1", ["ghcr.io"]),
        ({"id": "1"}, False, "v1.33.1+k3s1", ["github.com"]),
    ],
)
def test_only_what_is_downloaded_has_to_be_found(
    release: Any, tag_named: bool, installed: str, names: list[str]
) -> None:
    told = {"release": release, "server": {"k3s": {"installed_version": installed}}}
    assert action.names_to_find(told, {**NEEDED, "tag_named": tag_named}) == names


NO_PYTHON = {"failed": True, "msg": "The module interpreter '/usr/bin/python3' was not found.", "rc": 127}


@pytest.mark.parametrize(
    "answer",
    [
        NO_PYTHON,
        AnsibleError("Missing sudo password"),
        AnsibleConnectionFailure("Timeout (12s) waiting for privilege escalation prompt: "),
    ],
)
def test_where_no_module_runs_a_shell_tells_all_it_can(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    asked = Asked(monkeypatch, answer, SAID, secrets=[SECRET], inventory=["inventories/production"])
    told = asked.run()
    assert [line.split()[1] for line in told["msg"][1:-1]] == ["secret:", "python:", "sudo:", "memory:", "disk:"]
    assert "ansible-playbook -i inventories/production playbooks/bootstrap.yml --limit app1" in told["msg"][2]
    assert len(asked.scripts) == 1


def test_a_shell_that_tells_nothing_has_its_words_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Asked(monkeypatch, NO_PYTHON, "This account is currently not available.\n").run()
    (line,) = told["msg"][1:-1]
    assert "was not found.; and a shell says: what it says" in line


def test_a_module_that_ran_says_itself_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, {"failed": True, "msg": "release.json is broken.", "invocation": {}})
    assert asked.run()["msg"][1] == "1. server: release.json is broken."
    assert asked.scripts == []


def test_a_server_out_of_reach_is_unreachable_and_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked in (
        Asked(monkeypatch, AnsibleConnectionFailure("no route to host"), secrets=[SECRET]),
        Asked(monkeypatch, {"unreachable": True, "msg": "no route to host"}, secrets=[SECRET]),
        Asked(monkeypatch, NO_PYTHON, AnsibleConnectionFailure("no route to host"), secrets=[SECRET]),
    ):
        told = asked.run()
        assert told["unreachable"] is True
        assert "failed" not in told
        assert [line.split()[1] for line in told["msg"][1:-1]] == ["secret:", "reachable:"]
        assert "no route to host" in told["msg"][2]
    told = Asked(monkeypatch, AnsibleConnectionFailure("ops@app1: Permission denied (publickey).")).run()
    assert "a fresh server knows its first user only: ansible-playbook playbooks/bootstrap.yml" in told["msg"][1]
