"""The token, and the encrypted copy of CAs and keys that k3s keeps in its datastore (`pkg/cluster`).

The copy is what brings `server/tls` back when it was deleted, and what makes a changed token fatal: it is stored under
a key made from the token and encrypted with it.
"""

import base64
import csv
import datetime as dt
import hashlib
import io
import json
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from . import logs
from .logs import FatalError
from .paths import Paths
from .pki import write_private

# k3s allows clocks to differ by this much when it compares a file with its copy
_SKEW_SECONDS = 3
_KEY_PREFIX = "/bootstrap/"
_PREPARING = "Error: preparing server: failed to bootstrap cluster data: failed to reconcile with local datastore: "


def plain_token(token: str) -> str:
    """Return the secret part of a token: `K10<hash>::server:SECRET` and `SECRET` both give SECRET."""
    text = token.strip()
    if text.startswith("K10") and "::" in text:
        text = text.split("::", 1)[1]
        _user, _colon, secret = text.partition(":")
        return secret
    return text


def read_token_file(path: Path, stop: threading.Event) -> str:
    """Return the content of `token-file`, waiting until the file is there, as k3s does; empty when told to stop.

    Raises:
        FatalError: it cannot be read.
    """
    while not stop.is_set():
        try:
            return path.read_text().strip()
        except FileNotFoundError:
            logs.info(f"Waiting for {path} to be available\n")
            stop.wait(2)
        except OSError as error:
            raise FatalError(f"Error: open {path}: {(error.strerror or str(error)).lower()}") from error
        except UnicodeDecodeError as error:
            raise FatalError(f"Error: {path} does not hold text") from error
    return ""


def _passwords(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    rows = csv.reader(io.StringIO(path.read_text()))
    return {row[1]: row[0] for row in rows if len(row) >= 3}


def choose_token(paths: Paths, configured: str) -> str:
    """Return the server's secret: as configured, else the one on disk, else a new random one."""
    if configured:
        return plain_token(configured)
    if paths.token.exists():
        return plain_token(paths.token.read_text())
    return _passwords(paths.passwd).get("server") or secrets.token_hex(16)


def write_tokens(paths: Paths, secret: str) -> None:
    """Write the password file and the token with the CA's hash, and let `node-token` point to it."""
    rows = [[secret, "node", "node", "k3s:agent"], [secret, "server", "server", "k3s:server"]]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    if not paths.passwd.exists() or paths.passwd.read_text() != out.getvalue():
        write_private(paths.passwd, out.getvalue().encode())
    ca_hash = hashlib.sha256((paths.tls / "server-ca.crt").read_bytes()).hexdigest()
    line = f"K10{ca_hash}::server:{secret}\n"
    if not paths.token.exists() or paths.token.read_text() != line:
        write_private(paths.token, line.encode())
    for name in ("node-token", "agent-token"):
        link = paths.server / name
        if not link.is_symlink():
            link.unlink(missing_ok=True)
            link.symlink_to(paths.token)


def _storage_key(secret: str) -> str:
    return _KEY_PREFIX + hashlib.sha256(secret.encode()).hexdigest()[:12]


def _cipher(secret: str, salt: str) -> AESGCM:
    return AESGCM(hashlib.pbkdf2_hmac("sha1", secret.encode(), salt.encode(), 4096, 32))


def encrypt(secret: str, data: bytes) -> bytes:
    """Encrypt with a key made from the token: `salt:base64(nonce + ciphertext)`."""
    salt = secrets.token_hex(8)
    nonce = os.urandom(12)
    sealed = nonce + _cipher(secret, salt).encrypt(nonce, data, None)
    return f"{salt}:{base64.b64encode(sealed).decode()}".encode()


def decrypt(secret: str, data: bytes) -> bytes:
    """Undo `encrypt`.

    Raises:
        FatalError: the data were not encrypted with this token, or are damaged.
    """
    try:
        salt, sealed = data.decode().split(":", 1)
        raw = base64.b64decode(sealed)
        return _cipher(secret, salt).decrypt(raw[:12], raw[12:], None)
    except (ValueError, InvalidTag) as error:
        raise FatalError(f"{_PREPARING}cipher: message authentication failed") from error


def _open(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{database}?mode=rw", uri=True, timeout=30)
    connection.execute("PRAGMA busy_timeout = 30000")
    return connection


def stored_copy(database: Path, secret: str) -> bytes | None:
    """Return the decrypted copy of CAs and keys, or None when the datastore has none.

    Raises:
        FatalError: the database is damaged, or its copy belongs to another token.
    """
    if not database.exists():
        return None
    try:
        connection = _open(database)
        try:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'kine'").fetchone():
                return None
            rows = connection.execute(
                "SELECT name, value FROM kine WHERE name LIKE ? AND deleted = 0 ORDER BY id", (f"{_KEY_PREFIX}%",)
            ).fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise FatalError(f"Error: preparing server: creating storage endpoint: building kine: {error}") from error
    found = dict(rows)
    if not found:
        return None
    value = found.get(_storage_key(secret))
    if value is None:
        raise FatalError(f"{_PREPARING}bootstrap data already found and encrypted with different token")
    return decrypt(secret, bytes(value))


def store_copy(paths: Paths, secret: str) -> None:
    """Put the copy of CAs and keys into the datastore, unless it is there.

    Kine holds the database open meanwhile; a row more is what any writer of its own adds.
    """
    if stored_copy(paths.database, secret) is not None:
        return
    files = {}
    for name, path in paths.bootstrap_files().items():
        moment = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)
        files[name] = {"Timestamp": moment.isoformat(), "Content": base64.b64encode(path.read_bytes()).decode()}
    sealed = encrypt(secret, json.dumps(files).encode())
    with _open(paths.database) as connection:
        connection.execute(
            "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value, old_value)"
            " VALUES (?, 1, 0, 0, 0, 0, ?, ?)",
            (_storage_key(secret), sealed, b""),
        )
    connection.close()


def reconcile(paths: Paths, secret: str) -> None:
    """Compare the files on disk with their copy in the datastore; restore what is missing or older.

    Raises:
        FatalError: another token, a damaged database, or a file that is newer than its copy.
    """
    raw = stored_copy(paths.database, secret)
    if raw is None:
        return
    logs.info("Reconciling bootstrap data between datastore and disk")
    restore: list[tuple[Path, bytes]] = []
    newer: list[Path] = []
    for name, path, stored_at, content in _copies(paths, raw):
        if not path.exists():
            logs.warning(f"{path} doesn't exist. continuing...")
            restore.append((path, content))
        elif path.read_bytes() != content and name != "PasswdFile":
            if int(path.stat().st_mtime) - int(stored_at) >= _SKEW_SECONDS:
                newer.append(path)
            else:
                logs.warning(f"{path} will be updated from the datastore.")
                restore.append((path, content))
    if newer:
        names = ", ".join(str(path) for path in newer)
        raise FatalError(
            f"{names} newer than datastore and could cause a cluster outage. Remove the file(s) from disk and restart "
            "to be recreated from datastore."
        )
    _write_back(restore)


def overwrite(paths: Paths, secret: str) -> None:
    """Put every file that the datastore has a copy of back, after a copy of `server/tls`: what a cluster reset does.

    Raises:
        FatalError: another token.
    """
    raw = stored_copy(paths.database, secret)
    if raw is None:
        return
    logs.info("Reconciling bootstrap data between datastore and disk")
    if paths.tls.is_dir():
        backup = paths.server / f"tls-{int(time.time())}"
        logs.info(f"Cluster reset: backing up certificates directory to {backup}")
        shutil.copytree(paths.tls, backup, symlinks=True)
    _write_back([(path, content) for _name, path, _stored_at, content in _copies(paths, raw)])


def _copies(paths: Paths, raw: bytes) -> Iterator[tuple[str, Path, float, bytes]]:
    copies = json.loads(raw)
    for name, path in paths.bootstrap_files().items():
        if name in copies:
            stored_at = dt.datetime.fromisoformat(copies[name]["Timestamp"]).timestamp()
            yield name, path, stored_at, base64.b64decode(copies[name]["Content"])


def _write_back(files: list[tuple[Path, bytes]]) -> None:
    if files:
        logs.warning("Updating bootstrap data on disk from datastore")
    for path, content in files:
        write_private(path, content, 0o644 if path.suffix == ".crt" else 0o600)
