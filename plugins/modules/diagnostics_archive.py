#!/usr/bin/python
"""Ansible module: logs and states of a server in one archive that holds none of its secrets."""

from __future__ import annotations

DOCUMENTATION = r"""
module: diagnostics_archive
short_description: Collect logs and states of a server into one archive without secrets
description:
  - Collects containers' logs, journals, states of Docker, k3s, network and disks, versions, releases, the history and
    what the module C(doctor) says.
  - Every secret that lies on the server (the stack's secret files, tokens, keys, Docker's logins, values of the
    containers' environments) is searched for in each part as it is, URL-encoded, in base64 and escaped as in JSON, and
    masked; what looks like a key, a token or a password is masked as well. Users' programs are not collected.
  - The archive lies in a new folder that only root can read. Whoever runs this module takes it away
    (RV(folder)); one that is left is removed by the next run after an hour.
options:
  host:
    description: Name of the server in the inventory.
    type: str
    required: true
  base:
    description: Where Integr8sCode is installed.
    type: path
    default: /opt/integr8scode
  doctor:
    description: Parameters of the module C(doctor), whose result becomes a part.
    type: dict
    default: {}
  hours:
    description: How far back the journals go.
    type: int
    default: 48
  log_lines:
    description: At most so many lines of each log.
    type: int
    default: 50000
  part_mb:
    description: At most so many MiB of each part, its newest.
    type: int
    default: 5
  total_mb:
    description: At most so many MiB of all parts, before they are compressed.
    type: int
    default: 100
  limit_seconds:
    description: Parts that are not begun by then are left out, and named in the manifest.
    type: int
    default: 240
attributes:
  check_mode:
    support: full
    details: Looks for room, collects nothing.
author: [Integr8sCode operators]
"""

EXAMPLES = r"""
- name: Collect
  diagnostics_archive:
    host: "{{ inventory_hostname }}"
  register: collected
"""

RETURN = r"""
path: {description: The archive on the server; empty in check mode., type: str, returned: always}
folder: {description: The folder that has to be removed afterwards; empty in check mode., type: str, returned: always}
bytes: {description: Size of the archive., type: int, returned: always}
parts: {description: How many parts it has., type: int, returned: always}
missing: {description: What is not in it, and why., type: list, elements: str, returned: always}
masked: {description: How often something was masked., type: int, returned: always}
"""

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.diagnostics import archive
from ansible.module_utils.diagnostics.contents import contents, inspect_containers
from ansible.module_utils.diagnostics.masking import Masker
from ansible.module_utils.diagnostics.secrets import collect, of_containers
from ansible.module_utils.doctor.report import examine_server, known_secrets
from ansible.module_utils.doctor.runner import Probe, run

DOCTOR: dict[str, Any] = {
    "base": "/opt/integr8scode", "project": "integr8scode", "checks": [], "server_name": "", "names": [],
    "https_port": 443, "frontend_port": 5001, "kubeconfigs": "/opt/integr8scode/kubeconfig",
    "backups": "/var/backups/integr8scode", "node_ip": "", "controller_time": 0, "limit_seconds": 15,
    "inventory": [], "gone_run": "",
}  # fmt: skip


def absent(parts: list[archive.Part]) -> list[str]:
    """What is not in the archive: the parts by reason, since one cause mostly costs several."""
    by_reason: dict[str, list[str]] = {}
    for one in parts:
        if one.note:
            by_reason.setdefault(one.note, []).append(one.name)
    return [f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()]


def build(parameters: dict[str, Any], limits: archive.Limits) -> dict[str, Any]:
    """Collect. Raises NoRoomError, OSError; RuntimeError when the secrets cannot be read, and nothing is collected."""
    base = Path(parameters["base"])
    looked = run([Probe("containers", inspect_containers, limit=20)])["containers"]
    inspected = None if looked.problem else looked.value
    secrets = known_secrets(str(base), 30, lambda path: collect(path, more=lambda: of_containers(inspected or [])))
    if secrets is None:
        raise RuntimeError(
            "Nothing was collected: the secrets of this server could not be read within 30 s, so they could not be "
            "masked. Look whether a file system hangs: mount; dmesg | tail"
        )
    masker = Masker(secrets)
    told = examine_server({**DOCTOR, **parameters["doctor"], "base": str(base), "host": parameters["host"]})
    parts = [("doctor.json", archive.value(told))]
    parts += contents(base, inspected, hours=parameters["hours"], lines=parameters["log_lines"])
    moment = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    path, written = archive.write(parts, host=parameters["host"], moment=moment, masker=masker, limits=limits)
    missing = absent(written)
    if looked.problem:
        missing.insert(0, f"docker: {looked.problem}")
    return {
        "path": str(path),
        "folder": str(path.parent),
        "bytes": path.stat().st_size,
        "parts": sum(not one.note for one in written),
        "missing": missing,
        "masked": masker.masked,
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "base": {"type": "path", "default": "/opt/integr8scode"},
            "doctor": {"type": "dict", "default": {}},
            "hours": {"type": "int", "default": 48},
            "log_lines": {"type": "int", "default": 50000},
            "part_mb": {"type": "int", "default": 5},
            "total_mb": {"type": "int", "default": 100},
            "limit_seconds": {"type": "int", "default": 240},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    limits = archive.Limits(parameters["part_mb"] << 20, parameters["total_mb"] << 20, parameters["limit_seconds"])
    try:
        if module.check_mode:
            archive.choose(limits)
            module.exit_json(changed=False, path="", folder="", bytes=0, parts=0, missing=[], masked=0)
        # whoever serves users goes first
        os.nice(10)
        result = build(parameters, limits)
    except (archive.NoRoomError, RuntimeError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"Nothing was left on the server: the archive could not be written ({error}).")
    # the archive is fetched and taken away: nothing of the server has changed
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
