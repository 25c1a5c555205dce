"""Reading YAML on a server with PyYAML's loader in C: a compose file takes the other one a tenth of a second.

``ansible.module_utils.common.yaml`` does likewise; the program that switches on a server has nothing of Ansible's own.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

with suppress(ImportError):  # whose module needs it says that it is missing
    import yaml


def load(text: str | bytes) -> Any:
    """What a YAML document holds, as ``yaml.safe_load`` has it.

    :raises yaml.YAMLError: it is none.
    """
    # a PyYAML that was built without libyaml has none
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 (both are safe ones)
