"""The application's backup put back: checked first, placed on a fresh server, and its data exchanged."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ansible.module_utils.atomic_files import Access, read_file, sync_folder, write_file
from ansible.module_utils.backups import application, archive, mongo, store
from ansible.module_utils.backups.application import DUMP, FILES, KIND
from ansible.module_utils.backups.store import Backup, BackupError
from ansible.module_utils.integr8scode_docker import PROJECT_LABEL, SERVICE_LABEL, EngineUnavailableError, connect
from ansible.module_utils.secret_files import read_mounts

REASON = "before a restore"
HISTORY, SECRETS, AUTHORITY = f"{FILES}/history.jsonl", f"{FILES}/secrets", f"{FILES}/tls/public/ca.crt"
# what a fresh server gets before the stack is started there; secrets come from the vault, the edge's file from the role
PLACED = ("tls", "releases", "files", "current")
# what goes on while data are replaced: nothing of these writes to MongoDB
STAYS_UP = ("mongo", "kafka", "edge", "frontend")
ACCOUNTS = {"DEFAULT_USER_PASSWORD": "user", "ADMIN_USER_PASSWORD": "admin"}


@dataclass(frozen=True)
class Findings:
    """What a check of a backup has found.

    Attributes:
        problems: each forbids the restore; with its cure.
        notes: what will be different afterwards.
        release: id of the release that ran, "" if none.
        tag: its tag.
        documents: by namespace.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    release: str = ""
    tag: str = ""
    documents: dict[str, int] = field(default_factory=dict)


def _dump_of(backup: Backup, folder: Path, identity: str) -> Path:
    """The dump out of a backup, checked against the manifest; the history comes into the folder with it.

    :raises BackupError: it is not the one that was put in.
    """
    archive.extract(backup, folder, [DUMP, HISTORY], identity=identity)
    dump = folder / DUMP
    contents = mongo.read_archive(dump)
    told = backup.manifest["facts"]["mongo"]
    if (contents.sha256, contents.documents) != (told["sha256"], told["documents"]):
        raise BackupError(f"{backup.path} holds another dump than its manifest says. Cure: take another backup")
    return dump


def _version(text: str) -> tuple[int, ...]:
    """Major and minor version of MongoDB; () for what is none."""
    parts = text.split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()


def check(
    backup: Backup,
    *,
    base: Path = Path("/opt/integr8scode"),
    mongodb_version: str = "",
    identity: str = "",
    login: Mapping[str, str] | None = None,
    passwords: Mapping[str, str] | None = None,
) -> Findings:
    """Read a backup to its end and say whether it can be restored; nothing is changed.

    :param base: where the application is, or will be, installed.
    :param mongodb_version: of the server that it shall go to.
    :param login: MongoDB's root login of the vault (username, password), to be told where it is another.
    :param passwords: of the accounts user and admin in the vault, likewise.
    :raises BackupError: it cannot be read at all.
    """
    if backup.kind != KIND:
        return Findings([f"{backup.path} is a backup of {backup.kind}, not of the application"])
    facts = backup.manifest["facts"]
    found = Findings(
        release=str(facts["release"]["id"]),
        tag=str(facts["release"]["tag"]),
        documents=dict(facts["mongo"]["documents"]),
    )
    had, will = str(backup.manifest["versions"]["mongodb"]), mongodb_version
    if will and _version(had) > _version(will):
        found.problems.append(
            f"{backup.path} is of MongoDB {had}; here is MongoDB {will}, which cannot read it. Cure: restore "
            "with a release of this project that has MongoDB " + ".".join(map(str, _version(had)))
        )
    try:
        with store.in_use(backup), application.workspace(backup.path.parent) as folder:
            _dump_of(backup, folder, identity)
            then = folder / "then"
            archive.extract(backup, then, [SECRETS, AUTHORITY], identity=identity)
            kept = _secrets(then / SECRETS)
            found.notes.extend([*_login_notes(kept, login or {}), *_password_notes(kept, passwords or {}, base)])
            found.notes.extend(_authority_notes(then / AUTHORITY, base))
    except mongo.MongoError as error:
        found.problems.append(f"{backup.path}: {error}. Cure: take another backup")
    except (OSError, ValueError) as error:
        raise BackupError(f"{backup.path} cannot be read: {error}") from error
    return found


def _secrets(folder: Path) -> dict[str, str]:
    """The secrets that the stack used then, by the names of their files; older ones may lie beside them.

    :raises OSError, ValueError: they cannot be read.
    """
    mounts = read_mounts(folder / "current.yaml")
    sources = {Path(source) for targets in mounts.values() for source in targets.values()}
    paths = [folder / source.parent.name / source.name for source in sources]
    return {path.name: path.read_text(encoding="utf-8") for path in paths if path.is_file()}


def _login_notes(kept: Mapping[str, str], login: Mapping[str, str]) -> list[str]:
    """Where the vault's login is another than the backup's: it is the vault's that counts."""
    return [
        f"MongoDB's root {name} in the backup is another than the vault's; the vault's counts from now on"
        for name, value in login.items()
        if kept.get(f"mongo_root_{name}", value) != value
    ]


def _password_notes(kept: Mapping[str, str], passwords: Mapping[str, str], base: Path) -> list[str]:
    """Where an account's password was another one then: the database has that, and nobody seeds it again."""
    then = json.loads(kept.get("user_passwords.json", "{}"))
    changed = [
        name for key, name in ACCOUNTS.items() if then.get(key, "") and passwords.get(name, then[key]) != then[key]
    ]
    if not changed:
        return []
    note = (
        f"The vault's password of {' and '.join(changed)} is another than when the backup was made; the one of then is "
        f"valid again afterwards. To set the vault's for user and admin: remove {base}/secrets/seeded on the server, "
        "then playbooks/site.yml"
    )
    return [note]


def _authority_notes(authority: Path, base: Path) -> list[str]:
    """Where a release with another authority is installed already, whose place the backup's does not take."""
    there = base / AUTHORITY.partition("/")[2]
    if not (base / "current").is_symlink() or not authority.is_file():
        return []
    if there.is_file() and there.read_bytes() == authority.read_bytes():
        return []
    note = (
        f"A release is installed in {base} already: it stays, with its certificates and their authority, which is "
        f"another than the backup's; clients have to trust {there}. To have the old one: restore onto a server where "
        "only playbooks/bootstrap.yml was run"
    )
    return [note]


def merge_history(path: Path, older: bytes) -> bool:
    """Put an older history's lines before those that are there already; whether that changed something.

    :raises OSError: it cannot be written.
    """
    there = (read_file(path) or b"").splitlines(keepends=True)
    known = set(there)
    missing = [line for line in older.splitlines(keepends=True) if line.endswith(b"\n") and line not in known]
    if not missing:
        return False
    write_file(path, b"".join([*missing, *there]), Access(0, 0, 0o640))
    return True


def place(backup: Backup, *, base: Path, identity: str = "") -> list[str]:
    """Give a fresh server what its stack starts from: certificates and their authority, the release, the history.

    So the same release with the same digests starts there, and whoever trusts the old server's authority trusts it.

    :returns: names of what was placed.
    :raises BackupError: a release is there already (nothing was changed), or the backup cannot be read.
    """
    if (base / "current").is_symlink():
        raise BackupError(f"{base} has a release already; only its data are restored. Nothing was changed")
    placed = []
    try:
        base.mkdir(mode=0o755, parents=True, exist_ok=True)
        with application.workspace(base) as folder:
            archive.extract(
                backup, folder, [f"{FILES}/{name}" for name in (*PLACED, "history.jsonl")], identity=identity
            )
            history = folder / FILES / "history.jsonl"
            if history.exists():
                merge_history(base / "history.jsonl", history.read_bytes())
            # the link that makes it count comes last
            for name in PLACED:
                source, target = folder / FILES / name, base / name
                if not (source.exists() or source.is_symlink()):
                    continue
                if target.is_dir() and not target.is_symlink():
                    target.rename(base / f"{name}.before-restore-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
                source.rename(target)
                placed.append(name)
            sync_folder(base)
    except OSError as error:
        raise BackupError(f"{base} cannot be written: {error}") from error
    return placed


def _compose(base: Path, *words: str, timeout: float = 600) -> None:
    """:raises BackupError: Compose failed."""
    command = ["docker", "compose", "--project-directory", str(base / "current"), *words]
    try:
        done = subprocess.run(
            command,
            cwd=base / "current",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackupError(f"`{' '.join(command[:2] + list(words))}` failed: {error}") from error
    if done.returncode != 0:
        said = " / ".join(done.stderr.strip().splitlines()[-4:])
        raise BackupError(f"`{' '.join(command[:2] + list(words))}` failed: {said}")


def running_services(project: str) -> list[str]:
    """The project's services with a running container. Raises BackupError."""
    try:
        client = connect()
    except EngineUnavailableError as error:
        raise BackupError(str(error)) from error
    found = client.containers.list(filters={"label": f"{PROJECT_LABEL}={project}"}, ignore_removed=True)
    return sorted({str(one.attrs["Config"]["Labels"][SERVICE_LABEL]) for one in found})


@contextmanager
def _stopped(base: Path, project: str) -> Iterator[None]:
    """What writes to MongoDB is stopped; afterwards everything is started, as integr8scode.service does it.

    :raises BackupError: Compose failed.
    """
    try:
        # without names it would stop MongoDB too
        if writers := [name for name in running_services(project) if name not in STAYS_UP]:
            _compose(base, "stop", *writers)
        yield
    finally:
        _compose(base, "up", "--detach", "--no-recreate", "--no-build", "--pull", "never")


@dataclass(frozen=True)
class Restored:
    """What a restore of the data has done.

    Attributes:
        documents: by namespace, of the application's databases.
        left: collections that the backup does not know; they stay.
        seconds_down: how long the application was away.
        before: the backup of what was there before.
    """

    documents: dict[str, int]
    left: list[str]
    seconds_down: float
    before: Backup


def restore(
    backup: Backup,
    *,
    directory: Path,
    base: Path,
    project: str = "integr8scode",
    recipients: Sequence[str] = (),
    required_free: int = 0,
    identity: str = "",
    timeout: float = 3600,
) -> Restored:
    """Replace the data in the running MongoDB; what writes to it is stopped meanwhile, and no backup is made of it.

    What is there is dumped when nobody writes any more, and is a backup before the first collection is dropped, so that
    a kill at any moment loses nothing. When the restore fails, it is put back from the dump, which needs no key.

    :param directory: where backups lie.
    :param recipients: public keys of age for the backup of what was there.
    :param required_free: bytes that must stay free in the directory.
    :param timeout: seconds that a dump or a restore may take.
    :raises BackupError: it was refused or failed; the message says what stands now.
    """
    try:
        with store.in_use(backup), store.writing(directory, KIND), application.workspace(directory) as folder:
            server = mongo.find(project)
            dump = _dump_of(backup, folder, identity)
            store.require_room(directory, application.needed(server, base), required_free)
            began = time.monotonic()
            with _stopped(base, project):
                earlier = folder / "earlier.archive"
                had = mongo.dump(server, earlier, timeout=timeout)
                before = application.seal(
                    directory, server, earlier, had, base=base, reason=REASON, recipients=recipients
                )
                contents = _replace(server, dump, earlier, before, timeout=timeout)
                if (history := folder / HISTORY).exists():
                    merge_history(base / "history.jsonl", history.read_bytes())
    except (mongo.MongoError, EngineUnavailableError, OSError) as error:
        raise BackupError(str(error)) from error
    left = sorted(set(had.application()) - set(contents.documents))
    return Restored(contents.application(), left, round(time.monotonic() - began, 1), before)


def _replace(server: mongo.MongoServer, dump: Path, earlier: Path, before: Backup, *, timeout: float) -> mongo.Contents:
    """Restore the dump, or put back what was there. Raises BackupError."""
    try:
        return mongo.restore(server, dump, timeout=timeout)
    except (mongo.MongoError, OSError) as error:
        try:
            mongo.restore(server, earlier, timeout=timeout)
        except (mongo.MongoError, OSError) as second:
            raise BackupError(
                f"{error}. Putting back what was there failed too: {second}. The data are incomplete. Cure: find the "
                f"cause, then restore {before.path}"
            ) from second
        raise BackupError(f"{error}. The data that were there are back; {before.path} has them too") from error
