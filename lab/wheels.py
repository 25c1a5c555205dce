"""The project's own Python packages as one tar of wheels, for lab servers: ``python -m lab.wheels``.

A control host makes its environment from requirements.txt. Lab servers reach no package registry, this machine does.
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import sys
import tarfile
import tempfile
from pathlib import Path

from lab.settings import ROOT, LabError, Settings
from lab.shell import run

PYTHON = "3.13"
"""Debian 13's, which the lab's servers run."""


def _pip() -> list[str]:
    """pip, or where uv made this environment the one that uv brings."""
    return [sys.executable, "-m", *(["pip"] if importlib.util.find_spec("pip") else ["uv", "tool", "run", "pip"])]


def command(requirements: Path, target: Path, machine: str) -> list[str]:
    """What downloads the wheels. Hashes are checked; dependencies are all in the file."""
    words = [*_pip(), "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    words += ["--implementation", "cp", "--python-version", PYTHON, "--requirement", str(requirements)]
    for glibc in ("2_17", "2_28", "2_34", "2_39"):
        words += ["--platform", f"manylinux_{glibc}_{machine}"]
    return [*words, "--platform", f"manylinux2014_{machine}", "--dest", str(target)]


def ensure(settings: Settings, machine: str, requirements: Path = ROOT / "requirements.txt") -> Path:
    """The tar; downloaded once for each requirements.txt.

    Args:
        settings: whose lab.
        machine: ``x86_64`` or ``aarch64``.
        requirements: the hashed file.

    Raises:
        LabError: pip failed; with its last lines.
    """
    digest = hashlib.sha256(f"{PYTHON} {machine}".encode() + requirements.read_bytes()).hexdigest()[:16]
    made = settings.cache / "wheels" / f"{digest}.tar"
    if made.is_file():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=made.parent, prefix=".new-") as folder:
        target = Path(folder) / "wheels"
        run(command(requirements, target, machine), f"getting the wheels of {requirements}")
        unfinished = Path(folder) / made.name
        with tarfile.open(unfinished, "w") as tar:
            for wheel in sorted(target.iterdir()):
                tar.add(wheel, wheel.name)
        unfinished.replace(made)
    return made


def main() -> int:
    """Print the tar's path."""
    try:
        print(ensure(Settings.from_environment(), platform.machine()))
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
