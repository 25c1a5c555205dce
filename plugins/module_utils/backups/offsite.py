"""Copies of backups on another machine: rsync over ssh, with a key of its own and a pinned host key."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# no space, no quote, no option: it becomes an argument of rsync, and its path one of a shell on the other side
DESTINATION = re.compile(
    r"(?P<user>[A-Za-z_][A-Za-z0-9_.-]*)@(?P<host>[A-Za-z0-9][A-Za-z0-9._-]*):(?P<path>/[A-Za-z0-9._/+-]*)"
)


class OffsiteError(Exception):
    """The copy failed; the message says why and the cure."""


@dataclass(frozen=True)
class Target:
    """Where copies go.

    Attributes:
        destination: user@host:/absolute/path; the folder must exist there.
        port: of the other machine's sshd.
        key: file of the private key.
        known_hosts: file that pins the other machine's host key.
    """

    destination: str
    port: int
    key: Path
    known_hosts: Path

    def __post_init__(self) -> None:
        """:raises OffsiteError: the destination is not of its form."""
        if DESTINATION.fullmatch(self.destination) is None:
            raise OffsiteError(
                f"{self.destination!r} is no place for copies: user@host:/absolute/path, letters, digits and ._/+-"
            )

    def ssh(self) -> str:
        """The command by which rsync reaches the other machine."""
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "20",
            "IdentitiesOnly": "yes",
            "ServerAliveInterval": "15",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(self.known_hosts),
        }
        words = ["ssh", "-F", "/dev/null", "-p", str(self.port), "-i", str(self.key)]
        for name, value in options.items():
            words += ["-o", f"{name}={value}"]
        return shlex.join(words)


def _cure(said: str) -> str:
    known = {
        "Host key verification failed": "backup_copy_host_key is not its host key (ssh-keyscan shows it)",
        "Permission denied (publickey": "the public key of backup_copy_private_key is not in its authorized_keys",
        "mkdir": "make the folder there, and give it to that user",
        "No such file or directory": "make the folder there, and give it to that user",
        "command not found": "install rsync there",
        "No space left": "make room there",
        "Connection refused": "is its sshd up, and backup_copy_port right?",
        "timed out": "is it reachable from this server?",
    }
    return next((text for sign, text in known.items() if sign in said), "see the message above")


def copy(files: Sequence[Path], target: Target, *, timeout: float = 3600) -> list[str]:
    """Bring files that are not there yet to the other machine; none that is there is written again.

    So what a compromised or damaged server holds never replaces an older, good copy, and what an outage left out is
    copied the next time.

    :returns: names of the files that were copied.
    :raises OffsiteError: rsync is missing or failed, or took longer than ``timeout`` seconds.
    """
    if not files:
        return []
    if shutil.which("rsync") is None:
        raise OffsiteError("rsync is not installed here. Cure: playbooks/site.yml --tags backup")
    command = ["rsync", "--times", "--chmod=F600", "--ignore-existing", "--partial-dir=.partial"]
    command += ["--out-format=copied %n", f"--rsh={target.ssh()}", "--", *map(str, files)]
    try:
        done = subprocess.run(
            [*command, target.destination.rstrip("/") + "/"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OffsiteError(f"copying to {target.destination} did not end within {timeout:.0f} seconds") from None
    if done.returncode != 0:
        said = done.stderr.strip()
        last = " / ".join(said.splitlines()[-3:])
        raise OffsiteError(
            f"copying to {target.destination} failed (rsync {done.returncode}): {last}. Cure: {_cure(said)}"
        )
    return [line.partition(" ")[2] for line in done.stdout.splitlines() if line.startswith("copied ")]
