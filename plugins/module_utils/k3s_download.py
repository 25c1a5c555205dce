"""Files of a k3s release on this server: fetched, and compared with a checksum that somebody stands for."""

from __future__ import annotations

import hashlib
import os
import re
from urllib.error import URLError
from urllib.parse import urlsplit

from ansible.module_utils.k3s_common import K3sError, checksum_from_list
from ansible.module_utils.urls import ConnectionError as UrlConnectionError
from ansible.module_utils.urls import SSLValidationError, open_url

BLOCK = 1024 * 1024


def digest(path: str) -> str:
    """The sha256 of a file; empty when there is none."""
    if not os.path.isfile(path):
        return ""
    summed = hashlib.sha256()
    # not hashlib.file_digest: Ubuntu 22.04's Python has none
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            summed.update(block)
    return summed.hexdigest()


def use_proxy(environment: str) -> None:
    """Download as the text of k3s.service.env says; empty changes nothing."""
    os.environ.update(re.findall(r'^(\w+_PROXY)="(.*)"$', environment, re.MULTILINE))


def fetch(url: str, path: str, *, setting: str) -> str:
    """Download a URL into a file; the sha256 of what arrived. Raises K3sError when it cannot.

    `setting` names the variable that says where from.
    """
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
            f"{url} cannot be downloaded: {error}. Check the way there (proxy, DNS, disk), or set {setting} to a "
            "mirror with the same layout, to file:///… on the server, or to a path on the machine that runs Ansible. "
            "Nothing has been installed."
        ) from error
    return summed.hexdigest()


def vendor_checksum(list_url: str, asset: str, folder: str, *, setting: str, pins: str) -> str:
    """The checksum of an asset by the vendor's list.

    `folder` takes the list for a moment, `setting` and `pins` name the variables of the place and of the pins. Raises
    K3sError for a list that anybody on the way could have written.
    """
    if urlsplit(list_url).scheme not in {"https", "file"}:
        raise K3sError(
            f"{pins} has no entry for {asset}, and a checksum list over plain http ({list_url}) proves nothing. "
            f"Set {pins}, or use https. Nothing has been changed."
        )
    path = os.path.join(folder, "sha256sum.txt")
    fetch(list_url, path, setting=setting)
    with open(path, encoding="utf-8", errors="replace") as file:
        return checksum_from_list(file.read(), asset)
