"""Databases as kine makes them, and a process that writes one as kine does."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

TOKEN = "the-token-of-this-datastore"

# as kine's own schema (pkg/drivers/sqlite)
SCHEMA = """
CREATE TABLE IF NOT EXISTS kine (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, created INTEGER, deleted INTEGER, create_revision INTEGER,
    prev_revision INTEGER, lease INTEGER, value BLOB, old_value BLOB);
CREATE INDEX IF NOT EXISTS kine_name_index ON kine (name);
CREATE INDEX IF NOT EXISTS kine_name_id_index ON kine (name,id);
CREATE UNIQUE INDEX IF NOT EXISTS kine_name_prev_revision_uindex ON kine (name, prev_revision);
"""

WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("PRAGMA journal_mode = WAL")
number = 0
while True:
    number += 1
    connection.execute(
        "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value) "
        "VALUES (?, 1, 0, 0, ?, 0, ?)", (f"/registry/configmaps/default/w-{number}", -number, b"y" * 500))
    print(number, flush=True)
"""


def connect(path: Path) -> sqlite3.Connection:
    """A connection like kine's."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.execute("PRAGMA journal_mode = WAL")
    return connection


def put(connection: sqlite3.Connection, key: str, value: bytes = b"x", *, deleted: bool = False) -> int:
    """Write a revision of a key; its number."""
    (before,) = connection.execute("SELECT COALESCE(MAX(id), 0) FROM kine WHERE name = ?", (key,)).fetchone()
    row = connection.execute(
        "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value, old_value) "
        "VALUES (?, ?, ?, 0, ?, 0, ?, '')",
        (key, int(not before), int(deleted), before, value),
    )
    return int(row.lastrowid or 0)


def make(path: Path, *, token: str = TOKEN, objects: int = 20) -> Path:
    """A closed database of a small cluster."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(connect(path)) as connection:
        connection.executescript(SCHEMA)
        put(connection, f"/bootstrap/{hashlib.sha256(token.encode()).hexdigest()[:12]}", b"sealed")
        put(connection, "compact_rev_key", b"")
        for namespace in ("default", "kube-system", "integr8scode"):
            put(connection, f"/registry/namespaces/{namespace}")
        put(connection, "/registry/minions/server1")
        put(connection, "/registry/roles/integr8scode/k8s-worker", b"rules")
        for number in range(objects):
            put(connection, f"/registry/configmaps/default/c-{number}", bytes(300))
    return path


@contextmanager
def writer(path: Path, ahead: int = 200) -> Iterator[subprocess.Popen[str]]:
    """A process that commits without pause, after its first `ahead` rows; it prints the number of each."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for _ in range(ahead):
            assert process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def committed(path: Path) -> int:
    """The writer's newest row, as a reader of the live database sees it."""
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        query = (
            "SELECT MAX(CAST(substr(name, 33) AS INTEGER)) FROM kine WHERE name LIKE '/registry/configmaps/default/w-%'"
        )
        return int(connection.execute(query).fetchone()[0] or 0)
