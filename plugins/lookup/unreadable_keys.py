"""Lookup: says why the public keys of an inventory cannot be had, where Ansible would end with an error of its own."""

from __future__ import annotations

DOCUMENTATION = r"""
name: unreadable_keys
author: integr8scode-ansible
short_description: Say why the inventory's public keys cannot be read
description:
  - C(bootstrap_authorized_keys) of the shipped inventories reads a file of the person's home, which may not be there.
  - A text in the place of the list would be taken apart into its characters, and what is no public key be refused after
    the user was made.
  - Returns a sentence with the cure, and nothing where all is well. No key is in it.
options:
  _terms:
    description: Name of the variable that holds the keys, or comes from C(bootstrap_authorized_keys).
    required: true
  judge:
    description: Whether what can be read is judged as well, as before it is written to a server.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Refuse keys that cannot be read
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems }}"
  vars:
    problems: "{{ query('unreadable_keys', 'bootstrap_authorized_keys', judge=true) }}"
"""

RETURN = r"""
_raw:
  description: A sentence for each variable that cannot be read.
  type: list
  elements: str
"""

import re
import runpy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

_PLUGINS = Path(__file__).resolve().parents[1]
# their paths are known to Ansible, not to Python
_contact = runpy.run_path(str(_PLUGINS / "module_utils/preflight/contact.py"))
_doctor_inventory = runpy.run_path(str(_PLUGINS / "filter/doctor_report.py"))["doctor_inventory"]
_AROUND = re.compile(r"^The lookup plugin '[^']*' failed: | Use -vvvvv to see paths searched\.")
# as sshd(8) has them, perhaps behind options; or where ansible.posix.authorized_key fetches them
_KEY = re.compile(r"(?:^|\s)(?:ssh-[a-z0-9]+|ecdsa-sha2-\S+|sk-\S+)\s+AAAA[0-9A-Za-z+/=]*(?:\s|$)|^https?://\S+$")
_AS_LIST = 'Write it as bootstrap_authorized_keys: ["ssh-ed25519 AAAA… me"]. Nothing was changed.'
_CURE = (
    "Make a key (ssh-keygen -t ed25519), or write the public key as text into group_vars/all/main.yml. "
    "Nothing was changed."
)


class LookupModule(LookupBase):  # type: ignore[misc]
    """Ansible's entry point."""

    def run(self, terms: Iterable[str], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Evaluate the variables that the terms name."""
        self.set_options(var_options=variables, direct=kwargs)
        return [problem for name in terms if (problem := self._problem(str(name), variables or {}))]

    def _problem(self, name: str, variables: Mapping[str, Any]) -> str:
        try:
            keys = self._templar.template(variables.get(name))
        except AnsibleError as error:
            why = _AROUND.sub("", " ".join(str(error).split())).rstrip(".")
            sources = _doctor_inventory(variables.get("ansible_inventory_sources") or (), str(_PLUGINS.parent))
            cure = f"{_contact['NO_LAB']} Nothing was changed." if _contact["is_lab"](sources) else _CURE
            return f"bootstrap_authorized_keys cannot be read: {why}. {cure}"
        if keys is None or not self.get_option("judge"):
            return ""
        if not isinstance(keys, list):
            return f"bootstrap_authorized_keys is no list of public keys. {_AS_LIST}"
        wrong = [str(number) for number, key in enumerate(keys, 1) if not _is_key(key)]
        if not wrong:
            return ""
        return (
            f"bootstrap_authorized_keys: entry {', '.join(wrong)} is no public key, such as the whole line of "
            f"~/.ssh/id_ed25519.pub (not that file's path, and not the private key). {_AS_LIST}"
        )


def _is_key(entry: Any) -> bool:
    """Whether an entry is a public key, or several, a line each."""
    lines = [line for line in map(str.strip, str(entry).splitlines()) if line and not line.startswith("#")]
    return bool(lines) and all(_KEY.search(line) for line in lines)
