"""The lookup project_archive: what a control host gets, the same for the same files, the vault encrypted as it is."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from ansible.errors import AnsibleError
from ansible.plugins.lookup import project_archive


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    folder = tmp_path / "inventory"
    (tmp_path / "shared/all").mkdir(parents=True)
    folder.mkdir()
    (folder / "hosts.yml").write_text("integr8scode:\n")
    (tmp_path / "shared/all/vault.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    (tmp_path / "shared/all/main.yml").write_text("one: two\n")
    (folder / "group_vars").symlink_to("../shared")
    return folder


def names(content: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return tar.getnames()


def test_all_that_a_playbook_needs(project_root: Path, inventory: Path) -> None:
    found = names(project_archive.build(project_root, inventory))
    assert {
        "project/ansible.cfg",
        "project/docker-compose.yaml",
        "project/playbooks/drift.yml",
        "project/plugins/action/drift_present.py",
        "project/roles/drift/tasks/main.yml",
        "project/lab/environment.sh",
        "project/requirements.txt",
        "inventory/hosts.yml",
        "inventory/group_vars/all/vault.yml",
    } <= set(found)
    assert found[-1] == "complete"
    assert not [
        name
        for name in found
        if "__pycache__" in name or name.startswith(("project/inventories", "project/lab/images"))
    ]


def test_drift_runs_from_what_was_unpacked(project_root: Path, inventory: Path, tmp_path: Path) -> None:
    """Nothing is missing that ansible-playbook needs to read drift.yml with its roles."""
    (inventory / "hosts.yml").write_text("integr8scode: {hosts: {app1: {}}}\n")
    with tarfile.open(fileobj=io.BytesIO(project_archive.build(project_root, inventory))) as tar:
        tar.extractall(tmp_path / "there", filter="data")
    (tmp_path / "there/inventory/group_vars/all/vault.yml").unlink()
    done = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            "-i",
            "../inventory",
            "--list-tasks",
            "playbooks/drift.yml",
        ],
        cwd=tmp_path / "there/project",
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stderr
    assert "Compare the server with what was deployed" in done.stdout


def test_the_environment_can_be_made_there(project_root: Path, inventory: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(project_archive.build(project_root, inventory))) as tar:
        assert tar.getmember("project/lab/environment.sh").mode == 0o755
        assert tar.getmember("inventory/hosts.yml").mode == 0o644


def test_the_same_files_give_the_same_bytes(project_root: Path, inventory: Path) -> None:
    before = project_archive.build(project_root, inventory)
    (inventory / "hosts.yml").touch()
    assert project_archive.build(project_root, inventory) == before
    (inventory / "hosts.yml").write_text("integr8scode: {}\n")
    assert project_archive.build(project_root, inventory) != before


def test_the_vault_stays_encrypted(project_root: Path, inventory: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(project_archive.build(project_root, inventory))) as tar:
        member = tar.extractfile("inventory/group_vars/all/vault.yml")
        assert member is not None
        assert member.read().startswith(b"$ANSIBLE_VAULT;")


def test_what_is_encrypted_is_found(inventory: Path) -> None:
    (inventory / "inline.yml").write_text("a: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\n")
    lookup = project_archive.LookupModule()
    assert lookup.run([], inventory=str(inventory), encrypted=True) == [
        "inventory/group_vars/all/vault.yml",
        "inventory/inline.yml",
    ]


def test_an_inventory_of_one_file(project_root: Path, inventory: Path) -> None:
    assert "inventory/hosts.yml" in names(project_archive.build(project_root, inventory / "hosts.yml"))


def test_the_file_is_named_by_its_hash(inventory: Path) -> None:
    lookup = project_archive.LookupModule()
    (first,), (second,) = lookup.run([], inventory=str(inventory)), lookup.run([], inventory=str(inventory))
    assert first == second
    assert Path(first).stat().st_mode & 0o077 == 0
    (inventory / "hosts.yml").write_text("")
    assert lookup.run([], inventory=str(inventory)) != [first]


@pytest.mark.parametrize("path", ["", "/nonexistent", "app1,app2"])
def test_no_inventory(path: str) -> None:
    with pytest.raises(AnsibleError, match="neither a folder nor a file"):
        project_archive.LookupModule().run([], inventory=path)


def test_links_in_a_ring(inventory: Path) -> None:
    (inventory / "loop").symlink_to(".")
    with pytest.raises(AnsibleError, match="cannot be packed"):
        project_archive.LookupModule().run([], inventory=str(inventory))


def test_it_takes_nothing_else(inventory: Path) -> None:
    with pytest.raises(AnsibleError, match="nothing else"):
        project_archive.LookupModule().run(["x"], inventory=str(inventory))
