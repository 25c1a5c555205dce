"""Runs the module k3s_binary; where the releases are a folder of the controller, it brings the file that is lacking."""

from __future__ import annotations

import hashlib
import os
import runpy
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

# on servers Ansible adds the project's folder to ansible.module_utils, here not
_carried = runpy.run_path(str(Path(__file__).parents[1] / "module_utils" / "k3s_carried.py"))
BINARY = "/usr/local/bin/k3s"
SUFFIXES = {"amd64": "", "arm64": "-arm64"}


def sha1(path: str) -> str:
    """What Ansible compares files by."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible itself is not typed
    """The action as Ansible loads it."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module, with a file brought along where it needs one."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        path = ""
        if "://" not in arguments["release_url"]:
            architecture = arguments["architecture"]
            release = Path(arguments["release_url"]).expanduser() / arguments["version"]
            path = str(release / f"k3s{SUFFIXES[architecture]}")
            lists = str(release / f"sha256sum-{architecture}.txt")
            try:
                pin = str(arguments.get("checksum") or "")
                arguments["checksum"] = _carried["checked"](path, pin, lists, always=True)
            except (ValueError, OSError) as error:
                return {"failed": True, "changed": False, "msg": str(error)}
            found = self._execute_remote_stat(BINARY, all_vars=task_vars, follow=True, checksum=True)
            if found.get("checksum") == sha1(path) or self._task.check_mode:
                path = ""
        if not path:
            return self._module(arguments, task_vars)
        folder = self._make_tmp_path()
        try:
            arguments["file"] = self._transfer_file(
                path, self._connection._shell.join_path(folder, os.path.basename(path))
            )
            return self._module(arguments, task_vars)
        finally:
            self._remove_tmp_path(folder)

    def _module(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module("k3s_binary", module_args=arguments, task_vars=task_vars)
        return answer
