"""Command line of integr8scode-maintenance: `integr8scode-maintenance SUBCOMMAND`.

Each subcommand is a module beside this one with `run(config: Mapping[str, Any]) -> int`. `config` is what
/etc/integr8scode/maintenance.d/SUBCOMMAND.json holds; the number is the exit code. A job that cannot be done raises
MaintenanceError or OSError: the text goes to standard error (the unit's journal) and into the state file, exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.maintenance.state import MaintenanceError, now, read_state, write_state

CONFIGURATION = Path("/etc/integr8scode/maintenance.d")
# root's alone, unlike /run/lock: nobody else can hold or forge a lock
LOCKS = Path("/run/integr8scode")
# seconds that a run waits for another one of the same subcommand
LOCK_SECONDS = 600.0
# what a person types -> the module that does it
SUBCOMMANDS = {
    "backup": "backup",
    "renew-kubeconfig": "renew_kubeconfig",
}


def configuration(subcommand: str) -> Mapping[str, Any]:
    """The subcommand's settings. Raises MaintenanceError when they are missing or no JSON object."""
    path = CONFIGURATION / f"{subcommand}.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MaintenanceError(f"{path} is missing. Cure: run playbooks/site.yml, which writes it") from None
    except (OSError, ValueError) as error:
        raise MaintenanceError(f"{path} cannot be read: {error}. Cure: run playbooks/site.yml") from error
    if not isinstance(settings, dict):
        raise MaintenanceError(f"{path} holds no JSON object. Cure: run playbooks/site.yml, which writes it anew")
    return settings


@contextlib.contextmanager
def alone(subcommand: str, *, wait: float = LOCK_SECONDS) -> Iterator[None]:
    """Keeps a second run of the same subcommand waiting until this one has ended.

    :param wait: seconds after which the second one gives up.
    :raises MaintenanceError: the other one took longer; who it is.
    :raises OSError: the lock cannot be opened.
    """
    LOCKS.mkdir(mode=0o700, exist_ok=True)
    path = LOCKS / f"{subcommand}.lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = os.pread(lock, 100, 0).decode(errors="replace") or "just begun"
                    raise MaintenanceError(
                        f"another run of it ({holder}) has not ended within {wait:.0f} s. Cure: wait for its end, and "
                        "run it again"
                    ) from None
                time.sleep(0.2)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()}, since {now()}".encode(), 0)
        yield
    finally:
        os.close(lock)


def _stop(_signal: int, _frame: object) -> None:
    """A SIGTERM ends it like an error does: what was begun is cleaned up, and how it ended is written down."""
    raise SystemExit(128 + signal.SIGTERM)


def perform(subcommand: str) -> int:
    """Runs a subcommand and writes down how it ended; its exit code."""
    started = time.monotonic()
    code, message = 1, "it ended with an error of its own, which the journal shows"
    try:
        with alone(subcommand):
            module = importlib.import_module(f"ansible.module_utils.maintenance.{SUBCOMMANDS[subcommand]}")
            code, message = int(module.run(configuration(subcommand))), ""
    except (MaintenanceError, OSError) as error:
        message = str(error)
        print(f"{subcommand} failed: {message}", file=sys.stderr)
    except SystemExit:
        message = "it was stopped before its end, by systemd at its time limit or by a person"
        print(f"{subcommand} failed: {message}", file=sys.stderr)
        raise
    finally:
        ended = now()
        write_state(
            subcommand,
            subcommand=subcommand,
            result="ok" if code == 0 else "failed",
            at=ended,
            seconds=round(time.monotonic() - started, 1),
            message=message,
            last_success=ended if code == 0 else read_state(subcommand).get("last_success", ""),
        )
    return code


def main(arguments: Sequence[str]) -> int:
    """Entry point of the program; its exit code (2: wrong usage)."""
    parser = argparse.ArgumentParser(
        prog="integr8scode-maintenance", description="What this server does by itself, on a timer."
    )
    parser.add_argument("subcommand", choices=sorted(SUBCOMMANDS), help="what to do")
    subcommand = parser.parse_args(arguments).subcommand
    signal.signal(signal.SIGTERM, _stop)
    return perform(subcommand)
