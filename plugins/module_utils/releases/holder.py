"""Who holds a lock, as the controller knows it: the process of an ansible-playbook, and whether it lives.

Action plugins use it; on a server it says nothing of a lock that a controller holds.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any


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


def _playbook() -> int:
    """Process number of the ansible-playbook whose task calls this: a task runs in a child of it.

    As it was when the child began: one that has lost its parent is the child of another process, mostly of the first.
    """
    parent = multiprocessing.parent_process()
    return os.getppid() if parent is None or parent.pid is None else parent.pid


def orphaned() -> bool:
    """Whether the ansible-playbook whose task calls this has ended."""
    return _playbook() != os.getppid()


def identity() -> dict[str, Any]:
    """The ansible-playbook whose task calls this."""
    pid = _playbook()
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
