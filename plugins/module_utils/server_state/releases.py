"""The releases of a server: what runs, what is kept and could run again, what happened, who holds the lock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible.module_utils.releases import lock
from ansible.module_utils.releases.layout import read_record, record_without_its_file, tag_of
from ansible.module_utils.server_state.release_parts import differences
from ansible.module_utils.server_state.stack import pinned_name


def read_release(base: Path) -> dict[str, Any] | None:
    """Return the running release's record, or None where nothing was deployed.

    Where it cannot be read, the rest of the release tells what a run needs to keep tag and digests and to write the
    record again; it has a ``problem`` then.

    :raises ValueError: the rest does not tell it either.
    """
    folder = (base / "current").resolve()
    record = folder / "release.json"
    if not folder.is_dir():
        return None
    try:
        release = read_record(record)
        if not release.get("id"):
            raise ValueError("it names no release")  # noqa: TRY301 - as what cannot be read
    except (OSError, ValueError) as error:
        tag = tag_of(folder.name) or "TAG"
        try:
            release = record_without_its_file(folder)
        except ValueError as other:
            if not record.exists():
                return None
            raise ValueError(
                f"{record} cannot be read ({error}), nor what else the release says of itself ({other}). Cure: rm "
                f"{record} on the server, then ansible-playbook deploy.yml -e tag={tag}, which writes it again"
            ) from None
        cure = f"ansible-playbook deploy.yml -e tag={tag}, which writes it again"
        return {**release, "created_at": "", "problem": f"{record} cannot be read ({error}). Cure: {cure}."}
    return release


def read_seeded(base: Path) -> str | None:
    """Return the path of the password file that the users were last seeded with, or None."""
    marker = base / "secrets" / "seeded"
    return marker.read_text(encoding="utf-8").strip() if marker.exists() else None


def _served_at(history: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """When each release was last switched to."""
    return {
        str(entry["release"]): str(entry.get("at", ""))
        for entry in history
        if entry.get("result") == "ok" and entry.get("release")
    }


def read_kept(
    base: Path, current: str | None, history: Iterable[Mapping[str, Any]], images: set[str] | None
) -> list[dict[str, Any]]:
    """Return the complete releases, the newest first; one whose record cannot be read was never used.

    :param images: what the engine has; None where it does not say, ``missing`` is then null.
    """
    served = _served_at(history)
    records = {}
    for path in base.glob("releases/*/release.json"):
        with suppress(OSError, ValueError):
            records[path.parent] = read_record(path)
    runs = base / "releases" / str(current)
    kept = []
    for folder, record in records.items():
        pinned: dict[str, str] = record.get("images") or {}
        missing = None
        if images is not None:
            missing = sorted({image for image in pinned.values() if pinned_name(image) not in images})
        kept.append(
            {
                "id": folder.name,
                "tag": record.get("tag", ""),
                "created_at": record.get("created_at", ""),
                "by": record.get("by", ""),
                "commit": record.get("commit", ""),
                "served_at": served.get(folder.name),
                "current": folder == runs,
                "images": pinned,
                "digests": record.get("digests") or {},
                "missing": missing,
                "differs": differences(folder, record, runs, records[runs]) if runs in records else None,
            }
        )
    return sorted(kept, key=lambda release: (str(release["created_at"]), str(release["id"])), reverse=True)


def read_lock(base: Path, lease_seconds: float, switch_active: bool) -> dict[str, Any] | None:
    """Return who holds the lock, in a sentence too, and why its run is over where it is; None for nobody."""
    try:
        owner = lock.read_owner(base)
    except (lock.LockedError, OSError) as error:
        return {"owner": None, "description": str(error), "stale": ""}
    if owner is None:
        return None
    stale = lock.why_stale(
        owner,
        lease_seconds=lease_seconds,
        unit_active=lambda: switch_active,
        restore_at_work=lambda: lock.restore_active(base),
    )
    return {"owner": owner.to_dict(), "description": owner.describe(), "stale": stale}
