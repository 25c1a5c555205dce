#!/usr/bin/python
"""Ansible module: what would keep k3s from running on this server, told before anything is changed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_preflight
short_description: Refuse what k3s could not run with
description:
  - Reads the server and changes nothing. Refuses a downgrade or a jump over a minor version, a bind-address that
    keeps containers out, a server without an address for the node, cgroup v1 where k3s does not start on it, a token
    that does not fit the datastore, a k3s agent, an unknown processor.
options:
  version: {type: str, required: true, description: Release that shall run.}
  token: {type: str, required: true, description: Token that it shall have.}
  node_ip: {type: str, default: "", description: Address of the node; empty lets k3s take the default route's.}
  fixed_node_address: {type: str, default: "",
                       description: Address that the node gets on an interface of its own; empty for none.}
  config: {type: dict, default: {}, description: Further settings of config.yaml.}
author: integr8scode-ansible
"""

EXAMPLES = r"""
- name: Refuse what k3s could not run with
  k3s_preflight:
    version: v1.34.4+k3s1
    token: "{{ k3s_token }}"
"""

RETURN = r"""
installed_version: {description: Release of the binary on the server; empty without one., type: str, returned: always}
architecture: {description: amd64 or arm64., type: str, returned: always}
node_interface: {description: Whether there is an interface for a fixed address., type: bool, returned: always}
fixed_node_addresses: {description: The addresses that it has., type: list, returned: always}
airgap_images: {description: Whether archives of images were laid down by k3s_images., type: bool, returned: always}
container: {description: Whether the server is a container and its kernel another's., type: bool, returned: always}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.k3s_look import look


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "str", "required": True},
            "token": {"type": "str", "required": True, "no_log": True},
            "node_ip": {"type": "str", "default": ""},
            "fixed_node_address": {"type": "str", "default": ""},
            "config": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    facts, problems = look(module, module.params)
    if problems:
        module.fail_json(msg="\n".join(problems))
    module.exit_json(changed=False, **facts)


if __name__ == "__main__":
    main()
