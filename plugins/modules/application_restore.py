#!/usr/bin/python
"""Restore a backup of the application: check it, place what a fresh server starts from, replace the data."""

from __future__ import annotations

DOCUMENTATION = r"""
module: application_restore
short_description: Restore a backup of the application
description:
  - O(state=checked) reads the backup to its end and says what stands against restoring it. Nothing is changed.
  - O(state=placed) gives a fresh server certificates with their authority, the release and the history. It does nothing
    where a release is there already.
  - O(state=restored) replaces the data in the running MongoDB and merges the history. All services but MongoDB, Kafka,
    frontend and edge are stopped meanwhile. Before the first collection is dropped, a backup of what is there is made
    (its reason is C(before a restore)); when the restore fails, that is put back.
  - The vault's secrets count, not those of the backup. MongoDB's own users are left alone.
options:
  path:
    description: The backup's file on the server, its manifest beside it.
    type: path
    required: true
  state:
    description: What to do.
    type: str
    choices: [checked, placed, restored]
    default: checked
  base:
    description: Where the application is installed.
    type: path
    default: /opt/integr8scode
  project:
    description: Its Compose project.
    type: str
    default: integr8scode
  identity:
    description: The text of age's identity that opens an encrypted backup, or the path of a file on the server with it.
    type: str
    default: ""
  mongodb_version:
    description: The MongoDB that shall read it, for O(state=checked).
    type: str
    default: ""
  mongo_root_username:
    description: The vault's, to be told where the backup has another; for O(state=checked).
    type: str
    default: ""
  mongo_root_password:
    description: Likewise.
    type: str
    default: ""
  user_password:
    description: The vault's of the account user, to be told where another one will be valid; for O(state=checked).
    type: str
    default: ""
  admin_password:
    description: Likewise of the account admin.
    type: str
    default: ""
  directory:
    description: Where backups lie, and that of what is there now will; for O(state=restored).
    type: path
    default: /var/backups/integr8scode
  recipients:
    description: Public keys of age for which that is encrypted; none leaves it readable by root.
    type: list
    elements: str
    default: []
  min_free_mb:
    description: Free space that must be left in O(directory); with less, nothing is changed.
    type: int
    default: 500
  run:
    description:
      - Name of the run that holds the release lock, for O(state=restored). The lock says then that the server is at
        work, as long as it is, and the module fails where the lock is not that run's.
      - Empty for none.
    type: str
    default: ""
  timeout:
    description: Seconds that a dump or a restore of MongoDB may take.
    type: int
    default: 3600
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Check a backup
  application_restore:
    path: /var/backups/integr8scode/application-web1-20261124T001500Z.tar.gz

- name: Replace the data
  application_restore:
    path: /var/backups/integr8scode/application-web1-20261124T001500Z.tar.gz
    state: restored
"""

RETURN = r"""
problems:
  description: What stands against a restore, each with its cure.
  type: list
  returned: when O(state=checked)
notes:
  description: What will be different afterwards.
  type: list
  returned: when O(state=checked)
backup:
  description: C(host), C(created), C(release), C(tag) and C(documents) of the backup.
  type: dict
  returned: when O(state=checked)
placed:
  description: What was placed.
  type: list
  returned: when O(state=placed)
documents:
  description: Restored documents by namespace.
  type: dict
  returned: when O(state=restored)
left:
  description: Collections that the backup does not know and that stay.
  type: list
  returned: when O(state=restored)
before:
  description: The backup of what was there before.
  type: str
  returned: when O(state=restored)
seconds_down:
  description: How long the application was away.
  type: float
  returned: when O(state=restored)
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ansible.module_utils.backups.application_restore import check, place, restore
from ansible.module_utils.backups.store import Backup, BackupError, load
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.releases import lock


def checked(backup: Backup, wanted: dict[str, Any]) -> dict[str, Any]:
    """The module's answer for state checked. Raises BackupError."""
    login = {name: wanted[f"mongo_root_{name}"] for name in ("username", "password")}
    found = check(
        backup,
        base=Path(wanted["base"]),
        mongodb_version=wanted["mongodb_version"],
        identity=wanted["identity"],
        login={name: value for name, value in login.items() if value},
        passwords={name: value for name in ("user", "admin") if (value := wanted[f"{name}_password"])},
    )
    about = {
        "host": backup.manifest["host"],
        "created": backup.created,
        "release": found.release,
        "tag": found.tag,
        "documents": found.documents,
    }
    return {"changed": False, "problems": found.problems, "notes": found.notes, "backup": about}


def placed(backup: Backup, wanted: dict[str, Any], *, dry: bool) -> dict[str, Any]:
    """The module's answer for state placed. Raises BackupError."""
    base = Path(wanted["base"])
    if (base / "current").is_symlink():
        return {"changed": False, "placed": []}
    return {"changed": True, "placed": [] if dry else place(backup, base=base, identity=wanted["identity"])}


def restored(backup: Backup, wanted: dict[str, Any], *, dry: bool) -> dict[str, Any]:
    """The module's answer for state restored. Raises BackupError, LockedError, OSError."""
    if dry:
        return {"changed": True, "documents": {}, "left": [], "seconds_down": 0.0, "before": ""}
    base = Path(wanted["base"])
    with lock.restoring(base, wanted["run"]) if wanted["run"] else nullcontext():
        done = restore(
            backup,
            directory=Path(wanted["directory"]),
            base=base,
            project=wanted["project"],
            recipients=wanted["recipients"],
            required_free=wanted["min_free_mb"] * 1024 * 1024,
            identity=wanted["identity"],
            timeout=wanted["timeout"],
        )
    return {
        "changed": True,
        "documents": done.documents,
        "left": done.left,
        "seconds_down": done.seconds_down,
        "before": str(done.before.path),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["checked", "placed", "restored"], "default": "checked"},
            "base": {"type": "path", "default": "/opt/integr8scode"},
            "project": {"type": "str", "default": "integr8scode"},
            "identity": {"type": "str", "default": "", "no_log": True},
            "mongodb_version": {"type": "str", "default": ""},
            "mongo_root_username": {"type": "str", "default": ""},
            "mongo_root_password": {"type": "str", "default": "", "no_log": True},
            "user_password": {"type": "str", "default": "", "no_log": True},
            "admin_password": {"type": "str", "default": "", "no_log": True},
            "directory": {"type": "path", "default": "/var/backups/integr8scode"},
            "recipients": {"type": "list", "elements": "str", "default": []},
            "min_free_mb": {"type": "int", "default": 500},
            "run": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    try:
        backup = load(Path(wanted["path"]))
        if wanted["state"] == "checked":
            answer = checked(backup, wanted)
        elif wanted["state"] == "placed":
            answer = placed(backup, wanted, dry=module.check_mode)
        else:
            answer = restored(backup, wanted, dry=module.check_mode)
    except BackupError as error:
        module.fail_json(msg=f"Nothing was changed. {error}" if wanted["state"] == "checked" else str(error))
    except (lock.LockedError, OSError) as error:
        # before the first service was stopped
        module.fail_json(msg=f"The data were not replaced. {error}")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
