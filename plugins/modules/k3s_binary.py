#!/usr/bin/python
"""Ansible module: one release of k3s as a verified file, installed in one step."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_binary
short_description: Download, verify and install the k3s binary
description:
  - Downloads the release to a file beside its destination, compares its sha256, and only then renames it into place.
    With a wrong checksum nothing is installed and what runs goes on.
  - Without a pinned checksum the vendor's own sha256sum file is fetched, which is only accepted over https or from a
    file.
options:
  version: {type: str, required: true, description: Release to install.}
  architecture: {type: str, required: true, choices: [amd64, arm64], description: The server's processor.}
  release_url:
    description:
      - The releases' folder as a URL; file:// for one on the server. A path without scheme is one on the controller,
        from where the action of the same name brings the file when the server lacks it.
    type: str
    required: true
  checksum: {type: str, default: "", description: The sha256 that the file must have; empty asks the vendor's list.}
  file: {type: path, default: "", description: The file itself on this server, in place of a download; of the action.}
  environment: {type: str, default: "", description: Text of k3s.service.env whose proxies the download uses.}
author: integr8scode-ansible
"""

EXAMPLES = r"""
- name: Install k3s
  k3s_binary:
    version: v1.34.4+k3s1
    architecture: amd64
    release_url: https://github.com/k3s-io/k3s/releases/download
"""

RETURN = r"""
sha256: {description: Checksum of the file that is (in check mode, would be) installed., type: str, returned: always}
restart: {description: Whether k3s is (in check mode would be) marked as waiting for a restart., type: bool,
          returned: always}
"""

import os
import tempfile
from typing import Any
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.k3s_common import BINARY, PENDING, K3sError, asset_urls, check_checksum, parse_version
from ansible.module_utils.k3s_download import digest, fetch, use_proxy, vendor_checksum

KUBECTL = "/usr/local/bin/kubectl"
SETTING = "k3s_release_url"


def install(url: str, wanted: str) -> None:
    """Download, compare, and only then rename into place. Raises K3sError when the checksum is another."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(BINARY), prefix=".k3s-")
    os.close(descriptor)
    try:
        found = fetch(url, temporary, setting=SETTING)
        if found != wanted:
            raise K3sError(
                f"{url} has the sha256 {found}, expected was {wanted}: refused, nothing has been installed, and a k3s "
                "that runs goes on. Either the file is not the vendor's, or k3s_checksums is not of k3s_version; "
                "compare with the release's page."
            )
        os.chmod(temporary, 0o755)  # noqa: S103
        with open(PENDING, "w", encoding="utf-8"):
            pass
        os.replace(temporary, BINARY)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work; what it returns to Ansible."""
    parameters = module.params
    use_proxy(parameters["environment"])
    version = parse_version(parameters["version"])
    url, list_url = asset_urls(parameters["release_url"], version, parameters["architecture"])
    if parameters["checksum"]:
        wanted = check_checksum(parameters["checksum"])
    else:
        asset = url.rsplit("/", 1)[-1]
        wanted = vendor_checksum(list_url, asset, module.tmpdir, setting=SETTING, pins="k3s_checksums")
    replace = digest(BINARY) != wanted
    # the vendor's script also makes the link, and also leaves another kubectl alone
    link = not os.path.lexists(KUBECTL)
    if not link and os.path.realpath(KUBECTL) != BINARY:
        module.warn(f"{KUBECTL} is another program and was left alone; use 'k3s kubectl'.")
    if replace and not module.check_mode:
        install(f"file://{quote(parameters['file'])}" if parameters["file"] else url, wanted)
    if link and not module.check_mode:
        os.symlink("k3s", KUBECTL)
    return {"changed": replace or link, "sha256": wanted, "restart": replace}


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "str", "required": True},
            "architecture": {"type": "str", "required": True, "choices": ["amd64", "arm64"]},
            "release_url": {"type": "str", "required": True},
            "checksum": {"type": "str", "default": ""},
            "file": {"type": "path", "default": ""},
            "environment": {"type": "str", "default": "", "no_log": True},
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
