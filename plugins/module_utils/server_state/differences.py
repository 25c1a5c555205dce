"""What tells two releases of a server apart, by the names of their parts. Values are never told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.releases.layout import record_without_its_file

TEXTS = ("docker-compose.yaml", "haproxy.cfg")
# of every release another one: where it is, and its tag, which is told by its id
ITS_OWN = frozenset({"COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "IMAGE_TAG"})

Parts = dict[str, dict[str, str]]


def _parts(folder: Path, files: Path) -> Parts:
    """What a release is made of, each part by name. Raises OSError, ValueError."""
    given: dict[str, str] = {}
    environment: dict[str, str] = {}
    for line in (folder / ".env").read_text(encoding="utf-8").splitlines():
        variable, _, value = line.partition("=")
        path = Path(value.strip("'\""))
        if files in path.parents:
            # its folder is named by its content
            given[path.name] = str(path)
        elif variable not in ITS_OWN:
            environment[variable] = value
    for name in TEXTS:
        if (folder / name).exists():
            given[name] = (folder / name).read_text(encoding="utf-8")
    return {"images": record_without_its_file(folder)["images"], "files": given, "environment": environment}


def read_parts(folder: Path, base: Path) -> Parts | None:
    """What the release in a folder is made of; None where it cannot be read."""
    try:
        return _parts(folder, base / "files")
    except (OSError, ValueError):
        return None


def differences(one: Parts | None, other: Parts | None) -> dict[str, Any] | None:
    """By part the names of what is not the same in both; None where one of them is not known."""
    if one is None or other is None:
        return None
    return {
        part: sorted(name for name in {*one[part], *other[part]} if one[part].get(name) != other[part].get(name))
        for part in one
    }
