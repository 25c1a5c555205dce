#!/usr/bin/python
"""Ansible module: what is wrong with a server, with a cure for each finding."""

from __future__ import annotations

DOCUMENTATION = r"""
module: doctor
short_description: Say what is wrong with a server that runs Integr8sCode, and what cures it
description:
  - Looks at Docker, the stack's containers and their logs, Mongo, Kafka, Redis, the edge, k3s and the way to it,
    firewall, VPN, DNS, clock, disks, memory, certificates, tokens, lock and history, in one execution.
  - Changes nothing, also outside of check mode. Each question runs in a process of its own with a limit of time, so
    a Docker or k3s that hangs costs its own answer only.
  - Fails only where it cannot run at all. A server that is ill is a result.
  - Runs through an action plugin of the same name, which looks first who holds the lock, and adds whether the process
    of a holder on the same controller has ended.
  - A wrong login in the secrets is tried against MongoDB once, which writes a line into MongoDB's log.
options:
  host:
    description: Name of the server in the inventory, for the commands that cure.
    type: str
    required: true
  base:
    description: Where Integr8sCode is installed.
    type: path
    default: /opt/integr8scode
  project:
    description: Name of the Compose project.
    type: str
    default: integr8scode
  checks:
    description: Only these checks; all where it is empty.
    type: list
    elements: str
    default: []
  server_name:
    description: Name by which the edge is asked; empty asks by no name.
    type: str
    default: ""
  names:
    description: Names and addresses that the public certificate must be for.
    type: list
    elements: str
    default: []
  https_port:
    description: Published port of the API.
    type: int
    default: 443
  frontend_port:
    description: Published port of the pages.
    type: int
    default: 5001
  kubeconfigs:
    description: Folder of the workers' kubeconfigs.
    type: path
    default: /opt/integr8scode/kubeconfig
  backups:
    description: Folder of the backups.
    type: path
    default: /var/backups/integr8scode
  node_ip:
    description: Address that k3s' node shall have; empty takes what is configured.
    type: str
    default: ""
  controller_time:
    description: The controller's clock when it asks, seconds since 1970; 0 compares with nothing.
    type: float
    default: 0
  inventory:
    description: What C(-i) names, for the commands that cure; empty where none is needed.
    type: list
    elements: str
    default: []
  limit_seconds:
    description: How long one question may take.
    type: int
    default: 15
  gone_run:
    description: A run whose process on the asking controller has ended; the action plugin fills it in.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
author: [Integr8sCode operators]
"""

EXAMPLES = r"""
- name: Look what is wrong
  doctor:
    host: "{{ inventory_hostname }}"
  register: found
"""

RETURN = r"""
findings:
  description: >-
    The worst first. C(check), C(status) (problem, warning, unknown, ok), C(item), C(found), C(why), C(cure) and
    C(lines) (evidence, without secrets).
  type: list
  elements: dict
  returned: always
status: {description: The worst status of all findings., type: str, returned: always}
counts: {description: How many findings have each status., type: dict, returned: always}
seconds: {description: How long it took., type: float, returned: always}
at: {description: When, by the server's clock (UTC)., type: str, returned: always}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.doctor.examination import NAMES
from ansible.module_utils.doctor.report import examine_server


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "base": {"type": "path", "default": "/opt/integr8scode"},
            "project": {"type": "str", "default": "integr8scode"},
            "checks": {"type": "list", "elements": "str", "default": []},
            "server_name": {"type": "str", "default": ""},
            "names": {"type": "list", "elements": "str", "default": []},
            "https_port": {"type": "int", "default": 443},
            "frontend_port": {"type": "int", "default": 5001},
            "kubeconfigs": {"type": "path", "default": "/opt/integr8scode/kubeconfig"},
            "backups": {"type": "path", "default": "/var/backups/integr8scode"},
            "node_ip": {"type": "str", "default": ""},
            "controller_time": {"type": "float", "default": 0},
            "inventory": {"type": "list", "elements": "str", "default": []},
            "limit_seconds": {"type": "int", "default": 15},
            "gone_run": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    parameters = dict(module.params)
    unknown = sorted(set(parameters["checks"]) - set(NAMES))
    if unknown:
        there = ", ".join(NAMES)
        module.fail_json(msg=f"Nothing was looked at. There is no check {', '.join(unknown)}. There are: {there}.")
    module.exit_json(changed=False, **examine_server(parameters))


if __name__ == "__main__":
    main()
