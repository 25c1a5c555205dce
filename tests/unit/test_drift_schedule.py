"""The timer on a control host: what its unit may reach, and that no secret lies where others read it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from tests.unit.support.templating import find_plugins

UNITS = ("integr8scode-drift.service", "integr8scode-drift.timer")
SECRETS = {
    "drift_schedule_vault_password": "pass-of-the-vault",
    "drift_schedule_webhook_url": "https://x.example/T0K3N",
}
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze is installed here")


@pytest.fixture(scope="module", autouse=True)
def lookups() -> None:
    """Found by their full names only after this."""
    find_plugins()


class Role:
    """The role's variables and templates, evaluated without a server."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "roles/drift_schedule"
        self.known: dict[str, Any] = {
            "inventory_dir": str(root / "inventories/lab"),
            "playbook_dir": str(root / "playbooks"),
            "inventory_hostname": "watch1",
            "groups": {"integr8scode": ["app1"], "control": ["watch1"]},
            "hostvars": {"app1": {"bootstrap_authorized_keys": ["ssh-ed25519 AAAAme me"]}},
            "drift_schedule_public_key": "ssh-ed25519 AAAAtimer drift@watch1",
            "__drift_schedule_archive": "/tmp/project-0123456789abcdef.tar",
        }
        for source in ("defaults/main.yml", "vars/main.yml"):
            self.known |= DataLoader().load_from_file(str(self.folder / source), trusted_as_template=True)

    def evaluate(self, text: str, **variables: Any) -> Any:
        return Templar(loader=DataLoader(), variables=self.known | variables).template(trust_as_template(text))

    def unit(self, name: str, **variables: Any) -> str:
        return str(self.evaluate((self.folder / "templates" / f"{name}.j2").read_text(), **variables))

    def variables(self, **variables: Any) -> dict[str, Any]:
        text = self.evaluate(
            "{{ __drift_schedule_own_variables | combine(drift_schedule_variables) | to_nice_json }}", **variables
        )
        parsed: dict[str, Any] = json.loads(text)
        return parsed


@pytest.fixture
def role(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> Role:
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)
    return Role(project_root)


@pytest.fixture
def installed(role: Role, tmp_path: Path) -> Path:
    """A folder that systemd takes for a machine's root, with the units and what they name."""
    for name in UNITS:
        path = tmp_path / "etc/systemd/system" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(role.unit(name, drift_schedule_metrics_file="/var/lib/node/drift.prom", **SECRETS))
    program = tmp_path / "opt/integr8scode-drift/venv/bin/ansible-playbook"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    # targets that the units name
    source = next(path for path in (Path("/usr/lib/systemd/system"), Path("/lib/systemd/system")) if path.is_dir())
    shutil.copytree(source, tmp_path / "usr/lib/systemd/system", symlinks=True)
    return tmp_path


@needs_systemd
def test_systemd_understands_the_units(installed: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", f"--root={installed}", "verify", "--recursive-errors=no", "--man=no", *UNITS],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )
    about_ours = [line for line in done.stderr.splitlines() if "integr8scode-drift" in line]
    assert about_ours == []
    assert done.returncode == 0, done.stderr


@needs_systemd
def test_the_unit_is_locked_down(installed: Path) -> None:
    """systemd's own judgement: 0 is nothing left to reach, 10 all; the network and one folder are needed."""
    done = subprocess.run(
        ["systemd-analyze", f"--root={installed}", "security", "--offline=yes", "--threshold=25", UNITS[0]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "OK" in done.stdout.splitlines()[-1]


def test_a_user_of_its_own_without_rights(role: Role) -> None:
    lines = role.unit(UNITS[0]).splitlines()
    assert {"User=integr8scode-drift", "CapabilityBoundingSet=", "NoNewPrivileges=true", "ProtectSystem=strict"} < set(
        lines
    )
    assert "ReadWritePaths=/var/lib/integr8scode-drift" in lines


def test_secrets_are_credentials_and_nothing_else(role: Role) -> None:
    unit = role.unit(UNITS[0], **SECRETS)
    folder = "/etc/integr8scode-drift/credentials"
    for name in ("vault-password", "webhook-url"):
        assert f"LoadCredential={name}:{folder}/{name}\n" in unit
    assert "Environment=ANSIBLE_VAULT_PASSWORD_FILE=%d/vault-password\n" in unit
    for text in (unit, json.dumps(role.variables(**SECRETS))):
        assert not [secret for secret in SECRETS.values() if secret in text]


def test_without_secrets_there_are_no_credentials(role: Role) -> None:
    assert "LoadCredential" not in role.unit(UNITS[0])
    assert "VAULT" not in role.unit(UNITS[0])
    assert role.variables()["drift_webhook_url"] == ""


def test_the_webhook_is_read_there_at_the_time_of_a_run(
    role: Role, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = role.variables(**SECRETS)["drift_webhook_url"]
    (tmp_path / "webhook-url").write_text("https://x.example/T0K3N\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert Templar(loader=DataLoader(), variables={}).template(trust_as_template(text)) == "https://x.example/T0K3N"


def test_the_vaults_password_is_that_of_this_run(role: Role, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vault").write_text("from-a-file\n")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(tmp_path / "vault"))
    assert role.evaluate("{{ drift_schedule_vault_password }}") == "from-a-file"


def test_cures_name_the_inventory_where_this_playbook_was_run(role: Role) -> None:
    assert role.variables()["drift_inventory"] == ["inventories/lab"]
    assert role.variables(drift_schedule_inventory="/etc/hosts.yml")["drift_inventory"] == ["/etc/hosts.yml"]


def test_servers_are_known_by_their_names(role: Role) -> None:
    arguments = role.variables()["ansible_ssh_extra_args"]
    assert "StrictHostKeyChecking=yes" in arguments
    assert arguments.endswith("HostKeyAlias={{ inventory_hostname }}")


def test_the_timers_key_is_no_stranger(role: Role) -> None:
    keys = role.variables()["bootstrap_authorized_keys"]
    assert keys == ["ssh-ed25519 AAAAme me", "ssh-ed25519 AAAAtimer drift@watch1"]


def test_variables_of_ones_own_win(role: Role) -> None:
    assert (
        role.variables(drift_schedule_variables={"drift_report_dir": "/srv/drift"})["drift_report_dir"] == "/srv/drift"
    )


@pytest.mark.parametrize("wheels", ["", "/srv/wheels"])
def test_wheels_take_the_place_of_a_registry(role: Role, wheels: str) -> None:
    found = role.evaluate("{{ __drift_schedule_pip }}", drift_schedule_wheels=wheels)
    assert found.get("PIP_NO_INDEX") == ("1" if wheels else None)
    assert found.get("UV_FIND_LINKS") == (wheels or None)


def test_tasks_with_secrets_are_silent(role: Role) -> None:
    tasks = yaml.safe_load((role.folder / "tasks/settings.yml").read_text())
    secret = [task for task in tasks if "private_key |" in str(task.get("ansible.builtin.copy"))]
    secret += [task for task in tasks if "__drift_schedule_secrets" in str(task.get("loop")) and "copy" in str(task)]
    secret += [task for task in tasks if "variables.json" in str(task)]
    assert len(secret) == 3
    assert all(task["no_log"] is True for task in secret)
