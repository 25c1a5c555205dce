"""The server as the rungs see it: systemd, the API, the datastore, backups. Tests put another one in its place."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.request import Request

from ansible.module_utils.backups import store
from ansible.module_utils.backups.k3s import check, read_member, restore
from ansible.module_utils.k3s_common import CONFIG_FOLDER, DATA_FOLDER, UNIT, K3sError
from ansible.module_utils.k3s_node import KUBECONFIG, Api, UnitState, unit_state
from ansible.module_utils.k3s_recovery import diagnosis as judging
from ansible.module_utils.k3s_recovery import facts
from ansible.module_utils.k3s_recovery.configuration import settings_with_places
from ansible.module_utils.k3s_recovery.etcd_folder import is_missing, would_begin_anew
from ansible.module_utils.kine_database import Inventory, inventory

NODE_PASSWORD = "/etc/rancher/node/password"  # noqa: S105  (a path)
SAFE_MODE = f"{CONFIG_FOLDER}/config.yaml.d/99-recover-k3s-safe-mode.yaml"
PATCH = "application/merge-patch+json"


def since_boot() -> float:
    """Seconds since the boot, time in suspend included: the network that comes back may set the clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class MachineError(Exception):
    """A step on the server failed; the text says which, why and, where known, the cure."""


class NoDatastoreError(MachineError):
    """k3s was not started: without its datastore it would make a new, empty cluster."""


@dataclass(frozen=True)
class Finished:
    """A command that ended: exit code (124 after its time was up) and what it wrote."""

    code: int
    out: str = ""
    err: str = ""

    @property
    def words(self) -> str:
        """Its last words, on one line."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return " ".join(lines[-3:]) or f"exit code {self.code}"


@dataclass(frozen=True)
class Answer:
    """An answer of the API: HTTP status and decoded body."""

    status: int
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def message(self) -> str:
        """What the API says about it."""
        return f"{self.status} {self.body.get('message', '')}".strip()


class Machine(Protocol):
    """What a rung may do to a server besides reading and writing its files (below `path`)."""

    def path(self, text: str) -> Path:
        """Where a file of the server is."""

    def now(self) -> float:
        """Seconds since 1970."""

    def uptime(self) -> float:
        """Seconds of a clock that nobody sets, for durations."""

    def sleep(self, seconds: float) -> None:
        """Wait."""

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: str = "") -> Finished:
        """Run a command; it never raises for what the command does."""

    def kill(self, pid: int) -> None:
        """SIGKILL; a process that is gone is no error."""

    def unit(self) -> UnitState:
        """The unit now."""

    def start(self, *, new_cluster: bool = False) -> None:
        """Start k3s without waiting for it. Raises MachineError.

        NoDatastoreError where its own datastore is not there, unless a `new_cluster` is what is wanted.
        """

    def stop(self) -> None:
        """Stop k3s, also one that crashes again and again, and forget its failures. Raises MachineError."""

    def request(self, method: str, path: str, body: Any = None) -> Answer:
        """Ask the API as the cluster's administrator; PATCH is a merge patch. Raises MachineError without an answer."""

    def answers(self) -> bool:
        """Whether the API says that it is ready."""

    def diagnose(self, node_ip: str) -> judging.Diagnosis:
        """Look at everything now."""

    def inventory(self, database: Path) -> Inventory:
        """What a database holds. Raises DatabaseError."""

    def last_good(self) -> store.Backup | None:
        """The newest backup of k3s that was proven good."""

    def backups(self) -> list[store.Backup]:
        """Backups of k3s, the newest first."""

    def intact(self, path: str) -> bool:
        """Whether the backup of that file is there and as it was written."""

    def forbids(self, backup: store.Backup, parts: set[str]) -> list[str]:
        """Why these parts of a backup cannot be put back here; nothing is changed."""

    def restore(self, backup: store.Backup, parts: set[str]) -> list[str]:
        """Put parts of a backup back (k3s is stopped); what was done. Raises BackupError."""

    def read_member(self, backup: store.Backup, name: str) -> bytes:
        """One file of a backup. Raises BackupError."""


class Server:
    """The real thing; see `Machine`."""

    def __init__(self, *, backups: str = store.DEFAULT_DIRECTORY, identity: str = "") -> None:
        self._backups = Path(backups)
        self._identity = identity
        self._kubeconfig = ""

    def path(self, text: str) -> Path:
        """Itself."""
        return Path(text)

    def now(self) -> float:
        """The clock."""
        return time.time()

    def uptime(self) -> float:
        """Since the boot."""
        return since_boot()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: str = "") -> Finished:
        """Run a command in a session of its own, so that nothing which ends the caller's session ends it half-way."""
        try:
            done = subprocess.run(
                list(argv),
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=timeout,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            return Finished(124, err=f"no end within {timeout:g} s")
        except OSError as error:
            return Finished(127, err=f"{argv[0]}: {error.strerror or error}")
        return Finished(done.returncode, done.stdout, done.stderr)

    def kill(self, pid: int) -> None:
        """SIGKILL."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def unit(self) -> UnitState:
        """By systemctl show."""
        try:
            return unit_state(UNIT)
        except K3sError as error:
            raise MachineError(str(error)) from error

    def _systemctl(self, *arguments: str, timeout: float = 60) -> None:
        done = self.run(["systemctl", *arguments], timeout=timeout)
        if done.code != 0:
            raise MachineError(f"'systemctl {' '.join(arguments)}' failed: {done.words}")

    def start(self, *, new_cluster: bool = False) -> None:
        """By systemctl; the unit's start has no time limit, so nobody waits for it here."""
        settings = settings_with_places(self.path("/"))
        data = settings.text("data-dir", DATA_FOLDER)
        db = self.path(f"{data}/server/db")
        why_not = would_begin_anew(db)
        if why_not:
            raise NoDatastoreError(f"k3s was not started: {why_not}")
        # a datastore elsewhere is none of these files
        local = settings.text("datastore-endpoint") in {"", "sqlite"}
        if local and not new_cluster and is_missing(db):
            raise NoDatastoreError(no_datastore(str(db), data))
        if self.unit().stale:
            self._systemctl("daemon-reload")
        self._systemctl("--no-block", "start", UNIT)

    def stop(self) -> None:
        """By systemctl. A unit that waits for its next start counts as failed afterwards, which is reset."""
        self._systemctl("stop", UNIT, timeout=120)
        self.run(["systemctl", "reset-failed", UNIT])

    def request(self, method: str, path: str, body: Any = None) -> Answer:
        """With the kubeconfig that k3s has written last, which may be elsewhere."""
        self._kubeconfig = self._kubeconfig or settings_with_places().text("write-kubeconfig", KUBECONFIG)
        try:
            api = Api(self._kubeconfig)
            data = None if body is None else json.dumps(body).encode()
            kind = PATCH if method == "PATCH" else "application/json"
            headers = {"Content-Type": kind, "Accept": "application/json"}
            request = Request(api.server + path, data=data, headers=headers, method=method)  # noqa: S310  (https)
            with api.opener.open(request, timeout=10) as answer:
                return Answer(answer.status, _decoded(answer.read()))
        except HTTPError as error:
            return Answer(error.code, _decoded(_rest(error)))
        # k3s may end in the middle of an answer
        except (K3sError, URLError, ssl.SSLError, HTTPException, OSError, ValueError) as error:
            raise MachineError(f"the API does not answer: {getattr(error, 'reason', error)}") from error

    def answers(self) -> bool:
        """By /readyz, which waits for the datastore as well."""
        try:
            return self.request("GET", "/readyz").status == 200
        except MachineError:
            return False

    def diagnose(self, node_ip: str) -> judging.Diagnosis:
        """As the module k3s_diagnose does."""
        return judging.diagnose(facts.collect(), node_ip=node_ip)

    def inventory(self, database: Path) -> Inventory:
        """By kine's own table."""
        return inventory(database)

    def last_good(self) -> store.Backup | None:
        """Of the backups' folder."""
        return store.last_good(self._backups, "k3s")

    def backups(self) -> list[store.Backup]:
        """Of the backups' folder."""
        return list(reversed(store.backups(self._backups, "k3s")))

    def intact(self, path: str) -> bool:
        """By its checksum."""
        try:
            store.load(Path(path))
        except store.BackupError:
            return False
        return True

    def forbids(self, backup: store.Backup, parts: set[str]) -> list[str]:
        """By the restore's own check."""
        return check(backup, parts=parts, identity=self._identity)

    def restore(self, backup: store.Backup, parts: set[str]) -> list[str]:
        """With the identity, where the backup is encrypted."""
        return restore(backup, parts=parts, identity=self._identity)

    def read_member(self, backup: store.Backup, name: str) -> bytes:
        """With the identity, where the backup is encrypted."""
        return read_member(backup, name, identity=self._identity)


def no_datastore(db: str, data: str) -> str:
    """Why k3s was not started, and the cure."""
    return (
        f"k3s was not started: there is no database in {db}, and it would make a new, empty cluster. Mount the disk of "
        f"{data} if it is not (findmnt -T {data}), or put a backup back (playbooks/restore.yml), then run again"
    )


def _rest(error: HTTPError) -> bytes:
    """The body of an answer that is an error; b"" when it was cut off."""
    try:
        return error.read()
    except (HTTPException, OSError):
        return b""


def _decoded(text: bytes) -> dict[str, Any]:
    """A JSON object; {} for anything else."""
    try:
        body = json.loads(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
