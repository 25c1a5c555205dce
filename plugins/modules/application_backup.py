#!/usr/bin/python
"""Back up the application: MongoDB's data, and what the server keeps for it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: application_backup
short_description: Back up the application while it runs
description:
  - Dumps MongoDB out of its running container, and puts the dump with secrets, certificates, releases, their files and
    the history into one file, which is read again before it gets its name. A manifest lies beside it.
  - MongoDB's dump has no common moment for all documents, as a single server offers none. Each document is whole.
  - Redis, Kafka, images and kubeconfigs are not in it.
options:
  directory:
    description: Where backups lie. Made for root alone.
    type: path
    default: /var/backups/integr8scode
  base:
    description: Where the application is installed.
    type: path
    default: /opt/integr8scode
  project:
    description: Its Compose project.
    type: str
    default: integr8scode
  reason:
    description: Why, for the manifest.
    type: str
    default: backup
  recipients:
    description: Public keys of age for which it is encrypted; none leaves it readable by root.
    type: list
    elements: str
    default: []
  min_free_mb:
    description: Free space that must be left; with less, nothing is written.
    type: int
    default: 500
  only_if_running:
    description: Whether to do nothing where the application does not run, instead of failing.
    type: bool
    default: false
  timeout:
    description: Seconds that the dump may take.
    type: int
    default: 3600
attributes:
  check_mode:
    support: full
    details: Says that a backup would be made, and makes none.
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Back up the application
  application_backup:
    reason: before a restore
    recipients: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p]
"""

RETURN = r"""
path:
  description: The backup's file; empty where none was made.
  type: str
  returned: always
documents:
  description: How many documents of MongoDB are in it, by namespace.
  type: dict
  returned: when one was made
size:
  description: Bytes of the file.
  type: int
  returned: when one was made
"""

from pathlib import Path

from ansible.module_utils.backups.application import create, running_services
from ansible.module_utils.backups.store import BackupError
from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": "/var/backups/integr8scode"},
            "base": {"type": "path", "default": "/opt/integr8scode"},
            "project": {"type": "str", "default": "integr8scode"},
            "reason": {"type": "str", "default": "backup"},
            "recipients": {"type": "list", "elements": "str", "default": []},
            "min_free_mb": {"type": "int", "default": 500},
            "only_if_running": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    try:
        if wanted["only_if_running"] and not is_running(wanted["project"]):
            module.exit_json(changed=False, path="")
        if module.check_mode:
            module.exit_json(changed=True, path="")
        made = create(
            Path(wanted["directory"]),
            base=Path(wanted["base"]),
            project=wanted["project"],
            reason=wanted["reason"],
            recipients=wanted["recipients"],
            required_free=wanted["min_free_mb"] * 1024 * 1024,
            timeout=wanted["timeout"],
        )
    except BackupError as error:
        module.fail_json(msg=f"the application cannot be backed up: {error}")
    module.exit_json(
        changed=True,
        path=str(made.path),
        documents=made.manifest["facts"]["mongo"]["documents"],
        size=made.manifest["file"]["size"],
    )


def is_running(project: str) -> bool:
    """Whether MongoDB runs; a server without Docker has none."""
    try:
        return "mongo" in running_services(project)
    except BackupError:
        return False


if __name__ == "__main__":
    main()
