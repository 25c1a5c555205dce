"""What two kept releases differ in, by the names of their parts and never by what these hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.atomic_files import read_file

OF_THE_ID = ("COMPOSE_FILE", "IMAGE_TAG")
"""Variables of every release's own: they follow from its name."""
TEXTS = ("docker-compose.yaml", "haproxy.cfg")


def _repository(image: str) -> str:
    """The last word of an image's repository, without registry, tag and digest."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def _changed(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Keys with another value, or without one."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def _settings(folder: Path, files: Mapping[str, str]) -> dict[str, str]:
    """A release's ``.env`` as it is written, without what names its files. Raises OSError, UnicodeDecodeError."""
    lines = (folder / ".env").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    paths = set(files.values())
    return {name: value for name, value in pairs if name not in OF_THE_ID and value.strip("'\"") not in paths}


def differences(one: Path, record: Mapping[str, Any], other: Path, other_record: Mapping[str, Any]) -> list[str] | None:
    """Parts of two releases that are not the same, as words; None where one cannot be read.

    :param one: a release's folder.
    :param record: its ``release.json``.
    """
    images, others = record.get("images") or {}, other_record.get("images") or {}
    files, other_files = record.get("files") or {}, other_record.get("files") or {}
    changed = _changed(images, others)
    repositories = sorted({_repository(found) for name in changed if (found := images.get(name) or others.get(name))})
    try:
        settings = _changed(_settings(one, files), _settings(other, other_files))
        texts = [name for name in TEXTS if read_file(one / name) != read_file(other / name)]
    except (OSError, UnicodeDecodeError):
        return None
    return [
        *(f"image {name}" for name in repositories),
        *_changed(files, other_files),
        *texts,
        *(f"{name} in .env" for name in settings),
    ]
