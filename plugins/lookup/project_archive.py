"""Lookup: packs what another machine needs of this project to run its playbooks, and an inventory, into one file."""

from __future__ import annotations

DOCUMENTATION = r"""
name: project_archive
author: integr8scode-ansible
short_description: Pack the project and an inventory for another machine
description:
  - Packs playbooks, roles, plugins and what they need, as they lie in this checkout, below C(project/), and an
    inventory below C(inventory/), into one tar file. Links are followed; files of the vault stay encrypted.
  - The same files give the same bytes, on every controller; the file's name holds their hash.
  - C(complete), the last file in it, is there only where all was unpacked.
  - Returns the path of a temporary file that ansible-playbook removes when it ends.
options:
  inventory:
    description: Folder or file of the inventory, on the controller.
    type: path
    required: true
  encrypted:
    description: Return the names of the inventory's files that hold something of the vault, and build nothing.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Unpack the project there
  ansible.builtin.unarchive:
    src: "{{ lookup('project_archive', inventory=inventory_dir) }}"
    dest: /opt/project
"""

RETURN = r"""
_raw:
  description: Path of the built file, in a list of one; or the names of files.
  type: list
  elements: path
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.constants import DEFAULT_LOCAL_TMP
from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    *("ansible.cfg", "deploy.yml", "docker-compose.yaml", "requirements.txt", "requirements.yml"),
    *("playbooks", "plugins", "roles", "lab/environment.sh"),
)
"""What a playbook needs, and the script that makes its Python environment."""

SKIPPED = ("__pycache__", ".git", ".ansible")


def files_below(path: Path, name: str, above: tuple[Path, ...] = ()) -> Iterator[tuple[str, Path]]:
    """Each file of a file or folder with its name in the archive; links are followed.

    Raises OSError; ValueError where a link points to a folder above itself.
    """
    if path.is_file():
        yield name, path
        return
    here = path.resolve()
    if here in above:
        raise ValueError(f"{path} is a link to a folder above itself")
    for child in sorted(path.iterdir()):
        if child.name in SKIPPED or child.suffix in (".pyc", ".retry"):
            continue
        if child.is_dir() or child.is_file():
            yield from files_below(child, f"{name}/{child.name}", (*above, here))


def build(root: Path, inventory: Path) -> bytes:
    """The archive. Raises OSError, ValueError."""
    members: list[tuple[str, Path]] = []
    for part in PARTS:
        members += files_below(root / part, f"project/{part}")
    members += files_below(inventory, f"inventory/{inventory.name}" if inventory.is_file() else "inventory")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content, executable in [
            *((name, path.read_bytes(), bool(path.stat().st_mode & 0o100)) for name, path in sorted(members)),
            ("complete", b"", False),
        ]:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if executable else 0o644
            entry.uname = entry.gname = "root"
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def encrypted(inventory: Path) -> list[str]:
    """Names of the inventory's files that the vault encrypted, in whole or in part. Raises OSError, ValueError."""
    return [name for name, path in files_below(inventory, inventory.name) if b"$ANSIBLE_VAULT;" in path.read_bytes()]


class LookupModule(LookupBase):  # type: ignore[misc]  # Ansible itself is not typed
    """The lookup as Ansible loads it."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Build the archive; its path. Raises AnsibleError."""
        del variables
        inventory = Path(str(kwargs.pop("inventory", "")))
        only_names = bool(kwargs.pop("encrypted", False))
        if terms or kwargs:
            raise AnsibleError("project_archive takes inventory and encrypted, nothing else")
        if not inventory.name or not inventory.exists():
            raise AnsibleError(f"The inventory {str(inventory)!r} is neither a folder nor a file of this machine.")
        try:
            if only_names:
                return encrypted(inventory)
            content = build(ROOT, inventory)
        except (OSError, ValueError) as error:
            raise AnsibleError(f"The project and {inventory} cannot be packed: {error}") from error
        path = Path(DEFAULT_LOCAL_TMP) / f"project-{hashlib.sha256(content).hexdigest()[:16]}.tar"
        if not path.exists():
            temporary = path.with_suffix(f".{os.getpid()}")
            # an inventory may be in it
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
            temporary.replace(path)
        return [str(path)]
