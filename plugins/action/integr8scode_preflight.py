"""Looks at a server once and refuses with everything that is in the way of a run, each with its cure.

`look`: arguments of the module integr8scode_state, whose answer is the result. `needs`: what causes_machine.py and
causes_stack.py judge by, and `registries`, `k3s_host`, `tag_named`, which tell the names that the run has to find.
`secrets`, `settings`: problems of the inventory's secrets and of what else it says, sentences; `notes`: what of it is
worth a word and stops nothing. `k3s_token`: the token that k3s shall have. `mongo_login`: `username` and `password`
that MongoDB shall have. `registry_login`: logins for the images of `look`. `skip`: checks whose causes are told and do
not stop the run. `inventory`: what `-i` names, for the commands that cure.

Where no module can run, since Python, sudo or its password is missing, a shell is asked what that can tell.
"""

from __future__ import annotations

import runpy
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

# also where servers have it; Ansible adds the project's folder to ansible.module_utils there alone
_FOLDER = Path(__file__).parents[1] / "module_utils" / "preflight"
_machine = runpy.run_path(str(_FOLDER / "causes_machine.py"))
_stack = runpy.run_path(str(_FOLDER / "causes_stack.py"))
_contact = runpy.run_path(str(_FOLDER / "contact.py"))

PLACES = {"docker": "/var/lib/docker", "k3s": "/var/lib/rancher", "var": "/var"}
CHECKS = frozenset(
    {
        "system", "processor", "systemd", "memory", "disk", "read_only", "inodes", "clock", "dns", "cgroup", "kernel",
        "open_files", "dpkg", "apt_lock", "other_software", "k3s", "port",
    }
)  # fmt: skip
"""What may be skipped: what a person may know better. Not what would take another's data, or could not work at all."""


def names_to_find(state: Mapping[str, Any], needs: Mapping[str, Any]) -> list[str]:
    """The names that this run downloads from: what runs already needs none."""
    found = list(needs.get("registries", ())) if needs.get("tag_named") or not state.get("release") else []
    k3s = state.get("server", {}).get("k3s")
    if k3s and needs.get("k3s_host") and k3s["installed_version"] != needs.get("k3s_version"):
        found.append(needs["k3s_host"])
    return found


def image_causes(state: Mapping[str, Any]) -> list[dict[str, str]]:
    """Why an image of the release cannot be had."""
    problem = str((state.get("images") or {}).get("problem") or "")
    return [{"check": "images", "found": problem, "why": "", "cure": ""}] if problem else []


def told(cause: Mapping[str, str]) -> str:
    """A cause in one line."""
    cure = cause["cure"]
    parts = [f"{cause['check']}: {cause['found']}", cause["why"], f"Cure: {cure}" if cure else ""]
    return " ".join(filter(None, parts))


def _login(arguments: Mapping[str, Any]) -> dict[str, str]:
    """MongoDB's login as the module takes it: its own arguments, since only those are kept out of logs."""
    given = arguments.get("mongo_login") or {}
    return {f"mongo_root_{name}": str(given[name]) for name in ("username", "password") if given.get(name)}


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible itself is not typed
    """The action as Ansible loads it."""

    _supports_check_mode = True
    _requires_connection = True
    _VALID_ARGS = frozenset(
        {
            "look",
            "needs",
            "secrets",
            "settings",
            "notes",
            "k3s_token",
            "mongo_login",
            "registry_login",
            "skip",
            "inventory",
        }
    )

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look; fail with all causes, or return what was seen."""
        super().run(tmp, task_vars)
        arguments, host = self._task.args, str((task_vars or {}).get("inventory_hostname", ""))
        skip = arguments.get("skip") or ()
        # a text where it comes from the command line
        skip = set(filter(None, map(str.strip, skip.split(",")))) if isinstance(skip, str) else set(skip)
        if skip - CHECKS:
            message = f"integr8scode_skip_checks: there is no {', '.join(sorted(skip - CHECKS))}, only "
            return {"failed": True, "msg": f"{message}{', '.join(sorted(CHECKS))}. Nothing was changed."}
        state, found, notes = self._ask(host, arguments, task_vars or {})
        told_before = [("secret", one) for one in arguments.get("secrets", ())]
        told_before += [("setting", one) for one in arguments.get("settings", ())]
        found = [{"check": check, "found": one, "why": "", "cure": ""} for check, one in told_before] + found
        notes = [*arguments.get("notes", ()), *notes]
        notes += [f"told to go on all the same, {told(one)}" for one in found if one["check"] in skip]
        for note in notes:
            self._display.warning(f"{host}: {note}")
        found = [one for one in found if one["check"] not in skip]
        if any(one["check"] == "dns" for one in found):
            # a registry without an address is told once
            found = [one for one in found if one["check"] != "images"]
        if not found:
            return state
        lines = [f"{number}. {told(one)}" for number, one in enumerate(found, 1)]
        count = f"{len(found)} causes" if len(found) > 1 else "One cause"
        report = [f"{host}: {count} to see to before anything can be done.", *lines, "Nothing was changed."]
        # not `failed`: Ansible's own exit code tells a server that is away from one that is ill
        kind = "unreachable" if state.get("unreachable") else "failed"
        return {kind: True, "changed": False, "msg": report}

    def _ask(
        self, host: str, arguments: Mapping[str, Any], task_vars: dict[str, Any]
    ) -> tuple[dict[str, Any], list[dict[str, str]], list[str]]:
        """What the server said, its causes, and notes."""
        look = {**arguments["look"], "k3s_token": arguments.get("k3s_token") or None, **_login(arguments)}
        if look.get("images"):
            look["registry_login"] = arguments.get("registry_login") or []
        needs = arguments["needs"]
        before = time.time()
        try:
            state = self._execute_module(module_name="integr8scode_state", module_args=look, task_vars=task_vars)
        except AnsibleConnectionFailure as error:
            if "privilege escalation" not in str(error):
                return self._away(host, str(error))
            state = {"failed": True, "msg": str(error)}
        except AnsibleError as error:
            # sudo's password is missing, or wrong
            state = {"failed": True, "msg": str(error)}
        if state.get("unreachable"):
            return self._away(host, str(state.get("msg", "")))
        if state.get("failed"):
            return self._without_modules(host, state, needs, task_vars)
        facts = {**state, **state.get("server", {}), "time": state["time"], "asked": (before, time.time())}
        judged = _machine["causes"](facts, {**needs, "names": names_to_find(state, needs)})
        return state, [*_stack["causes"](state, needs), *judged, *image_causes(state)], _machine["notes"](facts)

    def _away(self, host: str, words: str) -> tuple[dict[str, Any], list[dict[str, str]], list[str]]:
        # the connection's, which may be another than the host's name
        address, port = (getattr(self._play_context, name, None) or "" for name in ("remote_addr", "port"))
        cause = _contact["away"](host, self._inventory(), words, str(address), str(port))
        return {"unreachable": True}, [cause], []

    def _without_modules(
        self, host: str, answer: Mapping[str, Any], needs: Mapping[str, Any], task_vars: dict[str, Any]
    ) -> tuple[dict[str, Any], list[dict[str, str]], list[str]]:
        """What a shell tells of a server where the module did not run or did not end well."""
        words = " ".join(str(answer.get("module_stderr") or answer.get("msg") or "no word").split())[-600:]
        if "invocation" in answer:
            # the module did run, and says what is wrong
            return {}, [{"check": "server", "found": words, "why": "", "cure": ""}], []
        python = str(task_vars.get("ansible_python_interpreter"))
        # auto and its like are no paths
        python = python if python.startswith("/") else "/usr/bin/python3"
        places = {"base": str(self._task.args["look"]["base"]), **PLACES}
        before = time.time()
        try:
            done = self._low_level_execute_command(_contact["script"](python, places), sudoable=False)
        except AnsibleConnectionFailure as error:
            return self._away(host, str(error))
        said = _contact["parse"](str(done.get("stdout", "")))
        if said is None:
            words = f"{words}; and a shell says: {' '.join(str(done.get('stderr', '')).split())[-300:]}"
            said = {"has": set(), "rooms": {}, "python": "3.99", "uid": "0"}
            return {}, _contact["causes"](said, host, self._inventory(), words, False), []
        facts = {**_contact["facts"](said), "asked": (before, time.time())}
        found = _contact["causes"](said, host, self._inventory(), words, self._has_password())
        return {}, [*found, *_machine["causes"](facts, {**needs, "names": []})], []

    def _has_password(self) -> bool:
        become = self._connection.become
        return bool(become and become.get_option("become_pass", playcontext=self._play_context))

    def _inventory(self) -> str:
        """The options that name the inventory."""
        return "".join(f" -i {shlex.quote(str(one))}" for one in self._task.args.get("inventory") or ())
