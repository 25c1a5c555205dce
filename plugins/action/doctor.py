"""Runs the module doctor with what only the controller knows: whether the process that holds the lock has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.plugins.action import ActionBase

# known to Ansible's modules, not to Python
_OURS = str(Path(__file__).resolve().parents[1] / "module_utils")
if _OURS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_OURS)

from ansible.module_utils.releases.holder import holder_lives  # noqa: E402


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible itself is not typed
    """The action as Ansible loads it."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the server who holds it, then everything; one that is out of reach is asked once."""
        super().run(tmp, task_vars)
        if "gone_run" in self._task.args:
            return {"failed": True, "msg": "doctor fills in gone_run itself"}
        gone = ""
        if "lock" in (self._task.args.get("checks") or ["lock"]):
            look = {"state": "read", "base": self._task.args.get("base", "/opt/integr8scode")}
            held = self._execute_module(module_name="release_lock", module_args=look, task_vars=task_vars)
            if held.get("unreachable"):
                return dict(held)
            # a lock that cannot be read is the doctor's to tell
            owner = held.get("owner") or {}
            if owner and holder_lives(owner.get("controller") or {}) is False:
                gone = str(owner["run"])
        arguments = {**self._task.args, "gone_run": gone}
        return dict(self._execute_module(module_name="doctor", module_args=arguments, task_vars=task_vars))
