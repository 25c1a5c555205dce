#!/usr/bin/python
"""Back up k3s: its datastore as of one moment, and all that a server needs to run with it again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_backup
short_description: Back up k3s while it runs, crashes again and again, or is stopped
description:
  - Copies the database by SQLite's online backup, opens the copy, and puts it with token, configuration and its
    drop-ins, certificates, credentials, manifests, node password, unit and containerd's templates into one file, which
    is read again before it gets its name. A manifest lies beside it.
  - A database that cannot be opened is kept as it is, with C(-wal) and C(-shm), and RV(database) says so.
  - With embedded etcd k3s makes a snapshot; where it does not run, etcd's files are kept as they are. An external
    datastore is not in the backup.
options:
  directory:
    description: Where backups lie. Made for root alone.
    type: path
    default: /var/backups/integr8scode
  reason:
    description: Why, for the manifest.
    type: str
    default: backup
  recipients:
    description: Public keys of age for which it is encrypted; none leaves it readable by root.
    type: list
    elements: str
    default: []
  local_volumes:
    description: Whether to take the volumes of the local-path provisioner as well, as they are while pods write them.
    type: bool
    default: false
  min_free_mb:
    description: Free space that must be left; with less, nothing is written.
    type: int
    default: 500
  only_if_present:
    description: Whether to do nothing where there is no k3s, instead of failing.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    details: Says how much a backup would take, fails without room, and writes nothing.
  diff_mode:
    support: full
    details: Lists the paths that are in it, not what they hold.
author: integr8scode-ansible
"""

EXAMPLES = r"""
- name: Back up k3s
  k3s_backup:
    reason: before an upgrade
    recipients: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p]
"""

RETURN = r"""
path: {description: The backup's file; empty where none was made., type: str, returned: always}
needed: {description: Bytes that it may take while it is made., type: int, returned: when there is k3s}
database:
  description: >-
    C(state) of the datastore in it (verified, snapshot, raw, none, external) and the C(error) that keeps it from
    being verified.
  type: dict
  returned: when one was made
inventory: {description: What the cluster in it holds., type: dict, returned: when the database was opened}
size: {description: Bytes of the file., type: int, returned: when one was made}
seconds: {description: How long it took., type: float, returned: when one was made}
"""

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.backups import k3s, store
from ansible.module_utils.backups.store import BackupError
from ansible.module_utils.basic import AnsibleModule


def predicted(parameters: dict[str, Any]) -> dict[str, Any]:
    """What a run would do. Raises BackupError where it would fail: no k3s, no room."""
    k3s.require_present()
    needed = k3s.estimate(local_volumes=parameters["local_volumes"]).needed
    store.require_room(Path(parameters["directory"]), needed, parameters["min_free_mb"] * 2**20)
    paths = k3s.contents(local_volumes=parameters["local_volumes"])
    return {"changed": True, "path": "", "needed": needed, **listed(paths)}


def listed(paths: list[str]) -> dict[str, Any]:
    """The diff."""
    return {"diff": {"before": "", "after": "".join(f"{path}\n" for path in paths), "after_header": "backup of k3s"}}


def made(parameters: dict[str, Any]) -> dict[str, Any]:
    """Make it. Raises BackupError."""
    begun = time.monotonic()
    needed = k3s.estimate(local_volumes=parameters["local_volumes"]).needed
    backup = k3s.create(
        Path(parameters["directory"]),
        reason=parameters["reason"],
        recipients=parameters["recipients"],
        local_volumes=parameters["local_volumes"],
        required_free=parameters["min_free_mb"] * 2**20,
    )
    told = backup.manifest
    result = {
        "changed": True,
        "path": str(backup.path),
        "needed": needed,
        "database": told["database"],
        "size": told["file"]["size"],
        "seconds": round(time.monotonic() - begun, 1),
        **listed([path for paths in told["parts"].values() for path in paths]),
    }
    if "inventory" in told:
        result["inventory"] = told["inventory"]
    return result


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": "/var/backups/integr8scode"},
            "reason": {"type": "str", "default": "backup"},
            "recipients": {"type": "list", "elements": "str", "default": []},
            "local_volumes": {"type": "bool", "default": False},
            "min_free_mb": {"type": "int", "default": 500},
            "only_if_present": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    try:
        if parameters["only_if_present"] and not k3s.present():
            module.exit_json(changed=False, path="")
        result = predicted(parameters) if module.check_mode else made(parameters)
    except BackupError as error:
        module.fail_json(msg=f"k3s cannot be backed up: {error}")
    if not module._diff:
        result.pop("diff")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
