"""Lookup: says which of the inventory's settings are of another type than their role takes, before a role is run."""

from __future__ import annotations

DOCUMENTATION = r"""
name: setting_problems
author: integr8scode-ansible
short_description: Find settings of another type than their role takes
description:
  - Ansible checks a role's settings when the role begins, which is after the roles before it have changed the server,
    and lets pass what YAML has misread. Here all are checked at once, and before anything is changed.
  - Secrets are passed over (the filter C(secret_problems) judges them), and so is what cannot be evaluated.
options:
  _terms:
    description: Names of the roles whose settings are checked.
    required: true
"""

EXAMPLES = r"""
- name: Refuse settings that no role takes
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems }}"
  vars:
    problems: "{{ query('setting_problems', 'docker', 'k3s') }}"
"""

RETURN = r"""
_raw:
  description: A sentence for each problem, with its cure.
  type: list
  elements: str
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load
from ansible.plugins.lookup import LookupBase

ROLES = Path(__file__).resolve().parents[2] / "roles"
TEXT_TOO = frozenset(
    {
        "integr8scode_profiles", "integr8scode_skip_checks", "docker_no_proxy", "docker_registry_mirrors",
        "k3s_no_proxy", "k3s_disable", "k3s_tls_sans",
    }
)  # fmt: skip
"""Lists that may be a text as well, as they come from the command line."""
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "true or false"), (int, "a number"), (float, "a number"), (str, "a text"), (list, "a list"),
    (dict, "a mapping"),
)  # fmt: skip
_WRITTEN = {"list": "[one, two]", "dict": "{key: value}"}


def _misread(name: str, value: Any, wanted: str) -> str:
    """Why a value is not what was meant, where Ansible's own check would turn it into something; "" for none."""
    kind = next((word for kind, word in _KINDS if isinstance(value, kind)), type(value).__name__)
    if value is None:
        return f"{name} has no value. Write one after the colon, or take the line out."
    if wanted == "str" and isinstance(value, (bool, float)):
        return f"{name} is read by YAML as {kind}, {value}: it takes a text. Put it into quotes."
    if wanted == "str" and isinstance(value, (list, dict)):
        return f"{name} is {kind}: it takes a text."
    if wanted in _WRITTEN and isinstance(value, str) and name not in TEXT_TOO:
        article = "a list" if wanted == "list" else "a mapping"
        return f"{name} is a text: it takes {article}, such as {_WRITTEN[wanted]}."
    return ""


def problem(name: str, value: Any, spec: Mapping[str, Any]) -> str:
    """What is wrong with a setting; "" for nothing.

    :param spec: its entry in the role's argument specification.
    """
    misread = _misread(name, value, str(spec.get("type", "str")))
    if misread:
        return f"{misread} docs/variables.md says what each setting takes."
    if isinstance(value, str) and name in TEXT_TOO:
        # who takes a text splits it
        return ""
    errors = ArgumentSpecValidator({name: dict(spec)}).validate({name: value}).error_messages
    if not errors:
        return ""
    plain = {"int": f"{name} is no whole number", "bool": f"{name} is neither true nor false"}
    said = plain.get(str(spec.get("type")), f"{name}: {'; '.join(errors)}")
    return f"{said}. docs/variables.md says what each setting takes."


class LookupModule(LookupBase):  # type: ignore[misc]
    """Ansible's entry point."""

    def run(self, terms: Iterable[str], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Check what is set of the roles that the terms name."""
        self.set_options(var_options=variables, direct=kwargs)
        known = variables or {}
        found = []
        for role in terms:
            # read in C: a fifteenth of the time of Ansible's own reading, in each run for each server
            text = (ROLES / str(role) / "meta/argument_specs.yml").read_text(encoding="utf-8")
            options = yaml_load(text)["argument_specs"]["main"]["options"]
            for name, spec in options.items():
                if name in known and not spec.get("no_log"):
                    found.append(self._problem(name, known[name], spec))
        return [one for one in found if one]

    def _problem(self, name: str, value: Any, spec: Mapping[str, Any]) -> str:
        try:
            return problem(name, self._templar.template(value), spec)
        except AnsibleError:
            # what it names may be known later only, and is told where it is used
            return ""
