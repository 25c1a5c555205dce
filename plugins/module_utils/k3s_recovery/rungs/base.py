"""What every rung is: something that is tried, remembered before it is done, and undone or finished after a kill."""

from __future__ import annotations

import hashlib
import os
import stat
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.atomic_files import Access, sync_folder, write_file
from ansible.module_utils.k3s_common import DATA_FOLDER
from ansible.module_utils.k3s_recovery.diagnosis import Cause, Diagnosis
from ansible.module_utils.k3s_recovery.machine import Machine
from ansible.module_utils.k3s_recovery.record import Record, RungEntry
from ansible.module_utils.k3s_recovery.verify import NodeView, see_node, wait_until_up


class RungError(Exception):
    """The rung could not be done; the text says why and, where a person can do something, what."""


@dataclass(frozen=True)
class Settings:
    """What the person asked for. `allow_delete`: the deletion was asked for by this server's name."""

    node_ip: str = ""
    stable_seconds: float = 60
    timeout_seconds: float = 120
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    allow_delete: bool = False


@dataclass
class Context:
    """What a rung works with. `diagnosis` is the one from right before it."""

    machine: Machine
    record: Record
    entry: RungEntry
    diagnosis: Diagnosis
    settings: Settings

    @property
    def address(self) -> str:
        """The InternalIP that the node must have in the end; "" when nobody can tell before k3s runs."""
        return self.diagnosis.expected_ip or self.settings.node_ip

    @property
    def data(self) -> str:
        """k3s' data folder on the server."""
        return str(self.diagnosis.facts.get("data_dir") or DATA_FOLDER)

    def server(self, name: str) -> Path:
        """A file of the server's state, below its data folder."""
        return self.machine.path(f"{self.data}/server/{name}")

    @property
    def node_name(self) -> str:
        """The node's name as k3s is configured."""
        return str(self.diagnosis.facts.get("node_name") or os.uname().nodename.lower())

    @property
    def cause(self) -> Cause | None:
        """The cause for which the rung is tried."""
        found = [cause for cause in self.diagnosis.causes if cause.id == self.entry.cause]
        return found[0] if found else None

    def step(self, word: str, **data: Any) -> None:
        """Remember what is done next, with what is needed to undo or finish it. Raises RecordError."""
        self.entry.step = word
        self.entry.data.update(data)
        self.record.save()

    @property
    def deleted(self) -> list[str]:
        """The uids of Node objects that were deleted. None after a restore, which may have brought them back."""
        if self.record.restored_from:
            return []
        gone = [entry.data["saved"]["uid"] for entry in self.record.rungs if entry.data.get("deleted")]
        return [uid for uid in gone if uid]

    def node(self) -> NodeView:
        """The node now."""
        return see_node(self.machine, name=self.node_name, address=self.address, deleted=self.deleted)

    def wait_up(self, *, stable: float = 0) -> str:
        """Wait until k3s is up with a node as it must be; why not, or ""."""
        return wait_until_up(
            self.machine,
            name=self.node_name,
            address=self.address,
            timeout=self.settings.timeout_seconds,
            stable=stable,
            deleted=self.deleted,
        )

    def restart(self) -> None:
        """Stop k3s, whatever it does now, and start it. Raises MachineError."""
        self.machine.stop()
        self.machine.start()


class Rung(ABC):
    """One rung. `finishes`: a kill in it is answered by doing it again to its end, else by undoing it."""

    name = ""
    finishes = False

    def unsuitable(self, context: Context) -> str:  # noqa: ARG002
        """Why it makes no sense on this server; "" when it can be tried. Changes nothing."""
        return ""

    @abstractmethod
    def apply(self, context: Context) -> str:
        """Do it, up to the start of k3s; what was done, as a sentence. Raises RungError, MachineError, RecordError."""

    def undo(self, context: Context) -> str:  # noqa: ARG002
        """Put back what can be put back, k3s not started; what was, as a sentence, "" when there is nothing."""
        return ""


def keep(context: Context, paths: list[str]) -> None:
    """Copy files as they are beside the record, before they are changed. Raises RecordError, OSError."""
    kept = dict(context.entry.data.get("files", {}))
    for path in paths:
        if path in kept:
            continue
        # a link stays one: what it points to is changed, and comes back
        real = context.machine.path(path).resolve()
        entry: dict[str, Any] = {"copy": ""}
        if real.exists():
            found = real.stat()
            name = f"{len(context.record.rungs)}-{context.entry.name}-{path.strip('/').replace('/', '-')}"
            context.record.keep_file(name, real.read_bytes())
            mode = stat.S_IMODE(found.st_mode)
            entry = {"copy": name, "owner": found.st_uid, "group": found.st_gid, "mode": mode, "mtime": found.st_mtime}
        kept[path] = entry
    context.step("keep originals", files=kept)


def written(context: Context) -> None:
    """Remember what the kept files hold now, as this rung has written them: anything else later is somebody's.

    Not for files that k3s writes itself. Raises OSError; the next step saves it.
    """
    for path, entry in context.entry.data.get("files", {}).items():
        entry["written"] = _checksum(context.machine.path(path))


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def put_back(context: Context) -> str:
    """Undo `keep`: the files as they were, with their times; what was done, as a sentence, "" for nothing.

    A file that somebody has changed since the rung wrote it (see `written`) stays as it is. Raises OSError.
    """
    done = []
    others = []
    for path, entry in context.entry.data.get("files", {}).items():
        real = context.machine.path(path).resolve()
        copy = context.record.folder / entry["copy"] if entry["copy"] else None
        if "written" in entry and _checksum(real) not in {entry["written"], _checksum(copy) if copy else ""}:
            others.append(path)
        elif copy:
            content = copy.read_bytes()
            write_file(real, content, Access(entry["owner"], entry["group"], entry["mode"]))
            os.utime(real, (entry["mtime"], entry["mtime"]))
            done.append(path)
        elif real.exists():
            real.unlink()
            sync_folder(real.parent)
            done.append(path)
    words = [f"{', '.join(done)} put back as before."] if done else []
    if others:
        words.append(f"{', '.join(others)} was changed by somebody meanwhile and stays so.")
    return " ".join(words)


def replace(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file, or what a link points to, in one step; one that is there keeps owner and mode. Raises OSError."""
    path = path.resolve()
    access = Access.of(path) or Access(os.geteuid(), os.getegid(), mode)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, content, access)
