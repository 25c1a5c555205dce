"""Runs the module release_lock with what only the controller knows: who it is, and whether a holder's process lives."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

_OWN = ("controller", "gone_run")


def started(pid: int) -> str:
    """When a process of this machine began, as text to compare; "" where it does not run or nothing says so."""
    try:
        # after the name, which may hold anything; field 22 of proc_pid_stat(5)
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    # a dead process that nobody has waited for works no more
    return "" if fields[0] in {"Z", "X"} else fields[19]


def _machine() -> str:
    """This machine, without telling its id: a container is one of its own, a restart of the machine is the same one."""
    try:
        number = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except OSError:
        number = ""
    return hashlib.sha256(f"{number} {socket.gethostname()}".encode()).hexdigest()[:12]


def _space() -> str:
    """In which processes have the numbers that they have here: the start of the machine, and the container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot[:8]}.{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def identity() -> dict[str, Any]:
    """The ansible-playbook that runs this: a task runs in a child of it."""
    pid = os.getppid()
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "space": _space(),
        "pid": pid,
        "started": started(pid),
    }


def holder_lives(controller: dict[str, Any]) -> bool | None:
    """Whether the process that `controller` names works; None where this machine cannot know."""
    here = identity()
    if controller.get("machine") != here["machine"] or controller.get("space") != here["space"]:
        return None
    try:
        pid = int(controller["pid"])
    except (KeyError, TypeError, ValueError):
        return None
    if controller.get("started"):
        return started(pid) == str(controller["started"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


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
        answer = self._ask(task_vars)
        owner = answer.get("owner")
        if not isinstance(owner, dict):
            return answer
        lives = holder_lives(owner.get("controller") or {})
        if lives is False and (answer.get("locked") or self._task.args.get("state") == "read"):
            answer = self._ask(task_vars, gone_run=owner["run"])
        return {**answer, "holder_lives": lives}
