#!/usr/bin/python
"""Take, renew, read or give back the lock of a deploy, a rollback or a restore."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_lock
short_description: Take, renew, read or give back the lock of a deploy, a rollback or a restore
description:
  - One deploy, rollback or restore at a time works on a server; C(<base>/lock/owner.json) says which. A lock whose run
    is over is recognised and replaced.
  - Runs through an action plugin of the same name, which adds who the controller is, and whether the process of a
    holder on the same controller still lives.
  - Who takes the lock also writes the line into the history that a switch before it could not write, since it was
    killed when its release served already.
  - Never C(changed), since the lock is no part of what the server is to look like.
options:
  state:
    description:
      - C(held) takes the lock or renews it, and fails while another run may live.
      - C(renewed) only says that the run lives, and fails where the lock is no longer its own. Does nothing in check
        mode, which has taken none.
      - C(released) gives it back where O(run) holds it, unless the server switches at this moment, which gives it back
        itself, or replaces its data for a restore; with O(force) it removes any.
      - C(read) only says who holds it.
    type: str
    choices: [held, renewed, released, read]
    default: held
  base:
    description: Where Integr8sCode is installed.
    type: path
    default: /opt/integr8scode
  run:
    description: The run's own name. Needed unless O(state=read) or O(force).
    type: str
    default: ""
  action:
    description: What the run does, C(deploy), C(rollback) or C(restore).
    type: str
    default: ""
  what:
    description: What it brings, a tag, a release or backups.
    type: str
    default: ""
  by:
    description: Who runs it.
    type: str
    default: ""
  lease_seconds:
    description: After so long without a word of its controller, a run that was preparing counts as over.
    type: int
    default: 1800
  force:
    description: With O(state=released), remove the lock whoever holds it.
    type: bool
    default: false
  controller:
    description: Who asks; the action plugin fills it in.
    type: dict
    default: {}
  gone_run:
    description: A run whose process on the asking controller has ended; the action plugin fills it in.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: Takes and removes nothing, and fails where a run would be refused.
"""

EXAMPLES = r"""
- name: Lock the server
  release_lock:
    run: 20261129T080000Z-1a2b3c
    action: deploy
    what: 2026.2.20
    by: ops@desk

- name: Give it back
  release_lock:
    state: released
    run: 20261129T080000Z-1a2b3c
"""

RETURN = r"""
owner:
  description: Who holds the lock after the task, or null.
  type: dict
  returned: always
replaced:
  description: The holder whose run was over and whose lock was taken (in check mode, would be), or null.
  type: dict
  returned: always
recorded:
  description: Whose line was missing in the history and is written now, as a sentence, or an empty text.
  type: str
  returned: always
released:
  description: Whether a lock was given back or removed (in check mode, would be removed).
  type: bool
  returned: always
stale:
  description: Why the holder's run is over, or an empty text.
  type: str
  returned: when O(state=read) and somebody holds it
description:
  description: The holder in one sentence, or an empty text.
  type: str
  returned: always
locked:
  description: True where the task failed because another run holds the lock.
  type: bool
  returned: failure
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.releases import lock
from ansible.module_utils.releases.late import complete_history
from ansible.module_utils.releases.layout import RUNS


def _described(owner: lock.Owner | None) -> dict[str, Any]:
    return {"owner": owner.to_dict() if owner else None, "description": owner.describe() if owner else ""}


def held(parameters: dict[str, Any], check: bool) -> dict[str, Any]:
    """Take or renew the lock. Raises LockedError, OSError."""
    base = Path(parameters["base"])
    owner = lock.Owner(
        **{name: parameters[name] for name in ("run", "action", "what", "by")}, controller=parameters["controller"]
    )
    terms = {"lease_seconds": float(parameters["lease_seconds"]), "gone_run": parameters["gone_run"]}
    recorded = ""
    if check:
        replaced = lock.in_the_way(base, owner.run, unit_active=lock.switch_active, **terms)
    else:
        replaced = lock.take(base, owner, unit_active=lock.switch_active, **terms)
        try:
            recorded = complete_history(base, RUNS, owner.run)
        except OSError as error:
            # of the past: it must not keep anybody from working
            recorded = f"a line that the history lacks could not be written: {error}"
    answer = _described(lock.read_owner(base))
    return {**answer, "replaced": replaced.to_dict() if replaced else None, "recorded": recorded}


def renewed(parameters: dict[str, Any], check: bool) -> dict[str, Any]:
    """Say that the run lives. Raises LockedError, OSError."""
    base = Path(parameters["base"])
    if not check:
        lock.beat(base, parameters["run"])
    return _described(lock.read_owner(base))


def give_back(base: Path, run: str) -> bool:
    """Give the lock back unless the server works on without its controller. Raises LockedError, OSError."""
    owner = lock.read_owner(base)
    if owner is None or (owner.phase == lock.SWITCHING and lock.switch_active()):
        return False
    if owner.phase == lock.RESTORING and lock.restore_active(base):
        return False
    return lock.release(base, run)


def released(parameters: dict[str, Any], check: bool) -> dict[str, Any]:
    """Give the lock back, or remove it. Raises LockedError, OSError."""
    base = Path(parameters["base"])
    if check:
        # a run that only checks has taken none, so it is a person's removal that would be a change
        done = bool(parameters["force"]) and lock.owner_path(base).exists()
    else:
        done = lock.remove(base) if parameters["force"] else give_back(base, parameters["run"])
    return {**(_described(None) if done else _described(lock.read_owner(base))), "released": done}


def read(parameters: dict[str, Any]) -> dict[str, Any]:
    """Who holds the lock, and whether its run is over. Raises LockedError, OSError."""
    base = Path(parameters["base"])
    owner = lock.read_owner(base)
    stale = ""
    if owner is not None:
        stale = lock.why_stale(
            owner,
            lease_seconds=float(parameters["lease_seconds"]),
            unit_active=lock.switch_active,
            restore_at_work=lambda: lock.restore_active(base),
            gone_run=parameters["gone_run"],
        )
    return {**_described(owner), "stale": stale}


def _told(state: str, problem: str) -> str:
    """A problem as this task may tell it: once a run is at work, only it knows what was changed."""
    return problem.removeprefix("Nothing was changed. ") if state in ("renewed", "released") else problem


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["held", "renewed", "released", "read"], "default": "held"},
            "base": {"type": "path", "default": "/opt/integr8scode"},
            "run": {"type": "str", "default": ""},
            "action": {"type": "str", "default": ""},
            "what": {"type": "str", "default": ""},
            "by": {"type": "str", "default": ""},
            "lease_seconds": {"type": "int", "default": 1800},
            "force": {"type": "bool", "default": False},
            "controller": {"type": "dict", "default": {}},
            "gone_run": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    state = parameters["state"]
    if not parameters["run"] and (state in ("held", "renewed") or (state == "released" and not parameters["force"])):
        module.fail_json(msg=f"run is missing: a lock is {state} by a run's name")
    base = Path(parameters["base"])
    answer: dict[str, Any] = {"replaced": None, "recorded": "", "released": False}
    try:
        if state == "held":
            answer.update(held(parameters, module.check_mode))
        elif state == "renewed":
            answer.update(renewed(parameters, module.check_mode))
        elif state == "released":
            answer.update(released(parameters, module.check_mode))
        else:
            answer.update(read(parameters))
    except lock.LockedError as error:
        try:
            owner = lock.read_owner(base)
        except (lock.LockedError, OSError):
            owner = None
        module.fail_json(msg=_told(state, str(error)), locked=True, **{**answer, **_described(owner)})
    except OSError as error:
        problem = f"Nothing was changed. The lock below {base} cannot be read or written: {error}"
        module.fail_json(msg=_told(state, problem))
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()
