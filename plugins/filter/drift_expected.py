"""Filters that turn what the roles own into what the module drift_facts compares a server with."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any


def drift_digest(content: Any, key: str) -> str:
    """The keyed hash of a text that must not be shown.

    :param key: of this run, hexadecimal.
    """
    return hmac.new(bytes.fromhex(key), str(content).encode(), hashlib.sha256).hexdigest()


def _file(entry: Mapping[str, Any], role: str, key: str, programs: Mapping[str, str]) -> dict[str, Any]:
    """One file as the module takes it: a secret and a program's bytes only as their hash."""
    result = {name: value for name, value in entry.items() if name not in ("secret", "program")}
    result |= {"role": role, "owner": entry.get("owner", 0), "group": entry.get("group", 0)}
    if "secret" in entry:
        result |= {"digest": drift_digest(entry["secret"], key), "secret": True}
    if "program" in entry:
        result["digest"] = programs[entry["program"]]
    return result


def drift_owned(
    owned: Mapping[str, Mapping[str, Any]], key: str, programs: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What the roles own, put together: `files`, `folders`, `units`, `packages`, each with the role that cures it.

    :param owned: by role, what its variable ``__<role>_owned`` says. A file may have ``secret`` (its content, which
        leaves the controller as a keyed hash only) or ``program`` (that this project builds) in place of ``content``.
    :param key: of this run, hexadecimal.
    :param programs: keyed hashes of the programs that this project builds.
    """
    result: dict[str, Any] = {"files": [], "folders": [], "units": [], "packages": []}
    packages: dict[str, str] = {}
    for role, one in owned.items():
        tag = "" if role == "ops_user" else role
        result["files"] += [_file(entry, tag, key, programs or {}) for entry in one.get("files") or []]
        for folder in one.get("folders") or []:
            result["folders"].append({"owner": 0, "group": 0, **folder, "role": tag})
        for unit in one.get("units") or []:
            result["units"].append({**unit, "role": tag})
        for name in one.get("packages") or []:
            packages.setdefault(name, tag)
    result["packages"] = [{"name": name, "role": role} for name, role in packages.items()]
    return result


def drift_secrets(secrets: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The secret files of the application as the module takes them: contents as keyed hashes only.

    :param secrets: `directory`, `seeded_by` and `files` with `name`, `owner`, `mode`, `content`, `services`.
    :param key: of this run, hexadecimal.
    """
    files = [
        {
            **{name: value for name, value in entry.items() if name != "content"},
            "digest": drift_digest(entry["content"], key),
        }
        for entry in secrets["files"]
    ]
    return {**secrets, "files": files}


def drift_docker(owned: Mapping[str, Any], key: str) -> dict[str, Any]:
    """What the role docker owns as the module takes it: proxies, whose URLs may hold a password, as keyed hashes only.

    :param key: of this run, hexadecimal.
    """
    proxies = {name: drift_digest(value, key) if value else "" for name, value in owned["proxies"].items()}
    return {**owned, "proxies": proxies}


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "drift_digest": drift_digest,
            "drift_docker": drift_docker,
            "drift_owned": drift_owned,
            "drift_secrets": drift_secrets,
        }
