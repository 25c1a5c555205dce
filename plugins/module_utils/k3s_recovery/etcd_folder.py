"""Whether k3s has its datastore, without which a start makes a new, empty cluster.

Also etcd's files while a snapshot is put back: k3s moves them to `etcd-old-<time>` first and has no way back itself.
"""

from __future__ import annotations

from pathlib import Path


def put_aside(db: Path) -> list[str]:
    """Names of the folders in `db` (of the server's state) that k3s moved etcd's files to, the oldest first."""
    return sorted(path.name for path in db.glob("etcd-old-*") if path.is_dir())


def is_missing(db: Path) -> bool:
    """Whether `db` (of the server's state) holds neither a database, one without content included, nor etcd's files."""
    database = db / "state.db"
    return not (db / "etcd").exists() and not (database.exists() and database.stat().st_size)


def would_begin_anew(db: Path) -> str:
    """Why k3s must not be started: with etcd's files only aside it would make a new, empty cluster. "" when it may."""
    aside = put_aside(db)
    if not aside or (db / "etcd").exists() or (db / "state.db").exists():
        return ""
    return (
        f"{db}/etcd is missing, and {db}/{aside[-1]} is what a half-done restore of a snapshot left of it: "
        f"started now, k3s would make a new, empty cluster. Move it back (mv {db}/{aside[-1]} {db}/etcd), then run "
        f"again"
    )


def put_back(db: Path, known: list[str], name: str) -> tuple[str, Path | None]:
    """Undo a restore of a snapshot that did not come to its end, k3s stopped.

    What it put aside (a folder that is not among the `known` ones) is `etcd` again. Half of a snapshot that is in its
    place goes to `name`. Returns the name of what was put back ("" for nothing) and where the half is. Raises OSError.
    """
    fresh = [one for one in put_aside(db) if one not in known]
    if not fresh:
        return "", None
    etcd, half = db / "etcd", None
    if etcd.exists():
        number = sum(1 for _ in db.glob(f"{name}*"))
        half = db / f"{name}-{number}"
        etcd.rename(half)
    (db / fresh[0]).rename(etcd)
    return fresh[0], half
