"""Removing what no kept release needs: their folders, configuration files, and the images that only they had."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.history import read_history
from ansible.module_utils.integr8scode_docker import docker_errors
from ansible.module_utils.releases.layout import Layout, Release
from ansible.module_utils.releases.targets import rollback_target

FEWEST = 2
"""Releases that are kept at least: the running one, and where a rollback goes."""


def last_served(history: Iterable[dict[str, Any]]) -> list[str]:
    """Ids of releases that were switched to with success, the latest first, each once."""
    ids: dict[str, None] = {}
    for entry in history:
        if entry.get("result") == "ok" and entry.get("release") and entry.get("action") in ("deploy", "rollback"):
            ids.pop(str(entry["release"]), None)
            ids[str(entry["release"])] = None
    return list(reversed(ids))


def split(
    releases: Sequence[Release], served: Sequence[str], current: str, keep: int, target: str | None = None
) -> tuple[list[Release], list[Release]]:
    """The releases to keep and those to remove.

    Kept are the running one and where a rollback goes, then those that served most lately, then the newest; one that
    never served goes first.

    :param keep: how many, the running one included; two at least.
    :param target: where a rollback goes.
    """
    order = {name: place for place, name in enumerate(served)}

    def rank(release: Release) -> tuple[bool, bool, int, int]:
        # `releases` has the newest first
        place = order.get(release.id, len(order))
        return (release.id != current, release.id != target, place, releases.index(release))

    ranked = sorted(releases, key=rank)
    return ranked[: max(keep, FEWEST)], ranked[max(keep, FEWEST) :]


def digest_references(releases: Iterable[Release]) -> set[str]:
    """``repository@digest`` of every image that the releases name."""
    found = set()
    for release in releases:
        for image in release.images.values():
            name, at, digest = image.partition("@")
            if not at:
                continue
            head, colon, tail = name.rpartition(":")
            found.add(f"{head if colon and '/' not in tail else name}@{digest}")
    return found


def prune(layout: Layout, client: Any, keep: int) -> list[str]:
    """Remove releases beyond ``keep`` and what only they needed. What was removed, as sentences.

    Images are removed by the digests that the removed releases name, and only where no container uses them: other
    people's images, and ours under a tag that somebody gave them, stay.

    :raises OSError: a folder cannot be removed.
    """
    current = layout.current_release()
    if current is None:
        return []
    releases, history = layout.all(), read_history(layout.base)
    target = rollback_target(history, current.id, [release.id for release in releases])
    kept, gone = split(releases, last_served(history), current.id, keep, target)
    said = []
    images = sorted(digest_references(gone) - digest_references(kept))
    # images first: cut off between the two, the next run still knows from the records what to remove
    said += _remove_images(client, images)
    for release in gone:
        # the record first: a folder that is half gone is no release
        (release.path / "release.json").unlink()
        said.append(f"release {release.id} is removed")
    for path in [one for one in layout.releases.iterdir() if one.is_dir() and not one.is_symlink()]:
        if path not in {release.path for release in kept}:
            shutil.rmtree(path)
    needed = {Path(path).parent for release in kept for path in release.record.get("files", {}).values()}
    folders = [path for path in (layout.base / "files").glob("*") if path.is_dir()]
    for folder in folders:
        if folder not in needed:
            shutil.rmtree(folder)
    return said


def _remove_images(client: Any, images: Iterable[str]) -> list[str]:
    said = []
    for image in images:
        try:
            client.api.remove_image(image, noprune=False)
            said.append(f"image {image} is removed")
        except docker_errors.ImageNotFound:
            continue
        except docker_errors.APIError as error:
            if error.status_code != 409:  # a container uses it
                said.append(f"image {image} could not be removed: {error.explanation}")
    return said
