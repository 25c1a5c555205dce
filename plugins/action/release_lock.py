"""Runs the module release_lock with what only the controller knows: who it is, and whether a holder's process lives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.plugins.action import ActionBase

# known to Ansible's modules, not to Python
_OURS = str(Path(__file__).resolve().parents[1] / "module_utils")
if _OURS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_OURS)

from ansible.module_utils.releases.holder import holder_lives, identity, orphaned  # noqa: E402

_OWN = ("controller", "gone_run")


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible itself is not typed
    """The action as Ansible loads it."""

    _supports_check_mode = True
    _requires_connection = True

    def _ask(self, task_vars: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
        arguments = {**self._task.args, "controller": identity(), **more}
        answer: dict[str, Any] = self._execute_module(
            module_name="release_lock", module_args=arguments, task_vars=task_vars
        )
        return answer

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the server; where a dead run of this machine is in the way, ask again and say so."""
        super().run(tmp, task_vars)
        given = [name for name in _OWN if name in self._task.args]
        if given:
            return {"failed": True, "msg": f"release_lock fills in {', '.join(given)} itself"}
        if self._task.args.get("state", "held") == "held" and orphaned():
            # its ansible-playbook was killed: nobody would do what the lock is for, nor give it back
            return {"failed": True, "msg": "Nothing was changed. The ansible-playbook that wanted the lock has ended."}
        answer = self._ask(task_vars)
        owner = answer.get("owner")
        if not isinstance(owner, dict):
            return answer
        lives = holder_lives(owner.get("controller") or {})
        if lives is False and (answer.get("locked") or self._task.args.get("state") == "read"):
            answer = self._ask(task_vars, gone_run=owner["run"])
        return {**answer, "holder_lives": lives}
