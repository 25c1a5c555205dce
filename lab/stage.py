"""Staging an image's folder: its files, and the packages that its requirements.txt or pom.xml pin."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path

from lab.images import Build, Image, files
from lab.settings import LabError, Settings
from lab.shell import install, run

PYTHON = "3.13"
"""CPython of the image ``python:3.13``, for which wheels are chosen (not the one that runs this)."""

MAVEN_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def _machine(machine: str) -> str:
    if machine not in _MACHINES:
        raise LabError(f"the lab's images are made for amd64 and arm64, and this Docker engine is {machine}")
    return _MACHINES[machine]


def _pip(requirements: Path, target: Path, machine: str, cache: Path) -> list[str]:
    common = ["--target", str(target), "--require-hashes", "--requirement", str(requirements)]
    if importlib.util.find_spec("pip"):
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:"]
        command += ["--cache-dir", str(cache), "--implementation", "cp", "--python-version", PYTHON]
        for glibc in ("2_17", "2_28", "2_34"):
            command += ["--platform", f"manylinux_{glibc}_{machine}"]
        return [*command, "--platform", f"manylinux2014_{machine}", *common]
    uv = [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else ["uv"]
    if uv == ["uv"] and not shutil.which("uv"):
        raise LabError(f"neither pip nor uv is there for {sys.executable}: run `make .venv` and use .venv/bin/python")
    command = [*uv, "pip", "install", "--quiet", "--cache-dir", str(cache), "--only-binary", ":all:"]
    return [*command, "--python-version", PYTHON, "--python-platform", f"{machine}-manylinux_2_34", *common]


def _product(settings: Settings, kind: str, inputs: Path, machine: str) -> tuple[Path, bool]:
    """Folder of what an input file stands for, named by its hash, and whether it is there already."""
    digest = hashlib.sha256(f"{kind} {PYTHON} {MAVEN_PLUGIN} {machine}".encode() + inputs.read_bytes()).hexdigest()[:16]
    folder = settings.cache / kind / digest
    return folder, folder.is_dir()


def _keep(made: Path, folder: Path) -> None:
    """Put a finished product in its place; another run may have been faster with the same."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def site_packages(settings: Settings, requirements: Path, machine: str) -> Path:
    """The packages of a hashed requirements.txt, for the images' Python. Downloaded once.

    Raises:
        LabError: pip failed; with its last lines.
    """
    folder, there = _product(settings, "site-packages", requirements, machine)
    if there:
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as temporary:
        target = Path(temporary) / "packages"
        command = _pip(requirements, target, _machine(machine), settings.cache / "pip")
        run(command, f"getting the Python packages of {requirements}", cwd=requirements.parent)
        target.mkdir(exist_ok=True)
        _keep(target, folder)
    return folder


def jars(settings: Settings, pom: Path, machine: str) -> Path:
    """The run-time dependencies of a pom.xml. Downloaded once.

    Raises:
        LabError: Maven failed; with its last lines.
    """
    folder, there = _product(settings, "jars", pom, machine)
    if there:
        return folder
    install({"mvn": "maven", "java": "default-jdk-headless"}, "the Java parts of the lab")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as temporary:
        shutil.copy(pom, Path(temporary) / "pom.xml")
        command = ["mvn", "--quiet", "--batch-mode", f"-Dmaven.repo.local={settings.cache / 'm2'}"]
        command += [f"{MAVEN_PLUGIN}:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=jars"]
        run(command, f"getting the jars of {pom}", cwd=Path(temporary))
        made = Path(temporary) / "jars"
        if not made.is_dir() or not any(made.iterdir()):
            raise LabError(f"{pom}: Maven brought no jar")
        _keep(made, folder)
    return folder


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
    # the umask of whoever checked out must not decide what a container's user can read
    target.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def change(context: Path, build: Build) -> None:
    """Make a staged folder into that of one build.

    A patch at the top of a folder of changes is applied to the image's own files; every other file is added to what
    the Dockerfile takes from ``releases/<VERSION>/``, which comes last.

    Args:
        context: the build context with the image's own files.
        build: which build.

    Raises:
        LabError: a patch does not fit the image's files any more.
    """
    # wherever the context is, git must not take it for a part of somebody's checkout
    environment = {"GIT_CEILING_DIRECTORIES": str(context.parent), "GIT_DIR": str(context.parent / "none")}
    for folder in build.changes:
        for path in files(folder):
            if path.suffix == ".patch" and path.parent == folder:
                run(["git", "apply", path], f"applying {path}", env=environment, cwd=context, cure="Write it anew.")
            else:
                _copy(path, context / "releases" / build.args["VERSION"] / path.relative_to(folder))


def stage(settings: Settings, image: Image, build: Build, machine: str) -> Path:
    """Make the build context of an image afresh in ``LAB_HOME/cache/context/<name>``.

    Args:
        settings: whose lab.
        image: with a folder.
        build: which of its builds.
        machine: the engine's architecture (``amd64``, ``arm64``).

    Raises:
        LabError: its packages could not be had, or its changes do not fit.
    """
    if image.folder is None:
        raise LabError(f"image {image.name} has no folder")
    context = settings.cache / "context" / image.name
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir(parents=True)
    for path in files(image.folder):
        _copy(path, context / path.relative_to(image.folder))
    change(context, build)
    if (context / "requirements.txt").is_file():
        packages = site_packages(settings, image.folder / "requirements.txt", machine)
        shutil.copytree(packages, context / "site-packages", symlinks=True)
    if (context / "pom.xml").is_file():
        shutil.copytree(jars(settings, image.folder / "pom.xml", machine), context / "jars")
    return context
