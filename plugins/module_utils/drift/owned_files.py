"""Files that the roles own: content, mode, owner, what is missing, and what nobody knows in a folder of theirs."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from ansible.module_utils.drift.findings import Comparison, Severity
from ansible.module_utils.drift.reading import LARGEST, describe, digest, keyed, text

MOST_NAMES = 2000  # of a folder


def _entry(wanted: Mapping[str, Any], key: bytes) -> dict[str, Any]:
    """What is at the path of one wanted file; `text` only of one without secrets that differs, for saying where."""
    path = str(wanted["path"])
    found = describe(path)
    if found is None:
        return {"kind": "missing"}
    if found["kind"] != "file" or not (wanted.get("digest") or "content" in wanted):
        return found
    if found["size"] > LARGEST:
        return {**found, "digest": "too large"}
    found["digest"] = digest(path, key)
    if "content" in wanted and found["digest"] != keyed(str(wanted["content"]).encode(), key):
        found["text"] = text(path)
    return found


def _listing(path: str) -> list[str] | None:
    try:
        with os.scandir(path) as entries:
            names = [entry.name for _, entry in zip(range(MOST_NAMES), entries, strict=False)]
    except (FileNotFoundError, NotADirectoryError):
        return None
    return sorted(names)


def collect_files(expected: Mapping[str, Any], key: bytes) -> dict[str, Any]:
    """What is where the wanted files and folders should be. Raises OSError.

    :param expected: `files` and `folders`, see `compare_files`.
    :param key: of this run's keyed hashes.
    """
    entries: dict[str, dict[str, Any]] = {}
    for wanted in expected.get("files", []):
        try:
            entries[wanted["path"]] = _entry(wanted, key)
        except OSError as error:
            entries[wanted["path"]] = {"kind": "unreadable", "why": error.strerror or str(error)}
    folders: dict[str, dict[str, Any] | None] = {}
    listings: dict[str, list[str] | None] = {}
    for folder in expected.get("folders", []):
        folders[folder["path"]] = describe(folder["path"])
        listings[folder["path"]] = _listing(folder["path"])
    return {"entries": entries, "folders": folders, "listings": listings}


def where(expected: str, found: str) -> tuple[str, str]:
    """Where two texts differ: the first line as it is meant, and how far the found one is from it, not quoting it."""
    left, right = expected.splitlines(), found.splitlines()
    changed, missing, more, first = 0, 0, 0, None
    for kind, i1, i2, j1, j2 in difflib.SequenceMatcher(a=left, b=right, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        first = first or (i1, j1)
        both = min(i2 - i1, j2 - j1)
        changed, missing, more = changed + both, missing + i2 - i1 - both, more + j2 - j1 - both
    if first is None:
        return "the same end of the file", "another end of the file (a line break)"
    counts = [(changed, "changed"), (missing, "missing"), (more, "more")]
    told = ", ".join(f"{number} {'line' if number == 1 else 'lines'} {word}" for number, word in counts if number)
    meant = f"line {first[0] + 1}: {left[first[0]].strip()}" if first[0] < len(left) else "the end of the file"
    return meant, f"{told}, the first at line {first[1] + 1}"


def _compare_access(
    result: Comparison, wanted: Mapping[str, Any], found: Mapping[str, Any], severity: Severity, cure: str
) -> None:
    path = str(wanted["path"])
    if wanted.get("mode"):
        mode = f"{int(str(wanted['mode']), 8):04o}"
        result.same("files", path, "mode", expected=mode, found=found["mode"], cure=cure, severity=severity)
    for name in ("owner", "group"):
        if wanted.get(name) is not None:
            result.same(
                "files", path, name, expected=int(wanted[name]), found=found[name], cure=cure, severity=severity
            )


def _cure(result: Comparison, wanted: Mapping[str, Any]) -> str:
    """The command that puts a file or folder right."""
    playbook = str(wanted.get("playbook", ""))
    return result.playbook(playbook) if playbook else result.site(str(wanted.get("role", "")))


def _compare_file(result: Comparison, wanted: Mapping[str, Any], found: Mapping[str, Any], key: bytes) -> None:
    path, secret = str(wanted["path"]), bool(wanted.get("secret"))
    cure = _cure(result, wanted)
    severity: Severity = wanted.get("severity", "critical" if secret else "warning")
    result.count("files")
    if wanted.get("absent"):
        if found["kind"] != "missing":
            result.add("files", path, "unknown", expected="no such file", found=found["kind"], cure=cure)
        return
    if found["kind"] == "unreadable":
        result.not_asked("files", path, str(found["why"]), f"By hand: look why root cannot read {path}")
        return
    kind = str(wanted.get("kind", "file"))
    if found["kind"] == "missing":
        if not wanted.get("optional"):
            result.add("files", path, "missing", expected=f"a {kind}", found="nothing", cure=cure, severity="critical")
        return
    if found["kind"] != kind:
        by_hand = f"By hand: move {path} away, then {cure}"
        result.add("files", path, "kind", expected=f"a {kind}", found=found["kind"], cure=by_hand, severity="critical")
        return
    if kind == "link":
        result.same("files", path, "target", expected=wanted["target"], found=found["target"], cure=cure)
        return
    _compare_access(result, wanted, found, severity, cure)
    if "content" in wanted:
        content = str(wanted["content"])
        if found.get("digest") != keyed(content.encode(), key):
            meant, is_now = where(content, str(found.get("text", "")))
            result.add("files", path, "content", expected=meant, found=is_now, cure=cure, severity=severity)
    elif wanted.get("digest") and found.get("digest") != wanted["digest"]:
        meant = "the secret of the inventory" if secret else "the content that this project writes"
        result.add("files", path, "content", expected=meant, found="another content", cure=cure, severity=severity)


def compare_files(result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any], key: bytes) -> None:
    """Compare wanted files and folders with what is there.

    A file has `path`, `role` (whose part of site.yml cures it) or `playbook` (another one that does), `mode`, `owner`,
    `group`, and `content` (text without secrets), `digest` (keyed) or `target` (of a `kind: link`); `secret`,
    `optional`, `absent`, `severity`.
    A folder has `path`, `role`, `mode`, `owner`, `group`, and `known`: patterns of the names that may be in it.
    """
    for wanted in expected.get("files", []):
        _compare_file(result, wanted, facts["entries"][wanted["path"]], key)
    own: dict[str, set[str]] = {}
    for wanted in [*expected.get("files", []), *expected.get("folders", [])]:
        if not wanted.get("absent"):
            parent, name = os.path.split(str(wanted["path"]))
            own.setdefault(parent, set()).add(name)
    known: dict[str, list[str]] = {}
    for folder in expected.get("folders", []):
        known.setdefault(folder["path"], []).extend(folder.get("known", []))
    for folder in expected.get("folders", []):
        path = str(folder["path"])
        cure = _cure(result, folder)
        found = facts["folders"][path]
        result.count("files")
        if found is None:
            if not folder.get("optional"):
                result.add(
                    "files", path, "missing", expected="a directory", found="nothing", cure=cure, severity="critical"
                )
            continue
        _compare_access(result, folder, found, folder.get("severity", "warning"), cure)
        for name in facts["listings"][path] or []:
            if name in own.get(path, ()) or any(fnmatchcase(name, pattern) for pattern in known[path]):
                continue
            result.add(
                "files",
                f"{path.rstrip('/')}/{name}",
                "unknown",
                expected="nothing that no role has put there",
                found="a file or folder of unknown origin",
                cure=(
                    f"By hand: look at {path.rstrip('/')}/{name} and move it away, or keep it by a rule of drift_ignore"
                ),
                severity=folder.get("unknown_severity", "warning"),
            )
