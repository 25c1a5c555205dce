#!/usr/bin/python
"""Ansible module: archives of images where k3s imports them from, so that it need not pull."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_images
short_description: Lay down archives of images for k3s
description:
  - Downloads each archive to a file beside its destination, compares its sha256, and only then renames it into place.
    k3s imports what is new at its start, so it is marked as waiting for one (C(/run/k3s-restart.pending)).
  - Removes archives that it has laid down before and that are not named any more. Others are left alone.
  - An archive of the controller is brought by the action of the same name, when the server lacks it.
options:
  images:
    description: The archives.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {type: str, required: true, description: Name of the file on the server.}
      url: {type: str, default: "", description: Where it is downloaded from; empty for one of the controller.}
      file: {type: str, default: "", description: Where the controller has it; used by the action.}
      sha256: {type: str, default: "", description: What it must have; empty asks the vendor's list beside the URL.}
  architecture: {type: str, required: true, choices: [amd64, arm64], description: Whose list of checksums is asked.}
  folder: {type: path, default: /var/lib/rancher/k3s/agent/images, description: Where k3s imports from.}
  record: {type: path, default: /etc/rancher/k3s/airgap-images.json, description: What was laid down, by name.}
  incoming: {type: path, default: "", description: Folder with archives that the action has brought.}
  environment: {type: str, default: "", description: Text of k3s.service.env whose proxies the download uses.}
author: integr8scode-ansible
"""

EXAMPLES = r"""
- name: Have k3s' own images
  k3s_images:
    architecture: amd64
    images:
      - name: k3s-airgap-images-amd64.tar.zst
        url: https://mirror.example.org/k3s/v1.34.4%2Bk3s1/k3s-airgap-images-amd64.tar.zst
"""

RETURN = r"""
installed: {description: Archives that were (in check mode would be) laid down., type: list, returned: always}
removed: {description: Archives that were removed., type: list, returned: always}
restart: {description: Whether k3s is (in check mode would be) marked as waiting for a restart., type: bool,
          returned: always}
missing: {description: Archives that the controller has to bring first., type: list, returned: always}
"""

import json
import os
import tempfile
from typing import Any
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.k3s_common import PENDING, K3sError
from ansible.module_utils.k3s_download import digest, fetch, use_proxy, vendor_checksum

SETTING = "k3s_airgap_images"
PINS = "k3s_airgap_checksums"


def recorded(path: str) -> dict[str, str]:
    """What was laid down by an earlier run: name to sha256. A record that nobody can read counts as none."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (FileNotFoundError, ValueError):
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def write_record(path: str, content: dict[str, str]) -> None:
    """Replace the record in one step; without archives there is none."""
    if not content:
        if os.path.exists(path):
            os.unlink(path)
        return
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".ansible-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, sort_keys=True)
        file.write("\n")
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


def checksum_of(image: dict[str, str], architecture: str, folder: str) -> str:
    """What an archive must have, pinned or by the vendor's list in the URL's folder."""
    if image["sha256"]:
        return image["sha256"].strip().lower().removeprefix("sha256:")
    list_url = f"{image['url'].rsplit('/', 1)[0]}/sha256sum-{architecture}.txt"
    return vendor_checksum(list_url, image["name"], folder, setting=SETTING, pins=PINS)


def install(image: dict[str, str], wanted: str, folder: str, incoming: str) -> None:
    """Bring one archive into place. Raises K3sError when it is not the one that is meant."""
    os.makedirs(folder, mode=0o755, exist_ok=True)
    # without the ending of an archive, so that k3s does not take half of one
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".ansible-")
    os.close(descriptor)
    try:
        found = fetch(image["url"] or f"file://{quote(incoming)}/{quote(image['name'])}", temporary, setting=SETTING)
        if found != wanted:
            raise K3sError(
                f"{image['url'] or image['file']} has the sha256 {found}, expected was {wanted}: refused, it was not "
                f"laid down. Either the file is damaged, or {PINS} is of another one; compare with the release's page."
            )
        os.chmod(temporary, 0o644)
        os.replace(temporary, os.path.join(folder, image["name"]))
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work; what it returns to Ansible."""
    parameters = module.params
    use_proxy(parameters["environment"])
    folder, incoming = parameters["folder"], parameters["incoming"]
    before = recorded(parameters["record"])
    images = {image["name"]: image for image in parameters["images"]}
    wanted = {name: checksum_of(one, parameters["architecture"], module.tmpdir) for name, one in images.items()}
    lacking = [name for name, sha256 in wanted.items() if digest(os.path.join(folder, name)) != sha256]
    removed = sorted(name for name in set(before) - set(wanted) if os.path.exists(os.path.join(folder, name)))
    missing = [name for name in lacking if not images[name]["url"] and not incoming]
    result = {
        "changed": bool(lacking) or before != wanted,
        "installed": lacking,
        "removed": removed,
        "missing": missing,
        "restart": bool(lacking) or any(before.get(name) != sha256 for name, sha256 in wanted.items()),
    }
    if module.check_mode or missing or not result["changed"]:
        return result
    if result["restart"]:
        # first, so that an interrupted run is made up for
        with open(PENDING, "w", encoding="utf-8"):
            pass
    for name in lacking:
        install(images[name], wanted[name], folder, incoming)
    for name in removed:
        os.unlink(os.path.join(folder, name))
    write_record(parameters["record"], wanted)
    return result


def main() -> None:
    """Entry point of the module."""
    image = {
        "name": {"type": "str", "required": True},
        "url": {"type": "str", "default": ""},
        "file": {"type": "str", "default": ""},
        "sha256": {"type": "str", "default": ""},
    }
    module = AnsibleModule(
        argument_spec={
            "images": {"type": "list", "elements": "dict", "options": image, "required": True},
            "architecture": {"type": "str", "required": True, "choices": ["amd64", "arm64"]},
            "folder": {"type": "path", "default": "/var/lib/rancher/k3s/agent/images"},
            "record": {"type": "path", "default": "/etc/rancher/k3s/airgap-images.json"},
            "incoming": {"type": "path", "default": ""},
            "environment": {"type": "str", "default": "", "no_log": True},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except (K3sError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
