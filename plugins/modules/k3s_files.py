#!/usr/bin/python
"""Ansible module: k3s' files, all in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_files
short_description: Write the files of k3s
description:
  - Writes each file whose content, owner or mode differs, in one step. A file that k3s or systemd reads at its start is
    marked as waiting for a restart (C(/run/k3s-restart.pending)), so that an interrupted run is made up for.
  - Files with secrets are options of their own, since Ansible does not recognise a secret inside a list when it logs a
    module's call. Their diff says only that they changed.
  - Loads kernel modules and applies settings only where this server has a kernel of its own.
options:
  files:
    description: The files.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {type: path, required: true, description: Where.}
      content: {type: str, required: true, description: What; no secret.}
      mode: {type: str, required: true, description: "Octal, as in '0600'; owner and group are root."}
      role: {type: str, default: restart, choices: [restart, modules, sysctl],
             description: What makes it count}
  folders:
    description: Folders that hold nothing but O(files); other files in them are removed, and an empty one, too.
    type: list
    elements: path
    default: []
  token: {type: str, required: true, description: "The cluster's token, written for root alone."}
  token_path: {type: path, default: /etc/rancher/k3s/token, description: Where the token goes.}
  registries:
    description:
      - Text of registries.yaml, for root alone, since it may hold logins. Empty removes the file where this project
        has written it, and leaves one that was made by hand.
    type: str
    default: ""
  registries_path: {type: path, default: /etc/rancher/k3s/registries.yaml, description: Where it goes.}
  environment:
    description: Text of the unit's environment, for root alone, since a proxy's URL may hold a login. Empty as above.
    type: str
    default: ""
  environment_path: {type: path, default: /etc/systemd/system/k3s.service.env, description: Where it goes.}
  apply_kernel: {type: bool, required: true, description: Whether modules are loaded and settings applied, too.}
author: integr8scode-ansible
"""

EXAMPLES = r"""
- name: Write k3s' configuration
  k3s_files:
    apply_kernel: true
    token: "{{ k3s_token }}"
    files:
      - {path: /etc/rancher/k3s/config.yaml, mode: "0600", content: "disable: [traefik]\n"}
"""

RETURN = r"""
written: {description: Paths that changed., type: list, returned: always}
removed: {description: Paths that were removed., type: list, returned: always}
restart: {description: Whether k3s is (in check mode would be) marked as waiting for a restart., type: bool,
          returned: always}
kernel: {description: Modules that were loaded and files of settings that were applied., type: list, returned: always}
"""

import os
import stat
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.k3s_common import PENDING, K3sError

# First line of what this project may also remove; plugins/filter/k3s_network.py writes it.
MARK = "# Managed by Ansible (role k3s).\n"


def state(path: str) -> tuple[str | None, int, tuple[int, int]]:
    """A file's text (None: there is none), mode, and owner with group."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except FileNotFoundError:
        return None, 0, (0, 0)
    found = os.stat(path)
    return text, stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid)


def write(path: str, text: str, mode: int) -> None:
    """Replace a file in one step; its folder is made for root alone when it is missing, as k3s itself makes it."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".ansible-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            os.fchown(file.fileno(), 0, 0)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def missing_modules(names: list[str]) -> list[str]:
    """Kernel modules that are neither loaded nor built in."""
    with open("/proc/modules", encoding="utf-8") as file:
        loaded = {line.split()[0] for line in file}
    return [name for name in names if name not in loaded and not os.path.isdir(f"/sys/module/{name}")]


def different_settings(text: str) -> list[str]:
    """Settings of a sysctl.d text that the kernel has otherwise, or does not have."""
    found = []
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        key = key.strip().lstrip("-")
        if not separator or key.startswith(("#", ";")):
            continue
        try:
            with open("/proc/sys/" + key.replace(".", "/"), encoding="utf-8") as file:
                present = file.read().split()
        except OSError:
            present = []
        if present != value.split():
            found.append(key)
    return found


def apply_kernel(module: AnsibleModule, entry: dict[str, Any]) -> list[str]:
    """Load an entry's modules or apply its settings; what was (in check mode: would be) done."""
    if entry["role"] == "modules":
        lines = [line.strip() for line in entry["content"].splitlines()]
        wanted = missing_modules([line for line in lines if line and not line.startswith("#")])
        commands = [["modprobe", name] for name in wanted]
    elif entry["role"] == "sysctl":
        wanted = different_settings(entry["content"])
        commands = [["sysctl", "-q", "-p", entry["path"]]] if wanted else []
    else:
        return []
    if not module.check_mode:
        for command in commands:
            code, out, err = module.run_command(command)
            if code != 0:
                raise K3sError(
                    f"'{' '.join(command)}' failed: {(err or out).strip()}. Does this server's kernel have it?"
                )
    return wanted


def make_diff(path: str, old: tuple[str | None, int], new: tuple[str, int], *, secret: bool) -> dict[str, str]:
    """What --diff shows of a file (text and mode before and after); of a secret only whether it changed."""
    before, after = old[0] or "", new[0]
    if secret:
        after = "" if not after else "(a secret)\n" if before == after else "(another secret)\n"
        before = "(a secret)\n" if before else ""
    return {
        "before_header": path if old[0] is None else f"{path} {old[1]:04o}",
        "after_header": f"{path} {new[1]:04o}",
        "before": before,
        "after": after,
    }


def wanted_files(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Every file, those with secrets too; `content` is None where there shall be none."""
    files = [dict(entry) for entry in parameters["files"]]
    token = {"path": parameters["token_path"], "content": parameters["token"] + "\n"}
    optional = [
        {"path": parameters[f"{name}_path"], "content": parameters[name] or None}
        for name in ("registries", "environment")
    ]
    return files + [{**entry, "mode": "0600", "role": "restart", "secret": True} for entry in [token, *optional]]


def strangers(folder: str, files: list[dict[str, Any]]) -> list[str]:
    """Files in a folder that are none of the wanted ones; a folder in it is nobody's of this project."""
    known = {entry["path"] for entry in files}
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    paths = [f"{folder.rstrip('/')}/{name}" for name in names]
    return [path for path in paths if path not in known and not os.path.isdir(path)]


def mark_restart() -> None:
    """Have k3s restarted, also by a later run when this one is interrupted."""
    with open(PENDING, "w", encoding="utf-8"):
        pass


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work; what it returns to Ansible."""
    written, removed, kernel, diff = [], [], [], []
    restart = False
    parameters = module.params
    files = wanted_files(parameters)
    for entry in files:
        path, mode, text = entry["path"], int(entry["mode"], 8), entry["content"]
        old, old_mode, owner = state(path)
        if text is None:
            if old is not None and old.startswith(MARK):
                removed.append(path)
                diff.append(make_diff(path, (old, old_mode), ("", 0), secret=True))
        elif (old, old_mode, owner) != (text, mode, (0, 0)):
            written.append(path)
            diff.append(make_diff(path, (old, old_mode), (text, mode), secret=entry.get("secret", False)))
            restart |= entry["role"] == "restart"
            if not module.check_mode:
                if entry["role"] == "restart":
                    mark_restart()
                write(path, text, mode)
        if parameters["apply_kernel"]:
            kernel += apply_kernel(module, entry)
    removed += [path for folder in parameters["folders"] for path in strangers(folder, files)]
    if removed and not module.check_mode:
        mark_restart()
        remove(removed, parameters["folders"])
    changed = bool(written or removed or kernel)
    return {
        "changed": changed,
        "written": written,
        "removed": removed,
        "restart": restart or bool(removed),
        "kernel": kernel,
        "diff": diff,
    }


def remove(paths: list[str], folders: list[str]) -> None:
    """Remove files, and the folders that have nothing left."""
    for path in paths:
        os.unlink(path)
    for folder in folders:
        if os.path.isdir(folder) and not os.listdir(folder):
            os.rmdir(folder)


def main() -> None:
    """Entry point of the module."""
    entry = {
        "path": {"type": "path", "required": True},
        "content": {"type": "str", "required": True},
        "mode": {"type": "str", "required": True},
        "role": {"type": "str", "default": "restart", "choices": ["restart", "modules", "sysctl"]},
    }
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "options": entry, "required": True},
            "token": {"type": "str", "required": True, "no_log": True},
            "token_path": {"type": "path", "default": "/etc/rancher/k3s/token", "no_log": False},
            "folders": {"type": "list", "elements": "path", "default": []},
            "registries": {"type": "str", "default": "", "no_log": True},
            "registries_path": {"type": "path", "default": "/etc/rancher/k3s/registries.yaml"},
            "environment": {"type": "str", "default": "", "no_log": True},
            "environment_path": {"type": "path", "default": "/etc/systemd/system/k3s.service.env"},
            "apply_kernel": {"type": "bool", "required": True},
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
