"""What `make lab` says at its end: addresses, the CA, logins, and what to try next."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab.prepare import read_description
from lab.settings import ROOT, LabError, Settings
from lab.state import write


def inventory_hosts(inventory: Path = ROOT / "inventories" / "lab") -> dict[str, dict[str, Any]]:
    """The lab's servers and their variables, as Ansible reads them (templates not evaluated).

    Raises:
        LabError: Ansible cannot read the inventory.
    """
    command = [str(Path(sys.executable).with_name("ansible-inventory")), "-i", str(inventory), "--list"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{inventory} cannot be read:\n{done.stderr}")
    data: dict[str, Any] = json.loads(done.stdout)
    variables = data["_meta"]["hostvars"]
    return {name: variables[name] for name in data.get("integr8scode", {}).get("hosts", [])}


PUBLIC_CA = "/opt/integr8scode/tls/public/ca.crt"
"""Where a server keeps the authority of its public certificate."""


def _ssh_options(settings: Settings, index: int) -> list[str]:
    state, port = settings.state, str(settings.server_port(index))
    return ["-i", f"{state}/id_ed25519", "-o", f"UserKnownHostsFile={state}/known_hosts", "-p", port, "ops@127.0.0.1"]


def fetch_public_ca(settings: Settings, name: str, index: int) -> Path | None:
    """Bring the authority of a server's https certificate to ``state/<name>-ca.crt``; None if it cannot be had."""
    command = ["ssh", "-F", "none", "-o", "BatchMode=yes", *_ssh_options(settings, index), "sudo", "cat", PUBLIC_CA]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode or "BEGIN CERTIFICATE" not in done.stdout:
        return None
    path = settings.state / f"{name}-ca.crt"
    write(path, done.stdout)
    return path


def _secret(variables: dict[str, Any], name: str) -> str:
    value = variables.get(name, "")
    return value if isinstance(value, str) else "(encrypted)"


def summary(settings: Settings) -> str:
    """The text for people.

    Raises:
        LabError: there is no lab, or no inventory.
    """
    lab = read_description(settings)
    lines = ["", "The lab is up.", ""]
    hosts = inventory_hosts()
    for name, variables in hosts.items():
        index = int(variables["lab_index"])
        https, frontend = settings.server_port(index, 1), settings.server_port(index, 2)
        ca = fetch_public_ca(settings, name, index)
        check = f"--cacert {ca}" if ca else "--insecure"
        lines += [
            f"{name}:",
            f"  API        curl {check} https://localhost:{https}/api/v1/health/live",
            f"  frontend   curl {check} https://localhost:{frontend}/",
            f"  ssh        ssh {' '.join(_ssh_options(settings, index))}",
        ]
    variables = next(iter(hosts.values()), {})
    user = _secret(variables, "vault_integr8scode_user_password")
    admin = _secret(variables, "vault_integr8scode_admin_password")
    sources = json.loads((settings.state / "sources.json").read_text("utf-8"))
    real = sorted(name for name, kind in sources["used"].items() if kind == "real")
    lines += [
        "",
        f"CA of the registry   {settings.state / 'ca.crt'}",
        f"logins               user / {user}   admin / {admin}",
        f"Docker of the lab    export DOCKER_HOST={lab['docker_host']}",
        f"real, not stand-ins  {', '.join(real) or 'none: Docker Hub, ghcr.io and GitHub are out of reach from here'}",
        "",
        "What next:",
        "  . .venv/bin/activate",
        # named, since ANSIBLE_INVENTORY may be set to somebody's servers
        "  ansible-playbook -i inventories/lab playbooks/status.yml             what runs",
        "  ansible-playbook -i inventories/lab deploy.yml -e tag=2026.2.19      ship another release",
        "  make lab-down                                                        remove the lab",
    ]
    return "\n".join(lines)
