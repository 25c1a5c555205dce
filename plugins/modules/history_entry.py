#!/usr/bin/python
"""Append a line to the server's history."""

from __future__ import annotations

DOCUMENTATION = r"""
module: history_entry
short_description: Append a line to the server's history
description:
  - One line of JSON in C(<base>/history.jsonl), which is read by people and by C(playbooks/status.yml).
options:
  base:
    description: Where Integr8sCode is installed.
    type: path
    default: /opt/integr8scode
  action:
    description: What was done.
    type: str
    required: true
  result:
    description: How it ended.
    type: str
    choices: [ok, failed]
    default: ok
  details:
    description: What else is worth knowing. Must hold no secret.
    type: dict
    default: {}
  author:
    description: Who did it.
    type: str
    default: ""
  started_at:
    description: When it began, seconds since 1970.
    type: float
    required: true
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Remember the restore
  history_entry:
    action: restore
    details: {backups: [application-web1-20261124T001500Z.tar.gz]}
    started_at: "{{ started_at }}"
"""

RETURN = r"""
entry:
  description: The line.
  type: dict
  returned: always
"""

import time
from datetime import datetime, timezone
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.history import append_history


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "base": {"type": "path", "default": "/opt/integr8scode"},
            "action": {"type": "str", "required": True},
            "result": {"type": "str", "choices": ["ok", "failed"], "default": "ok"},
            "details": {"type": "dict", "default": {}},
            "author": {"type": "str", "default": ""},
            "started_at": {"type": "float", "required": True},
        },
        supports_check_mode=True,
    )
    entry = {
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "action": module.params["action"],
        "result": module.params["result"],
        **module.params["details"],
        "by": module.params["author"],
        "seconds": round(time.time() - module.params["started_at"], 1),
    }
    if not module.check_mode:
        try:
            append_history(Path(module.params["base"]), entry)
        except OSError as error:
            module.fail_json(msg=f"the history cannot be written: {error}")
    module.exit_json(changed=True, entry=entry)


if __name__ == "__main__":
    main()
