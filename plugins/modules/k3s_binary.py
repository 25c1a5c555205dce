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
  release_url: {type: str, required: true, description: "The releases' folder; file:// for an offline directory."}
  checksum: {type: str, default: "", description: The sha256 that the file must have; empty asks the vendor's list.}
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
"""

import hashlib
import os
import tempfile
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.k3s_common import (
    BINARY,
    PENDING,
    K3sError,
    asset_urls,
    check_checksum,
    checksum_from_list,
    parse_version,
)
from ansible.module_utils.urls import ConnectionError as UrlConnectionError
from ansible.module_utils.urls import SSLValidationError, open_url

KUBECTL = "/usr/local/bin/kubectl"
BLOCK = 1024 * 1024


def digest(path: str) -> str:
    """The sha256 of a file; empty when there is none."""
    if not os.path.isfile(path):
        return ""
    summed = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            summed.update(block)
    return summed.hexdigest()


def fetch(url: str, path: str) -> str:
    """Download a URL into a file; the sha256 of what arrived. Raises K3sError when it cannot."""
    summed = hashlib.sha256()
    try:
        with (
            open_url(url, timeout=60, http_agent="integr8scode-ansible", follow_redirects="safe") as answer,
            open(path, "wb") as file,
        ):
            while block := answer.read(BLOCK):
                summed.update(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
    except (URLError, SSLValidationError, UrlConnectionError, OSError, ValueError) as error:
        raise K3sError(
            f"{url} cannot be downloaded: {error}. Check the way there (proxy, DNS, disk), or set k3s_release_url to "
            f"a mirror "
            "with the same layout, or to file:///… on the server. Nothing has been installed."
        ) from error
    return summed.hexdigest()


def vendor_checksum(list_url: str, asset: str, folder: str) -> str:
    """The checksum of an asset by the vendor's list.

    Raises K3sError for a list that anybody on the way could have written.
    """
    if urlsplit(list_url).scheme not in {"https", "file"}:
        raise K3sError(
            f"k3s_checksums has no entry for this processor, and a checksum list over plain http ({list_url}) proves "
            f"nothing. "
            "Set k3s_checksums, or use https. Nothing has been changed."
        )
    path = os.path.join(folder, "sha256sum.txt")
    fetch(list_url, path)
    with open(path, encoding="utf-8", errors="replace") as file:
        return checksum_from_list(file.read(), asset)


def install(url: str, wanted: str) -> None:
    """Download, compare, and only then rename into place. Raises K3sError when the checksum is another."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(BINARY), prefix=".k3s-")
    os.close(descriptor)
    try:
        found = fetch(url, temporary)
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
    version = parse_version(parameters["version"])
    url, list_url = asset_urls(parameters["release_url"], version, parameters["architecture"])
    if parameters["checksum"]:
        wanted = check_checksum(parameters["checksum"])
    else:
        wanted = vendor_checksum(list_url, url.rsplit("/", 1)[-1], module.tmpdir)
    replace = digest(BINARY) != wanted
    # the vendor's script also makes the link, and also leaves another kubectl alone
    link = not os.path.lexists(KUBECTL)
    if not link and os.path.realpath(KUBECTL) != BINARY:
        module.warn(f"{KUBECTL} is another program and was left alone; use 'k3s kubectl'.")
    if replace and not module.check_mode:
        install(url, wanted)
    if link and not module.check_mode:
        os.symlink("k3s", KUBECTL)
    return {"changed": replace or link, "sha256": wanted}


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "str", "required": True},
            "architecture": {"type": "str", "required": True, "choices": ["amd64", "arm64"]},
            "release_url": {"type": "str", "required": True},
            "checksum": {"type": "str", "default": ""},
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
