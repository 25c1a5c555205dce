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
container: {description: Whether the server is a container and its kernel another's., type: bool, returned: always}
"""

import glob
import os
import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.k3s_common import (
    ARCHITECTURES,
    BINARY,
    CONFIG_FOLDER,
    DATA_FOLDER,
    NODE_INTERFACE,
    K3sError,
    addresses_from_kernel,
    has_default_route,
    parse_version,
    refuse_addresses,
    refuse_bind_address,
    refuse_cgroup_v1,
    refuse_fixed_address,
    refuse_jump,
    refuse_token,
    yaml_scalar,
)


def read(path: str) -> str:
    """A file's text; empty when there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def in_container() -> bool:
    """Whether this server is a container, by the word that systemd leaves at its start."""
    return os.path.exists("/run/systemd/container") or os.path.exists("/.dockerenv")


def interface_addresses(module: AnsibleModule, name: str) -> list[str] | None:
    """The IPv4 addresses of an interface; None when there is no such interface."""
    if not os.path.exists(f"/sys/class/net/{name}"):
        return None
    _code, out, _err = module.run_command(["ip", "-4", "-oneline", "address", "show", "dev", name])
    return re.findall(r" inet ([0-9.]+)/", out)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Look at everything; what the module returns to Ansible. Raises K3sError at the first thing that cannot be."""
    parameters = module.params
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        raise K3sError(f"There is no k3s of the vendor for {machine} here, only for {' and '.join(ARCHITECTURES)}.")
    if os.path.exists("/etc/systemd/system/k3s-agent.service"):
        raise K3sError(
            "This server is the agent of another k3s (k3s-agent.service). A server of its own needs another machine, "
            "or the "
            "agent removed first with k3s-agent-uninstall.sh. Nothing has been changed."
        )
    wanted = parse_version(parameters["version"])
    installed = None
    if os.path.exists(BINARY):
        code, out, err = module.run_command([BINARY, "--version"])
        if code == 0:
            installed = parse_version(out)
        elif os.path.isdir(f"{DATA_FOLDER}/server/db"):
            raise K3sError(
                f"'{BINARY} --version' fails ({(err or out).strip()}) and there is a datastore: what version it has "
                f"cannot be "
                f"told. Put the binary back that it ran with, then run again. Nothing has been changed."
            )
    refuse_jump(installed, wanted)

    config: dict[str, Any] = parameters["config"]
    drop_ins = {path: read(path) for path in sorted(glob.glob(f"{CONFIG_FOLDER}/config.yaml.d/*.yaml"))}

    def settings(key: str) -> dict[str, str]:
        """Who sets `key`, and to what."""
        found = {"k3s_config": str(config.get(key, "") or "")}
        return found | {path: yaml_scalar(text, key) or "" for path, text in drop_ins.items()}

    refuse_bind_address(settings("bind-address"))

    kubelet = config.get("kubelet-arg", [])
    refuse_cgroup_v1(
        wanted,
        cgroup_v1=not os.path.exists("/sys/fs/cgroup/cgroup.controllers"),
        kubelet_arguments=[str(item) for item in (kubelet if isinstance(kubelet, list) else [kubelet])],
    )
    addresses = addresses_from_kernel(read("/proc/net/fib_trie"), read("/proc/net/if_inet6"))
    fixed, present_fixed = parameters["fixed_node_address"], interface_addresses(module, NODE_INTERFACE)
    refuse_fixed_address(
        fixed,
        node_ip=parameters["node_ip"],
        settings=settings("node-ip"),
        others=[address for address in addresses if address not in (present_fixed or [])],
        config=config,
    )
    refuse_addresses(
        fixed or parameters["node_ip"],
        # the fixed one is made by this run
        addresses=[*addresses, fixed] if fixed else addresses,
        has_default_route=has_default_route(read("/proc/net/route"), read("/proc/net/ipv6_route")),
    )
    # only a datastore ties k3s to a token
    present = read(f"{DATA_FOLDER}/server/token") or read(f"{CONFIG_FOLDER}/token")
    datastore = os.path.isdir(f"{DATA_FOLDER}/server/db")
    refuse_token(parameters["token"], present if datastore and present else None)
    return {
        "changed": False,
        "installed_version": str(installed) if installed else "",
        "architecture": ARCHITECTURES[machine][0],
        "node_interface": present_fixed is not None,
        "fixed_node_addresses": present_fixed or [],
        "container": in_container(),
    }


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
    try:
        result = run(module)
    except K3sError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
