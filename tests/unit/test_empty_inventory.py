"""An inventory whose group has no server, as the shipped ones at first, a limit that leaves none, a tag that is none.

No playbook ends as if all was well.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError

from tests.unit.support.commands import every_playbook
from tests.unit.support.templating import ROOT, evaluate, load

SAID = (
    "Nothing was changed. The group integr8scode of inventories/production has no server. Put yours into its "
    "hosts.yml: README, 'Your own servers', step 2."
)


def first_play(path: Path) -> Any:
    """The play that Ansible begins with, be it one of a playbook that is imported."""
    entry = load(str(path.relative_to(ROOT)))[0]
    imported = entry.get("ansible.builtin.import_playbook")
    return first_play((path.parent / imported).resolve()) if imported else entry


def hosts(path: Path, servers: dict[str, list[str]], tags: tuple[str, ...] = ("all",), limit: str = "") -> str:
    """`group_with_servers`, as the playbook's first play uses it."""
    known: dict[str, Any] = {
        "groups": servers,
        "ansible_inventory_sources": [str(ROOT / "inventories/production")],
        "ansible_run_tags": list(tags),
    }
    if limit:
        known["ansible_limit"] = limit
    found: str = evaluate(first_play(path)["hosts"], known)
    return found


@pytest.mark.parametrize("servers", [{"integr8scode": []}, {}], ids=["empty", "missing"])
@pytest.mark.parametrize("path", every_playbook(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_playbook_refuses_a_group_without_servers(path: Path, servers: dict[str, list[str]]) -> None:
    with pytest.raises(AnsibleError) as refused:
        hosts(path, servers)
    assert SAID in str(refused.value)
    assert hosts(path, {"integr8scode": ["app1"]}) == "integr8scode"


SERVERS = {
    "all": ["app1", "app2", "other1"],
    "integr8scode": ["app1", "app2"],
    "control": ["other1"],
}
OF_THE_CONTROL_HOST = ROOT / "playbooks/drift-schedule.yml"


@pytest.mark.parametrize("limit", ["other1", "control", "all:!integr8scode", "other*", "app1:&control"])
@pytest.mark.parametrize("path", every_playbook(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_playbook_refuses_a_limit_that_leaves_no_server(path: Path, limit: str) -> None:
    if path == OF_THE_CONTROL_HOST:
        # a later play of it is the control host's
        assert hosts(path, SERVERS, limit=limit) == "integr8scode"
        return
    with pytest.raises(AnsibleError) as refused:
        hosts(path, SERVERS, limit=limit)
    said = (
        f"Nothing was changed. --limit {limit} leaves no server of the group integr8scode of inventories/production, "
    )
    assert f"{said}which has app1, app2." in str(refused.value)


@pytest.mark.parametrize("limit", ["app2", "app1,other1", "all", "integr8scode[0]", "app*", "~app[12]", "!app1"])
def test_a_limit_that_leaves_a_server_is_none_of_its_business(limit: str) -> None:
    assert hosts(ROOT / "playbooks/deploy.yml", SERVERS, limit=limit) == "integr8scode"


def test_a_limit_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "retry"
    file.write_text("app2\n", encoding="utf-8")
    assert hosts(ROOT / "playbooks/deploy.yml", SERVERS, limit=f"@{file}") == "integr8scode"


def test_of_many_servers_some_are_named() -> None:
    many = [f"app{number:02}" for number in range(30)]
    with pytest.raises(AnsibleError, match="app09, …"):
        hosts(ROOT / "playbooks/deploy.yml", {"integr8scode": many, "all": [*many, "other1"]}, limit="other1")


@pytest.mark.parametrize("path", every_playbook(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_playbook_refuses_a_tag_that_it_does_not_have(path: Path) -> None:
    """`deploy.yml --tags 2026.2.20` would end green without a task."""
    for tags in [("2026.2.20",), ("dokcer", "k3s"), ("never",)]:
        with pytest.raises(AnsibleError, match=f"Nothing was changed. This playbook has no tag {tags[0]}"):
            hosts(path, SERVERS, tags=tags)
    assert hosts(path, SERVERS, tags=("all", "more")) == "integr8scode"


def test_the_site_has_the_tags_of_its_roles() -> None:
    path = ROOT / "playbooks/site.yml"
    roles = tuple(role["tags"] for role in first_play(path)["roles"])
    assert len(roles) > 5
    for tags in [*((role,) for role in roles), roles, ("tagged",), ("always",)]:
        assert hosts(path, SERVERS, tags=tags) == "integr8scode"


@pytest.mark.parametrize(
    ("sources", "named"),
    [
        ("/srv/inventory", "of /srv/inventory has"),
        ("a,b", "of a,b has"),
        (["/srv/one", "/srv/two"], "of /srv/one and /srv/two has"),
        ([], "of the inventory has"),
    ],
)
def test_inventories_are_named_as_they_were_given(sources: Any, named: str) -> None:
    with pytest.raises(AnsibleError, match=named):
        evaluate("{{ 'x' | group_with_servers }}", {"groups": {}, "ansible_inventory_sources": sources})


def test_a_program_that_reads_the_status_is_told_by_the_exit_code(tmp_path: Path) -> None:
    """And finds no document that says nothing is wrong."""
    (tmp_path / "hosts.yml").write_text("integr8scode: {hosts: {}}\n", encoding="utf-8")
    document = tmp_path / "status.json"
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "ansible-playbook", "-i", tmp_path, ROOT / "playbooks/status.yml"),
            *("-e", "format=json", "-e", f"status_file={document}"),
        ],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "COLUMNS": "1000"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert f"Nothing was changed. The group integr8scode of {tmp_path} has no server." in said
    assert "PLAY RECAP" not in done.stdout
    assert not document.exists()


@pytest.mark.parametrize("name", ["deploy", "rollback"])
@pytest.mark.parametrize("steps", ["x", "[1, 2]", [], [1, "half"], 0, -1, "0%", "12.5%", True, "50 %"])
def test_steps_that_cannot_be_gone_are_told_before_a_server_is_locked(name: str, steps: Any) -> None:
    """`step_problems`, as the playbook's first play uses it."""
    tasks = first_play(ROOT / f"playbooks/{name}.yml")["tasks"]
    names = [task["name"] for task in tasks]
    at = next(number for number, one in enumerate(names) if one.startswith("Refuse steps"))
    assert at < names.index("Lock every server")
    expression = tasks[at]["vars"][f"{name}_steps"]
    (problem,) = evaluate(expression, {f"{name}_serial": steps})
    assert problem.startswith(f"{name}_serial says ")
    for good in (1, "2", "50%", [1, "50%"], [2, "100%"]):
        assert evaluate(expression, {f"{name}_serial": good}) == []
    assert evaluate(expression, {}) == []
