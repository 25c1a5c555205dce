"""Runs the module k3s_images, and brings it what only the controller has: archives that the server lacks."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

# on servers Ansible adds the project's folder to ansible.module_utils, here not
_carried = runpy.run_path(str(Path(__file__).parents[1] / "module_utils" / "k3s_carried.py"))


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible itself is not typed
    """The action as Ansible loads it."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask what is missing, bring it, and have it laid down."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        images = [dict(image) for image in arguments["images"]]
        try:
            for image in images:
                if image.get("file"):
                    lists = os.path.join(os.path.dirname(image["file"]), f"sha256sum-{arguments['architecture']}.txt")
                    image["sha256"] = _carried["checked"](image["file"], str(image.get("sha256", "")), lists)
        except (ValueError, OSError) as error:
            return {"failed": True, "changed": False, "msg": str(error)}
        arguments["images"] = images
        answer: dict[str, Any] = self._execute_module("k3s_images", module_args=arguments, task_vars=task_vars)
        missing = answer.get("missing") or []
        if answer.get("failed") or not missing or self._task.check_mode:
            return answer
        folder = self._make_tmp_path()
        try:
            for image in images:
                if image["name"] in missing:
                    self._transfer_file(image["file"], self._connection._shell.join_path(folder, image["name"]))
            done: dict[str, Any] = self._execute_module(
                "k3s_images", module_args={**arguments, "incoming": folder.rstrip("/")}, task_vars=task_vars
            )
        finally:
            self._remove_tmp_path(folder)
        return done
