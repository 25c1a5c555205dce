"""What playbooks/restore.yml takes for files of this machine, and that it cleans up; without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template


@pytest.fixture(scope="module", autouse=True)
def lookups() -> None:
    """Found by their full names only after this."""
    init_plugin_loader()


@pytest.fixture
def templated(project_root: Path) -> Any:
    role = project_root / "roles/backup"

    def templated(name: str, **variables: Any) -> Any:
        known: dict[str, Any] = {"inventory_hostname": "app1", "role_path": str(role)}
        for source in ("defaults/main.yml", "vars/main.yml"):
            known |= DataLoader().load_from_file(str(role / source), trusted_as_template=True)
        return Templar(loader=DataLoader(), variables=known | variables).template(
            trust_as_template("{{ " + name + " }}")
        )

    return templated


def test_files_beside_you_and_of_your_home_are_found(
    templated: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for name in ("k3s.tar.gz", "home/app.tar.gz"):
        (tmp_path / name).write_text("")
    named = "k3s.tar.gz, ~/app.tar.gz,/only/there.tar.gz"
    local = templated("__backup_restore_local", restore_from=named)
    assert local == [f"{tmp_path}/k3s.tar.gz", f"{tmp_path}/home/app.tar.gz"]
    assert templated("__backup_restore_there", restore_from=named) == ["/only/there.tar.gz"]


@pytest.mark.parametrize("name", ["key.txt", "~/key.txt"])
def test_the_identity_is_found_there_too(
    templated: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key.txt").write_text("AGE-SECRET-KEY-1")
    assert templated("__backup_restore_identity", restore_age_identity_file=name) == "AGE-SECRET-KEY-1"


def test_latest_is_no_file_even_beside_one_of_that_name(
    templated: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latest").write_text("")
    assert templated("__backup_restore_local", restore_from="latest") == []


def roles(tasks: list[dict[str, Any]]) -> list[str]:
    included = [task["ansible.builtin.include_role"] for task in tasks]
    assert {one["name"] for one in included} == {"backup"}
    return [one["tasks_from"] for one in included]


def test_nobody_deploys_while_something_is_put_back(project_root: Path) -> None:
    """The lock is held around both plays' changes, and given back for site.yml between them, which takes it itself."""
    first, site, last = yaml.safe_load((project_root / "playbooks/restore.yml").read_text())
    assert site["ansible.builtin.import_playbook"] == "site.yml"
    (before,) = [task["block"] for task in first["tasks"] if "block" in task]
    assert roles(before) == ["restore_check.yml", "restore_lock.yml", "restore_files.yml"]
    (data,) = [task["block"] for task in last["tasks"] if "block" in task]
    assert roles(data) == ["restore_lock.yml", "restore_data.yml"]
    tasks = yaml.safe_load((project_root / "roles/backup/tasks/restore_data.yml").read_text())
    assert tasks[0]["application_restore"]["run"] == "{{ __backup_restore_run }}"


def test_backups_that_were_brought_go_whatever_happens(project_root: Path) -> None:
    """In a check or after a refusal before anything starts, and at the end, be it a failure."""
    plays = yaml.safe_load((project_root / "playbooks/restore.yml").read_text())
    blocks = [task for play in plays for task in play.get("tasks", []) if "block" in task]
    assert len(blocks) == 2
    for block in blocks:
        assert roles(block["always"]) == ["restore_clean.yml", "restore_unlock.yml"]
    condition = blocks[0]["always"][0]["when"]
    assert "ansible_check_mode or __backup_restore_placed is not defined" in condition
    (clean,) = yaml.safe_load((project_root / "roles/backup/tasks/restore_clean.yml").read_text())
    assert clean["check_mode"] is False
