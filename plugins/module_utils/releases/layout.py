"""Where things are below ``/opt/integr8scode``, and what a release says of itself."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.atomic_files import sync_folder

PROJECT = "integr8scode"
UNIT = "integr8scode-switch.service"
"""The transient unit that a switch runs as; one at a time on a server."""
RUNS = Path("/var/lib/integr8scode/runs")


@dataclass(frozen=True)
class Release:
    """One release of the server.

    Attributes:
        path: its folder.
        record: ``release.json``.
    """

    path: Path
    record: dict[str, Any]

    @property
    def id(self) -> str:
        """Its name."""
        return self.path.name

    @property
    def tag(self) -> str:
        """Tag of the application's images."""
        return str(self.record.get("tag", ""))

    @property
    def images(self) -> dict[str, str]:
        """Pinned image of each service, one-shots included."""
        return dict(self.record.get("images", {}))

    @property
    def edge_config(self) -> Path:
        """The edge's configuration that belongs to it."""
        return self.path / "haproxy.cfg"

    def value(self, variable: str) -> str:
        """The value of a variable of its ``.env`` that is a number or an address; "" where it sets none."""
        text = (self.path / ".env").read_text(encoding="utf-8")
        found = re.search(rf"(?m)^{re.escape(variable)}=['\"]?([0-9A-Fa-f.:/]+)['\"]?$", text)
        return found[1] if found else ""

    def number(self, variable: str, default: int) -> int:
        """The value of a numeric variable of its ``.env``; ``default`` where it sets none."""
        value = self.value(variable)
        return int(value) if value.isdecimal() else default


class UnknownReleaseError(Exception):
    """There is no such release here; the text names those that are."""


def read_record(path: Path) -> dict[str, Any]:
    """What a file of a release, ``release.json`` or the like, says. Raises OSError, ValueError."""
    record = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(record, dict):
        # a ValueError as that of other broken content
        raise ValueError("it holds no object")  # noqa: TRY004
    return record


def tag_of(name: str) -> str:
    """The tag in a release's id."""
    return name.rpartition("-")[0]


def record_without_its_file(folder: Path) -> dict[str, Any]:
    """Id, tag, images and digests of a release whose ``release.json`` is broken, as the rest of its folder tells them.

    :raises ValueError: it does not.
    """
    try:
        services = read_record(folder / "digests.yaml")["services"]
        images = {str(name): str(one["image"]) for name, one in services.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / 'digests.yaml'}: {error}") from error
    digests = {reference: digest for reference, at, digest in (one.partition("@") for one in images.values()) if at}
    return {"id": folder.name, "tag": tag_of(folder.name), "images": images, "digests": digests}


@dataclass(frozen=True)
class Layout:
    """The folders of one installation.

    Attributes:
        base: where Integr8sCode is installed.
    """

    base: Path = Path("/opt/integr8scode")

    @property
    def releases(self) -> Path:
        """Folder of all releases."""
        return self.base / "releases"

    @property
    def current(self) -> Path:
        """Link to the running release."""
        return self.base / "current"

    @property
    def edge(self) -> Path:
        """What the edge reads while it runs."""
        return self.base / "edge"

    @property
    def tls(self) -> Path:
        """Certificates."""
        return self.base / "tls"

    @property
    def secrets(self) -> Path:
        """Secrets and the compose file that mounts them."""
        return self.base / "secrets"

    def release(self, name: str) -> Release:
        """A complete release.

        :raises UnknownReleaseError: none of this name is complete here.
        """
        path = self.releases / name
        try:
            record = read_record(path / "release.json")
        except (OSError, ValueError) as error:
            kept = ", ".join(release.id for release in self.all()) or "none"
            raise UnknownReleaseError(
                f"release {name} is not complete on this server ({error}); kept: {kept}"
            ) from None
        return Release(path, record)

    def all(self) -> list[Release]:
        """The complete releases, the newest first."""
        found = []
        for record in self.releases.glob("*/release.json"):
            try:
                found.append(Release(record.parent, read_record(record)))
            except (OSError, ValueError):
                continue  # cut off while it was written: it was never used
        return sorted(found, key=lambda release: (str(release.record.get("created_at", "")), release.id), reverse=True)

    def current_release(self) -> Release | None:
        """The release that ``current`` points to; None before the first deploy has ended.

        One whose record is broken has served all the same, and can be put back.
        """
        if not self.current.is_symlink():
            return None
        name = self.current.resolve().name
        try:
            return self.release(name)
        except UnknownReleaseError:
            with suppress(ValueError):
                return Release(self.releases / name, record_without_its_file(self.releases / name))
            return None

    def current_problem(self) -> str:
        """Why no release can take the place of ``current``, with the cure: it is no link. "" where it may."""
        if self.current.is_symlink() or not self.current.exists():
            return ""
        try:
            name = str(read_record(self.current / "release.json").get("id", ""))
        except (OSError, ValueError):
            name = ""
        known = bool(name) and (self.releases / name).is_dir()
        target = name if known else "ID"
        which = "" if known else f", where ID is the folder in {self.releases} that runs"
        return (
            f"{self.current} is no link to a release but a copy of one, as after copying a server's files without "
            f"their links. No release could take its place. Cure, as root on the server: mv {self.current} "
            f"{self.current}.copy && ln -s releases/{target} {self.current}{which}; then run again."
        )

    def point_current(self, release: Release) -> None:
        """Let ``current`` point to a release; at no moment is there no ``current``. Raises OSError."""
        temporary = self.base / f".current.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(Path("releases") / release.id)
        os.replace(temporary, self.current)
        sync_folder(self.base)
