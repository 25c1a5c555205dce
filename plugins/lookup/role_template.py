"""Lookup: a role's template, filled in with the variables that are at hand, without copying them first."""

from __future__ import annotations

DOCUMENTATION = r"""
name: role_template
author: integr8scode-ansible
short_description: Fill in a template of any role
description:
  - What C(ansible.builtin.template) gives, for a template that is named from a role other than its own.
  - C(ansible.builtin.template) copies all variables of the host first, whatever the template names, which takes a tenth
    of a second each time. This takes them as they are. C(ansible_managed), C(template_path) and the like are not there.
options:
  _terms:
    description: Templates as C(<role>/<file below its folder templates>).
    required: true
"""

EXAMPLES = r"""
- name: Install the unit
  ansible.builtin.copy:
    content: "{{ lookup('role_template', 'k3s/k3s.service.j2') }}"
    dest: /etc/systemd/system/k3s.service
    mode: "0644"
"""

RETURN = r"""
_raw:
  description: The texts, in the order of the templates.
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible.template import trust_as_template

ROLES = Path(__file__).resolve().parents[2] / "roles"


def file_of(term: str) -> Path:
    """The file of a template. Raises AnsibleError where there is none."""
    role, _, name = term.partition("/")
    path = ROLES / role / "templates" / name
    if not name or not path.is_file():
        raise AnsibleError(f"role_template takes <role>/<template>, and {term!r} is none: {path} is no file")
    return path


class LookupModule(LookupBase):  # type: ignore[misc]  # Ansible itself is not typed
    """The lookup as Ansible loads it."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Fill the templates in. Raises AnsibleError."""
        if kwargs:
            raise AnsibleError(f"role_template takes no options, and is given {', '.join(sorted(kwargs))}")
        templar = self._templar.copy_with_new_env(available_variables=variables or {})
        found = []
        for term in terms:
            try:
                text = file_of(term).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise AnsibleError(f"the template {term} cannot be read: {error}") from error
            found.append(str(templar.template(trust_as_template(text), escape_backslashes=False)))
        return found
