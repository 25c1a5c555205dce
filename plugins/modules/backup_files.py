#!/usr/bin/python
"""Say which backups given files are, or which are the newest good ones here."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_files
short_description: Say which backups files on the server are
description:
  - Reads the manifest of each file, compares its checksum, and gives at most one backup of each kind.
  - Without files these are the newest good ones that the timer or playbooks/backup.yml made; not those that were made
    before a restore or a recovery, which hold what was to be replaced.
  - Changes nothing.
options:
  paths:
    description: Files of backups. Empty takes the newest good ones of O(directory).
    type: list
    elements: path
    default: []
  directory:
    description: Where backups lie.
    type: path
    default: /var/backups/integr8scode
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Find the newest good backups
  backup_files:
  register: found
"""

RETURN = r"""
backups:
  description: By kind (C(k3s), C(application)), each with C(path), C(host), C(created), C(encrypted), C(verified),
    C(versions), C(left_node) and a C(sentence). C(left_node) is the node that the cluster of k3s' backup knows of
    another server than this one, with the configuration that k3s has here by now.
  type: dict
  returned: always
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.backups.k3s_restore import left_node
from ansible.module_utils.backups.store import Backup, BackupError, last_good, load
from ansible.module_utils.basic import AnsibleModule

KINDS = ("k3s", "application")
ROUTINE = "backup"


def choose(paths: list[str], directory: Path) -> dict[str, Backup]:
    """The backups by kind.

    :raises BackupError: one is damaged, none is there, or two are of one kind.
    """
    if not paths:
        newest = {kind: last_good(directory, kind, reason=ROUTINE) for kind in KINDS}
        found = {kind: backup for kind, backup in newest.items() if backup is not None}
        if not found:
            raise BackupError(
                f"{directory} holds no good backup that the timer or playbooks/backup.yml made. Cure: name the file, "
                "-e restore_from=…"
            )
        return found
    found = {}
    for path in paths:
        if not Path(path).is_file():
            raise BackupError(f"{path} is a file neither on the controller nor on this server")
        backup = load(Path(path))
        if backup.kind not in KINDS:
            raise BackupError(f"{path} is a backup of {backup.kind}, which nothing here restores")
        if backup.kind in found:
            raise BackupError(f"{found[backup.kind].path} and {path} are both of {backup.kind}. Cure: name one of them")
        found[backup.kind] = backup
    return found


def describe(backup: Backup) -> dict[str, Any]:
    """What a playbook needs to know of a backup."""
    return {
        "path": str(backup.path),
        "host": backup.manifest.get("host", ""),
        "created": backup.created,
        "encrypted": backup.encrypted,
        "verified": backup.verified,
        "versions": backup.manifest.get("versions", {}),
        "sentence": (
            f"{backup.path}: {backup.kind} of {backup.manifest.get('host', '')} as it was at {backup.created} "
            f"(made as: {backup.reason}). "
            "What this server has of it now is replaced, after a backup of that."
        ),
        "left_node": left_node(backup) if backup.kind == "k3s" else "",
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "default": []},
            "directory": {"type": "path", "default": "/var/backups/integr8scode"},
        },
        supports_check_mode=True,
    )
    try:
        found = choose(module.params["paths"], Path(module.params["directory"]))
    except (BackupError, OSError) as error:
        module.fail_json(msg=f"Nothing was changed. {error}")
    module.exit_json(changed=False, backups={kind: describe(backup) for kind, backup in found.items()})


if __name__ == "__main__":
    main()
