"""The k3s download on the lab's file server: the vendor's own where that is in reach, else the lab's."""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from lab.k3s.build import build
from lab.settings import ROOT, LabError, Settings
from lab.sources import K3S_RELEASES, Sources

DEFAULTS = ROOT / "roles" / "k3s" / "defaults" / "main.yml"
"""The one place where the version and the vendor's checksums stand."""

OTHER_RELEASES = ("v1.34.1+k3s1",)
"""Served too: the last release of the minor version that crashes after an address change (k3s-io/k3s#12639)."""


def pinned(path: Path = DEFAULTS) -> tuple[str, dict[str, str]]:
    """Version and checksums (architecture to sha256; empty where the role pins none) of the role.

    Raises:
        LabError: they are not there.
    """
    try:
        data: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
        return str(data["k3s_version"]), dict(data["k3s_checksums"])
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise LabError(f"{path} does not give k3s_version and k3s_checksums: {error!r}") from None


def file_name(machine: str) -> str:
    """Name of the vendor's file for an architecture."""
    return "k3s" if machine == "amd64" else f"k3s-{machine}"


def checksum(path: Path) -> str:
    """sha256 of a file, in hex; empty if it is not there."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def listed_checksum(text: str, name: str) -> str:
    """The checksum that a vendor's list gives for a file; empty if it is not in there."""
    return next((line.split()[0] for line in text.splitlines() if line.split()[1:] == [name]), "")


def is_vendors(path: Path) -> bool:
    """Whether a file is the vendor's program, an ELF binary; the lab's is a Python archive."""
    try:
        with path.open("rb") as stream:
            return stream.read(4) == b"\x7fELF"
    except FileNotFoundError:
        return False


def download(version: str, machine: str, expected: str, folder: Path, releases: str = K3S_RELEASES) -> None:
    """Download the vendor's file and its checksum list; both are in place only if the checksum fits.

    Args:
        version: as the vendor writes it, e.g. v1.34.4+k3s1.
        machine: the architecture.
        expected: the pinned sha256; empty takes the one of the vendor's list, as the role then does.
        folder: where to.
        releases: the vendor's folder of releases.

    Raises:
        LabError: it cannot be had, or it is not what is pinned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (file_name(machine), f"sha256sum-{machine}.txt"):
        url = f"{releases}/{quote(version)}/{name}"
        temporary = folder / f".{name}.part"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer, temporary.open("wb") as sink:  # noqa: S310
                while chunk := answer.read(1 << 20):
                    sink.write(chunk)
        except OSError as error:
            raise LabError(f"{url} cannot be downloaded: {error}") from None
    binary = folder / f".{file_name(machine)}.part"
    listed = listed_checksum(
        (folder / f".sha256sum-{machine}.txt.part").read_text("utf-8", "replace"), binary.name[1:-5]
    )
    found = checksum(binary)
    for wanted, who in ((expected, "roles/k3s pins"), (listed, "the vendor lists")):
        if wanted and found != wanted:
            binary.unlink()
            raise LabError(f"{releases}/{version}/{file_name(machine)} has sha256 {found}; {who} {wanted}")
    if not expected and not listed:
        raise LabError(f"{releases}/{version} lists no checksum of {file_name(machine)}, and roles/k3s pins none")
    for name in (file_name(machine), f"sha256sum-{machine}.txt"):
        (folder / f".{name}.part").replace(folder / name)


def _ensure_release(folder: Path, sources: Sources, machine: str, pin: str, say: Callable[[str], None]) -> str:
    """Bring one release, named by its folder of the file server, to there. Returns what was done.

    Raises:
        LabError: it can neither be downloaded nor built.
    """
    version = folder.name
    target = folder / file_name(machine)
    is_real = is_vendors(target) and (not pin or checksum(target) == pin)
    if is_real and sources.mode != "stand-in":
        sources.used["k3s"] = "real"
        return "is there"
    if sources.wants_real("k3s"):
        try:
            download(version, machine, pin, folder)
        except LabError as error:
            if sources.mode == "real":
                raise
            sources.notes.append(str(error))
        else:
            sources.used["k3s"] = "real"
            return "downloaded"
    before = checksum(target)
    build(version, folder, progress=lambda line: say(f"    k3s: {line}"))
    sources.used["k3s"] = "stand-in"
    return "is there" if checksum(target) == before else "built"


def ensure(settings: Settings, sources: Sources, machine: str, say: Callable[[str], None]) -> str:
    """Bring the role's release of k3s and OTHER_RELEASES, each with its checksum list, to the file server's folder.

    Returns what was done, for each release. `sources` records where the role's release comes from.

    Raises:
        LabError: one can neither be downloaded nor built.
    """
    version, checksums = pinned()
    pins = {**dict.fromkeys(OTHER_RELEASES, ""), version: checksums.get(machine, "")}
    releases = settings.cache / "files" / "k3s-io" / "k3s" / "releases" / "download"
    done = [f"{one}: {_ensure_release(releases / one, sources, machine, pin, say)}" for one, pin in pins.items()]
    return ", ".join(done)
