"""kine's SQLite database: looked at and copied while k3s runs, crashes again and again, or is stopped.

The source is never written. kine keeps it in WAL mode: what was committed last is in `-wal`, so a copy of `state.db`
alone lacks it, and SQLite's own backup has to read both under SQLite's locks.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

# As kine itself waits for a lock, in seconds.
BUSY_SECONDS = 30
BOOTSTRAP = "/bootstrap/"
REGISTRY = "/registry/"
RBAC = frozenset({"roles", "rolebindings", "clusterroles", "clusterrolebindings", "serviceaccounts", "networkpolicies"})
COMPANIONS = ("-wal", "-shm", "-journal")
_Result = TypeVar("_Result")


class DatabaseError(Exception):
    """The database cannot be used; SQLite's own words are in the text."""


@dataclass(frozen=True)
class Inventory:
    """What the cluster in a database holds: for each key the newest row, if it is not a deletion.

    Attributes:
        revision: the newest one.
        keys: how many there are.
        namespaces: their names, sorted.
        rbac: sha256 of the value by key: roles, bindings, service accounts, network policies.
        objects: how many of each kind, as `configmaps` or `k3s.cattle.io/addons`.
        nodes: names of Node objects, sorted.
        bootstrap_keys: how many copies of CAs and keys there are, each for one token.
    """

    revision: int
    keys: int
    namespaces: list[str]
    rbac: dict[str, str]
    objects: dict[str, int]
    nodes: list[str]
    bootstrap_keys: int


def companions(path: Path) -> list[Path]:
    """The files that SQLite keeps beside a database, those that are there."""
    return [one for suffix in COMPANIONS if (one := path.with_name(path.name + suffix)).exists()]


def bootstrap_key(secret: str) -> str:
    """The key below which k3s keeps CAs and keys for a token (its secret part, see `token_secret`)."""
    return BOOTSTRAP + hashlib.sha256(secret.encode()).hexdigest()[:12]


def integrity(path: Path) -> None:
    """Read every page and kine's table.

    :raises DatabaseError: SQLite finds something wrong, or it is no database of kine's.
    """

    def check(connection: sqlite3.Connection) -> None:
        told = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(5)")]
        if told != ["ok"]:
            raise DatabaseError(f"{path}: {'; '.join(' '.join(one.split()) for one in told)[:500]}")
        connection.execute("SELECT id, name, deleted, value FROM kine ORDER BY id DESC LIMIT 1").fetchone()

    _read(path, check)


def online_backup(source: Path, target: Path) -> None:
    """Copy the database as it is at one moment, with every transaction committed before, also while kine writes.

    All pages go in one step: a copy in several would begin again at each write, and so never end under load.

    :param target: a new file, 0600; fsynced, without companions.
    :raises DatabaseError: the source cannot be read or the copy not be written; no target is left then.
    """

    def copy(connection: sqlite3.Connection) -> None:
        with contextlib.closing(sqlite3.connect(target)) as into:
            into.execute("PRAGMA synchronous = OFF")
            connection.backup(into)

    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600))
        _read(source, copy)
        # what SQLite may have left beside it is of no use: the copy is not in use
        for one in companions(target):
            one.unlink()
        with target.open("rb") as written:
            os.fsync(written.fileno())
    except BaseException as error:
        for one in [target, *companions(target)]:
            one.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise DatabaseError(f"{target} cannot be written: {error}") from error
        raise


def inventory(path: Path) -> Inventory:
    """Count what a database holds; its values are not kept in memory.

    :raises DatabaseError: it cannot be read, or is not kine's.
    """
    return _read(path, _count)


def bootstrap_keys(path: Path) -> list[str]:
    """The keys of the copies of CAs and keys, as `bootstrap_key` makes them.

    :raises DatabaseError: it cannot be read, or is not kine's.
    """

    def ask(connection: sqlite3.Connection) -> list[str]:
        query = "SELECT name, MAX(id), deleted FROM kine WHERE name >= ? AND name < '/bootstrap0' GROUP BY name"
        return [str(name) for name, _id, deleted in connection.execute(query, (BOOTSTRAP,)) if not deleted]

    return _read(path, ask)


def kind_of(key: str) -> tuple[str, list[str]]:
    """Kind and the rest (namespace and name, or name) of a key below /registry/.

    Custom resources and some old kinds have two words: `k3s.cattle.io/addons`, `services/endpoints`.
    """
    kind, *rest = key[len(REGISTRY) :].split("/")
    if ("." in kind and len(rest) > 1) or kind == "services":
        kind, rest = f"{kind}/{rest[0]}", rest[1:]
    return {"services/specs": "services", "services/endpoints": "endpoints", "minions": "nodes"}.get(kind, kind), rest


def _count(connection: sqlite3.Connection) -> Inventory:
    keys = bootstraps = 0
    namespaces: list[str] = []
    nodes: list[str] = []
    rbac: dict[str, str] = {}
    objects: dict[str, int] = {}
    # with MAX(id) SQLite takes the other columns from that row; the order of the index needs no sorting
    for name, newest, deleted in connection.execute("SELECT name, MAX(id), deleted FROM kine GROUP BY name"):
        key = str(name)
        if deleted or not key.startswith("/"):
            continue
        keys += 1
        bootstraps += key.startswith(BOOTSTRAP)
        if not key.startswith(REGISTRY):
            continue
        kind, rest = kind_of(key)
        if not rest:
            continue
        objects[kind] = objects.get(kind, 0) + 1
        if kind == "namespaces":
            namespaces.append(rest[-1])
        elif kind == "nodes":
            nodes.append(rest[-1])
        elif kind in RBAC:
            (value,) = connection.execute("SELECT value FROM kine WHERE id = ?", (newest,)).fetchone()
            rbac[key] = hashlib.sha256(bytes(value or b"")).hexdigest()
    (revision,) = connection.execute("SELECT MAX(id) FROM kine").fetchone()
    return Inventory(
        revision=int(revision or 0),
        keys=keys,
        namespaces=sorted(namespaces),
        rbac=rbac,
        objects=dict(sorted(objects.items())),
        nodes=sorted(nodes),
        bootstrap_keys=bootstraps,
    )


def _read(path: Path, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
    """Do something with one view of the database.

    A database that nobody has open and that was closed properly is read without a lock, so that nothing is made beside
    it; when somebody has opened or changed it meanwhile, that view is thrown away. With a log beside it SQLite's own
    locks are used: it may then make the index `-shm` anew, as each reader does, and leaves everything else alone.

    :raises DatabaseError: in SQLite's words.
    """
    try:
        before = _stamp(path)
        if not _in_use(path):
            result: _Result | None = None
            problem: Exception | None = None
            try:
                with _opened(path, "mode=ro&immutable=1") as connection:
                    result = work(connection)
            except (sqlite3.Error, DatabaseError) as error:
                problem = error
            if not _in_use(path) and _stamp(path) == before:
                if problem is not None:
                    raise problem
                return result  # type: ignore[return-value]  # set, or there was a problem
        with _opened(path, "mode=ro") as connection:
            return work(connection)
    except sqlite3.Error as error:
        raise DatabaseError(f"{path}: {error}") from error
    except OSError as error:
        raise DatabaseError(f"{path} cannot be read: {error.strerror or error}") from error


def _in_use(path: Path) -> bool:
    """Whether somebody has it open, or something is in a log beside it."""
    for one in companions(path):
        # it goes when the last one closes the database
        with contextlib.suppress(FileNotFoundError):
            if one.stat().st_size:
                return True
    return False


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    if status.st_size == 0:
        # SQLite takes it for a new database
        raise DatabaseError(f"{path}: file is not a database (it is empty)")
    return status.st_ino, status.st_size, status.st_mtime_ns


@contextlib.contextmanager
def _opened(path: Path, how: str) -> Iterator[sqlite3.Connection]:
    """A connection within one read transaction, so that all that is asked belongs to one moment."""
    connection = sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("BEGIN")
        yield connection
    finally:
        connection.close()
