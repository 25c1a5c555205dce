#!/usr/bin/python
"""Ansible module: the recovery of k3s, one rung of the ladder in each execution."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_recover
short_description: Bring k3s back with its cluster, rung by rung
description:
  - With O(state=begin) looks what is wrong, finds a recovery that was killed, and makes the backup before anything
    else. In check mode only says what would be tried. Where nothing is wrong it changes nothing.
  - With O(state=step) does one rung and verifies it; a rung that did not heal is undone where it can be.
  - With O(state=finish) writes the report and a line of history.
  - Each action is remembered on the server before it is done (C(/var/lib/integr8scode/recovery)), so that a run that
    was killed is finished or undone by the next one. A connection that breaks does not end a rung half-way.
  - One recovery at a time on a server; a second one fails and says who is at work. A check waits for nobody.
options:
  state: {type: str, required: true, choices: [begin, step, finish], description: What to do.}
  run: {type: str, required: true, description: "A name for this run of the playbook, the same in all its steps."}
  by: {type: str, default: "", description: "Who does it, for the record."}
  host: {type: str, required: true, description: The server's name in the inventory.}
  node_ip:
    description: Address that the node shall have; empty takes flannel-iface's, else the default route's.
    type: str
    default: ""
  stable_seconds: {type: int, default: 60, description: How long k3s must run before it counts as healed.}
  timeout_seconds: {type: int, default: 120, description: How long a rung waits for k3s to come up.}
  only_rungs: {type: list, elements: str, default: [], description: Only these rungs and no others, whatever is wrong.}
  skip_rungs: {type: list, elements: str, default: [], description: Never these rungs.}
  delete_cluster:
    description: The server's name, to allow the deletion of its cluster where nothing else helps.
    type: str
    default: ""
  backup_directory: {type: path, default: /var/backups/integr8scode, description: Where backups are.}
  age_recipients: {type: list, elements: str, default: [], description: Encrypt the backup for these.}
  age_identity_file:
    description: File on the server with the identity that opens encrypted backups.
    type: path
    default: ""
  wait_seconds:
    description: How long to wait for another recovery on this server. With 0 O(state=begin) returns RV(locked) instead.
    type: int
    default: 30
  base: {type: path, default: /opt/integr8scode, description: "Where Integr8sCode is installed, with its history."}
  directory: {type: path, default: /var/lib/integr8scode/recovery, description: Where recoveries are remembered.}
  reconnect:
    description: For O(state=finish), what was done for the application C(renewed, restarted, verified, problem).
    type: dict
    default: {}
author: integr8scode-ansible
"""

EXAMPLES = r"""
- name: Begin
  k3s_recover:
    state: begin
    run: "{{ run }}"
    host: "{{ inventory_hostname }}"
  register: begun
"""

RETURN = r"""
healthy: {description: "begin: whether nothing is wrong.", type: bool, returned: for begin}
needed: {description: "begin: whether there are steps to take.", type: bool, returned: for begin}
told: {description: "begin: what has been done or would be, as sentences.", type: list, returned: for begin}
plan: {description: "begin: the rungs that would be tried, in order.", type: list, returned: for begin}
locked: {description: "begin: who else is at work here; empty when nobody is.", type: str, returned: always}
kubeconfigs: {description: "begin: whether the server has workers' kubeconfigs.", type: bool, returned: for begin}
rung: {description: "step: its name; empty when none was left.", type: str, returned: for step}
outcome: {description: "step: healed, kept, undone, failed, skipped.", type: str, returned: for step}
sentence: {description: "step: what happened.", type: str, returned: for step}
seconds: {description: "step: how long it took.", type: float, returned: for step}
done: {description: "step: whether the climb is over.", type: bool, returned: for step}
healed: {description: "step: whether k3s is well.", type: bool, returned: for step}
new_cluster: {description: "step: whether the cluster is not the one that it was.", type: bool, returned: for step}
report: {description: "The report; see the role's README.", type: dict, returned: for finish and a healthy begin}
sentences: {description: "finish: the report for people.", type: list, returned: for finish}
"""

import os
import signal
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.backups.k3s import create
from ansible.module_utils.backups.store import BackupError
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.history import append_history
from ansible.module_utils.k3s_recovery import opening, report
from ansible.module_utils.k3s_recovery import record as records
from ansible.module_utils.k3s_recovery.climb import Climb, ClimbError
from ansible.module_utils.k3s_recovery.diagnosis import LADDER
from ansible.module_utils.k3s_recovery.lock import Lock, LockedError
from ansible.module_utils.k3s_recovery.machine import Machine, Server
from ansible.module_utils.k3s_recovery.opening import RefusedError
from ansible.module_utils.k3s_recovery.record import RecordError
from ansible.module_utils.k3s_recovery.rungs.base import Settings
from ansible.module_utils.k3s_recovery.rungs.node_object import owed
from ansible.module_utils.k3s_recovery.verify import internal_addresses, see_node


def settings_of(parameters: dict[str, Any]) -> Settings:
    """What the person asked for. Raises RefusedError for a rung that does not exist, or another server's name."""
    unknown = sorted({*parameters["only_rungs"], *parameters["skip_rungs"]} - set(LADDER))
    if unknown:
        raise RefusedError(
            f"There is no rung {', '.join(unknown)}; there are {', '.join(LADDER)}. Nothing was changed."
        )
    return Settings(
        node_ip=parameters["node_ip"],
        stable_seconds=parameters["stable_seconds"],
        timeout_seconds=parameters["timeout_seconds"],
        only=tuple(parameters["only_rungs"]),
        skip=tuple(parameters["skip_rungs"]),
        allow_delete=opening.allowed_to_delete(
            parameters["delete_cluster"], inventory_hostname=parameters["host"], hostname=os.uname().nodename
        ),
    )


def begin(module: AnsibleModule, machine: Machine, _lock: Lock) -> dict[str, Any]:
    """Look, find what was killed, back up."""
    parameters = module.params
    directory = Path(parameters["backup_directory"])
    opened = opening.open_recovery(
        machine,
        Path(parameters["directory"]),
        settings_of(parameters),
        by=parameters["by"],
        make_backup=lambda: create(directory, reason="before recovery", recipients=parameters["age_recipients"]),
        check_mode=module.check_mode,
    )
    record, diagnosis = opened.record, opened.diagnosis
    needed = record is not None or bool(opened.plan) or not diagnosis.healthy
    result: dict[str, Any] = {
        "changed": needed,
        "healthy": diagnosis.healthy,
        "needed": needed,
        "told": opened.told,
        "plan": opened.plan,
        "kubeconfigs": (Path(parameters["base"]) / "kubeconfig").is_dir(),
    }
    if record is not None:
        result["told"] += opening.backup_sentences(record, machine.last_good(), machine.now())
    whose = {"host": parameters["host"], "by": parameters["by"], "now": machine.now()}
    if not needed:
        result["report"] = report.healthy(diagnosis, **whose)
    elif module.check_mode:
        result["told"].append(opening.plan_sentence(opened.plan))
        result["report"] = report.planned(diagnosis, opened.plan, **whose)
    return result


def step(module: AnsibleModule, machine: Machine, lock: Lock) -> dict[str, Any]:
    """One rung."""
    record = records.unfinished(Path(module.params["directory"]))
    if record is None:
        raise RecordError("There is no recovery to go on with: state=begin comes first.")
    climb = Climb(
        machine, record, settings_of(module.params), have_backup=machine.last_good() is not None, tell=lock.tell
    )
    outcome = climb.step()
    return {
        "changed": bool(outcome.rung) and outcome.state != "skipped",
        "rung": outcome.rung,
        "outcome": outcome.state,
        "sentence": outcome.sentence,
        "seconds": outcome.seconds,
        "done": outcome.done,
        "healed": outcome.healed,
        "new_cluster": any(entry.name in report.OTHER_CLUSTER and entry.state == "healed" for entry in record.rungs),
    }


def finish(module: AnsibleModule, machine: Machine, _lock: Lock) -> dict[str, Any]:
    """The report and the line of history."""
    parameters = module.params
    record = records.unfinished(Path(parameters["directory"]))
    if record is None:
        raise RecordError("There is no recovery to finish.")
    reconnect = parameters["reconnect"]
    name = record.before.get("node_name") or os.uname().nodename.lower()
    node = see_node(machine, name=name, address="")
    record.before["addresses_now"] = internal_addresses(node.body) if node.body else []
    healed = bool(reconnect.get("healed"))
    told = report.report(record, healed=healed, host=parameters["host"], now=machine.now(), reconnect=reconnect)
    report.write(record, told)
    base = Path(parameters["base"])
    if base.is_dir():
        append_history(base, report.history_entry(told, now=machine.now()))
    # what was cut off, and labels that are still owed to the node, keep it open: the next run sees to them
    if not owed(record) and not any(entry.unfinished for entry in record.rungs):
        record.state = "healed" if healed else "failed"
    record.save()
    return {"changed": True, "report": told, "sentences": report.sentences(told)}


def main() -> None:
    """Entry point of the module."""
    # a connection that breaks must not end a rung half-way; nothing is written before the end
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    strings = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "required": True, "choices": ["begin", "step", "finish"]},
            "run": {"type": "str", "required": True},
            "by": {"type": "str", "default": ""},
            "host": {"type": "str", "required": True},
            "node_ip": {"type": "str", "default": ""},
            "stable_seconds": {"type": "int", "default": 60},
            "timeout_seconds": {"type": "int", "default": 120},
            "only_rungs": strings,
            "skip_rungs": strings,
            "delete_cluster": {"type": "str", "default": ""},
            "backup_directory": {"type": "path", "default": "/var/backups/integr8scode"},
            "age_recipients": strings,
            "age_identity_file": {"type": "path", "default": ""},
            "wait_seconds": {"type": "int", "default": 30},
            "base": {"type": "path", "default": "/opt/integr8scode"},
            "directory": {"type": "path", "default": str(records.DIRECTORY)},
            "reconnect": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    if module.check_mode and parameters["state"] != "begin":
        module.exit_json(changed=False, skipped=True, msg="A check stops after the plan.")
    machine = Server(backups=parameters["backup_directory"], identity=parameters["age_identity_file"])
    actions = {"begin": begin, "step": step, "finish": finish}
    started = time.monotonic()
    lock = Lock(parameters["run"], by=parameters["by"], wait_seconds=parameters["wait_seconds"])
    try:
        if module.check_mode:
            others = lock.others()
            result = begin(module, machine, lock)
            result["told"] = [one for one in (others, *result["told"]) if one]
        else:
            with lock:
                lock.tell(parameters["state"])
                # a run that cannot even begin has no next step, as one that is over
                over = parameters["state"] != "step"
                try:
                    result = actions[parameters["state"]](module, machine, lock)
                    over = parameters["state"] == "finish" or not result.get("needed", True)
                finally:
                    if over:
                        lock.release()
        result["locked"] = ""
    except LockedError as error:
        if parameters["wait_seconds"] == 0 and parameters["state"] == "begin":
            module.exit_json(changed=False, locked=str(error), needed=False)
        module.fail_json(msg=str(error))
    except (RefusedError, RecordError, BackupError, ClimbError, OSError) as error:
        module.fail_json(msg=str(error), seconds=round(time.monotonic() - started, 1))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
