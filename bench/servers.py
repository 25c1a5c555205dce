"""Lab servers of the bench by plain ssh, and playbooks that are run against them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.cluster import ClusterError
from lab.settings import ROOT, Settings
from lab.shell import tail
from lab.state import write

FAILURE = re.compile(r"^(?:fatal|failed): \[.*(?:\n {4,}.*)*", re.MULTILINE)
"""A task's failure in a run's output, with its indented lines."""


class Server:
    """A lab server by plain ssh, as the user `ops`."""

    def __init__(self, settings: Settings, index: int, folder: Path) -> None:
        state = settings.state
        options = ["ControlMaster=auto", "ControlPersist=60", f"ControlPath={folder}/%C", "IdentitiesOnly=yes"]
        options += [f"UserKnownHostsFile={state}/known_hosts", "StrictHostKeyChecking=yes", "LogLevel=ERROR"]
        flags = [word for option in options for word in ("-o", option)]
        self._ssh = [
            "ssh",
            *flags,
            "-i",
            f"{state}/id_ed25519",
            "-p",
            str(settings.server_port(index)),
            "ops@127.0.0.1",
        ]

    def type(self, command: str) -> tuple[int, str]:
        """Run a command as somebody types it; returns exit code and output."""
        return self._run([*self._ssh, command], "")

    def root(self, script: str) -> tuple[int, str]:
        """Run a script as root; returns exit code and output."""
        return self._run([*self._ssh, "sudo", "sh", "-s"], script)

    @staticmethod
    def _run(command: Sequence[str], stdin: str) -> tuple[int, str]:
        done = subprocess.run(
            command,
            input=stdin,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=900,
            check=False,
        )
        return done.returncode, done.stdout


def set_environment(settings: Settings) -> None:
    """Have runs of Ansible find the lab, and find themselves compiled, as in an operator's own environment."""
    os.environ["LAB_HOME"] = str(settings.home)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def playbook(inventory: Path, name: str, *arguments: str) -> str:
    """Run a playbook against servers of the bench; returns its output.

    Raises:
        ClusterError: it failed; with what failed, or its last lines, and where its whole output is.
    """
    program = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [program, "-i", inventory, name, *arguments],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        log = Path(os.environ["LAB_HOME"]) / "state" / "log" / f"bench-{Path(name).stem}.log"
        write(log, done.stdout, 0o600)
        said = "\n".join(FAILURE.findall(done.stdout)) or tail(done.stdout, 60)
        raise ClusterError(f"{name} failed ({done.returncode}); whole output: {log}\n{said}")
    return done.stdout
