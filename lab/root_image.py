"""The root image: Debian 13, from Docker Hub where that is in reach, else made from this machine's apt mirror."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import docker

from lab import apt
from lab.settings import INPUTS_LABEL, LabError, Settings
from lab.shell import as_root, install, run

FORMAT = "1"


def inputs_hash(mirror: apt.Mirror, machine: str) -> str:
    """Hash of all that decides what mmdebstrap makes (16 hex digits)."""
    text = "\n".join([FORMAT, machine, apt.RELEASE, *mirror.lines(), *mirror.options])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def command(mirror: apt.Mirror, target: Path) -> list[str]:
    """The mmdebstrap command that makes Debian 13 as a tar file."""
    words = ["mmdebstrap", "--variant=minbase", "--format=tar"]
    if mirror.needs_certificates:
        words.append("--include=ca-certificates")
    words += [f"--aptopt={option}" for option in (*mirror.options, 'APT::Install-Recommends "false";')]
    # as Docker's own debian image does it: a container that loses power is thrown away anyway
    words += ["--dpkgopt=force-unsafe-io", apt.RELEASE, str(target)]
    return words + mirror.lines()


def make(client: docker.DockerClient, settings: Settings, mirror: apt.Mirror, name: str, digest: str) -> None:
    """Make the root image and load it into the engine.

    Args:
        client: the engine.
        settings: whose lab.
        mirror: where Debian comes from.
        name: of the image, with tag.
        digest: the hash that it is labelled with.

    Raises:
        LabError: mmdebstrap is not there and cannot be installed, or failed; with its last lines.
    """
    install({"mmdebstrap": "mmdebstrap"}, "making Debian 13 from this machine's apt mirror")
    if not Path(apt.KEYRING).is_file():
        raise LabError(f"{apt.KEYRING} is missing: install the package debian-archive-keyring")
    settings.cache.mkdir(parents=True, exist_ok=True)
    repository, tag = name.rsplit(":", 1)
    with tempfile.TemporaryDirectory(dir=settings.cache, prefix=".debian-") as temporary:
        target = Path(temporary) / "debian.tar"
        cure = f"Is {mirror.main} reachable, and does this machine's debian-archive-keyring know Debian 13?"
        run(as_root(command(mirror, target)), "making Debian 13", cure=cure)
        if os.geteuid() != 0:
            run(as_root(["chown", str(os.getuid()), target]), "taking over debian.tar")
        changes = ['CMD ["bash"]', f"LABEL {INPUTS_LABEL}={digest}"]
        client.api.import_image_from_file(str(target), repository=repository, tag=tag, changes=changes)
