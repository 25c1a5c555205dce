"""Filters of the playbooks' own words: a run that would reach no server or no task ends with a word, and not green."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from jinja2 import pass_context
from jinja2.runtime import Context

_PROJECT = Path(__file__).resolve().parents[2]
# its path is known to Ansible, not to Python
_doctor_inventory = runpy.run_path(str(Path(__file__).with_name("doctor_report.py")))["doctor_inventory"]


MOST_NAMES = 10
"""So many servers are named in an error."""
_STEP = re.compile(r"[1-9][0-9]*%?")
WHOLE = {"all", "untagged"}
"""Tags that choose what has none."""


@pass_context
def group_with_servers(context: Context, group: str, known_tags: Iterable[str] = (), *, limited: bool = True) -> str:
    """Return the group's own name, for a play's ``hosts``.

    Ansible ends a play without hosts or tasks, and with it the run, as if all was well.

    :param context: the play's variables: Ansible's ``groups``, ``ansible_inventory_sources``, ``ansible_limit`` (what
        ``--limit`` says, not set for none) and ``ansible_run_tags`` (what ``--tags`` says).
    :param group: name of a group.
    :param known_tags: the tags of the playbook's parts.
    :param limited: whether the limit has to leave a server of the group.

    Raises AnsibleFilterError where the group has no server, the limit leaves none of it, or the playbook lacks a tag.
    """
    named = " and ".join(_doctor_inventory(context["ansible_inventory_sources"], str(_PROJECT))) or "the inventory"
    groups = context["groups"]
    servers = groups.get(group)
    if not servers:
        raise AnsibleFilterError(
            f"Nothing was changed. The group {group} of {named} has no server. Put yours into its hosts.yml: "
            "README, 'Your own servers', step 2."
        )
    limit = context.get("ansible_limit") if limited else None
    if limit and not _left(group, groups, limit):
        some = ", ".join(sorted(servers)[:MOST_NAMES]) + (", …" if len(servers) > MOST_NAMES else "")
        raise AnsibleFilterError(
            f"Nothing was changed. --limit {limit} leaves no server of the group {group} of {named}, which has {some}. "
            "Name one of them, or put the server into that group."
        )
    known, asked = set(known_tags), set(context.get("ansible_run_tags", ["all"]))
    unknown = set() if asked & WHOLE else asked - known - ({"tagged", "always"} if known else set())
    if unknown:
        there = f"it has {', '.join(sorted(known))}" if known else "it has none and is run as a whole"
        raise AnsibleFilterError(
            f"Nothing was changed. This playbook has no tag {', '.join(sorted(unknown))}: {there}. Correct --tags. "
            "(A release is named by -e tag=…)"
        )
    return group


def step_problems(steps: Any, name: str) -> list[str]:
    """Return why a run could not go over its servers in these steps.

    Ansible reads a play's ``serial`` when the play begins, when the servers are locked already, and ends the run there.

    :param steps: numbers of servers, or percentages of all, one or a list.
    :param name: the variable that says it.
    """
    given = steps if isinstance(steps, list) else [steps]
    wrong = [str(one) for one in given if isinstance(one, bool) or not _STEP.fullmatch(str(one))]
    if given and not wrong:
        return []
    problem = (
        f"{name} says {', '.join(wrong) or 'nothing'}: a step is a number of servers from 1 on, or a whole percentage. "
        f"""Several are written as -e '{{"{name}": [1, "50%"]}}'."""
    )
    return [problem]


def _left(group: str, groups: Mapping[str, Sequence[str]], limit: str) -> list[str]:
    """The servers of the group that a limit leaves, by Ansible's own reading of it."""
    manager = InventoryManager(DataLoader(), parse=False)
    for name, members in groups.items():
        manager.add_group(name)
        for member in members:
            manager.add_host(member, group=name)
    manager.subset(limit)
    return [host.name for host in manager.get_hosts(group)]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"group_with_servers": group_with_servers, "step_problems": step_problems}
