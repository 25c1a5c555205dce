#!/usr/bin/python
"""Make a verified release the current one, and write history."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_activate
short_description: Make a verified release the current one, and write history
description:
  - Points C(<base>/current) to the release and appends a line to C(<base>/history.jsonl).
  - Does nothing when the release is current already and O(redeployed) is false.
  - With O(result=failed) only the history line is written.
options:
  base:
    description: Where Integr8sCode is installed.
    type: path
    default: /opt/integr8scode
  id:
    description: Name of the release.
    type: str
    required: true
  action:
    description: What was done, for the history.
    type: str
    required: true
  result:
    description: How it ended.
    type: str
    choices: [ok, failed]
    default: ok
  message:
    description: Cause of a failure, for the history. Must hold no secret.
    type: str
    default: ""
  redeployed:
    description: Whether containers were made anew although the release may be the current one.
    type: bool
    default: false
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
    support: full
"""

EXAMPLES = r"""
- name: Point current to the release
  release_activate:
    id: "{{ release.id }}"
    action: deploy
    started_at: "{{ started_at }}"
"""

RETURN = r"""
previous:
  description: Name of the release that was current, or null.
  type: str
  returned: always
"""

import os
import time
from datetime import datetime, timezone
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.history import append_history


def current_release(base: Path) -> str | None:
    """Return the name of the current release, or None."""
    link = base / "current"
    return link.resolve().name if link.is_symlink() else None


def point_current(base: Path, release: str) -> None:
    """Point ``current`` to a release; at no moment is there no ``current``.

    :raises FileNotFoundError: the release is not complete on this server.
    """
    if not (base / "releases" / release / "release.json").exists():
        raise FileNotFoundError(f"{base}/releases/{release} has no release.json")
    temporary = base / f".current.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(Path("releases") / release)
    os.replace(temporary, base / "current")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "base": {"type": "path", "default": "/opt/integr8scode"},
            "id": {"type": "str", "required": True},
            "action": {"type": "str", "required": True},
            "result": {"type": "str", "choices": ["ok", "failed"], "default": "ok"},
            "message": {"type": "str", "default": ""},
            "redeployed": {"type": "bool", "default": False},
            "author": {"type": "str", "default": ""},
            "started_at": {"type": "float", "required": True},
        },
        supports_check_mode=True,
    )
    base = Path(module.params["base"])
    release: str = module.params["id"]
    result: str = module.params["result"]
    previous = current_release(base)
    switches = result == "ok" and previous != release
    changed = switches or result == "failed" or module.params["redeployed"]
    if changed and not module.check_mode:
        entry = {
            "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "action": module.params["action"],
            "result": result,
            "release": release,
            "previous": previous,
            "by": module.params["author"],
            "seconds": round(time.time() - module.params["started_at"], 1),
        }
        if module.params["message"]:
            entry["message"] = module.params["message"]
        try:
            if switches:
                point_current(base, release)
            append_history(base, entry)
        except OSError as error:
            module.fail_json(msg=f"release {release} cannot be made current: {error}")
    diff = {"before": f"current: {previous}\n", "after": f"current: {release}\n"} if switches else {}
    module.exit_json(changed=changed, previous=previous, diff=diff)


if __name__ == "__main__":
    main()
