"""Running other programs so that a failure explains itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.settings import LabError

TAIL_LINES = 25
"""How many of a failed program's last lines are shown."""


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """The last non-empty lines of a program's output, indented."""
    kept = [line.rstrip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in kept[-lines:])


def run(
    command: Sequence[str | Path],
    what: str,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    cure: str = "",
    stdin: str | None = None,
) -> str:
    """Run a program to its end and return its output (stdout and stderr together).

    Args:
        command: program and arguments; no shell.
        what: what it is for, as the error shall name it.
        env: variables on top of this process's.
        cwd: where; default here.
        cure: what helps when it fails.
        stdin: text for it to read; default nothing.

    Raises:
        LabError: it is missing or failed; with its last lines.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL if stdin is None else None,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise LabError(f"{what}: the program {words[0]!r} is not installed. {cure}".rstrip()) from None
    if done.returncode:
        text = f"{what} failed (exit {done.returncode}): {' '.join(words)}\n{tail(done.stdout)}"
        raise LabError(f"{text}\n{cure}".rstrip())
    return done.stdout


def as_root(command: Sequence[str | Path]) -> list[str]:
    """The command, through sudo where this process is not root.

    Raises:
        LabError: neither root nor sudo.
    """
    words = [str(word) for word in command]
    if os.geteuid() == 0:
        return words
    if not shutil.which("sudo"):
        raise LabError(f"{words[0]} needs root: run as root, or install sudo and allow yourself to use it")
    return ["sudo", *words]


def install(packages: Mapping[str, str], reason: str) -> None:
    """Install Debian packages for the programs that are missing.

    Args:
        packages: program to the package that brings it.
        reason: what they are for, as an error shall say.

    Raises:
        LabError: not a machine with apt, no root, or apt failed.
    """
    search = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = sorted({package for program, package in packages.items() if not shutil.which(program, path=search)})
    if not missing:
        return
    names = " ".join(missing)
    if not shutil.which("apt-get"):
        raise LabError(f"{reason} needs what Debian packages as: {names}. Install it, then run the command again.")
    print(f"installing {names} ({reason})", flush=True)
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    run(as_root(["apt-get", "update", "-q"]), "apt-get update", env=env)
    command = as_root(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-q"])
    run([*command, "--no-install-recommends", *missing], f"installing {names}", cure="Install them by hand.")
