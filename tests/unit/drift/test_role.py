"""The role: what it says of other roles is what they do; filters, and the whole module once on this machine."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.drift.collect import Comparer, look
from ansible.module_utils.drift.findings import Comparison
from ansible.plugins.action.drift_fix import options
from ansible.plugins.filter.drift_cures import drift_cures, drift_plan, drift_sentence
from ansible.plugins.filter.drift_expected import drift_digest, drift_owned, drift_secrets

from tests.unit.drift.clean_server import KEY, answers, compare, expected, keyed
from tests.unit.drift.test_report import finding, report, result
from tests.unit.support.templating import evaluate


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture
def variables(project_root: Path) -> dict[str, Any]:
    found: dict[str, Any] = load(project_root / "roles/drift/vars/main.yml")
    return found


def task(project_root: Path, module: str) -> dict[str, Any]:
    """The arguments of a module in the role integr8scode."""
    for path in sorted((project_root / "roles/integr8scode/tasks").glob("*.yml")):
        for one in load(path) or []:
            if module in one:
                arguments: dict[str, Any] = one[module]
                return arguments
    raise AssertionError(f"no task of the role integr8scode runs {module}")


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_the_controllers_time_is_the_same_in_every_zone(
    project_root: Path, variables: dict[str, Any], monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    """Else each server of a controller that does not live in UTC has a wrong clock."""
    doctor = load(project_root / "roles/doctor/tasks/main.yml")[0]["doctor"]
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for told in (variables["__drift_expected"]["clock"]["controller_time"], doctor["controller_time"]):
            assert abs(float(evaluate(told, {})) - time.time()) < 60
    finally:
        monkeypatch.undo()
        time.tzset()


def test_secrets_are_those_that_the_role_writes(project_root: Path, variables: dict[str, Any]) -> None:
    written = task(project_root, "release_files")["secrets"]
    wanted = variables["__drift_secrets"]
    assert wanted["directory"] == written["directory"]
    ours = {one["name"]: (one["content"], one["services"], str(one["owner"])) for one in wanted["files"]}
    theirs = {one["name"]: (one["content"], one["services"], str(one.get("owner", 0))) for one in written["files"]}
    assert ours == theirs
    assert {one["mode"] for one in wanted["files"]} == {"0400"}
    assert not any("mode" in one for one in written["files"])


def test_certificates_are_those_that_the_role_issues(project_root: Path, variables: dict[str, Any]) -> None:
    def names(one: dict[str, Any]) -> set[str]:
        """What a list, or an expression of lists, names."""
        words = [one["names"]] if "names" in one else [one["dns_names"], one["ip_addresses"]]
        return {
            part
            for word in words
            for text in ([word] if isinstance(word, str) else word)
            for part in re.findall(r"[\w.]+", text)
        }

    issued = {one["name"]: one for one in task(project_root, "release_files")["certificates"]["certificates"]}
    wanted = {one["name"]: one for one in variables["__drift_certificates"]}
    assert set(issued) == set(wanted)
    for name, one in issued.items():
        ours = wanted[name]
        assert ours["directory"] == one["directory"]
        assert names(ours) == names(one)
        assert ours["with_ca"] == one.get("with_ca", False)
        assert str(ours["owner"]) == str(one.get("owner", 0))
        assert (ours["provided"] is not False) == ("provided_certificate" in one)


@pytest.mark.parametrize(
    "role", ["docker", "k3s", "kubernetes_access", "maintenance", "integr8scode", "backup", "ops_user"]
)
def test_to_know_a_role_does_nothing(project_root: Path, role: str) -> None:
    assert load(project_root / f"roles/{role}/tasks/owned.yml") == []
    playbook = (project_root / "playbooks/drift.yml").read_text(encoding="utf-8")
    assert f"{{name: {role}, tasks_from: owned.yml}}" in playbook


def test_the_playbook_changes_nothing_on_a_server(project_root: Path) -> None:
    """No task of the role but drift_facts runs on a server."""
    here = {"drift_report", "drift_facts", "drift_fix", "block", "rescue"}
    builtin = {"set_fact", "include_tasks", "import_tasks", "debug", "fail", "assert"}
    known = here | {f"ansible.builtin.{name}" for name in builtin}
    keywords = {
        "name",
        "register",
        "run_once",
        "no_log",
        "when",
        "vars",
        "ignore_unreachable",
        "loop",
        "failed_when",
        "changed_when",
        "environment",
    }

    def check(tasks: list[dict[str, Any]]) -> None:
        for one in tasks:
            local = one.get("delegate_to") == "localhost" or one.get("run_once")
            modules = set(one) - keywords - {"delegate_to", "become", "loop_control", "always"}
            assert modules <= known or local, f"{one.get('name')}: {modules - known}"
            for part in ("block", "rescue", "always"):
                check(one.get(part, []))

    for name in ("main.yml", "fix.yml"):
        check(load(project_root / "roles/drift/tasks" / name))


# -- filters


def test_what_roles_own_is_put_together_with_who_cures_it() -> None:
    key = KEY.hex()
    owned = {
        "k3s": {
            "files": [
                {"path": "/a", "content": "x", "mode": "0644"},
                {"path": "/t", "secret": "token", "mode": "0600"},
            ],
            "folders": [{"path": "/f"}],
            "units": [{"name": "k3s.service"}],
        },
        "backup": {"packages": ["age", "python3-yaml"], "files": [{"path": "/p", "program": "maintenance"}]},
        "maintenance": {"packages": ["python3-yaml"]},
        "ops_user": {"files": [{"path": "/etc/sudoers.d/ops", "content": "", "playbook": "x"}]},
    }
    found = drift_owned(owned, key, {"maintenance": "abc"})
    files = {one["path"]: one for one in found["files"]}
    assert files["/a"] == {"path": "/a", "content": "x", "mode": "0644", "role": "k3s", "owner": 0, "group": 0}
    assert files["/t"]["digest"] == drift_digest("token", key) == keyed(b"token", KEY)
    assert files["/t"]["secret"] is True
    assert "token" not in str(found)
    assert files["/p"]["digest"] == "abc"
    assert files["/etc/sudoers.d/ops"]["role"] == ""
    assert found["folders"] == [{"path": "/f", "owner": 0, "group": 0, "role": "k3s"}]
    assert found["units"] == [{"name": "k3s.service", "role": "k3s"}]
    assert found["packages"] == [{"name": "age", "role": "backup"}, {"name": "python3-yaml", "role": "backup"}]


def test_secrets_leave_the_controller_as_hashes() -> None:
    found = drift_secrets({"directory": "/s", "files": [{"name": "a", "content": "hunter2", "owner": 0}]}, KEY.hex())
    assert found["files"] == [{"name": "a", "owner": 0, "digest": keyed(b"hunter2", KEY)}]


def cure(host: str, text: str, inventory: str = "") -> str:
    return f"ansible-playbook {inventory}playbooks/{text.replace('@', f'--limit {host}')}"


def test_cures_are_put_together() -> None:
    document = report(
        {
            "app1": result(
                finding("/a", cure=cure("app1", "site.yml @ --tags k3s")),
                finding("/b", cure=cure("app1", "site.yml @ --tags docker")),
                finding("/c", cure=cure("app1", "backup.yml @")),
                finding("/d", cure="ansible-playbook deploy.yml --limit app1 -e tag=2026.2.20"),
                finding("/e", cure="By hand: look", cure_kind="manual"),
                finding("/f", cure=cure("app1", "restore.yml @")),
            ),
            "app2": result(
                finding("/a", cure=cure("app2", "site.yml @ --tags k3s")),
                finding("/b", cure=cure("app2", "site.yml @")),
                finding("/d", cure="ansible-playbook deploy.yml --limit app2 -e tag=2026.2.20"),
                finding("/g", cure=cure("app2", "recover-k3s.yml @")),
            ),
            "app3": {"unreachable": True, "msg": "down"},
        },
        rules=[{"item": "/c", "reason": "x", "until": "2027-01-01"}],
    )
    assert [run["argv"] for run in drift_cures(document)] == [
        ["playbooks/recover-k3s.yml", "--limit", "app2"],
        ["playbooks/site.yml", "--limit", "app1", "--tags", "docker,k3s"],
        ["playbooks/site.yml", "--limit", "app2"],
        ["deploy.yml", "--limit", "app1,app2", "-e", "tag=2026.2.20"],
    ]
    plan = drift_plan(document)
    assert plan[0] == "Will run: ansible-playbook playbooks/recover-k3s.yml --limit app2"
    assert "Left to you: app1: files:/e#mode: By hand: look" in plan
    assert "Left to you: app3 is unreachable: down" in plan
    assert not any("restore" in line for line in plan)
    assert drift_plan(report({"app1": result()})) == ["Nothing to do."]


def test_cures_of_another_inventory_stay_apart_and_are_shown_with_it() -> None:
    document = report(
        {
            "app1": result(finding("/a", cure=cure("app1", "site.yml @", "-i 'my hosts.yml' -i x "))),
            "app2": result(finding("/a", cure=cure("app2", "site.yml @", "-i y "))),
            "app3": result(finding("/a", cure="ansible-playbook -i y"), finding("/b", cure="ansible-playbook")),
        }
    )
    runs = drift_cures(document)
    # whoever runs them names its own inventory
    assert [run["argv"] for run in runs] == [
        ["playbooks/site.yml", "--limit", "app1"],
        ["playbooks/site.yml", "--limit", "app2"],
    ]
    assert drift_plan(document)[0] == (
        "Will run: ansible-playbook -i 'my hosts.yml' -i x playbooks/site.yml --limit app1"
    )


def test_cures_name_the_inventory_of_the_run(project_root: Path, variables: dict[str, Any]) -> None:
    assert variables["__drift_expected"]["inventory"] == "{{ drift_inventory }}"
    default = load(project_root / "roles/drift/defaults/main.yml")["drift_inventory"]
    known = {
        "ansible_inventory_sources": ["/p/inventories/production", "/etc/hosts.yml"],
        "playbook_dir": "/p/playbooks",
    }
    found = evaluate(default, known)
    assert found == ["inventories/production", "/etc/hosts.yml"]
    comparer = Comparer({**expected(), "inventory": found}, {}, {}, KEY)
    prefix = "ansible-playbook -i inventories/production -i /etc/hosts.yml"
    assert comparer.result.site("k3s") == f"{prefix} playbooks/site.yml --limit app1 --tags k3s"
    assert comparer.result.deploy("T") == f"{prefix} deploy.yml --limit app1 -e tag=T"
    assert comparer.result.playbook("backup", "-e", "a=b") == f"{prefix} playbooks/backup.yml --limit app1 -e a=b"
    # without one, as a command was always written
    assert Comparison("app1").site() == "ansible-playbook playbooks/site.yml --limit app1"


def test_a_file_names_the_playbook_that_cures_it() -> None:
    wanted = expected()
    wanted["files"]["files"][0]["playbook"] = "bootstrap"
    path = wanted["files"]["files"][0]["path"]
    found = answers()
    found["files"]["value"]["entries"][path]["mode"] = "0666"
    (one,) = compare(found, wanted)["findings"]
    assert one["cure"] == "ansible-playbook -i inventories/production playbooks/bootstrap.yml --limit app1"


def test_a_host_is_said_in_a_sentence() -> None:
    document = report({"app1": result(finding(), finding("/y", severity="info")), "app2": {"msg": "boom"}})
    said = drift_sentence(document["hosts"][0], "reports")
    assert "app1 is not what was deployed: 1 critical, 1 info. First: /etc/x (mode): expected 0600, found 0644." in said
    assert "Nothing was changed." in said
    assert drift_sentence(document["hosts"][1], "reports").startswith("app2 could not be compared: boom")


def test_other_playbooks_are_started_as_this_one_was() -> None:
    given = {
        "inventory": ["/i"],
        "vault_password_files": ["/v"],
        "remote_user": "ops",
        "extra_vars": ["fix=true", "a=b"],
        "ask_vault_pass": False,
    }
    assert options(given) == [
        "--inventory", "/i", "--vault-password-file", "/v", "--user", "ops", "--extra-vars", "a=b",
    ]  # fmt: skip
    with pytest.raises(Exception, match="Nothing was changed"):
        options({**given, "ask_vault_pass": True})


# -- the module


def test_the_module_gives_a_report_of_any_machine() -> None:
    """This machine is no server of the project: the report says so, without a traceback."""
    wanted = {**expected(), "owned": {"files": [], "folders": [], "units": [], "packages": []}}
    wanted["registry"] = {"host": "", "images": "", "username": ""}
    found = look(wanted, key=KEY, password="the-password", seen={}, limit=5, total=10)
    told = {name for one in found["findings"] for name in (one["id"], *one.get("details", ()))}
    assert "release:current#missing" in told
    assert found["seconds"] < 15
    assert "the-password" not in json.dumps(found)


def test_drift_facts_wants_a_key(run_module: Any) -> None:
    failed = run_module("drift_facts", {"expected": {}, "key": "no"})
    assert failed["failed"]
    assert "hexadecimal" in failed["msg"]
    lacking = run_module("drift_facts", {"expected": {}, "key": "00"})
    assert "Role drift gathers it" in lacking["msg"]


def test_clean_stays_clean() -> None:
    assert compare(answers())["findings"] == []
