"""One deploy, rollback or restore at a time on a server: who holds the lock, whether it lives, and taking it over.

The lock is the file `<base>/lock/owner.json`. It outlives the processes that wrote it: a run that was killed leaves it
behind, and the next one tells by what it says whether its owner is gone. Every change happens under a kernel lock of
`.guard` beside it; one of the folder itself is held while this server replaces data for a restore.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.atomic_files import Access, ensure_folder, read_file, sync_folder, write_file

UNIT = "integr8scode-switch.service"
PREPARING = "preparing"  # the controller works: pulls, writes files
SWITCHING = "switching"  # the server works, whether the controller lives or not
RESTORING = "restoring"  # likewise: it replaces the application's data
LEASE_SECONDS = 1800.0
BEAT_SECONDS = 60.0
SWITCH_SECONDS = 300.0
DOING = {SWITCHING: "the server is switching", RESTORING: "the server is replacing its data"}
_TEXTS = ("run", "action", "what", "by", "since", "phase", "boot")


class LockedError(Exception):
    """The server is another run's; the text says who, from where, what, since when, last heard of, and the cure."""


@dataclass(frozen=True)
class Owner:
    """Who holds the lock.

    controller: the ansible-playbook that began it: `host` (name), `pid`, `started`, and what else tells machines apart.
    since: ISO 8601, UTC. heartbeat: seconds since 1970, by the server's clock. boot: `boot_marker` of the server.
    """

    run: str
    action: str = ""
    what: str = ""
    by: str = ""
    controller: dict[str, Any] = field(default_factory=dict)
    since: str = ""
    heartbeat: float = 0.0
    phase: str = PREPARING
    boot: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As it stands in owner.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Owner:
        """Raises ValueError for what is no owner; what a newer version wrote besides is passed over."""
        if not isinstance(body, Mapping) or not body.get("run"):
            raise ValueError("it names no run")
        controller = body.get("controller")
        return cls(
            **{name: str(body[name]) for name in _TEXTS if body.get(name)},
            controller=dict(controller) if isinstance(controller, Mapping) else {},
            heartbeat=float(body.get("heartbeat") or 0.0),
        )

    def describe(self, now: float | None = None) -> str:
        """One sentence for people; `now` in seconds since 1970."""
        heard = max(0, round((time.time() if now is None else now) - self.heartbeat))
        host, pid = self.controller.get("host"), self.controller.get("pid")
        where = (f" from {host}" if host else "") + (f" (process {pid})" if pid else "")
        doing = DOING.get(self.phase, "it is preparing")
        return (
            f"{self.action or 'run'} {self.what} by {self.by or 'somebody'}{where} holds the lock since "
            f"{self.since or 'some time ago'}; {doing}, last heard of {heard} s ago (run {self.run})."
        )


def boot_marker() -> str:
    """What changes with every start of this server, a container included: there the kernel's boot id stays."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    # after the name, which may hold anything; start of process 1 in clock ticks is field 22 of proc_pid_stat(5)
    ticks = Path("/proc/1/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    return f"{boot}.{ticks}"


def switch_active() -> bool:
    """Whether the server's own work runs at this moment. A systemd that does not answer counts as one at work."""
    try:
        answer = subprocess.run(
            ["systemctl", "show", "--property=ActiveState", "--value", UNIT],
            capture_output=True,
            text=True,
            timeout=15,
            check=False,
        )
    except FileNotFoundError:
        return False
    except subprocess.TimeoutExpired:
        return True
    if answer.returncode != 0:
        # it knows every name, so this is one that cannot be asked: while it loads itself anew, for one
        return True
    return answer.stdout.strip() in {"active", "activating", "deactivating", "reloading"}


def wait_for_switch(seconds: float = SWITCH_SECONDS, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Let the server's switch end before something else restarts a container, `seconds` at most.

    A switch takes its release back when one restarts while it looks whether all stay up.
    """
    deadline = time.monotonic() + seconds
    while switch_active() and time.monotonic() < deadline:
        sleep(1)


def restore_active(base: Path) -> bool:
    """Whether a process of this server replaces data at this moment: a kernel lock of `restoring` ends with it."""
    try:
        folder = os.open(owner_path(base).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        # nobody knows
        return True
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(folder)
    return False


def owner_path(base: Path) -> Path:
    """The file that says who holds the lock."""
    return base / "lock" / "owner.json"


def read_owner(base: Path) -> Owner | None:
    """Who holds the lock, None for nobody. Raises LockedError where the file cannot be understood, OSError."""
    path = owner_path(base)
    content = read_file(path)
    if content is None:
        return None
    try:
        return Owner.from_dict(json.loads(content))
    except (ValueError, TypeError) as error:
        raise LockedError(
            f"Nothing was changed. {path} cannot be understood ({error}), so nobody knows who works on this server. "
            "Look whether a deploy runs, then remove the lock with playbooks/unlock.yml."
        ) from error


def why_stale(
    owner: Owner,
    *,
    lease_seconds: float,
    unit_active: Callable[[], bool],
    restore_at_work: Callable[[], bool] = lambda: True,
    gone_run: str = "",
    now: float | None = None,
    boot: str | None = None,
) -> str:
    """Why the owner's run is over though it holds the lock, as a clause; "" while it may live.

    gone_run: a run of which the asking controller knows that its process has ended.
    """
    if owner.phase == SWITCHING:
        if owner.boot and owner.boot != (boot_marker() if boot is None else boot):
            return "the server has been started again since"
        return "" if unit_active() else "the switch has ended without a word"
    if owner.phase == RESTORING:
        return "" if restore_at_work() else "the restore has ended without a word"
    if gone_run and gone_run == owner.run:
        return "its process has ended"
    silent = abs((time.time() if now is None else now) - owner.heartbeat)
    return f"nothing was heard of it for {round(silent)} s" if silent > lease_seconds else ""


@contextmanager
def _guarded(base: Path) -> Iterator[Path]:
    """Keeps others from changing the lock; the path of owner.json. Raises OSError."""
    path = owner_path(base)
    ensure_folder(path.parent, Access(os.geteuid(), os.getegid(), 0o700))
    guard = os.open(path.parent / ".guard", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(guard)


def _write(path: Path, owner: Owner) -> None:
    body = json.dumps(owner.to_dict(), ensure_ascii=False) + "\n"
    write_file(path, body.encode(), Access(os.geteuid(), os.getegid(), 0o600))


def in_the_way(
    base: Path,
    run: str,
    *,
    lease_seconds: float,
    unit_active: Callable[[], bool],
    gone_run: str = "",
) -> Owner | None:
    """The stale owner that `run` would replace; None where the lock is free or its own. Changes nothing.

    Raises LockedError while another run may live, OSError.
    """
    found = read_owner(base)
    if found is None or found.run == run:
        return None
    if why_stale(
        found,
        lease_seconds=lease_seconds,
        unit_active=unit_active,
        restore_at_work=lambda: restore_active(base),
        gone_run=gone_run,
    ):
        return found
    raise LockedError(
        f"Nothing was changed. Another run works on this server: {found.describe()} Wait for its end, then run "
        "again. If that run is dead, playbooks/unlock.yml says what is known of it and removes its lock."
    )


def take(
    base: Path,
    owner: Owner,
    *,
    lease_seconds: float,
    unit_active: Callable[[], bool],
    gone_run: str = "",
) -> Owner | None:
    """Take the lock for `owner.run`; again for the same run renews it. `since`, `heartbeat` and `boot` are filled in.

    Returns the stale owner that was replaced, None where the lock was free or its own. Raises LockedError while another
    run may live, OSError.
    """
    with _guarded(base) as path:
        replaced = in_the_way(base, owner.run, lease_seconds=lease_seconds, unit_active=unit_active, gone_run=gone_run)
        now = time.time()
        mine = read_owner(base) if replaced is None else None
        if mine is None:
            since = owner.since or datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
            mine = replace(owner, since=since, boot=owner.boot or boot_marker())
        _write(path, replace(mine, heartbeat=now))
        return replaced


def beat(base: Path, run: str, phase: str | None = None) -> None:
    """Say that `run` lives, and what it does. Raises LockedError where the lock is no longer its own, OSError."""
    with _guarded(base) as path:
        found = read_owner(base)
        if found is None or found.run != run:
            holder = found.describe() if found else "nobody holds it."
            raise LockedError(
                f"Run {run} has lost its lock on this server: {holder} Somebody removed it, or took it for dead. "
                "Look at playbooks/status.yml, then run again."
            )
        boot = boot_marker() if phase == SWITCHING else found.boot
        _write(path, replace(found, heartbeat=time.time(), phase=phase or found.phase, boot=boot))


@contextmanager
def restoring(base: Path, run: str) -> Iterator[None]:
    """Replace data for `run`, which holds the lock: however long it takes, and whether or not its controller lives.

    Raises LockedError where the lock is not its own, OSError.
    """
    ended = threading.Event()

    def say() -> None:
        while not ended.wait(BEAT_SECONDS):
            # what is at work is not torn apart by a lock that somebody has removed
            with suppress(LockedError, OSError):
                beat(base, run)

    beat(base, run)
    folder = os.open(owner_path(base).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # shared: who looks takes it alone, for a moment
        fcntl.flock(folder, fcntl.LOCK_SH)
        beat(base, run, RESTORING)
        voice = threading.Thread(target=say, daemon=True)
        voice.start()
        try:
            yield
        finally:
            ended.set()
            voice.join()
            with suppress(LockedError, OSError):
                beat(base, run, PREPARING)
    finally:
        os.close(folder)


def release(base: Path, run: str) -> bool:
    """Give the lock back; False where `run` does not hold it. Raises LockedError, OSError."""
    if not owner_path(base).exists():
        return False
    with _guarded(base) as path:
        found = read_owner(base)
        if found is None or found.run != run:
            return False
        path.unlink()
        sync_folder(path.parent)
        return True


def remove(base: Path) -> bool:
    """Remove the lock whoever holds it; False where nobody does. For people who know better. Raises OSError."""
    if not owner_path(base).exists():
        return False
    with _guarded(base) as path:
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
        return True
