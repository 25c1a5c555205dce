"""Runs playbooks of this project one after the other, as the run that asks for it was started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.context import CLIARGS
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# variables of drift.yml itself, which no cure takes
OWN = ("fix=", "drift_fix=")


def options(arguments: Mapping[str, Any]) -> list[str]:
    """The options of ansible-playbook that a child needs to reach the same servers: inventory, vault, login, variables.

    Raises AnsibleActionFail where a password was asked for: it cannot be handed on.
    """
    asked = [
        flag
        for name, flag in (
            ("ask_vault_pass", "--ask-vault-pass"),
            ("ask_pass", "--ask-pass"),
            ("become_ask_pass", "--ask-become-pass"),
        )
        if arguments.get(name)
    ]
    if asked:
        raise AnsibleActionFail(
            f"fix=true starts other playbooks, to which what was typed for {' and '.join(asked)} cannot be handed on. "
            "Nothing was changed. Name a file instead (--vault-password-file, --connection-password-file, "
            "--become-password-file), or run the cures of the list one by one."
        )
    found: list[str] = []
    for name, flag in (
        ("inventory", "--inventory"),
        ("vault_ids", "--vault-id"),
        ("vault_password_files", "--vault-password-file"),
    ):
        for value in arguments.get(name) or []:
            found += [flag, str(value)]
    for name, flag in (
        ("remote_user", "--user"),
        ("private_key_file", "--private-key"),
        ("connection", "--connection"),
        ("connection_password_file", "--connection-password-file"),
        ("become_password_file", "--become-password-file"),
        ("ssh_common_args", "--ssh-common-args"),
        ("ssh_extra_args", "--ssh-extra-args"),
    ):
        if arguments.get(name):
            found += [flag, str(arguments[name])]
    for value in arguments.get("extra_vars") or []:
        text = os.fsdecode(value) if isinstance(value, bytes) else str(value)
        if not text.strip().startswith(OWN):
            found += ["--extra-vars", text]
    return found


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ansible's entry point. `runs`: lists of arguments; `folder`: of the project; `log`: where the output goes."""

    _requires_connection = False
    _VALID_ARGS = frozenset({"runs", "folder", "log"})

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run them; the first that fails is the last one."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self._task.args
        handed = options(CLIARGS)
        program = [sys.executable, str(Path(sys.argv[0]).resolve())]
        log = Path(str(arguments["log"])).expanduser().resolve()
        lines: list[str] = []
        for run in arguments["runs"]:
            argv = [str(word) for word in run]
            if self._play_context.check_mode:
                lines.append(f"Would run: ansible-playbook {' '.join(argv)}")
                continue
            with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
                done = subprocess.run(
                    [*program, *argv, *handed],
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    cwd=str(arguments["folder"]),
                    env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
                    check=False,
                )
            lines.append(
                f"ansible-playbook {' '.join(argv)}: "
                f"{'done' if done.returncode == 0 else f'ended with {done.returncode}'}"
            )
            if done.returncode != 0:
                last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:]
                return {**result, "failed": True, "changed": True, "msg": [*lines, f"The last lines of {log}:", *last]}
        return {**result, "changed": bool(arguments["runs"]), "lines": lines}
