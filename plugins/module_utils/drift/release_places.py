"""Where the running release's files lie: who may read and write them, and what lies beside them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.drift.findings import Comparison
from ansible.module_utils.drift.reading import describe


def collect_places(release: Path, names: Iterable[str], files: list[Path]) -> dict[str, Any]:
    """`access` of each file, and `strangers`: what else is in its folder. Raises OSError.

    :param names: of the files in the release's own folder, beside its record.
    :param files: its configuration, each in a folder of its own.
    """
    places = [*(release / name for name in ("release.json", *names)), *files]
    own = {str(place) for place in places}
    folders = sorted({place.parent for place in places if place.parent.is_dir()})
    there = [f"{folder}/{name}" for folder in folders for name in sorted(os.listdir(folder))]
    return {
        "access": {str(place): describe(place) for place in places},
        "strangers": [path for path in there if path not in own],
    }


def compare_places(result: Comparison, facts: Mapping[str, Any]) -> None:
    """Compare mode and owner of the release's files, which a deploy of the same release leaves as they are.

    And tell what lies beside them.
    """
    for path, found in (facts.get("access") or {}).items():
        if found is None:
            continue  # that it is missing is told with its content
        mode = "0640" if path.endswith("/release.json") else "0644"
        result.same(
            "files",
            path,
            "mode",
            expected=mode,
            found=found["mode"],
            cure=f"By hand: chmod {mode} {path}",
            severity="critical",
        )
        for name in ("owner", "group"):
            cure = f"By hand: chown 0:0 {path}"
            result.same("files", path, name, expected=0, found=found[name], cure=cure, severity="critical")
    for path in facts.get("strangers") or []:
        result.add(
            "files",
            path,
            "unknown",
            expected="nothing that no role has put there",
            found="a file or folder of unknown origin",
            cure=f"By hand: look at {path} and move it away, or keep it by a rule of drift_ignore",
        )
