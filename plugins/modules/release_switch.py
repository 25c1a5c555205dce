#!/usr/bin/python
"""Bring the stack to a release: say what would be done, start it, and hear how it goes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_switch
short_description: Bring the stack to a release, without a failed request and back by itself
description:
  - Used as a task it is the action plugin of the same name, which starts the switch on the server and follows it.
  - The switch itself is the unit C(integr8scode-switch.service) on the server. It goes on when the controller or the
    connection is lost, verifies what it did, and puts the former release back when the new one is no good.
  - Started again by the same run, as ssh does it after a broken connection, it goes on with what was started.
  - Where every container is what the release says, runs and is healthy, nothing is started and nothing changed but that
    the run's lock is given back, as a switch does at its end.
  - In check mode says what would be done.
options:
  state:
    type: str
    choices: [started, followed]
    default: started
    description: C(followed) goes on with a switch that was started.
  base: {type: path, default: /opt/integr8scode, description: Where Integr8sCode is installed.}
  run: {type: str, required: true, description: "Name of this run of the playbook, which holds the lock."}
  release: {type: str, default: "", description: Id of the release to get to.}
  action: {type: str, default: deploy, description: "What the history calls it, C(deploy) or C(rollback)."}
  by: {type: str, default: "", description: Who does it.}
  controller: {type: str, default: "", description: From where.}
  started_at: {type: float, default: 0, description: "When the run began, seconds since 1970; 0 for now."}
  settings: {type: dict, default: {}, description: "How; see Settings in module_utils/releases/job.py."}
  follow_seconds:
    type: float
    default: 0
    description:
      - How long a task follows the switch before it ends with C(done) false, so that the play can do something in
        between and go on with C(state=followed) and C(after); 0 for to its end.
  after: {type: int, default: 0, description: "followed: byte of the record to go on from."}
  wait_seconds: {type: float, default: 15, description: "followed: how long to wait for news."}
attributes:
  check_mode: {support: full}
  diff_mode: {support: full, description: Shows what would be done.}
author: integr8scode-ansible
"""

EXAMPLES = r"""
- name: Switch to the release
  release_switch:
    run: "{{ run }}"
    release: "{{ release.id }}"
  register: switched
"""

RETURN = r"""
result: {description: "ok, unchanged, refused, rolled_back, removed or failed.", type: str, returned: at the end}
release: {description: Id of the release that serves now; empty for none., type: str, returned: at the end}
sentences: {description: The whole for people., type: list, returned: at the end}
cause: {description: "What went wrong, with the last lines of who failed.", type: str, returned: at the end}
lost: {description: Ids of executions that were cut off., type: list, returned: at the end}
seconds: {description: How long the switch took., type: float, returned: at the end}
plan:
  description: "started: what is (in check mode, would be) done; empty where this run has started it before."
  type: list
  returned: for started
lines: {description: "followed: what was said since.", type: list, returned: for followed}
after: {description: "followed: byte to go on from.", type: int, returned: where done is false}
done: {description: Whether it is at its end., type: bool, returned: always}
given_back:
  description: Name of the run, where it holds the lock no more; empty where it may hold it.
  type: str
  returned: at a good end
"""

import json
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.integr8scode_docker import EngineUnavailableError
from ansible.module_utils.releases import journal, lock
from ansible.module_utils.releases.compose import ComposeError
from ansible.module_utils.releases.containers import Snapshot
from ansible.module_utils.releases.edge import EdgeError
from ansible.module_utils.releases.fitting import RefusedError, refuse_misfit
from ansible.module_utils.releases.job import Job
from ansible.module_utils.releases.journal import Journal
from ansible.module_utils.releases.layout import RUNS, UNIT, Layout, UnknownReleaseError
from ansible.module_utils.releases.move import Move
from ansible.module_utils.releases.verify import VerificationError, Verifier

PROGRAM = "/usr/local/sbin/integr8scode-release"
GATHER_SECONDS = 2.0
"""News is told together: each answer costs both machines a start of Python, on the server beside what is starting."""
ACTIVE_SECONDS = 2.0
"""How often systemd is asked whether the unit still works; the record, which is cheap to read, is read more often."""
QUICK_SECONDS = 5.0
"""How long what runs already may take to prove that it is well, before a whole switch looks at it."""

GOOD = ("ok", "unchanged")


def plan(move: Move) -> tuple[list[str], bool]:
    """What would be done, and whether what runs is well. Raises ComposeError, EdgeError, OSError."""
    said = move.plan()
    if said:
        return said, False
    verifier = Verifier(move.stack, move.edge, move.hashes, time.monotonic() + QUICK_SECONDS)
    if (wrong := verifier.problem()) is not None:
        return [f"{wrong[0]}: waiting until it is well"], False
    try:
        verifier.edge_serves_these()
        verifier.ask_edge(move.outside())
    except (EdgeError, VerificationError) as error:
        return [str(error)], False
    return [], True


def start(run: str) -> None:
    """Start the unit. Raises OSError with what systemd said, subprocess.TimeoutExpired where it says nothing."""
    command = [
        "systemd-run", f"--unit={UNIT}", "--collect", "--quiet", "--service-type=exec",
        f"--description=Integr8sCode: switch of releases, run {run}",
        # a shutdown asks it to end at once: the next run finishes what it left
        "--property=TimeoutStopSec=10", "--property=Environment=PYTHONUNBUFFERED=1",
        PROGRAM, "switch", run,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise OSError(f"the unit {UNIT} cannot be started: {done.stderr.strip()}")


def works_for(run: str) -> bool:
    """Whether the unit that is there is this run's; False where systemd does not say."""
    command = ["systemctl", "show", "--property=Description", "--value", UNIT]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and answer.stdout.split()[-1:] == [run]


def begun(job: Job) -> bool:
    """Whether this job was started before: ssh does a task again whose connection breaks.

    A former switch of the same run, which has ended and after which the run has taken the lock again, does not count.

    :raises LockedError: the lock's file cannot be understood.
    :raises OSError: it cannot be read.
    """
    folder = RUNS / job.run
    try:
        written = Job.from_dict(json.loads((folder / "job.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False
    if (written.release, written.action, written.base) != (job.release, job.action, job.base):
        return False
    # the owner first: a switch that has ended since has given the lock back and then written its result
    owner = lock.read_owner(Path(job.base))
    if owner is not None and owner.run != job.run:
        return False
    if lock.switch_active():
        return True
    ended = (folder / "result.json").exists()
    return ended and (owner is None or owner.phase == lock.SWITCHING)


def given_back(base: Path, run: str) -> str:
    """The run's name where it holds no lock, by a look at the server; "" where it does or nobody can say."""
    try:
        owner = lock.read_owner(base)
    except (lock.LockedError, OSError):
        return ""
    return "" if owner is not None and owner.run == run else run


def give_back(base: Path, run: str) -> str:
    """Give the run's lock back; see `given_back`."""
    with suppress(lock.LockedError, OSError):
        # who could not is told by the task that gives back what is left
        lock.release(base, run)
    return given_back(base, run)


def started(module: AnsibleModule) -> dict[str, Any]:
    """State ``started``; the module's result."""
    params = module.params
    settings = {name: value for name, value in params["settings"].items() if value is not None}
    job = Job.from_dict(
        {
            "settings": settings,
            "started_at": params["started_at"] or time.time(),
            **{name: params[name] for name in ("run", "action", "release", "by", "controller", "base")},
        }
    )
    layout = Layout(Path(job.base))
    if not module.check_mode and begun(job):
        return {"changed": True, "done": False, "plan": []}
    if problem := layout.current_problem():
        raise ValueError(problem)
    target = layout.release(job.release)
    move = Move(target, layout, Snapshot(), job.settings, Journal(RUNS / job.run))
    said, well = plan(move)
    diff = {"before": "", "after": "".join(f"{line}\n" for line in said), "after_header": "what the switch does"}
    if well:
        look = given_back if module.check_mode else give_back
        sentences = [f"Release {target.id} serves already."]
        return {
            "changed": False,
            "done": True,
            "result": "unchanged",
            "release": target.id,
            "sentences": sentences,
            "plan": [],
            "given_back": look(layout.base, job.run),
        }
    # the switch itself looks once more
    refuse_misfit(target, layout, move.stack)
    if module.check_mode:
        return {"changed": True, "done": True, "plan": said, "sentences": said, "diff": diff}
    lock.beat(layout.base, job.run)
    folder = journal.prepare(RUNS, job.run, job.to_dict())
    try:
        start(job.run)
    except subprocess.TimeoutExpired as error:
        # systemd may still do it: what the unit reads has to stay
        module.fail_json(
            changed=True,
            msg=f"Whether the switch has begun is not known: systemd has not answered for {error.timeout:g} s. Nothing "
            "else was changed by this step. playbooks/status.yml says what runs; see `systemctl status` on the server.",
        )
    except OSError:
        if works_for(job.run):
            # a second copy of this task was quicker
            return {"changed": True, "done": False, "plan": said, "diff": diff}
        journal.remove(folder)
        raise
    return {"changed": True, "done": False, "plan": said, "diff": diff}


def followed(params: dict[str, Any]) -> dict[str, Any]:
    """State ``followed``; the module's result. Raises OSError."""
    folder = RUNS / params["run"]
    began = time.monotonic()
    after = params["after"]
    lines: list[dict[str, Any]] = []
    asked, active = began, lock.switch_active()
    while True:
        if time.monotonic() - asked > ACTIVE_SECONDS:
            # before the record is read: a unit that has ended has written all
            asked, active = time.monotonic(), lock.switch_active()
        more, after, outcome = journal.read(folder, after)
        lines += more
        if outcome is not None:
            changed = outcome["result"] not in ("unchanged", "refused")
            ended = {"changed": changed, "done": True, "lines": lines, **outcome}
            if outcome["result"] in GOOD:
                ended["given_back"] = given_back(Path(params["base"]), params["run"])
            return ended
        if not active:
            sentences = [
                "The switch has ended without a word: it was killed, or the server was started again.",
                "Run the same command again: it finishes what is left.",
            ]
            return {
                "changed": True,
                "done": True,
                "lines": lines,
                "result": "failed",
                "release": "",
                "sentences": sentences,
            }
        waited = time.monotonic() - began
        if waited > (GATHER_SECONDS if lines else params["wait_seconds"]):
            return {"changed": False, "done": False, "lines": lines, "after": after}
        time.sleep(0.3)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["started", "followed"], "default": "started"},
            "base": {"type": "path", "default": "/opt/integr8scode"},
            "run": {"type": "str", "required": True},
            "release": {"type": "str", "default": ""},
            "action": {"type": "str", "default": "deploy"},
            "by": {"type": "str", "default": ""},
            "controller": {"type": "str", "default": ""},
            "started_at": {"type": "float", "default": 0},
            "settings": {"type": "dict", "default": {}},
            "after": {"type": "int", "default": 0},
            "follow_seconds": {"type": "float", "default": 0},
            "wait_seconds": {"type": "float", "default": 15},
        },
        supports_check_mode=True,
    )
    try:
        answer = started(module) if module.params["state"] == "started" else followed(module.params)
    except (
        ComposeError,
        EdgeError,
        EngineUnavailableError,
        RefusedError,
        UnknownReleaseError,
        lock.LockedError,
        OSError,
        ValueError,
    ) as error:
        module.fail_json(msg=f"Nothing was changed by this step. {error}")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
