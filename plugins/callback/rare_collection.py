"""Lets Python look for garbage rarely, in ansible-playbook and in the processes that it starts for its tasks."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rare_collection
type: aggregate
short_description: Look for garbage rarely
description:
  - For each module that it sends, Ansible parses some fifty of its own files into syntax trees, in a new process each
    time. Half of that time Python looks for garbage among objects that all live on, those of the whole run with them.
  - Nothing that is there when a run begins is looked at again, and new objects are when 100000 have come together.
  - Says nothing by itself.
author: integr8scode-ansible
"""

import gc
from typing import Any

from ansible.plugins.callback import CallbackBase

THRESHOLDS = (100_000, 50, 100)
"""New objects until the youngest are looked at, and how many such looks until older ones are. Python: 700, 10, 10."""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible itself is not typed
    """The callback as Ansible loads it, in the process that all others are forked from."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "rare_collection"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # as Python's documentation advises before a fork
        gc.freeze()
        gc.set_threshold(*THRESHOLDS)
