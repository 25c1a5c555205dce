"""Lookup: finds the inventory's files of secrets that are not encrypted."""

from __future__ import annotations

DOCUMENTATION = r"""
name: open_vaults
author: integr8scode-ansible
short_description: Find files of secrets that are not encrypted
description:
  - Whoever gets such a file, or a repository that it was committed to, reads all secrets.
  - Looks at each C(vault.yml) below C(group_vars) and C(host_vars) of the run's inventories. One that is encrypted as a
    whole passes, and so does one whose single values are (C(!vault)).
options:
  _terms:
    description: Inventories; none for those of the run.
"""

EXAMPLES = r"""
- name: Tell of secrets that anybody can read
  ansible.builtin.debug:
    msg: "{{ query('open_vaults') }}"
"""

RETURN = r"""
_raw:
  description: A sentence for each.
  type: list
  elements: str
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.lookup import LookupBase

NAMES = ("vault.yml", "vault.yaml")


def _vaults(source: Path) -> Iterator[Path]:
    folder = source if source.is_dir() else source.parent
    for variables in ("group_vars", "host_vars"):
        yield from (path for path in sorted((folder / variables).rglob("vault.y*ml")) if path.name in NAMES)


def _is_open(path: Path) -> bool:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        # Ansible itself has something to say of it
        return False
    return not text.startswith("$ANSIBLE_VAULT") and "!vault" not in text


class LookupModule(LookupBase):  # type: ignore[misc]
    """Ansible's entry point."""

    def run(self, terms: Iterable[str], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Look at the first words of each file of secrets."""
        self.set_options(var_options=variables, direct=kwargs)
        sources = list(map(str, terms)) or [
            # a list of hosts is no path
            one for one in map(str, (variables or {}).get("ansible_inventory_sources") or ()) if "," not in one
        ]  # fmt: skip
        found = dict.fromkeys(path for source in sources for path in _vaults(Path(source)) if _is_open(path))
        return [
            f"{path} is not encrypted: whoever gets the file reads all secrets. "
            f"ansible-vault encrypt {shlex.quote(str(path))}"
            for path in found
        ]
