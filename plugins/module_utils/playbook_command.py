"""The command that a person pastes on the controller, so that it means the same servers as the run that printed it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable


def playbook_command(playbook: str, *words: str, inventory: Iterable[str] | None = ()) -> str:
    """The command that runs a playbook.

    :param playbook: its path from the project's folder.
    :param words: what follows it, each quoted by the caller where that is needed.
    :param inventory: what ``-i`` names. Without one the command means the inventory of ansible.cfg, which is the lab.
    """
    sources = [word for one in inventory or () for word in ("-i", shlex.quote(one))]
    return " ".join(["ansible-playbook", *sources, playbook, *filter(None, words)])
