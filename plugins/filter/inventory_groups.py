"""Filter of the playbooks' `hosts`: a run over a group without a server ends with a word, and not green."""

from __future__ import annotations

import runpy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

_PROJECT = Path(__file__).resolve().parents[2]
# its path is known to Ansible, not to Python
_doctor_inventory = runpy.run_path(str(Path(__file__).with_name("doctor_report.py")))["doctor_inventory"]


def group_with_servers(group: str, groups: Mapping[str, Sequence[str]], sources: str | Iterable[str]) -> str:
    """Return the group's own name, for a play's ``hosts``.

    Ansible ends a play without hosts, and with it the run, as if all was well.

    :param group: name of a group.
    :param groups: the servers of each group, Ansible's ``groups``.
    :param sources: the inventories of this run, Ansible's ``ansible_inventory_sources``.

    Raises AnsibleFilterError where the group has no server.
    """
    if not groups.get(group):
        named = " and ".join(_doctor_inventory(sources, str(_PROJECT))) or "the inventory"
        raise AnsibleFilterError(
            f"Nothing was changed. The group {group} of {named} has no server. Put yours into its hosts.yml: "
            "README, 'Your own servers', step 2."
        )
    return group


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"group_with_servers": group_with_servers}
