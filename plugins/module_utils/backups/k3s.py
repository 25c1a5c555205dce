"""k3s' backup: its datastore as of one moment, and all that a server needs to run with it again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from ansible.module_utils.backups import archive
from ansible.module_utils.backups.k3s_parts import PARTS
from ansible.module_utils.backups.store import Backup, BackupError

__all__ = ["PARTS", "Backup", "BackupError", "check", "create", "read_member", "restore"]
KIND = "k3s"
# What stays free on the disk of the backups, in bytes.
MARGIN = 32 * 2**20


def create(
    directory: Path,
    *,
    reason: str,
    recipients: Sequence[str] = (),
    local_volumes: bool = False,
    required_free: int = MARGIN,
    root: Path = Path("/"),
) -> Backup:
    """Make a backup of k3s while it runs, crashes again and again, or is stopped."""
    raise NotImplementedError


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
    :param other_host: whether the backup may be of another server.
    """
    raise NotImplementedError


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
    """Put a backup back, k3s being stopped; what is there is moved aside. Returns what was done, as sentences."""
    raise NotImplementedError


def read_member(backup: Backup, name: str, identity: str = "") -> bytes:
    """A file of a backup; its name is its path without the first slash, as `etc/rancher/node/password`.

    :raises BackupError: there is none of that name, or it cannot be read.
    """
    return archive.read_member(backup, name.lstrip("/"), identity=identity)
