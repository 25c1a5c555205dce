"""Tells people and machines what a drift report holds; on the controller, in the run itself.

A module on localhost would do the same a second later: it starts a Python and loads the page's template language anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# known to Ansible's modules, not to Python
_OURS = str(Path(__file__).resolve().parents[1] / "module_utils")
if _OURS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_OURS)

from ansible.module_utils.drift_report.present import PresentError, Wanted, present  # noqa: E402

PATHS = ("report", "known_file", "html_file", "metrics_file")
TEXTS = ("html_mode", "webhook_url", "report_url")


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible itself is not typed
    """The arguments are those of `Wanted`."""

    _VALID_ARGS = frozenset({*PATHS, *TEXTS, "webhook_timeout"})

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write, send, and return what `present` does."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = {name: value for name, value in self._task.args.items() if value not in (None, "")}
        words = {name: str(given[name]) for name in TEXTS if name in given}
        paths = {name: str(Path(str(given[name])).expanduser()) for name in PATHS if name in given}
        timeout = float(given.get("webhook_timeout", Wanted.webhook_timeout))
        try:
            told = present(Wanted(**paths, **words, webhook_timeout=timeout, check=self._task.check_mode))
        except PresentError as error:
            raise AnsibleActionFail(str(error)) from error
        return {**result, "changed": False, **told}
