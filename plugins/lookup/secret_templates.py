"""Lookup: says which secrets Ansible would take for templates, before it evaluates one of them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: secret_templates
author: integr8scode-ansible
short_description: Find secrets that Ansible would take for templates
description:
  - Ansible evaluates the variables of an inventory. A password that holds C({{), C({%) or C({#) becomes another one
    without a word, or ends the run with an error that shows the line of a file that is not encrypted.
  - A value that is one expression as a whole, such as C({{ vault_password }}), is meant as one and followed to the
    variables that it names. Anything else with these marks is a problem, and so is the name of a variable that does
    not exist, which has a sentence of its own.
  - No value is evaluated, and none is in what is returned.
options:
  _terms:
    description: Names of the variables. Those that are not set are passed over.
    required: true
"""

EXAMPLES = r"""
- name: Refuse secrets that Ansible would take for templates
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems }}"
  vars:
    problems: "{{ lookup('secret_templates', 'vault_password', wantlist=true) }}"
"""

RETURN = r"""
_raw:
  description: A sentence for each problem, with its cure.
  type: list
  elements: str
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible.template import is_trusted_as_template

_MARKS = re.compile(r"\{[{%#]")
_ONE_EXPRESSION = re.compile(r"\s*\{\{(?P<inner>(?:(?!\{[{%#]|\}\}).)*)\}\}\s*", re.DOTALL)
_WORD = re.compile(r"[^\W\d]\w*")
_OF_THE_VAULT = re.compile(r"vault_\w")


@dataclass(frozen=True)
class Misread:
    """The variable whose value Ansible would misread, and the one that it names and nobody sets, if that is why."""

    place: str
    missing: str = ""


def misread(name: str, variables: Mapping[str, Any], passed: frozenset[str] = frozenset()) -> Misread | None:
    """What Ansible would misread on the way to the value of `name`; None where all is well.

    :param variables: not evaluated. Values that are not trusted as templates (`!unsafe`) are never evaluated.
    :param passed: names that were followed already.
    """
    value = variables.get(name)
    if not isinstance(value, str) or not is_trusted_as_template(value) or not _MARKS.search(value):
        return None
    expression = _ONE_EXPRESSION.fullmatch(value)
    if expression is None:
        return Misread(name)
    inner = expression["inner"].strip()
    missing = _missing(inner, variables)
    if missing:
        return Misread(name, missing)
    seen = passed | {name}
    words = [word for word in _WORD.findall(inner) if word in variables and word not in seen]
    return next(filter(None, (misread(word, variables, seen) for word in words)), None)


def _missing(inner: str, variables: Mapping[str, Any]) -> str:
    """The variable of an expression that is not set: the only word, or one of the vault's; "" where there is none."""
    if _WORD.fullmatch(inner):
        return "" if inner in variables else inner
    if "default" in inner:
        return ""
    return next((word for word in _WORD.findall(inner) if _OF_THE_VAULT.match(word) and word not in variables), "")


def _problem(name: str, found: Misread) -> str:
    place = found.place
    if found.missing:
        way = f" by way of {place}" if place != name else ""
        if _OF_THE_VAULT.match(found.missing):
            return (
                f"{name} names {found.missing}{way}, which no file of the inventory sets. Put it into "
                "group_vars/all/vault.yml (ansible-vault edit), or correct the name in main.yml."
            )
        # a password may be written so, and is not shown
        return (
            f"{name} names a variable{way} that no file of the inventory sets. Put that into group_vars/all/vault.yml "
            "(ansible-vault edit), or correct the name in main.yml. Where the braces belong to the value, write "
            f"!unsafe before it: `{place}: !unsafe '…'`."
        )
    where = f" ({place} holds the marks)" if place != name else ""
    return (
        f"{name} would be taken for a template by Ansible, and be another value than the one that is written{where}: "
        f"it holds {{{{, {{% or {{#. Write !unsafe before it: `{place}: !unsafe '…'`. Where a template is meant, write "
        "it as one {{ … }} of variables that exist."
    )


class LookupModule(LookupBase):  # type: ignore[misc]
    """Ansible's entry point."""

    def run(self, terms: Iterable[str], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Look at the variables that the terms name."""
        self.set_options(var_options=variables, direct=kwargs)
        found = {str(name): misread(str(name), variables or {}) for name in terms}
        return [_problem(name, one) for name, one in found.items() if one]
