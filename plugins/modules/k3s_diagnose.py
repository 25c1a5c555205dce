#!/usr/bin/python
"""Ansible module: what is wrong with k3s on a server, in plain sentences."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_diagnose
short_description: Say what is wrong with k3s on a server
description:
  - Looks at the unit, its journal, config.yaml with every drop-in and the unit's command line, interfaces and routes,
    the datastore, certificates, the Node object, disks and the clock, and says what is wrong and what heals it.
  - Changes nothing, also outside of check mode, and works where k3s does not.
  - Fails only for what stops it from looking. A server that is ill is a result.
options:
  node_ip:
    description:
      - Address that the node shall have, two with a comma between for IPv4 and IPv6. Empty takes
        flannel-iface's, else the default route's.
    type: str
    default: ""
  stable_seconds:
    description: Seconds that a k3s which crashed must have run to count as up again.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
author: integr8scode-ansible
"""

EXAMPLES = r"""
- name: Look what is wrong with k3s
  k3s_diagnose:
  register: found

- name: Say it
  ansible.builtin.debug:
    var: found.sentences
"""

RETURN = r"""
healthy: {description: Whether k3s works and nothing is wrong with it., type: bool, returned: always}
causes:
  description: >-
    What is wrong, those that a person has to heal first, then in the ladder's order. C(id), C(sentence), C(evidence),
    C(rung) (which step of the recovery heals it), C(cure) (what a person has to do), C(details).
  type: list
  elements: dict
  returned: always
warnings_found: {description: What is not wrong yet but may become so., type: list, elements: str, returned: always}
refusal: {description: Why a recovery must not go on here; empty when it may., type: str, returned: always}
expected_ip: {description: InternalIP that the node must have., type: str, returned: always}
facts: {description: What was seen. No secrets., type: dict, returned: always}
sentences: {description: All of it as lines to print., type: list, elements: str, returned: always}
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.k3s_recovery.diagnosis import diagnose, sentences
from ansible.module_utils.k3s_recovery.facts import collect


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "node_ip": {"type": "str", "default": ""},
            "stable_seconds": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    facts = collect()
    found = diagnose(facts, node_ip=parameters["node_ip"], stable_seconds=parameters["stable_seconds"])
    result = asdict(found)
    # names of Ansible's own that a result must not use
    result["warnings_found"] = result.pop("warnings")
    module.exit_json(changed=False, sentences=sentences(found), **result)


if __name__ == "__main__":
    main()
