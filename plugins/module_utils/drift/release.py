"""The deployed release: its folder, what it is made of, the secrets and the edge's configuration beside it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.drift.findings import Comparison
from ansible.module_utils.drift.owned_files import where
from ansible.module_utils.drift.reading import describe, digest, text
from ansible.module_utils.drift.release_places import collect_places, compare_places
from ansible.module_utils.release_secrets import LIST, own_list
from ansible.module_utils.secret_files import FOLDER_NAME, read_mounts

HASH_DIGITS = 12  # of a release's id and of the folders of its files
OWN_FILES = ("docker-compose.yaml", "digests.yaml", LIST, ".env", "haproxy.cfg")


def digest_of(*parts: str) -> str:
    """The short hash by which a configuration file's folder is named (module release_files)."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:HASH_DIGITS]


def parse_environment(content: str) -> dict[str, str]:
    r"""The variables of a `.env` file as this project writes it: plain, in single quotes (\' is a quote), or in double
    quotes with \\, \" and $$."""
    found = {}
    for line in content.splitlines():
        name, separator, value = line.partition("=")
        if not separator or name.startswith("#"):
            continue
        if len(value) >= 2 and value[0] == value[-1] == "'":
            value = value[1:-1].replace("\\'", "'")
        elif len(value) >= 2 and value[0] == value[-1] == '"':
            value = re.sub(r"\\([\\\"])|\$\$", lambda match: match[1] or "$", value[1:-1])
        found[name.strip()] = value
    return found


def _record(path: Path) -> dict[str, Any] | None:
    content = text(path)
    if not content:
        return None
    try:
        record = json.loads(content)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def collect_release(base: Path) -> dict[str, Any]:
    """The release that `current` points to, with the texts of its files (none holds a secret), and the others."""
    current = base / "current"
    link = describe(current)
    found: dict[str, Any] = {
        "link": link,
        "record": None,
        "texts": {},
        "files": {},
        "id": "",
        "others": {},
        "folders": [],
    }
    releases = base / "releases"
    used: set[str] = set()
    if releases.is_dir():
        for path in sorted(releases.iterdir()):
            record = _record(path / "release.json")
            found["others"][path.name] = record is not None and bool(record.get("id"))
            used.update(Path(one).parent.name for one in (record or {}).get("files", {}).values())
    if (base / "files").is_dir():
        found["folders"] = sorted(name for name in os.listdir(base / "files") if name not in used)
    if link is not None and link["kind"] == "link":
        path = base / link["target"]
        found["id"] = path.name
        found["path"] = str(path)
        found["record"] = _record(path / "release.json")
        for name in OWN_FILES:
            if describe(path / name) is not None:
                found["texts"][name] = text(path / name)
        for name, place in ((found["record"] or {}).get("files") or {}).items():
            content = text(place) if describe(place) is not None else None
            named = "" if content is None else digest_of(name, content)
            found["files"][name] = {"path": place, "text": content, "untouched": named == Path(place).parent.name}
        found |= collect_places(path, OWN_FILES, [Path(one["path"]) for one in found["files"].values()])
    edge = base / "edge" / "haproxy.cfg"
    found["edge"] = text(edge) if describe(edge) is not None else None
    lines = [line for line in text(base / "history.jsonl").splitlines() if line.strip()]
    try:
        found["last"] = json.loads(lines[-1]) if lines else None
    except ValueError:
        found["last"] = {}  # there is one
    found["lock"] = _record(base / "lock" / "owner.json")
    return found


def tag_of(facts: Mapping[str, Any]) -> str:
    """Tag of the release that is meant to run; "" where none is known."""
    return str((facts.get("record") or {}).get("tag") or "")


def _text(result: Comparison, item: str, meant: str, found: str | None, cure: str) -> None:
    result.count("release")
    if found is None:
        result.add("release", item, "missing", expected="a file", found="nothing", cure=cure, severity="critical")
    elif found != meant:
        expected, is_now = where(meant, found)
        result.add("release", item, "content", expected=expected, found=is_now, cure=cure, severity="critical")


def _environment(result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any], cure: str) -> None:
    found = parse_environment(facts["texts"].get(".env", ""))
    paths = {entry["variable"]: facts["files"].get(entry["name"], {}).get("path", "") for entry in expected["files"]}
    meant = {
        **{name: str(value) for name, value in expected["environment"].items()},
        **paths,
        "IMAGE_TAG": tag_of(facts),
        "COMPOSE_PROJECT_NAME": "integr8scode",
        "COMPOSE_FILE": found.get("COMPOSE_FILE", ""),
    }
    for name in sorted({*meant, *found}):
        result.count("release")
        if meant.get(name) != found.get(name):
            result.add(
                "release",
                ".env",
                name,
                expected=meant.get(name, "not set"),
                # what somebody has added may be a secret
                found=found.get(name, "not set") if name in meant else "set",
                cure=cure,
                severity="critical",
            )
    named = found.get("COMPOSE_FILE", "").split(":")
    # by the id in its record: a copy of a release, which is told as such, names the files of the release that it is of
    path = f"{Path(facts['path']).parent}/{facts['record'].get('id') or facts['id']}"
    # releases once named the compose file of the newest secrets themselves
    secrets = {f"{path}/{LIST}", str(expected["secrets"])}
    if f"{path}/digests.yaml" not in named or not secrets & set(named):
        result.add(
            "release",
            ".env",
            "COMPOSE_FILE",
            expected="the release's compose file, its digests and the secrets",
            found=found.get("COMPOSE_FILE", "not set"),
            cure=cure,
            severity="critical",
        )
    if f"{path}/{LIST}" in named:
        _text(result, LIST, own_list(expected["secret_services"], expected["secrets"]), facts["texts"].get(LIST), cure)


def _images(result: Comparison, facts: Mapping[str, Any], cure: str) -> None:
    try:
        written = {
            name: one["image"] for name, one in json.loads(facts["texts"].get("digests.yaml", ""))["services"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        written = {}
    for service, image in sorted((facts["record"].get("images") or {}).items()):
        result.same(
            "release",
            "digests.yaml",
            service,
            expected=image,
            found=written.get(service, "not named"),
            cure=cure,
            severity="critical",
        )


def _edge(result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any], cure: str) -> None:
    own = facts["texts"].get("haproxy.cfg")
    meant = expected.get("edge_config")
    if own is not None:
        # what the edge reads is the running release's
        _text(result, "edge/haproxy.cfg", own, facts["edge"], cure)
        if meant is not None:
            _text(result, "haproxy.cfg", str(meant), own, cure)
    elif meant is not None:
        _text(result, "edge/haproxy.cfg", str(meant), facts["edge"], cure)


def compare_release(result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Compare the running release with what this checkout and the inventory would write for the same tag.

    `compose` (text), `files` (name, variable, content), `environment`, `edge_config` (text, None: not known), `secrets`
    (the compose file that mounts the newest ones), `secret_services` (that it mounts them into).
    """
    tag = tag_of(facts)
    cure = result.deploy(tag)
    result.count("release")
    link = facts["link"]
    if link is None or link["kind"] != "link":
        found = "nothing" if link is None else f"a {link['kind']}"
        result.add(
            "release",
            "current",
            "missing",
            expected="a link to the running release",
            found=found,
            cure=cure,
            severity="critical",
        )
        return
    if not facts["record"] or not tag:
        found = "it is missing" if facts["record"] is None else "it cannot be read"
        result.add(
            "release",
            f"releases/{facts['id']}/release.json",
            "missing",
            expected="the record of the release",
            found=found,
            cure=cure,
            severity="critical",
        )
        return
    if str(facts["record"].get("id")) != facts["id"]:
        result.add(
            "release",
            "current",
            "target",
            expected=facts["record"].get("id"),
            found=facts["id"],
            cure=cure,
            severity="critical",
        )
    _text(result, "docker-compose.yaml", str(expected["compose"]), facts["texts"].get("docker-compose.yaml"), cure)
    _images(result, facts, cure)
    _environment(result, expected, facts, cure)
    for wanted in expected["files"]:
        name = str(wanted["name"])
        found = facts["files"].get(name)
        _text(result, name, str(wanted["content"]), None if found is None else found["text"], cure)
        if found is not None and found["text"] is not None and not found["untouched"]:
            result.add(
                "release",
                name,
                "touched",
                expected="the content that its folder is named by",
                found=f"another one in {found['path']}",
                cure=cure,
                severity="critical",
            )
    _edge(result, expected, facts, cure)
    compare_places(result, facts)
    for name, complete in facts["others"].items():
        result.count("release")
        if not complete:
            by_hand = f"By hand: remove {name} from the folder releases when no deploy is running"
            result.add(
                "release",
                f"releases/{name}",
                "left behind",
                expected="a complete release",
                found="it has no record",
                cure=by_hand,
                severity="info",
            )
    for name in facts["folders"]:
        by_hand = f"By hand: look at files/{name} and remove it; no release reads it"
        result.add(
            "release",
            f"files/{name}",
            "unknown",
            expected="a folder that a release names",
            found="no release names it",
            cure=by_hand,
            severity="info",
        )
    last = facts.get("last") or {}
    if last.get("result") == "failed":
        result.notes.append(
            f"The last {last.get('action', 'job')} ended as failed at {last.get('at', 'an unknown time')}."
        )
    lock = facts.get("lock")
    if lock:
        what = " ".join(str(lock.get(name) or "") for name in ("action", "what")).strip()
        result.notes.append(
            f"While this was looked at, the server was locked by {lock.get('by', 'somebody')} ({what}): "
            "what is found may be half of a change."
        )


# -- secrets


def collect_secrets(expected: Mapping[str, Any], key: bytes) -> dict[str, Any]:
    """Which files the containers get as secrets, each as its keyed hash; no content leaves this function."""
    directory = Path(expected["directory"])
    mounts = read_mounts(directory / "current.yaml")
    files: dict[str, dict[str, Any]] = {}
    for service, targets in mounts.items():
        for target, source in targets.items():
            one = files.setdefault(source, {"readers": [], "digest": "", "access": describe(source)})
            one["readers"].append(f"{service}:{target}")
            if one["access"] is not None:
                one["digest"] = digest(source, key)
    folders = sorted(name for name in os.listdir(directory) if FOLDER_NAME.match(name)) if directory.is_dir() else []
    return {"files": files, "folders": folders, "seeded": text(directory / "seeded").strip()}


def compare_secrets(result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any], tag: str) -> None:
    """Compare secret files: `directory`, and `files` with `name`, `digest`, `owner`, `mode`, `services`."""
    cure = result.deploy(tag)
    used = {Path(source).parent.name for source in facts["files"]}
    # services that only other releases have keep their secrets, too
    services = {one["service"] for wanted in expected["files"] for one in wanted["services"]}
    for wanted in expected["files"]:
        name = str(wanted["name"])
        item = f"{expected['directory']}/…/{name}"
        readers = {f"{one['service']}:{one['target']}" for one in wanted["services"]}
        sources = {source: one for source, one in facts["files"].items() if Path(source).name == name}
        result.count("files", 3)
        found = {
            reader for one in sources.values() for reader in one["readers"] if reader.partition(":")[0] in services
        }
        if readers != found:
            result.add(
                "files",
                item,
                "readers",
                expected=readers,
                found=found or "nobody",
                cure=cure,
                severity="critical",
                absent=not sources,
            )
        for one in sources.values():
            access = one["access"]
            if access is None or access["kind"] != "file":
                result.add(
                    "files",
                    item,
                    "missing",
                    expected="a file",
                    found="nothing" if access is None else access["kind"],
                    cure=cure,
                    severity="critical",
                )
                continue
            if one["digest"] != wanted["digest"]:
                result.add(
                    "files",
                    item,
                    "content",
                    expected="the secret of the inventory",
                    found="another one",
                    cure=cure,
                    severity="critical",
                )
            meant = f"{int(str(wanted['mode']), 8):04o}"
            result.same("files", item, "mode", expected=meant, found=access["mode"], cure=cure, severity="critical")
            result.same(
                "files",
                item,
                "owner",
                expected=int(wanted["owner"]),
                found=access["owner"],
                cure=cure,
                severity="critical",
            )
        if name == expected.get("seeded_by") and sources:
            result.count("files")
            if facts["seeded"] not in sources:
                result.add(
                    "files",
                    f"{expected['directory']}/seeded",
                    "content",
                    expected="the users were seeded with the newest passwords",
                    found="they were seeded with others, or never",
                    cure=cure,
                    severity="warning",
                )
    for folder in facts["folders"]:
        if folder not in used:
            by_hand = f"By hand: remove {expected['directory']}/{folder}; no service reads it"
            result.add(
                "files",
                f"{expected['directory']}/{folder}",
                "unknown",
                expected="a folder that a service reads",
                found="an earlier secret",
                cure=by_hand,
                severity="info",
            )
