#!/usr/bin/python
"""Secrets as files that containers read, and the compose file that mounts them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: secret_files
short_description: Writes secrets as files and the compose file that mounts them
description:
  - Writes all secret files of the stack in one execution. Each lies in a folder of its own, named by a keyed hash of
    its content, so a new content has a new path and exactly the services that read it are recreated.
  - C(current.yaml) in the same directory is a compose file that mounts each file, read-only, into the services that
    read it. It is replaced last and at once. An interrupted run leaves the old one, whose files are still there.
  - The hash is keyed (HMAC-SHA256, a random key in C(.key), made once), since a folder named by a plain hash would
    let anyone who can list it test guesses.
  - Contents appear in no result, no diff and no system log of the server, with C(no_log) on the task or without.
options:
  directory:
    description:
      - Where the files lie. Made as needed, open to root alone (0700). A container reads its file nevertheless, since
        a bind mount of a single file does not pass through the folders above it.
    type: path
    required: true
  files:
    description:
      - The secret files. A file that is no longer listed is no longer mounted, but where O(releases) says so; see
        O(prune).
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: File name.
        type: str
        required: true
      content:
        description: Content, written as UTF-8 without a line break added.
        type: str
        required: true
      owner:
        description: User that reads it in the container, by number.
        type: int
        default: 0
      group:
        description: Group by number.
        type: int
        default: 0
      mode:
        description: Permissions in octal digits; those for others are refused.
        type: str
        default: "0400"
      fixed:
        description:
          - Why the content may not change once it is mounted, and the cure. A changed content is then refused with this
            text, before anything is written. Empty for a content that may change.
        type: str
        default: ""
      services:
        description: Where the file is mounted.
        type: list
        elements: dict
        default: []
        suboptions:
          service:
            description: Service of the compose file.
            type: str
            required: true
          target:
            description: Absolute path in its containers.
            type: str
            required: true
  releases:
    description:
      - Folder of the kept releases. A service that is no longer listed here and that one of them has keeps its mounts,
        of the newest content, so that this release can run again. A release of the kind that names C(current.yaml)
        itself and lacks a service of it gets a list of its own services, which it names in place of it.
      - None for no releases.
    type: path
  prune:
    description:
      - Whether to remove folders that C(current.yaml) no longer names. A container that still mounts one could not be
        started again, so remove them only after the containers were recreated.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    details: Before the key exists the name of a folder cannot be known; RV(paths) then shows C(unknown) in its place.
  diff_mode:
    support: full
    details: Names the files, what becomes of them and who reads them, never content.
"""

EXAMPLES = r"""
- name: Write the secrets
  secret_files:
    directory: /opt/integr8scode/secrets
    releases: /opt/integr8scode/releases
    files:
      - name: mongo_root_password
        content: "{{ vault_mongo_root_password }}"
        owner: 999
        services:
          - {service: mongo, target: /run/secrets/mongo_root_password}
"""

RETURN = r"""
changed_files:
  description: Names of the files that are new, or whose content or access changed.
  type: list
  returned: always
services:
  description:
    - Services that mount something else than before, or a file whose content was put right. They must be recreated.
  type: list
  returned: always
paths:
  description: Path of each file by its name.
  type: dict
  returned: always
override:
  description: Path of the compose file that mounts them.
  type: str
  returned: always
unused:
  description: Folders that C(current.yaml) does not name; with O(prune) those that were removed.
  type: list
  returned: always
"""

import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.atomic_files import MASK
from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.secret_files import (
    HAS_YAML,
    SecretFile,
    Store,
    changed_files,
    changed_services,
    describe_new,
    describe_old,
    wanted_files,
)


def run(module: AnsibleModule, files: list[SecretFile]) -> dict[str, Any]:
    """Does the module's work and returns its result. Raises OSError and ValueError with their cure."""
    releases = module.params["releases"]
    store = Store(Path(module.params["directory"]), files, Path(releases) if releases else None)
    for file in files:
        if file.fixed and store.moved(file):
            raise ValueError(f"{file.name} has another content than until now. {file.fixed}")
    states = {file.name: store.state(file) for file in files}
    files_to_change = changed_files(store, states)
    services = changed_services(store, states)
    unused = store.unused()
    changed = bool(files_to_change or services or not store.frame_in_order() or (unused and module.params["prune"]))
    diff = {
        "before_header": str(store.directory),
        "after_header": str(store.directory),
        "before": describe_old(store, states, files_to_change),
        "after": describe_new(store),
    }
    if changed and not module.check_mode:
        store.write(states)
        if module.params["prune"]:
            for folder in unused:
                shutil.rmtree(folder)
    return {
        "changed": changed,
        "changed_files": files_to_change,
        "services": services,
        "paths": {file.name: str(store.path(file)) for file in files},
        "override": str(store.override),
        "unused": unused,
        "diff": diff,
    }


def main() -> None:
    """Ansible's entry point."""
    mount = {"service": {"type": "str", "required": True}, "target": {"type": "str", "required": True}}
    file = {
        "name": {"type": "str", "required": True},
        "content": {"type": "str", "required": True, "no_log": True},
        "owner": {"type": "int", "default": 0},
        "group": {"type": "int", "default": 0},
        "mode": {"type": "str", "default": "0400"},
        "fixed": {"type": "str", "default": ""},
        "services": {"type": "list", "elements": "dict", "default": [], "options": mount},
    }
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            # all of it: Ansible writes a nested list to the system log as Python shows it, where a line break or a
            # backslash of a secret looks different and is not recognised
            "files": {"type": "list", "elements": "dict", "required": True, "no_log": True, "options": file},
            "releases": {"type": "path"},
            "prune": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    entries = module.params["files"]
    # No content is ever returned, so nothing needs masking; masking would replace a short secret such as a user name
    # `root` inside the paths that are returned.
    module.params["files"] = [{**entry, "content": MASK} for entry in entries]
    module.no_log_values.clear()
    directory = Path(module.params["directory"])
    if not HAS_YAML:
        if module.check_mode and not directory.exists():
            # a fresh server: an earlier task of the real run brings the library
            module.exit_json(
                changed=True,
                changed_files=[entry["name"] for entry in entries],
                services=sorted({mount["service"] for entry in entries for mount in entry["services"]}),
                paths={entry["name"]: str(directory / "unknown" / entry["name"]) for entry in entries},
                override=str(directory / "current.yaml"),
                unused=[],
            )
        module.fail_json(msg=missing_required_lib("PyYAML") + " On Debian and Ubuntu: apt-get install python3-yaml")
    try:
        result = run(module, wanted_files(entries))
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"The secrets in {module.params['directory']} cannot be written: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
