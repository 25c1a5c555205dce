"""kine and the API server as children that cannot outlive k3s."""

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_libc = ctypes.CDLL(None, use_errno=True)


def set_process_name(name: str) -> None:
    """Show `name` in ps and top instead of python3."""
    _libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def _die_with_parent() -> None:
    # the vendor's unit has KillMode=process, and real k3s is one process: nothing of it survives a kill
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Child:
    """One running program; start it from the main thread, whose death is what it would notice.

    Args:
        name: for messages.
        command: program and arguments.
        environment: added to this process' own.
        cwd: its working directory.
        relay: called in a thread with each line that it writes; without it the lines go to standard error.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        cwd: Path,
        relay: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=2 if relay is None else subprocess.PIPE,
            stderr=2 if relay is None else subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **environment},
            cwd=cwd,
            preexec_fn=_die_with_parent,  # noqa: PLW1509  it only calls prctl
            start_new_session=True,
        )
        self._reader: threading.Thread | None = None
        if relay is not None:
            self._reader = threading.Thread(target=self._relay, args=(relay,), name=f"log of {name}", daemon=True)
            self._reader.start()

    def _relay(self, relay: Callable[[str], None]) -> None:
        if self._process.stdout is not None:
            for line in self._process.stdout:
                relay(line.rstrip("\n"))

    def drain(self) -> None:
        """Wait until the lines of an ended program have been relayed."""
        if self._reader is not None:
            self._reader.join(2)

    @property
    def exit_code(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll()

    def stop(self, seconds: float) -> None:
        """Ask it to end, and kill it when it has not within `seconds`."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return
            time.sleep(0.05)
        self._process.kill()
        self._process.wait()
