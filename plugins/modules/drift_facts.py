#!/usr/bin/python
"""Ansible module: everything that can drift on a server, read and compared in one execution."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drift_facts
short_description: Compare a server with what was deployed and what the inventory says
description:
  - Asks everything at once, each question with its own limit, and compares the answers with what is expected. Docker,
    k3s or a container that does not answer is said, and holds up nothing else.
  - Changes nothing. Files are opened without touching their access time, only programs that tell and do not change are
    run, the Docker Engine and the Kubernetes API are sent GET requests only.
  - Secrets are compared by hashes with a key that is made for each run; no value of one is returned.
options:
  expected:
    description: What the roles and the inventory say, as role C(drift) gathers it.
    type: dict
    required: true
  key:
    description: Key of this run's hashes, hexadecimal.
    type: str
    required: true
  registry_password:
    description: Password of the registry's login.
    type: str
    default: ""
  seen:
    description: What this module returned as C(seen) the last time.
    type: dict
    default: {}
  limit_seconds:
    description: How long one question may take.
    type: int
    default: 20
  total_seconds:
    description: How long all may take.
    type: int
    default: 45
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Compare the server
  drift_facts:
    expected: "{{ __drift_expected }}"
    key: "{{ __drift_key }}"
  register: compared
"""

RETURN = r"""
findings:
  description: Differences; each with id, area, item, aspect, expected, found, severity, cure, cure_kind. Where
    nothing was ever deployed one has details, the ids of those that it stands for.
  type: list
  returned: always
could_not_ask:
  description: What did not answer, with area, what, why, cure.
  type: list
  returned: always
notes:
  description: What is told and is no difference.
  type: list
  returned: always
checked:
  description: How many things were compared, by area.
  type: dict
  returned: always
release:
  description: The running release (id, tag, created_at, by), or null.
  type: dict
  returned: always
seen:
  description: What the next run compares with.
  type: dict
  returned: always
seconds:
  description: How long it took.
  type: float
  returned: always
times:
  description: Seconds that each question took.
  type: dict
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.drift.collect import look


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "expected": {"type": "dict", "required": True},
            "key": {"type": "str", "required": True, "no_log": True},
            "registry_password": {"type": "str", "default": "", "no_log": True},
            "seen": {"type": "dict", "default": {}},
            "limit_seconds": {"type": "int", "default": 20},
            "total_seconds": {"type": "int", "default": 45},
        },
        supports_check_mode=True,
    )
    try:
        key = bytes.fromhex(module.params["key"])
    except ValueError:
        module.fail_json(msg="key must be hexadecimal. Role drift makes one for each run.")
    try:
        result = look(
            module.params["expected"],
            key=key,
            password=module.params["registry_password"],
            seen=module.params["seen"],
            limit=float(module.params["limit_seconds"]),
            total=float(module.params["total_seconds"]),
        )
    except KeyError as error:
        module.fail_json(msg=f"expected lacks {error}. Role drift gathers it.")
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
