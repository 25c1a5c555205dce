"""Files of a k3s release that the controller has, checked there before a server gets them.

The actions k3s_binary and k3s_images run this file by its path: Ansible finds module_utils on servers only.
"""

from __future__ import annotations

import hashlib
import os


def _sum(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _listed(text: str, name: str) -> str:
    """The checksum that the vendor's list has for a file; empty where it does not name it."""
    lines = (line.split() for line in text.splitlines())
    found = [one[0] for one in lines if len(one) == 2 and one[1].lstrip("*").removeprefix("./") == name]
    return found[-1].lower() if found else ""


def checked(path: str, pin: str, lists: str, *, always: bool = False) -> str:
    """The sha256 of a file of the controller, compared with its pin or, without one, with the vendor's list.

    `lists` is that list's path; a file that it does not name, as an archive of one's own, is taken as it is, unless
    `always` asks for somebody to stand for it. Raises ValueError, with the cure, and OSError.
    """
    nothing = "Nothing has been changed."
    if not os.path.isfile(path):
        raise ValueError(f"There is no file {path} on the machine that runs Ansible. {nothing}")
    wanted = pin.strip().lower().removeprefix("sha256:")
    source = "its pinned checksum"
    if not wanted and os.path.isfile(lists):
        with open(lists, encoding="utf-8", errors="replace") as file:
            wanted = _listed(file.read(), os.path.basename(path))
        source = lists
    if not wanted and always:
        raise ValueError(
            f"{path}: neither k3s_checksums nor {lists} says what it must be. Carry that list, too. {nothing}"
        )
    found = _sum(path)
    if wanted and found != wanted:
        raise ValueError(
            f"{path} has the sha256 {found}, expected by {source} was {wanted}: refused. Either it was damaged on its "
            f"way, or the checksum is of another release. {nothing}"
        )
    return found
