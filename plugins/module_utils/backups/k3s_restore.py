"""k3s' backup put back: all of it or nothing, after it was proven that k3s will start with it."""

from __future__ import annotations

import contextlib
import platform
import secrets
import shutil
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.backups import archive, store
from ansible.module_utils.backups.k3s_parts import ASIDE, PARTS, READY, Layout, layout
from ansible.module_utils.backups.store import Backup, BackupError
from ansible.module_utils.backups.swap import Item, Swap, leftovers, make_parents, there
from ansible.module_utils.k3s_common import BINARY, K3sError, token_secret
from ansible.module_utils.k3s_node import unit_state
from ansible.module_utils.k3s_recovery.configuration import settings_with_places
from ansible.module_utils.k3s_recovery.facts import written_tokens
from ansible.module_utils.k3s_recovery.probes import version as k3s_version
from ansible.module_utils.kine_database import (
    COMPANIONS,
    DatabaseError,
    bootstrap_key,
    bootstrap_keys,
    integrity,
    inventory,
)

UNTOUCHED = "Nothing was changed."
STOP = "systemctl stop k3s"


@dataclass(frozen=True)
class Staged:
    """A backup's files, extracted below a folder of this server, and where they belong here.

    Attributes:
        tree: the folder; below it all has the paths of the backup's server.
        here: this server as it will be afterwards.
        paths: path of the backup's server -> path here, of what is put back.
        parts: the parts that are put back.
    """

    tree: Path
    here: Layout
    paths: dict[str, str]
    parts: frozenset[str]

    def file(self, path: str) -> Path:
        """The extracted file of a path of the backup's server."""
        return self.tree / path.lstrip("/")


def _told(backup: Backup, key: str) -> dict[str, Any]:
    found = backup.manifest.get(key)
    return found if isinstance(found, dict) else {}


def _obvious(backup: Backup, parts: frozenset[str], version: str, other_host: bool, root: Path) -> list[str]:
    """What its manifest alone forbids."""
    if backup.kind != "k3s":
        return [f"{backup.path} is a backup of {backup.kind}, not of k3s"]
    problems = []
    if unknown := sorted(parts - set(PARTS)):
        problems.append(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    database = _told(backup, "database")
    state = database.get("state", "none")
    if "database" in parts and state != "verified":
        more = f": {database.get('error')}" if database.get("error") else ""
        cures = {
            "snapshot": "extract db/snapshots from it and start it with 'k3s server --cluster-reset "
            "--cluster-reset-restore-path=FILE'",
            "external": "restore the datastore by its own means, and from here the other parts only",
        }
        cure = cures.get(str(state), "restore an older backup, or the other parts only")
        problems.append(f"the datastore in {backup.path} is '{state}'{more}. Cure: {cure}")
    host = str(backup.manifest.get("host", ""))
    if host != platform.node() and not other_host:
        problems.append(
            f"{backup.path} is of the server {host}, and this one is {platform.node()}. Cure: take a backup of this "
            "server, or say that the other one's is meant (restore_other_host=true)"
        )
    problems += _version_problem(backup, version or k3s_version(str(root / BINARY.lstrip("/")))[0])
    return problems


def _version_problem(backup: Backup, here: str) -> list[str]:
    """k3s converts its datastore upwards at start: only the release that has written it surely reads it."""
    had = str(_told(backup, "versions").get("k3s", ""))
    if not here:
        return [f"no k3s is installed here. Cure: install k3s {had} first"]
    if had and had != here:
        problem = (
            f"{backup.path} was made under k3s {had}, and here k3s {here} would start with it; only the same release "
            f"is sure to read it. Cure: set k3s_version to {had} for the restore, and upgrade afterwards"
        )
        return [problem]
    return []


def _translated(path: str, before: dict[str, Any], here: Layout) -> str:
    """The path here of a path of the backup's server: below another data folder, another token file."""
    data = str(before.get("data") or here.data)
    if path.startswith(f"{data}/"):
        return here.data + path[len(data) :]
    if path == before.get("token_file") and here.token_file:
        return here.token_file
    return path


@contextmanager
def _staged(backup: Backup, parts: frozenset[str], identity: str, root: Path) -> Iterator[Staged]:
    """Extract what shall be put back, beside its place.

    :raises BackupError: no room, or it cannot be read or is not what was put in.
    """
    told, before = _told(backup, "parts"), _told(backup, "layout")
    here = layout(root)
    if parts & {"config", "unit"} and before:
        here = Layout(root=root, **before)
    wanted: dict[str, str] = {}
    for part in (one for one in PARTS if one in parts):
        for path in told.get(part, []):
            wanted[path] = _translated(path, before, here)
            # the manifest is as trustworthy as whoever kept it
            if not here.owns(part, wanted[path]):
                raise BackupError(
                    f"{backup.path} would put {wanted[path]} in its place as its {part}, which has no such path here. "
                    f"{UNTOUCHED} Cure: take a backup that this project has made, from a store that you trust"
                )
    data = here.path(here.data)
    created = [one for one in (data / "server", *(data / "server").parents) if not one.exists()]
    sizes = _told(backup, "bytes")
    store.require_room(data, sum(int(sizes.get(part, 0)) for part in parts), 2**20)
    # its end makes what is put aside another one's than that of any restore before
    stamp = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"
    folder = data / "server" / f"{READY}{stamp}"
    try:
        make_parents(folder.parent)
        folder.mkdir(mode=0o700)
        tree = folder / "tree"
        tree.mkdir(mode=0o700)
        names = [path.lstrip("/") for path in wanted]
        # looked at, to see whether the present one belongs to the database
        names.append(str(before.get("data", here.data)).lstrip("/") + "/server/tls/server-ca.crt")
        archive.extract(backup, tree, list(dict.fromkeys(names)), identity=identity)
        yield Staged(tree, here, wanted, parts)
    except OSError as error:
        raise BackupError(f"{backup.path} cannot be extracted to {folder}: {error}. {UNTOUCHED}") from error
    finally:
        if not folder.is_dir() or Swap.load(folder).settled:
            shutil.rmtree(folder, ignore_errors=True)
        for one in created:
            with contextlib.suppress(OSError):
                one.rmdir()


def _database_of(staged: Staged) -> Path:
    """The database that k3s will have: the backup's, else the one that is there."""
    for path, place in staged.paths.items():
        if place == staged.here.database:
            return staged.file(path)
    return staged.here.path(staged.here.database)


def _token_of(staged: Staged) -> str:
    """The token that k3s will find; "" when none can be found out. It leaves this module nowhere."""
    back = {place: staged.file(path) for path, place in staged.paths.items()}
    changed = staged.parts & {"config", "unit"}
    roots = [staged.tree] * bool(changed) + [staged.here.root] * (len(changed) < 2)
    for root in roots:
        inline = next(iter(written_tokens(root, settings_with_places(root))), "")
        if inline:
            return token_secret(inline)
    path = staged.here.token_file or staged.here.server("token")
    file = back.get(path) or staged.here.path(path)
    return token_secret(file.read_text(encoding="utf-8", errors="replace")) if file.is_file() else ""


def _inner(staged: Staged, backup: Backup, token: str) -> list[str]:
    """What its content forbids: a damaged database, another token's, other certificates'."""
    problems = []
    database = _database_of(staged)
    if not database.exists():
        return []
    try:
        if "database" in staged.parts:
            integrity(database)
        keys = bootstrap_keys(database)
    except DatabaseError as error:
        if "database" not in staged.parts:
            # what is there now is damaged; it is not what is asked for
            return []
        return [f"the database in {backup.path} cannot be used: {str(error).replace(str(staged.tree), '')}"]
    secret = token_secret(token) if token else _token_of(staged)
    if keys and not secret:
        problems.append("k3s would have no token, and the database was made with one. Cure: restore the part token too")
    elif keys and bootstrap_key(secret) not in keys:
        place = f"the database in {backup.path}" if "database" in staged.parts else staged.here.database
        problems.append(
            f"{place} was made with another token than k3s would have here; it would not start ('bootstrap data "
            "already found and encrypted with different token'). Cure: put the backup's token into the "
            "vault (k3s_token), or restore database and token of the same backup"
        )
    if "database" in staged.parts and "certificates" not in staged.parts:
        problems += _authority(staged, backup)
    return problems


def _authority(staged: Staged, backup: Backup) -> list[str]:
    present = staged.here.path(staged.here.server("tls/server-ca.crt"))
    data = str(_told(backup, "layout").get("data", staged.here.data))
    kept = staged.file(f"{data}/server/tls/server-ca.crt")
    if not present.exists() or not kept.exists() or present.read_bytes() == kept.read_bytes():
        return []
    problem = (
        f"{staged.here.server('tls')} belongs to another cluster than the database of {backup.path}; k3s would refuse "
        "to start ('newer than datastore'). Cure: restore the part certificates too"
    )
    return [problem]


def check(
    backup: Backup,
    *,
    parts: Collection[str] = PARTS,
    token: str = "",
    version: str = "",
    identity: str = "",
    other_host: bool = False,
    root: Path = Path("/"),
) -> list[str]:
    """Say what forbids a restore here; nothing is changed.

    :param token: the token that k3s will use here, where it is not the backup's (a fresh server: the inventory's).
    :param version: k3s' release that will run here; "" asks the installed one.
    :param identity: of age: a file on the server, or its text.
    :param other_host: whether the backup may be of another server.
    :returns: problems, each with its cure.
    """
    try:
        with store.in_use(backup):
            backup = store.load(backup.path)
            problems = _obvious(backup, frozenset(parts), version, other_host, root)
            if not problems:
                with _staged(backup, frozenset(parts), identity, root) as staged:
                    problems = _inner(staged, backup, token)
    except BackupError as error:
        return [str(error)]
    return problems


def losses(backup: Backup, *, root: Path = Path("/")) -> dict[str, Any]:
    """What a restore of the database takes back: revisions, and namespaces that came after the backup.

    :returns: `known` is False when the present database cannot be opened; `since` is the backup's moment.
    """
    here = layout(root)
    had = _told(backup, "inventory")
    lost: dict[str, Any] = {"known": False, "since": backup.created, "revisions": 0, "namespaces": []}
    try:
        found = inventory(here.path(here.database))
    except DatabaseError:
        return lost
    return {
        **lost,
        "known": True,
        "revisions": max(0, found.revision - int(had.get("revision", 0))),
        "namespaces": sorted(set(found.namespaces) - set(had.get("namespaces", []))),
    }


def refuse_running() -> None:
    """:raises BackupError: k3s runs, or systemd will start it again."""
    try:
        unit = unit_state()
    except OSError:
        # no systemd, no unit
        return
    except K3sError as error:
        raise BackupError(f"{error} {UNTOUCHED}") from error
    if unit.active in {"active", "activating", "reloading", "deactivating"}:
        raise BackupError(f"k3s is {unit.active} ({unit.sub}). {UNTOUCHED} Cure: {STOP}, then run it again")


def put_back_killed(root: Path = Path("/")) -> list[str]:
    """Undo what a killed restore had exchanged; k3s has to be stopped.

    :returns: sentences; none where there was nothing.
    :raises BackupError: it cannot be undone.
    """
    here = layout(root)
    done = []
    for folder in leftovers([here.path(here.server(""))], READY):
        try:
            swap = Swap.load(folder)
            if swap.state == "swapping":
                back = swap.undo(keep=folder.name.replace(READY, ".of-killed-restore-"))
                if back:
                    done.append(f"A restore that was killed is undone: {', '.join(back)} as before.")
            swap.clean()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BackupError(f"what a killed restore left in {folder} cannot be put back: {error}") from error
    return done


def restore(
    backup: Backup,
    *,
    parts: Collection[str] = PARTS,
    token: str = "",
    version: str = "",
    identity: str = "",
    other_host: bool = False,
    root: Path = Path("/"),
) -> list[str]:
    """Put a backup back, k3s being stopped; what is there is moved aside, never deleted. See `check` for the rest.

    A failure on the way puts everything back; a kill is undone by the next run.

    :returns: what was done, as sentences.
    :raises BackupError: it was refused or failed; the message says what stands now.
    """
    wanted = frozenset(parts)
    refuse_running()
    done = put_back_killed(root)
    with store.in_use(backup):
        backup = store.load(backup.path)
        problems = _obvious(backup, wanted, version, other_host, root)
        if problems:
            raise BackupError(". ".join([*problems, UNTOUCHED]))
        with _staged(backup, wanted, identity, root) as staged:
            problems = _inner(staged, backup, token)
            if problems:
                raise BackupError(". ".join([*problems, UNTOUCHED]))
            done += _exchange(staged, backup)
    if "unit" in wanted and root == Path("/"):
        _reload_systemd()
    return done


def _reload_systemd() -> None:
    """:raises BackupError: systemd does not read its units; all is restored by then."""
    done = subprocess.run(["systemctl", "daemon-reload"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BackupError(f"all is restored, but 'systemctl daemon-reload' failed: {' '.join(done.stderr.split())}")


def _items(staged: Staged) -> dict[str, str]:
    """What is exchanged: path here, and the backup's path; "" where it has nothing and something is there."""
    back = {place: path for path, place in staged.paths.items()}
    empty: set[str] = set()
    if "database" in staged.parts:
        database = staged.here.database
        empty |= {f"{database}{suffix}" for suffix in COMPANIONS} | {staged.here.server("db/etcd")}
    # a drop-in that the backup does not have would win over what it has
    for paths in staged.here.parts(staged.parts & {"config", "unit"}).values():
        if any(path in back for path in paths):
            empty |= set(paths)
    return {**{path: "" for path in sorted(empty - set(back)) if there(staged.here.path(path))}, **back}


def _exchange(staged: Staged, backup: Backup) -> list[str]:
    folder = staged.tree.parent
    stamp = folder.name.replace(READY, ASIDE)
    wanted = _items(staged)
    items = []
    for place, path in wanted.items():
        real = staged.here.path(place)
        items.append(Item(str(real), f"{real}{folder.name}" if path else "", f"{real}{stamp}"))
    swap = Swap(folder, items)
    try:
        swap.prepare({item.ready: staged.file(path) for item, path in zip(items, wanted.values(), strict=True) if path})
        aside = swap.run()
    except OSError as error:
        stands = "What was there is there again" if swap.settled else "Run it again: that puts back what was there"
        raise BackupError(f"the restore failed: {error}. {stands}") from error
    finally:
        if swap.settled:
            swap.clean()
    told = _told(backup, "parts")
    back = [part for part in PARTS if part in staged.parts and told.get(part)]
    said = [f"{', '.join(back)}: as in {backup.path} of {backup.created}."]
    if aside:
        said.append(f"What was there is kept beside it, as {aside[0]} ({len(aside)} in all, each ending in {stamp}).")
    return said + _about_names(staged, backup)


def _its_node(backup: Backup) -> str:
    """The node under which the server of the backup was known; k3s registers names in lower case."""
    return str(_told(backup, "layout").get("node_name") or backup.manifest.get("host", "")).lower()


def left_node(backup: Backup, *, root: Path = Path("/")) -> str:
    """The node that a cluster restored here still knows of the other server that the backup is of; "" if none.

    Agents' nodes are others: they will come back.
    """
    old = _its_node(backup)
    here = layout(root).node_name or platform.node()
    nodes = _told(backup, "inventory").get("nodes", [])
    return "" if backup.manifest.get("host") == platform.node() or old == here.lower() or old not in nodes else old


def _about_names(staged: Staged, backup: Backup) -> list[str]:
    nodes = [str(one) for one in _told(backup, "inventory").get("nodes", [])]
    name = staged.here.node_name or platform.node().lower()
    if "database" not in staged.parts or not nodes or name in nodes:
        return []
    sentence = (
        f"The cluster knows the node {', '.join(nodes)}, and this server will join as {name}: set node-name in "
        f"config.yaml to the old name, or delete the old node afterwards (kubectl delete node {_its_node(backup)})."
    )
    return [sentence]
