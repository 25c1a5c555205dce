"""An inventory whose group has no server, as the shipped ones at first: no playbook ends as if all was well."""

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


def hosts(path: Path, servers: dict[str, list[str]]) -> str:
    """`group_with_servers`, as the playbook's first play uses it."""
    known = {"groups": servers, "ansible_inventory_sources": [str(ROOT / "inventories/production")]}
    found: str = evaluate(first_play(path)["hosts"], known)
    return found


@pytest.mark.parametrize("servers", [{"integr8scode": []}, {}], ids=["empty", "missing"])
@pytest.mark.parametrize("path", every_playbook(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_playbook_refuses_a_group_without_servers(path: Path, servers: dict[str, list[str]]) -> None:
    with pytest.raises(AnsibleError) as refused:
        hosts(path, servers)
    assert SAID in str(refused.value)
    assert hosts(path, {"integr8scode": ["app1"]}) == "integr8scode"


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
        evaluate("{{ 'x' | group_with_servers({}, sources) }}", {"sources": sources})


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
