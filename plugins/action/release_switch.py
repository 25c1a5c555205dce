"""Starts the switch of releases on the server and shows how it goes, whatever happens to the connection meanwhile."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

SILENCE_SECONDS = 600.0
"""How long a server may be out of reach before this run gives up on hearing from it. The switch goes on there."""
PAUSE_SECONDS = 3.0


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible itself is not typed
    """The action as Ansible loads it."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Start and follow; fails when the release that was asked for does not serve at the end."""
        super().run(tmp, task_vars)
        host = str((task_vars or {}).get("inventory_hostname", ""))
        if self._task.args.get("state") == "followed":
            return self._follow(host, task_vars, {}, int(self._task.args.get("after", 0)))
        try:
            answer = self._ask(task_vars, state="started")
        except AnsibleConnectionFailure as error:
            # failed, not unreachable: no rescue runs for a server that is, and the others would stay locked
            return self._lost(host, "while the switch was being started", str(error))
        if answer.get("failed") or answer.get("done") or answer.get("unreachable"):
            return answer
        started = {name: answer[name] for name in ("plan", "diff") if answer.get(name)}
        self._display.display(
            f"  {host} works by itself from here on: Ctrl-C does not stop the switch; "
            "playbooks/status.yml says what runs."
        )
        return self._follow(host, task_vars, started, 0)

    def _follow(
        self, host: str, task_vars: dict[str, Any] | None, started: dict[str, Any], after: int
    ) -> dict[str, Any]:
        """Follow to the end, or for as long as the task shall; ``started`` stands in the result too."""
        limit = float(self._task.args.get("follow_seconds", 0))
        began = heard = time.monotonic()
        while True:
            try:
                answer = self._ask(task_vars, state="followed", after=after)
            except AnsibleConnectionFailure as error:
                answer = {"unreachable": True, "msg": str(error)}
            if answer.get("unreachable"):
                if time.monotonic() - heard > SILENCE_SECONDS:
                    return self._lost(host, f"for {SILENCE_SECONDS:.0f} s", str(answer.get("msg", "")))
                # another connection next time
                self._connection.reset()
                time.sleep(PAUSE_SECONDS)
                continue
            if answer.get("failed"):
                return {**answer, "changed": True}
            heard = time.monotonic()
            self._show(host, answer["lines"])
            if answer["done"]:
                return self._ended(answer, started)
            after = answer["after"]
            # only while it answers: the time out of reach is counted in one piece
            if limit and heard - began >= limit:
                return {"changed": True, "done": False, "after": after, **started}

    def _ask(self, task_vars: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_name="release_switch", module_args={**self._task.args, **more}, task_vars=task_vars
        )
        return answer

    def _show(self, host: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            text = line["text"] if line["state"] != "done" else f"done, {line['text']}"
            self._display.display(f"  {host} {line['seconds']:6.1f} s  {line['step']:<16} {text}")

    def _ended(self, answer: dict[str, Any], started: dict[str, Any]) -> dict[str, Any]:
        result = {name: value for name, value in answer.items() if name not in ("lines", "after", "done")}
        result.update(started)
        if answer["result"] not in ("ok", "unchanged"):
            result.update(failed=True, msg="\n".join(answer["sentences"]))
        return result

    def _lost(self, host: str, when: str, error: str) -> dict[str, Any]:
        message = (
            f"{host} has been out of reach {when}: {error}. A switch that was started goes on there, verifies what it "
            "did, and puts the former release back if it must. See `journalctl -u integr8scode-switch` on the server "
            "or playbooks/status.yml; run the same command again when it answers."
        )
        return {"failed": True, "changed": not self._task.check_mode, "msg": message}
