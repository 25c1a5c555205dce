"""Lookup: finds variables whose names are almost those of settings. Ansible passes over them without a word."""

from __future__ import annotations

DOCUMENTATION = r"""
name: misspelt_settings
author: integr8scode-ansible
short_description: Find variables whose names are almost those of settings
description:
  - A setting with a wrong name counts as not set, and its default is taken. A variable that begins as a role's settings
    do, is none of them and resembles one, is taken for such a mistake.
  - No value is looked at.
options:
  _terms:
    description: Names of the roles whose settings are compared; none for all.
"""

EXAMPLES = r"""
- name: Tell of settings that may be misspelt
  ansible.builtin.debug:
    msg: "{{ query('misspelt_settings') }}"
"""

RETURN = r"""
_raw:
  description: A sentence for each.
  type: list
  elements: str
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.common.yaml import yaml_load
from ansible.plugins.lookup import LookupBase

ROLES = Path(__file__).resolve().parents[2] / "roles"
ALIKE = 0.85
"""So much of what follows the role's name must be the same (difflib's ratio)."""


def _with_another_beginning(name: str, role: str) -> str:
    """A name as it would be with this role's name in front, where what stands there is almost that; "" elsewhere."""
    words = name.split("_")
    count = role.count("_") + 1
    begin, end = "_".join(words[:count]), "_".join(words[count:])
    return f"{role}_{end}" if difflib.SequenceMatcher(None, begin, role).ratio() >= ALIKE else ""


def misspelt(names: Iterable[str], settings: Mapping[str, set[str]]) -> list[str]:
    """Sentences about names that are almost those of settings.

    :param settings: of each role.
    """
    known = set().union(*settings.values())
    found = []
    for name in sorted(set(names) - known):
        for role, own in settings.items():
            begin = f"{role}_"
            if not name.startswith(begin):
                if (meant := _with_another_beginning(name, role)) in own:
                    found.append(f"no setting is named {name}, so no role reads it. Is {meant} meant?")
                continue
            ends = [one.removeprefix(begin) for one in sorted(own) if one.startswith(begin)]
            alike = difflib.get_close_matches(name.removeprefix(begin), ends, 1, ALIKE)
            if alike:
                found.append(f"no setting is named {name}, so no role reads it. Is {begin}{alike[0]} meant?")
    return found


class LookupModule(LookupBase):  # type: ignore[misc]
    """Ansible's entry point."""

    def run(self, terms: Iterable[str], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Compare the names of all variables with those of all settings."""
        self.set_options(var_options=variables, direct=kwargs)
        roles = list(map(str, terms)) or sorted(
            path.parents[1].name for path in ROLES.glob("*/meta/argument_specs.yml")
        )
        settings = {}
        for role in roles:
            # read in C: a fifteenth of the time of Ansible's own reading, in each run for each server
            text = (ROLES / role / "meta/argument_specs.yml").read_text(encoding="utf-8")
            entries = yaml_load(text)["argument_specs"].values()
            settings[role] = {str(name) for entry in entries for name in entry.get("options") or ()}
        return misspelt(map(str, variables or ()), settings)
