"""The catalogue of the lab's images (``lab/images.yml``) and the hash of what each is made from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lab.settings import ROOT, LabError

CATALOGUE = ROOT / "lab" / "images.yml"

FORMAT = "1"
"""Raise it when the builder changes what comes out of the same folder."""

IGNORED = frozenset({"__pycache__", "site-packages", "jars", "target", ".mypy_cache", ".ruff_cache", ".pytest_cache"})
"""Folders that are products, not inputs."""

_TAG = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")
_FROM = re.compile(r"^FROM\s+(?:--\S+\s+)*(\S+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Build:
    """One image made from a folder.

    Attributes:
        tags: names of this one image in its repository.
        args: build arguments.
        changes: folders that make this build different from the folder's others (see ``lab.stage.change``).
        made_up: there is no real image of this name, wherever the others come from.
    """

    tags: tuple[str, ...]
    args: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[Path, ...] = ()
    made_up: bool = False


@dataclass(frozen=True)
class Image:
    """One entry of the catalogue.

    Attributes:
        name: key in the catalogue.
        folder: with its Dockerfile; None for the root image, which no Dockerfile makes.
        local: name in the engine, for images that are not pushed.
        repository: in the lab's registry, for images that are.
        real: the real image without a tag (with one for ``local`` images); empty if there is none.
        builds: what is made; a local image has exactly one.
    """

    name: str
    folder: Path | None
    local: str
    repository: str
    real: str
    builds: tuple[Build, ...]


def _entry(name: str, raw: Mapping[str, Any], root: Path) -> Image:
    unknown = set(raw) - {"folder", "local", "repository", "real", "builds"}
    if unknown:
        raise LabError(f"lab/images.yml: {name} has unknown keys: {', '.join(sorted(unknown))}")
    if bool(raw.get("local")) == bool(raw.get("repository")):
        raise LabError(f"lab/images.yml: {name} needs either `local` or `repository`")
    builds = []
    for one in raw.get("builds", [{"tags": ["local"]}] if raw.get("local") else []):
        tags = tuple(one.get("tags", []))
        for tag in tags:
            if not isinstance(tag, str) or not _TAG.match(tag):
                raise LabError(f"lab/images.yml: {name} has the tag {tag!r}: write it as a quoted string")
        if not tags:
            raise LabError(f"lab/images.yml: {name} has a build without tags")
        unknown = set(one) - {"tags", "args", "changes", "made_up"}
        if unknown:
            raise LabError(f"lab/images.yml: {name} {tags[0]} has unknown keys: {', '.join(sorted(unknown))}")
        changes = tuple(root / folder for folder in one.get("changes", []))
        for folder in changes:
            if not folder.is_dir():
                raise LabError(f"lab/images.yml: {name} {tags[0]} names {folder.relative_to(root)}, which is no folder")
        args = {"VERSION": tags[0], **one.get("args", {})}
        builds.append(Build(tags, args, changes, bool(one.get("made_up", False))))
    if not builds:
        raise LabError(f"lab/images.yml: {name} has no builds")
    folder = root / raw["folder"] if raw.get("folder") else None
    return Image(name, folder, raw.get("local", ""), raw.get("repository", ""), raw.get("real", ""), tuple(builds))


def load(path: Path = CATALOGUE) -> dict[str, Image]:
    """Read and check the catalogue.

    Raises:
        LabError: it says something that cannot be meant, or the same tag twice.
    """
    raw = yaml.safe_load(path.read_text("utf-8"))["images"]
    images = {name: _entry(name, entry, path.parent) for name, entry in raw.items()}
    seen: dict[str, str] = {}
    for image in images.values():
        for build in image.builds:
            for reference in [image.local] if image.local else [f"{image.repository}:{tag}" for tag in build.tags]:
                if reference in seen:
                    raise LabError(f"lab/images.yml: {reference} is made by {seen[reference]} and by {image.name}")
                seen[reference] = image.name
    return images


def files(folder: Path) -> Iterator[Path]:
    """The input files of an image's folder, sorted; products are left out."""
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and not IGNORED & set(relative.parts) and path.suffix != ".pyc":
            yield path


def parent(image: Image, images: Mapping[str, Image]) -> Image | None:
    """The image of the catalogue that this one's Dockerfile starts from.

    Raises:
        LabError: no Dockerfile, or it starts from something that is not in the catalogue.
    """
    if image.folder is None:
        return None
    dockerfile = image.folder / "Dockerfile"
    if not dockerfile.is_file():
        raise LabError(f"image {image.name}: {dockerfile.relative_to(ROOT)} is missing")
    by_name = {other.local: other for other in images.values() if other.local}
    parents = {name: by_name.get(name) for name in _FROM.findall(dockerfile.read_text("utf-8"))}
    for name, found in parents.items():
        if found is None:
            known = ", ".join(sorted(by_name))
            raise LabError(f"image {image.name}: its Dockerfile starts from {name}; the lab has {known}")
    if len(parents) != 1:
        raise LabError(f"image {image.name}: its Dockerfile needs exactly one FROM")
    return next(iter(parents.values()))


def inputs_hash(image: Image, build: Build, parent_hash: str, machine: str) -> str:
    """Hash of all that decides what comes out: files and their mode, arguments, parent, machine.

    Args:
        image: with a folder.
        build: which of its builds.
        parent_hash: the parent's own hash.
        machine: the engine's architecture, as it names it.

    Returns:
        16 hex digits.
    """
    digest = hashlib.sha256()

    def add(*parts: str | bytes) -> None:
        for part in parts:
            data = part.encode() if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "big") + data)

    add(FORMAT, machine, parent_hash)
    for key in sorted(build.args):
        add(key, build.args[key])

    def add_files(folder: Path, prefix: str) -> None:
        for path in files(folder):
            executable = "x" if path.stat().st_mode & 0o100 else "-"
            add(prefix + path.relative_to(folder).as_posix(), executable, path.read_bytes())

    if image.folder is not None:
        add_files(image.folder, "")
    for number, folder in enumerate(build.changes):
        add_files(folder, f"change {number}: ")
    return digest.hexdigest()[:16]
