"""Lookup: builds a program for servers and returns where it lies on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
name: server_program
author: integr8scode-ansible
short_description: Build a program for servers
description:
  - Packs a Python package of the project's module_utils, and what it imports of them, into one file that a server runs
    with Python 3.10 or newer, whether Ansible is installed there or not. Its module C(cli) has C(main(arguments)).
  - The same sources give the same bytes, on every controller, so a copy task changes nothing the second time.
  - Returns the path of a temporary file that ansible-playbook removes when it ends.
options:
  _terms:
    description: Name of the package, C(maintenance) or C(releases).
    required: true
  sha256:
    description: Whether to return the file's SHA-256 in place of its path.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Install the program
  ansible.builtin.copy:
    src: "{{ lookup('server_program', 'maintenance') }}"
    dest: /usr/local/sbin/integr8scode-maintenance
    mode: "0755"
"""

RETURN = r"""
_raw:
  description: Path of the built file, or its SHA-256, in a list of one.
  type: list
  elements: str
"""

import ast
import functools
import hashlib
import io
import os
import re
import zipfile
from pathlib import Path
from typing import Any

from ansible.constants import DEFAULT_LOCAL_TMP
from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

SOURCES = Path(__file__).resolve().parent.parent / "module_utils"
PREFIX = "ansible.module_utils"
STATEMENT = re.compile(r"^[ \t]*(?:from|import)[ \t]+ansible\.module_utils\b[^\n(]*(?:\([^)]*\))?[^\n]*", re.MULTILINE)
PACKAGES = ("maintenance", "releases")
# -I: neither the caller's environment nor its folder decides what is imported
SHEBANG = b"#!/usr/bin/python3 -I\n"
MAIN = """\
import sys

from {package}.cli import main

sys.exit(main(sys.argv[1:]))
"""


@functools.cache
def imported(source: Path) -> frozenset[str]:
    """Names below ansible.module_utils that a file imports, as `k3s_common` or `backups.store`.

    Read once in a process: the programs share most of their files.
    """
    names: set[str] = set()
    # the statements alone: to parse whole files takes ten times as long
    statements = (found[0].strip() for found in STATEMENT.finditer(source.read_text(encoding="utf-8")))
    for node in ast.parse("\n".join(statements), str(source)).body:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # what is imported from a package may be one of its modules
            names.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    return frozenset(name.removeprefix(f"{PREFIX}.") for name in names if name.startswith(f"{PREFIX}."))


def file_of(sources: Path, name: str) -> Path | None:
    """The file of a module or package below `sources`; None where there is none (an imported name is no module)."""
    base = sources.joinpath(*name.split("."))
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


def closure(sources: Path, package: str) -> set[Path]:
    """The files of a package and everything that they import. Raises AnsibleError for what a server would lack."""
    waiting = sorted((sources / package).glob("*.py"))
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for name in imported(path):
            target = file_of(sources, name)
            if target:
                packages = [folder / "__init__.py" for folder in target.parents if sources in folder.parents]
                waiting += [target, *(package for package in packages if package.is_file())]
            elif file_of(sources, name.rpartition(".")[0]) is None:
                raise AnsibleError(
                    f"{path} imports {PREFIX}.{name}, which is no file of {sources}: a server without Ansible could "
                    f"not run the program {package}. Keep what needs Ansible in plugins/modules."
                )
    return found


def build(sources: Path, package: str) -> bytes:
    """A package as a program: a zip archive after a line that names its interpreter.

    Raises AnsibleError, SyntaxError, OSError.
    """
    members = {
        "__main__.py": MAIN.format(package=f"{PREFIX}.{package}").encode(),
        "ansible/__init__.py": b"",
        "ansible/module_utils/__init__.py": b"",
    }
    for path in closure(sources, package):
        members[f"ansible/module_utils/{path.relative_to(sources).as_posix()}"] = path.read_bytes()
    archive = io.BytesIO()
    archive.write(SHEBANG)
    # stored: what a compressor writes differs between its versions; and no time of day
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_STORED) as program:
        for name, content in sorted(members.items()):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            program.writestr(entry, content)
    return archive.getvalue()


class LookupModule(LookupBase):  # type: ignore[misc]  # Ansible itself is not typed
    """The lookup as Ansible loads it."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Build the program; its path or its checksum. Raises AnsibleError."""
        del variables
        only_checksum = bool(kwargs.pop("sha256", False))
        if kwargs or len(terms) != 1 or terms[0] not in PACKAGES:
            raise AnsibleError(f"server_program takes the name of one package, {' or '.join(PACKAGES)}")
        package = terms[0]
        try:
            program = build(SOURCES, package)
        except (OSError, SyntaxError) as error:
            raise AnsibleError(f"the program {package} cannot be built: {error}") from error
        checksum = hashlib.sha256(program).hexdigest()
        if only_checksum:
            return [checksum]
        path = Path(DEFAULT_LOCAL_TMP) / f"integr8scode-{package}-{checksum}"
        if not path.exists():
            # several hosts ask at the same time
            temporary = path.with_suffix(f".{os.getpid()}")
            temporary.write_bytes(program)
            temporary.replace(path)
        return [str(path)]
