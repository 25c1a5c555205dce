"""What is said of a server that no module runs on: out of reach, or, by a script for any shell, without Python or sudo.

Runs on the controller, which loads this file by its path: it needs nothing but the standard library.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

KIB = 2**10
_BEFORE_SSH = re.compile(
    r"^(Task failed: )?(Failed to connect to the host via ssh: |Data could not be sent to remote host .*? over ssh: )?"
)
OLDEST_PYTHON = (3, 10)
LAB = "inventories/lab"
NO_LAB = (
    "Where no -i is given the servers are those of the lab, which is not there. Your servers: "
    "-i inventories/production. The lab itself: make lab."
)
_SCRIPT = r"""
echo preflight=1
echo uid=$(id -u)
echo user=$(id -un)
echo machine=$(uname -m)
for each in python3 sudo; do command -v $each >/dev/null 2>&1 && echo has=$each; done
PYTHON -c 'import sys; print("python=%d.%d" % sys.version_info[:2])' 2>/dev/null
sudo -n true >/dev/null 2>&1 && echo has=sudo-without-password
test -d /run/systemd/system && echo has=systemd
(. /etc/os-release; echo "id=$ID"; echo "version=$VERSION_ID"; echo "name=$PRETTY_NAME") 2>/dev/null
while read -r name value unit; do
  case $name in MemTotal:|SwapTotal:) echo "$name$value" | tr : =;; esac
done 2>/dev/null </proc/meminfo
for each in PLACES; do
  there=${each#*=}
  while ! test -e "$there"; do there=${there%/*}; test -n "$there" || there=/; done
  for kind in k i; do
    df -P$kind "$there" 2>/dev/null | {
      read -r head
      read -r device all used free more && echo "room$kind=$free ${each%%=*} $device $there"
    }
  done
done
true
"""


def script(python: str, places: Mapping[str, str]) -> str:
    """The script that asks; `python` is the interpreter that modules would run with, `places` are folders by name."""
    quoted = " ".join(shlex.quote(f"{name}={path}") for name, path in places.items())
    return _SCRIPT.replace("PYTHON", shlex.quote(python)).replace("PLACES", quoted).strip()


def parse(text: str) -> dict[str, Any] | None:
    """What the script said, `rooms` by the names of the places; None where it did not run."""
    said: dict[str, Any] = {"has": set(), "rooms": {}}
    for line in text.splitlines():
        key, _, value = line.strip().partition("=")
        if key == "has":
            said["has"].add(value)
        elif key in {"roomk", "roomi"}:
            free, name, device, path = value.split(" ", 3)
            room = said["rooms"].setdefault(name, {"device": device, "path": path})
            # what counts no inodes says "-" or 0
            room[key] = int(free) if free.isdigit() else None
        elif key:
            said[key] = value
    return said if "preflight" in said else None


def facts(said: Mapping[str, Any]) -> dict[str, Any]:
    """What it said, as the judges of causes_machine.py take it."""
    found: dict[str, Any] = {
        "system": {
            "id": said.get("id", "unknown"),
            "version": said.get("version", ""),
            "name": said.get("name", "an unknown one"),
            "machine": said.get("machine", "unknown"),
            "systemd": "systemd" in said["has"],
        },
        "disk": {
            name: {
                "path": room["path"],
                "device": room["device"],
                "free_bytes": room["roomk"] * KIB,
                "free_inodes": room.get("roomi") or None,
            }
            for name, room in said["rooms"].items()
            if room.get("roomk") is not None
        },
    }
    if str(said.get("MemTotal", "")).isdigit():
        found["memory"] = {
            "total_bytes": int(said["MemTotal"]) * KIB,
            "swap_bytes": int(said.get("SwapTotal") or 0) * KIB,
        }
    return found


def is_lab(sources: Sequence[str]) -> bool:
    """Whether the run's inventory, as it is named from the project's folder, is the lab's alone."""
    return [one.removesuffix("/hosts.yml").rstrip("/") for one in sources] == [LAB]


def bootstrap(host: str, inventory: str) -> str:
    """The command that gives a server Python, sudo and the user that Ansible comes as."""
    return f"ansible-playbook{inventory} playbooks/bootstrap.yml --limit {host}"


def host_key_cure(address: str, port: str = "") -> str:
    """What to do where ssh does not take a server's host key for what it is."""
    away = port not in {"", "22"}
    place, known = shlex.quote(address), shlex.quote(f"[{address}]:{port}" if away else address)
    return (
        "Its host key is not known here, or is another than before. Connect once by hand, compare it and accept it: "
        f"ssh {f'-p {port} ' if away else ''}{place}; where the server was made anew, first: ssh-keygen -R {known}"
    )


def away(host: str, inventory: str, words: str, address: str = "", port: str = "") -> dict[str, str]:
    """The cause that a server is out of reach.

    :param inventory: the options that name it, for the commands that cure.
    :param words: what Ansible says of the connection.
    :param address: where ssh goes, if not to the host's own name, and `port`, if not to 22.
    """
    cure = f"what ssh says: ansible{inventory} {host} -m ansible.builtin.ping -vvv"
    if is_lab(shlex.split(inventory)[1:]) and "Connection refused" in words:
        cure = f"{NO_LAB} If it is: {cure}"
    elif "Permission denied" in words:
        cure = f"a fresh server knows its first user only: {bootstrap(host, inventory)}; else {cure}"
    elif "Host key verification failed" in words:
        cure = f"{host_key_cure(address or host, port)}; else {cure}"
    return {
        "check": "reachable",
        "found": f"The server cannot be reached: {ssh_words(words).rstrip('.')}.",
        "why": "Nothing else can be said of it.",
        "cure": cure,
    }


def ssh_words(words: str) -> str:
    """What ssh says, in one line and without what Ansible puts before it."""
    return _BEFORE_SSH.sub("", " ".join(words.split()))[-600:]


def causes(said: Mapping[str, Any], host: str, inventory: str, words: str, password: bool) -> list[dict[str, str]]:
    """Why no module ran on a server that answered.

    :param inventory: the options that name it, for the command that cures.
    :param words: the last words of the module that did not run.
    :param password: whether Ansible was given one for sudo.
    """
    prepare = bootstrap(host, inventory)
    found = []

    def cause(check: str, text: str, why: str, cure: str) -> None:
        found.append({"check": check, "found": text, "why": why, "cure": cure})

    python = str(said.get("python", ""))
    if not python:
        cause("python", "The server has no Python 3.", "Ansible's modules are Python.", prepare)
    elif tuple(int(part) for part in python.split(".")) < OLDEST_PYTHON:
        oldest = ".".join(str(part) for part in OLDEST_PYTHON)
        cure = "install a supported system, or name another Python (ansible_python_interpreter)"
        cause("python", f"The server's Python is {python}.", f"The modules need {oldest} or newer.", cure)
    user = said.get("user", "?")
    if said.get("uid") != "0":
        why = "Installing needs root, and this user cannot become it."
        if "sudo" not in said["has"]:
            cure = f"{prepare} (or as root on the server: apt-get install -y sudo)"
            cause("sudo", f"The server has no sudo, and Ansible comes as {user}.", why, cure)
        elif "sudo-without-password" not in said["has"] and not password:
            cure = f"give it: -K (--ask-become-pass), or a sudo without one: {prepare}"
            cause("sudo", f"sudo asks {user} for a password, and Ansible has none.", why, cure)
    if not found:
        cure = f"what it says: ansible{inventory} {host} -m ansible.builtin.ping --become -vvv"
        cause("module", f"No module could be run as root: {words}", "Nothing could be looked at.", cure)
    return found
