"""The units of the server's own timers: what they may reach, rendered without a server."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

UNITS = {"backup": "integr8scode-backup.service.j2", "maintenance": "integr8scode-renew-kubeconfig.service.j2"}


def unit(root: Path, role: str, **variables: object) -> list[str]:
    """The lines of a role's unit, with its defaults and `variables`."""
    folder = root / "roles" / role
    known: dict[str, object] = {}
    for source in ("defaults/main.yml", "vars/main.yml"):
        known |= DataLoader().load_from_file(str(folder / source), trusted_as_template=True)
    templar = Templar(loader=DataLoader(), variables=known | variables)
    text = templar.template(trust_as_template((folder / "templates" / UNITS[role]).read_text()))
    return str(text).splitlines()


@pytest.mark.parametrize("role", UNITS)
def test_its_lock_is_root_s_and_outlives_the_unit(project_root: Path, role: str) -> None:
    lines = unit(project_root, role)
    assert {"RuntimeDirectory=integr8scode", "RuntimeDirectoryMode=0700", "RuntimeDirectoryPreserve=yes"} < set(lines)
    assert not any("/run/lock" in line for line in lines)


@pytest.mark.parametrize("role", UNITS)
def test_what_is_below_home_is_not_hidden(project_root: Path, role: str) -> None:
    assert "ProtectHome=read-only" in unit(project_root, role)


def test_backups_on_another_disk(project_root: Path) -> None:
    lines = unit(project_root, "backup", backup_directory="/home/backups", k3s_config={"data-dir": "/data/k3s"})
    assert "RequiresMountsFor=/home/backups" in lines
    (writable,) = [line for line in lines if line.startswith("ReadWritePaths=")]
    assert {"-/home/backups", "-/data/k3s"} < set(writable.partition("=")[2].split())


def test_what_a_person_starts_is_what_the_timer_starts(project_root: Path) -> None:
    tasks = DataLoader().load_from_file(str(project_root / "roles/backup/tasks/run.yml"))
    assert "systemctl start integr8scode-backup.service\n" in tasks[0]["ansible.builtin.shell"]["cmd"]
