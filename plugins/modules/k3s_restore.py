#!/usr/bin/python
"""Restore a backup of k3s: prove that k3s will start with it, then put it back, all of it or nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_restore
short_description: Restore a backup of k3s
description:
  - O(state=checked) reads the backup to its end and says what stands against restoring it here. Nothing is changed.
  - O(state=restored) puts it back. k3s must be stopped; what is there is moved aside, never deleted. A failure on the
    way puts everything back; a restore that was killed is undone by the next one.
  - A backup is refused that is damaged, of another release of k3s, of another server (see O(other_host)), or whose
    database was made with another token than k3s would have here.
options:
  path:
    description: The backup's file on the server, its manifest beside it.
    type: path
    required: true
  state:
    description: What to do.
    type: str
    choices: [checked, restored]
    default: checked
  parts:
    description: What to put back; others stay as they are.
    type: list
    elements: str
    choices: [database, token, config, certificates, node_password, manifests, unit, local_volumes]
    default: [database, token, config, certificates, node_password, manifests, unit, local_volumes]
  identity:
    description: The text of age's identity that opens an encrypted backup, or the path of a file on the server with it.
    type: str
    default: ""
  token:
    description: The token that k3s will be given here; empty takes the one that it will find.
    type: str
    default: ""
  version:
    description: k3s' release that will run here; empty asks the installed one.
    type: str
    default: ""
  other_host:
    description: Whether the backup may be of another server.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    details: O(state=restored) fails where a run would, but for k3s being up, which a play stops before.
  diff_mode:
    support: full
    details: Lists the paths that are put back, not what they hold.
author: integr8scode-ansible
"""

EXAMPLES = r"""
- name: Check a backup
  k3s_restore:
    path: /var/backups/integr8scode/k3s-web1-20261124T001500Z.tar.gz

- name: Put the database, and what belongs to it, back
  k3s_restore:
    path: /var/backups/integr8scode/k3s-web1-20261124T001500Z.tar.gz
    state: restored
    parts: [database, token, certificates, node_password]
"""

RETURN = r"""
problems: {description: "What forbids a restore, each with its cure.", type: list, returned: when O(state=checked)}
backup:
  description: C(host), C(created), C(versions), C(database) and C(inventory) of the backup.
  type: dict
  returned: always
lost:
  description: >-
    What the restore takes back: C(revisions) and C(namespaces) that came after the backup, C(since) when; C(known) is
    false where the present database cannot be opened.
  type: dict
  returned: when the database is among the parts
sentences: {description: What was done., type: list, returned: when O(state=restored)}
seconds: {description: How long it took., type: float, returned: when O(state=restored)}
"""

import signal
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.backups import k3s, store
from ansible.module_utils.backups.store import Backup, BackupError
from ansible.module_utils.basic import AnsibleModule


def described(backup: Backup) -> dict[str, Any]:
    """What a person wants to know of a backup."""
    told = {key: backup.manifest.get(key) for key in ("host", "created", "versions", "database", "inventory")}
    return {"kind": backup.kind, **told}


def arguments(parameters: dict[str, Any]) -> dict[str, Any]:
    """What check and restore take alike."""
    return {key: parameters[key] for key in ("parts", "identity", "token", "version", "other_host")}


def run(parameters: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Check or restore. Raises BackupError."""
    begun = time.monotonic()
    backup = store.load(Path(parameters["path"]))
    restored = parameters["state"] == "restored"
    result: dict[str, Any] = {"changed": restored, "backup": described(backup)}
    if "database" in parameters["parts"]:
        result["lost"] = k3s.losses(backup)
    parts = backup.manifest.get("parts") or {}
    paths = [path for part in parameters["parts"] for path in parts.get(part, [])]
    result["diff"] = {"before": "", "after": "".join(f"{path}\n" for path in paths), "after_header": str(backup.path)}
    if restored and not check_mode:
        result["sentences"] = k3s.restore(backup, **arguments(parameters))
    else:
        problems = k3s.check(backup, **arguments(parameters))
        if restored and problems:
            raise BackupError(". ".join([*problems, "Nothing was changed."]))
        result["problems"], result["sentences"] = problems, []
    result["seconds"] = round(time.monotonic() - begun, 1)
    return result


def main() -> None:
    """Entry point of the module."""
    # a connection that breaks must not end a restore half-way; nothing is written before the end
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    parts = list(k3s.PARTS)
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["checked", "restored"], "default": "checked"},
            "parts": {"type": "list", "elements": "str", "choices": parts, "default": parts},
            "identity": {"type": "str", "default": "", "no_log": True},
            "token": {"type": "str", "default": "", "no_log": True},
            "version": {"type": "str", "default": ""},
            "other_host": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, check_mode=module.check_mode)
    except BackupError as error:
        module.fail_json(msg=f"{module.params['path']} cannot be restored: {error}")
    if not module._diff or module.params["state"] == "checked":
        result.pop("diff")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
