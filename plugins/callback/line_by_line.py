"""Writes each line of a run when it is said, also into a file or a pipe, as a CI system reads it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: line_by_line
type: aggregate
short_description: Write each line when it is said, also into a file or a pipe
description:
  - Ansible leaves it to Python when its output is written, which is at once in a terminal, and in blocks of some KiB
    else. The progress of a switch would then come all at its end.
  - Says nothing by itself.
author: integr8scode-ansible
"""

import io
import sys
from typing import Any

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible itself is not typed
    """The callback as Ansible loads it, in the process that writes the output of all others."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "line_by_line"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)
