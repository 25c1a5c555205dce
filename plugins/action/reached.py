"""Says of a server that ssh does not reach why, and what to do, where a module's task shows Ansible's own error alone.

`advice`: what a person may have to do besides, a sentence. `answer`: the result of an earlier task that went on without
the server (`ignore_unreachable`), by which its run ends; without one the server is asked for a word, by no module.
"""

from __future__ import annotations

import runpy
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

_PLUGINS = Path(__file__).parents[1]
# their paths are known to Ansible, not to Python
_contact = runpy.run_path(str(_PLUGINS / "module_utils/preflight/contact.py"))
_doctor_inventory = runpy.run_path(str(_PLUGINS / "filter/doctor_report.py"))["doctor_inventory"]


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible itself is not typed
    """The action as Ansible loads it."""

    _supports_check_mode = True
    _requires_connection = True
    _VALID_ARGS = frozenset({"advice", "answer"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return nothing of a server that answers; `unreachable` of one that does not, with the sentences."""
        super().run(tmp, task_vars)
        known = task_vars or {}
        host, answer = str(known.get("inventory_hostname", "")), self._task.args.get("answer")
        words = self._words() if answer is None else str(answer.get("msg", "no answer"))
        if answer is not None and not answer.get("unreachable"):
            return self._without_answer(host, answer)
        if not words:
            return {"changed": False}
        sources = _doctor_inventory(known.get("ansible_inventory_sources") or (), str(_PLUGINS.parent))
        inventory = "".join(f" -i {shlex.quote(one)}" for one in sources)
        address, port = (getattr(self._play_context, name, None) or "" for name in ("remote_addr", "port"))
        cause = _contact["away"](host, inventory, words, str(address), str(port))
        advice = self._task.args.get("advice")
        lines = [f"{host}: {cause['found']}", *([str(advice)] if advice else []), f"Cure: {cause['cure']}"]
        # not `failed`: Ansible's own exit code tells a server that is away from one that is ill
        return {"unreachable": True, "changed": False, "msg": [*lines, "Nothing was changed."]}

    def _words(self) -> str:
        """What keeps ssh from the server; "" where it answers."""
        try:
            self._low_level_execute_command("true", sudoable=False)
        except AnsibleConnectionFailure as error:
            return str(error) or "no answer"
        return ""

    def _without_answer(self, host: str, answer: Mapping[str, Any]) -> dict[str, Any]:
        words = " ".join(str(answer.get("msg") or answer.get("module_stderr") or "it says no reason").split())
        message = [f"{host} was reached, and could not be looked at: {words}", "Nothing was changed."]
        return {"failed": True, "changed": False, "msg": message}
