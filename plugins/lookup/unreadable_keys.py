"""Lookup: says why the public keys of an inventory cannot be read, where Ansible would end with an error of its own."""

from __future__ import annotations

DOCUMENTATION = r"""
name: unreadable_keys
author: integr8scode-ansible
short_description: Say why the inventory's public keys cannot be read
description:
  - C(bootstrap_authorized_keys) of the shipped inventories reads a file of the person's home, which may not be there.
  - Returns a sentence with the cure, and nothing where all is well.
options:
  _terms:
    description: Name of the variable that holds the keys, or comes from C(bootstrap_authorized_keys).
    required: true
"""

EXAMPLES = r"""
- name: Refuse keys that cannot be read
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems }}"
  vars:
    problems: "{{ query('unreadable_keys', 'bootstrap_authorized_keys') }}"
"""

RETURN = r"""
_raw:
  description: A sentence for each variable that cannot be read.
  type: list
  elements: str
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

_AROUND = re.compile(r"^The lookup plugin '[^']*' failed: | Use -vvvvv to see paths searched\.")
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
            self._templar.template(variables.get(name))
        except AnsibleError as error:
            why = _AROUND.sub("", " ".join(str(error).split())).rstrip(".")
            return f"bootstrap_authorized_keys cannot be read: {why}. {_CURE}"
        return ""
