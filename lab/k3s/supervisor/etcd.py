"""Embedded etcd as far as it can be scripted: who is a member, at which address, and what a cluster reset does.

The data are kine's SQLite at etcd's path (`server/db/etcd/member/snap/db`); who is a member stands beside it in JSON
where etcd has its log. Messages are those of k3s' `pkg/etcd` and `pkg/cluster`.
"""

import contextlib
import json
import secrets
import shutil
import sqlite3
import threading
import time
from pathlib import Path

from . import bootstrap, logs, network, pki
from .logs import FatalError
from .paths import Paths
from .plan import Plan

TEST_SECONDS = 5
PEER_PORT = 2380
_MEMBERS = "0000000000000000-0000000000000000.wal"


class Etcd:
    """The one member of a cluster."""

    def __init__(self, paths: Paths, plan: Plan) -> None:
        self._paths = paths
        self._plan = plan
        self._members = paths.etcd / "member" / "wal" / _MEMBERS
        self.reset_flag = paths.etcd.with_name("reset-flag")

    @property
    def peer_url(self) -> str:
        """Where this server says that other members reach it."""
        host = f"[{self._plan.node_address}]" if ":" in self._plan.node_address else self._plan.node_address
        return f"https://{host}:{PEER_PORT}"

    def _name(self) -> str:
        try:
            return (self._paths.etcd / "name").read_text()
        except FileNotFoundError:
            return self._new_name()

    def _new_name(self) -> str:
        name = f"{self._plan.node_name}-{secrets.token_hex(4)}"
        pki.write_private(self._paths.etcd / "name", name.encode())
        return name

    def _record(self, name: str) -> None:
        members = {"members": [{"name": name, "peerURLs": [self.peer_url]}]}
        pki.write_private(self._members, json.dumps(members).encode())

    def begin(self) -> None:
        """Make a new cluster of one, taking over what SQLite has, as k3s does for `cluster-init` on such a server."""
        logs.info("Managed etcd cluster initializing")
        database = self._paths.etcd / "member" / "snap" / "db"
        database.parent.mkdir(parents=True, mode=0o700)
        if self._paths.sqlite.exists():
            logs.info("Migrating content from sqlite to etcd")
            copy_database(self._paths.sqlite, database)
            for path in self._paths.sqlite.parent.glob("state.db*"):
                path.rename(path.with_name(f"{path.name}.migrated"))
        self._record(self._name())
        logs.info("Starting etcd for new cluster, cluster-reset=false")

    def check_data(self) -> None:
        """Open the data as the temporary etcd does with which k3s begins.

        Raises:
            FatalError: they are damaged.
        """
        logs.info("Managed etcd cluster bootstrap already complete and initialized")
        logs.info("Starting temporary etcd to reconcile with datastore")
        problem = database_problem(self._paths.database) or self._members_problem()
        if problem:
            temporary = self._paths.etcd.with_name("etcd-tmp") / "member" / "snap" / "db"
            logs.etcd_panic("failed to open database", path=str(temporary), error=problem)
            raise FatalError(f"Failed to reconcile with temporary etcd: failed to open database: {problem}")
        logs.info("etcd temporary data store connection OK")

    def _members_problem(self) -> str:
        try:
            self._found()
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            return "walpb: crc mismatch"
        return ""

    def _found(self) -> list[str]:
        members = json.loads(self._members.read_text())["members"]
        return [f"{member['name']}={member['peerURLs'][0]}" for member in members]

    def wait_for_membership(self, stop: threading.Event) -> None:
        """Return when this server is the member that etcd knows; k3s asks again for ever and neither ends nor starts.

        Raises:
            FatalError: etcd cannot listen.
        """
        problem = network.listen_error(self._plan.node_address, PEER_PORT)
        if problem:
            raise FatalError(f"Error: preparing server: start managed database: {problem}")
        logs.info("Starting etcd for existing cluster member")
        expected = f"{self._name()}={self.peer_url}"
        while expected not in (found := self._found()):
            logs.info(
                "Failed to test data store connection: this server is a not a member of the etcd cluster. "
                f"Found [{' '.join(found)}], expect: {expected}"
            )
            if stop.wait(TEST_SECONDS):
                return
        logs.info("etcd data store connection OK")

    def reset(self, secret: str, restore_path: str) -> None:
        """Make this server the only member, at its address of now; with a path from that snapshot's data.

        Raises:
            FatalError: it was reset before and not started since, or the snapshot cannot be used.
        """
        if not restore_path and self.reset_flag.exists():
            raise FatalError(
                "Error: preparing server: start managed database: Managed etcd cluster membership was previously "
                "reset, please remove the cluster-reset flag and start k3s normally. If you need to perform another "
                f"cluster reset, you must first manually delete the file at {self.reset_flag}"
            )
        if restore_path:
            self._restore(Path(restore_path))
        problem = database_problem(self._paths.database)
        if problem:
            logs.etcd_panic("failed to open database", path=str(self._paths.database), error=problem)
            raise FatalError(f"Error: preparing server: start managed database: failed to open database: {problem}")
        name = self._new_name()
        pki.write_private(self.reset_flag, b"")
        logs.info("Starting etcd for new cluster, cluster-reset=true")
        self._record(name)
        bootstrap.overwrite(self._paths, secret)
        logs.info(
            "Managed etcd cluster membership has been reset, restart without --cluster-reset flag now. Backup and "
            "delete ${datadir}/server/db on each peer etcd server and rejoin the nodes"
        )

    def _restore(self, snapshot: Path) -> None:
        start = "Error: preparing server: start managed database: "
        if not snapshot.exists():
            raise FatalError(f"{start}etcd: snapshot path does not exist: {snapshot}")
        if snapshot.is_dir():
            raise FatalError(f"{start}etcd: snapshot path must be a file, not a directory: {snapshot}")
        old = self._paths.etcd.with_name(f"etcd-old-{int(time.time())}")
        problem = database_problem(snapshot)
        if problem:
            raise FatalError(f"{start}snapshot file {snapshot}: {problem}")
        try:
            self._paths.etcd.rename(old)
        except OSError as error:
            raise FatalError(f"{start}rename {self._paths.etcd} {old}: {(error.strerror or '').lower()}") from error
        logs.info(f"Pre-restore etcd database moved to {old}")
        database = self._paths.etcd / "member" / "snap" / "db"
        database.parent.mkdir(parents=True, mode=0o700)
        shutil.copyfile(snapshot, database)
        self._record("restored")

    def started_normally(self) -> bool:
        """Say whether a reset came before this start, and allow the next one."""
        was_reset = self.reset_flag.exists()
        self.reset_flag.unlink(missing_ok=True)
        return was_reset


def database_problem(path: Path) -> str:
    """Return what is wrong with a database, in SQLite's words, or nothing.

    A `-wal` beside it is merged, as any opening does; a file that is missing is wrong too.
    """
    if not path.is_file():
        return "no such file or directory"
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as opened:
            verdict = str(opened.execute("PRAGMA integrity_check(1)").fetchone()[0])
            opened.execute("SELECT count(*) FROM kine").fetchone()
    except sqlite3.Error as error:
        return str(error)
    return "" if verdict == "ok" else verdict


def copy_database(source: Path, target: Path) -> None:
    """Copy a database with what is in its `-wal`, also while it is written to.

    Raises:
        FatalError: it cannot be read.
    """
    try:
        with (
            contextlib.closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True)) as reading,
            contextlib.closing(sqlite3.connect(target)) as writing,
        ):
            reading.backup(writing)
    except sqlite3.Error as error:
        raise FatalError(f"Error: {source}: {error}") from error
    target.chmod(0o600)
