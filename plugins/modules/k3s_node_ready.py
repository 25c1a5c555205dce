#!/usr/bin/python
"""Ansible module: k3s running with what is on disk, its node Ready, and staying so."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_node_ready
short_description: Have k3s running, its node Ready, and staying so
description:
  - Enables the unit, starts it, restarts it when a new binary or file waits for that (C(/run/k3s-restart.pending)), and
    waits until it has run without a new start for C(stable_seconds) with its node Ready. The unit becomes active before
    k3s can fail, so "active" alone proves nothing.
  - A k3s that has already run that long is not waited for.
  - In check mode it says whether it would start or restart, and does not wait. The tasks before have marked nothing
    then, so C(restart) says what they would have marked.
options:
  version: {type: str, required: true, description: Release that has to answer.}
  stable_seconds: {type: int, default: 60, description: Seconds that it must have run without a new start.}
  timeout_seconds: {type: int, default: 300, description: Seconds after which to give up.}
  node_name: {type: str, default: "", description: The node's name; empty takes the server's host name.}
  node_ip: {type: str, default: "", description: InternalIP that the node must have; empty accepts any.}
  restart:
    type: bool
    default: false
    description: Whether tasks before this one have (in check mode would have) written what waits for a restart.
author: integr8scode-ansible
"""

EXAMPLES = r"""
- name: Wait until k3s is up and stays up
  k3s_node_ready:
    version: v1.34.4+k3s1
"""

RETURN = r"""
action: {description: "What was done: none, start or restart.", type: str, returned: always}
version: {description: Release that the API server says it is., type: str, returned: always}
node: {description: Name of the node., type: str, returned: always}
internal_ips: {description: Its InternalIP addresses., type: list, returned: always}
running_seconds: {description: Seconds since the last start., type: int, returned: always}
restarts: {description: systemd's count of its own restarts of the unit., type: int, returned: always}
"""

import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.k3s_common import PENDING, UNIT, K3sError, parse_version
from ansible.module_utils.k3s_node import NodeState, UnitState, monotonic, node_state, unit_state

# one start may fail (a port that is not free yet); this many are a loop
CRASHES = 4


def journal(module: AnsibleModule) -> str:
    """The last error lines of k3s, or its last lines when it named none an error."""
    command = ["journalctl", "-u", UNIT, "-n", "200", "-o", "cat", "--no-pager"]
    _code, out, _err = module.run_command(command)
    lines = [line for line in str(out).splitlines() if line.strip()]
    bad = [line for line in lines if "level=fatal" in line or "level=error" in line or line.startswith(("E", "F"))]
    return "\n".join((bad or lines)[-5:])


def act(module: AnsibleModule, before: UnitState, action: str) -> None:
    """Reload systemd, enable, start or restart; does not wait for a start, whose time is unlimited in the unit."""
    commands = []
    if before.stale or not before.loaded:
        commands.append(["daemon-reload"])
    if not before.enabled:
        commands.append(["--quiet", "enable", UNIT])
    if action != "none":
        commands.append(["--no-block", action, UNIT])
    for arguments in commands:
        code, out, err = module.run_command(["systemctl", *arguments])
        if code != 0:
            raise K3sError(f"'systemctl {' '.join(arguments)}' failed: {(err or out).strip()}")


def wait(module: AnsibleModule, before: UnitState, action: str) -> tuple[UnitState, NodeState]:
    """Wait until k3s is up and has stayed up. Raises K3sError with what was seen last when it does not."""
    parameters = module.params
    deadline = monotonic() + parameters["timeout_seconds"]
    name = parameters["node_name"] or os.uname().nodename.lower()
    starts: set[str] = set()
    while True:
        unit = unit_state()
        node = NodeState(problem=f"{UNIT} is {unit.active} ({unit.sub})")
        if unit.invocation and unit.invocation != (before.invocation if action != "none" else ""):
            starts.add(unit.invocation)
            if unit.running:
                if os.path.exists(PENDING):
                    os.unlink(PENDING)
                node = node_state(name=name, node_ip=parameters["node_ip"])
                if not node.problem and monotonic() - unit.active_since >= parameters["stable_seconds"]:
                    return unit, node
        if len(starts) > CRASHES:
            raise K3sError(f"k3s started {len(starts)} times and crashed each time. Its last words:\n{journal(module)}")
        if monotonic() > deadline:
            seen = node.problem or (
                f"it has been up for {monotonic() - unit.active_since:.0f} s only, {len(starts)} starts were seen"
            )
            raise K3sError(
                f"k3s was not up and stable ({parameters['stable_seconds']} s) after {parameters['timeout_seconds']} "
                f"s: {seen}. "
                f"On the server: journalctl -u k3s. Its last words:\n{journal(module)}"
            )
        time.sleep(1)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work; what it returns to Ansible."""
    wanted = parse_version(module.params["version"])
    before = unit_state()
    pending = os.path.exists(PENDING) or (module.check_mode and module.params["restart"])
    if pending and before.active not in {"inactive", "failed"}:
        action = "restart"
    elif before.active in {"inactive", "failed", "deactivating"}:
        action = "start"
    else:
        action = "none"
    changed = action != "none" or not before.enabled or before.stale
    if module.check_mode:
        name = module.params["node_name"] or os.uname().nodename.lower()
        node = node_state(name=name, node_ip=module.params["node_ip"]) if before.running else NodeState(problem="")
        unit = before
    else:
        act(module, before, action)
        unit, node = wait(module, before, action)
        if parse_version(node.version) != wanted:
            raise K3sError(
                f"k3s {node.version} answers although {wanted} is installed: another k3s runs here, or it was not "
                f"restarted. "
                f"'systemctl status k3s' shows which binary; 'systemctl restart k3s' starts the installed one."
            )
    return {
        "changed": changed,
        "action": action,
        "version": node.version,
        "node": node.name,
        "internal_ips": node.internal_ips,
        "running_seconds": int(monotonic() - unit.active_since) if unit.running else 0,
        "restarts": unit.restarts,
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "str", "required": True},
            "stable_seconds": {"type": "int", "default": 60},
            "timeout_seconds": {"type": "int", "default": 300},
            "node_name": {"type": "str", "default": ""},
            "node_ip": {"type": "str", "default": ""},
            "restart": {"type": "bool", "default": False},
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
