"""One recovery at a time on a server: a lock while a step runs, and a lease of its run between the steps."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ansible.module_utils.atomic_files import Access, ensure_folder
from ansible.module_utils.k3s_recovery.machine import since_boot

if TYPE_CHECKING:
    # Python 3.10 has none
    from typing_extensions import Self  # noqa: UP035

# not below /run/lock, where anybody could make the file first
PATH = Path("/run/integr8scode/recover-k3s.lock")
# A run that is alive asks for its next step sooner than this after the last one.
LEASE_SECONDS = 60.0


class LockedError(Exception):
    """Another recovery works on this server; the text says who and since when."""


def _when(moment: Any) -> str:
    try:
        return datetime.fromtimestamp(float(moment), timezone.utc).strftime("%H:%M:%S UTC")
    except (TypeError, ValueError, OSError, OverflowError):
        return "some time ago"


def _described(owner: Mapping[str, Any]) -> str:
    rung = f", is at the rung {owner['rung']}" if owner.get("rung") else ""
    return (
        f"Another recovery works on this server: {owner.get('by') or 'somebody'} began it at "
        f"{_when(owner.get('since'))}{rung} (process {owner.get('pid', '?')})."
    )


class Lock:
    """Held by one step of one run; a context manager.

    run: the run's own name. The same run's next step always gets in; another one only when no step runs and the lease
    has ended: the step's process was killed, or nothing was heard of its run for `LEASE_SECONDS`.
    """

    def __init__(
        self,
        run: str,
        *,
        by: str = "",
        path: Path = PATH,
        wait_seconds: float = 30.0,
        now: Callable[[], float] = time.time,
        uptime: Callable[[], float] = since_boot,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._run, self._by, self._path, self._wait = run, by, path, wait_seconds
        self._now, self._uptime, self._sleep = now, uptime, sleep
        self._file = -1
        self._since = 0.0

    def __enter__(self) -> Self:
        """Wait for it. Raises LockedError, OSError."""
        ensure_folder(self._path.parent, Access(os.geteuid(), os.getegid(), 0o700))
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        deadline = self._uptime() + self._wait
        while True:
            held, owner = self._try(), self._read()
            if held and self._free(owner):
                self._since = float(owner["since"]) if owner.get("run") == self._run else self._now()
                self.tell("")
                return self
            if held:
                fcntl.flock(self._file, fcntl.LOCK_UN)
            if self._uptime() >= deadline:
                self._close()
                raise LockedError(
                    f"{_described(owner)} Nothing was changed by this run. Wait for its end, then run again; a "
                    f"recovery that is left alone ends by itself."
                )
            self._sleep(1)

    def others(self) -> str:
        """Which other recovery works here, "" for none; for a check, which neither waits nor keeps others waiting."""
        try:
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return ""
        owner = self._read()
        self._close()
        killed = owner.get("rung") and not Path(f"/proc/{owner.get('pid')}").exists()
        return "" if killed or (self._free(owner) and not owner.get("rung")) else _described(owner)

    def tell(self, rung: str) -> None:
        """Write who holds it, and at which rung."""
        body = {
            "pid": os.getpid(),
            "run": self._run,
            "by": self._by,
            "since": self._since,
            "rung": rung,
            "touched": self._uptime(),
        }
        text = json.dumps(body).encode()
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text, 0)

    def release(self) -> None:
        """The run is over: the lease ends with it."""
        os.ftruncate(self._file, 0)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go; the lease stays with the run."""
        if self._read():
            self.tell("")
        self._close()

    def _try(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _free(self, owner: Mapping[str, Any]) -> bool:
        """Whether nobody else's lease is in the way. A step that was killed leaves its rung behind: its run is dead."""
        if not owner or owner.get("run") == self._run or owner.get("rung"):
            return True
        return self._uptime() - float(owner.get("touched", 0)) > LEASE_SECONDS

    def _read(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            body = json.loads(os.pread(self._file, 65536, 0))
            return body if isinstance(body, dict) else {}
        return {}

    def _close(self) -> None:
        os.close(self._file)
        self._file = -1
