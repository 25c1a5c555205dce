"""The directory of secret files of the module release_files: what is there, and how to get to what should be."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ansible.module_utils import quick_yaml
from ansible.module_utils.atomic_files import (
    Access,
    ensure_access,
    ensure_folder,
    parse_mode,
    read_file,
    write_file,
)
from ansible.module_utils.release_secrets import give_own_list, misled, named_services

try:
    import yaml

    HAS_YAML = True
except ImportError:
    HAS_YAML = False

FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")
FOLDER_NAME = re.compile(r"[0-9a-f]{16}\Z")
KEY_BYTES = 32
UNKNOWN = "unknown"
HEADER = "# Mounts the secrets; written by Ansible, which replaces it whenever one of them changes.\n"

Mounts = dict[str, dict[str, str]]  # service -> target -> source


@dataclass(frozen=True)
class SecretFile:
    """One secret file as it should be.

    `services` are pairs of service and target; `fixed` says why its content may not change once it is mounted, if so.
    """

    name: str
    content: bytes
    access: Access
    services: tuple[tuple[str, str], ...]
    fixed: str = ""

    def folder(self, key: bytes | None) -> str:
        """The name of its folder; `unknown` without a key."""
        if key is None:
            return UNKNOWN
        message = self.name.encode() + b"\0" + self.content
        return hmac.new(key, message, hashlib.sha256).hexdigest()[:16]


def wanted_files(entries: list[dict[str, Any]]) -> list[SecretFile]:
    """The files that the argument asks for. Raises ValueError, which names the file and never its content."""
    files: list[SecretFile] = []
    targets: set[tuple[str, str]] = set()
    for entry in entries:
        name = entry["name"]
        if not FILE_NAME.match(name):
            raise ValueError(f"{name!r} is not a file name. Use letters, digits and _.- only.")
        if any(file.name == name for file in files):
            raise ValueError(f"{name} is listed twice. Give each file a name of its own.")
        try:
            mode = parse_mode(entry["mode"])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if mode & 0o007 or not mode & 0o400:
            raise ValueError(f"{name}: with mode {mode:04o} others could read it or its owner could not. Use '0400'.")
        services = tuple((mount["service"], mount["target"]) for mount in entry["services"] or [])
        for service, target in services:
            if not target.startswith("/"):
                raise ValueError(f"{name}: {target!r} is not an absolute path in the container of {service}.")
            if (service, target) in targets:
                raise ValueError(f"{name}: {service} already has a file at {target}. Remove one of them.")
            targets.add((service, target))
        try:
            content = entry["content"].encode()
        except UnicodeEncodeError:
            raise ValueError(f"{name}: its content is not valid Unicode text. Store its source as UTF-8.") from None
        files.append(SecretFile(name, content, Access(entry["owner"], entry["group"], mode), services, entry["fixed"]))
    return files


def read_key(path: Path) -> bytes | None:
    """The key that hashes are made with; None where there is none yet. Raises ValueError for a broken one."""
    key = read_file(path)
    if key is not None and len(key) != KEY_BYTES:
        raise ValueError(
            f"{path} should hold {KEY_BYTES} bytes and has {len(key)}. Remove it: every secret then gets a new folder, "
            "and the containers that read one are recreated by the next deploy."
        )
    return key


def read_mounts(path: Path) -> Mounts:
    """What the compose file at `path` mounts; nothing where it is absent or was not written by this module."""
    text = read_file(path)
    if text is None:
        return {}
    try:
        services = quick_yaml.load(text)["services"]
        return {
            name: {
                volume["target"].replace("$$", "$"): volume["source"].replace("$$", "$") for volume in spec["volumes"]
            }
            for name, spec in services.items()
        }
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return {}


def other_contents(directory: Path, contents: dict[str, str]) -> list[str]:
    """The names of those secrets, by name in `contents`, that the stack mounts with another content.

    None where that cannot be known: what mounts them is absent or broken, which is told when it is to be written.
    """
    if not contents:
        return []
    try:
        key = read_key(directory / ".key")
        mounted = (read_file(directory / "current.yaml") or b"").decode("utf-8", "replace")
    except (OSError, ValueError):
        return []
    found = []
    for name, content in contents.items():
        file = SecretFile(name, content.encode("utf-8", "surrogatepass"), Access(0, 0, 0o400), ())
        # to read all of it as YAML takes longer than the rest of the look
        folders = re.findall(rf"(?m)^\s*source: .*/([0-9a-f]{{16}})/{re.escape(name)}'?$", mounted)
        if set(folders) - {file.folder(key)}:
            found.append(name)
    return found


def override_text(mounts: Mounts) -> bytes:
    """The compose file that mounts `mounts`. Compose interpolates `$` in it, hence the doubling."""
    services = {
        service: {
            "volumes": [
                {
                    "type": "bind",
                    "source": source.replace("$", "$$"),
                    "target": target.replace("$", "$$"),
                    "read_only": True,
                    # a missing file must fail: Docker would make a directory in its place
                    "bind": {"create_host_path": False},
                }
                for target, source in sorted(targets.items())
            ]
        }
        for service, targets in sorted(mounts.items())
    }
    text: str = yaml.safe_dump({"services": services}, sort_keys=False, allow_unicode=True, width=200)
    return (HEADER + text).encode()


class Store:
    """The directory of secrets: what is there, what should be there, and how to get from one to the other.

    `releases` is the folder of the kept releases, whose services keep their secrets; None for none.
    """

    def __init__(self, directory: Path, files: list[SecretFile], releases: Path | None = None) -> None:
        self.directory = directory
        self.files = files
        self.releases = releases
        # root in use; a test's own user elsewhere
        self.root = Access(os.geteuid(), os.getegid(), 0o700)
        self.key_access = Access(self.root.owner, self.root.group, 0o400)
        self.override_access = Access(self.root.owner, self.root.group, 0o600)
        self.override = directory / "current.yaml"
        self.key = read_key(directory / ".key")
        self.old_mounts = read_mounts(self.override)
        self.old_override = read_file(self.override)

    def path(self, file: SecretFile) -> Path:
        """Where `file` lies."""
        return self.directory / file.folder(self.key) / file.name

    def mounts(self) -> Mounts:
        """What should be mounted where."""
        mounts: Mounts = {}
        for file in self.files:
            for service, target in file.services:
                mounts.setdefault(service, {})[target] = str(self.path(file))
        if self.releases is None:
            return mounts
        # a kept release may have services that today's has not: they get the newest contents too
        newest = {file.name: str(self.path(file)) for file in self.files}
        others = {
            service: {target: newest.get(Path(source).name, source) for target, source in targets.items()}
            for service, targets in self.old_mounts.items()
            if service not in mounts
        }
        if others and {**mounts, **others} != self.old_mounts:
            # what no release has any more goes when something changes anyway: a second run changes nothing
            others = {service: targets for service, targets in others.items() if service in self._named}
        return {**mounts, **others}

    @cached_property
    def _named(self) -> set[str]:
        return named_services(self.releases) if self.releases else set()

    @cached_property
    def misled(self) -> list[Path]:
        """Releases of the kind that names the compose file itself, which lack a service that it mounts."""
        return misled(self.releases, self.override, self.mounts()) if self.releases else []

    def state(self, file: SecretFile) -> str:
        """`present`, `access` (owner, group or mode differ), `damaged` (hand-made content) or `missing`."""
        if self.key is None:
            return "missing"
        path = self.path(file)
        content = read_file(path)
        if content is None:
            return "missing"
        if content != file.content:
            return "damaged"
        in_order = Access.of(path) == file.access and Access.of(path.parent) == self.root
        return "present" if in_order else "access"

    def moved(self, file: SecretFile) -> bool:
        """Whether a service reads another content of `file` until now."""
        sources = {self.old_mounts.get(service, {}).get(target) for service, target in file.services}
        return bool(sources - {None, str(self.path(file))})

    def unused(self) -> list[str]:
        """Folders of contents that are not wanted any more."""
        if not self.directory.is_dir():
            return []
        wanted = {file.folder(self.key) for file in self.files}
        wanted |= {Path(source).parent.name for targets in self.mounts().values() for source in targets.values()}
        found = {entry.name for entry in self.directory.iterdir() if FOLDER_NAME.match(entry.name)}
        return sorted(str(self.directory / name) for name in found - wanted)

    def frame_in_order(self) -> bool:
        """Whether directory, key and compose file exist with the right access, the last with its content.

        And whether every kept release gets along with it.
        """
        return (
            not self.misled
            and Access.of(self.directory) == self.root
            and Access.of(self.directory / ".key") == self.key_access
            and Access.of(self.override) == self.override_access
            and self.old_override == override_text(self.mounts())
        )

    def make_key(self) -> None:
        """Makes the directory and, once, the key."""
        ensure_folder(self.directory, self.root)
        if self.key is None:
            self.key = secrets.token_bytes(KEY_BYTES)
            write_file(self.directory / ".key", self.key, self.key_access)
        ensure_access(self.directory / ".key", self.key_access)

    def write(self, states: dict[str, str]) -> None:
        """Brings everything into place; the compose file, which makes it count, last."""
        self.make_key()
        for file in self.files:
            path = self.path(file)
            if states[file.name] == "present":
                continue
            ensure_folder(path.parent, self.root)
            if states[file.name] == "access":
                ensure_access(path, file.access)
            else:
                write_file(path, file.content, file.access)
        mounts = self.mounts()
        for release in self.misled:
            # before it is replaced: at no moment has a release services that it does not know
            give_own_list(release, self.override, mounts)
        text = override_text(mounts)
        if self.old_override != text:
            write_file(self.override, text, self.override_access)
        ensure_access(self.override, self.override_access)


def changed_files(store: Store, states: dict[str, str]) -> list[str]:
    """Files that are written, or mounted from another path: an earlier content that comes back is still there."""
    changed = {name for name, state in states.items() if state != "present"}
    changed.update(file.name for file in store.files if store.moved(file))
    return sorted(changed)


def changed_services(store: Store, states: dict[str, str]) -> list[str]:
    """Services that mount something else than before, or a file whose content is put right."""
    new = store.mounts()
    changed = {name for name in {*store.old_mounts, *new} if store.old_mounts.get(name) != new.get(name)}
    for file in store.files:
        if states[file.name] in ("damaged", "missing"):
            changed.update(service for service, _target in file.services)
    return sorted(changed)


def describe_old(store: Store, states: dict[str, str], changed: list[str]) -> str:
    """The diff's left side: files by name with a word on their content; "current" on both sides says that it stays."""
    lines = []
    wanted = {file.name: file for file in store.files}
    readers: dict[str, list[str]] = {}
    for service, targets in store.old_mounts.items():
        for target, source in targets.items():
            readers.setdefault(Path(source).name, []).append(f"{service}:{target}")
    for name in sorted({*readers, *(name for name, state in states.items() if state != "missing")}):
        state = states.get(name, "missing")
        word = "current"
        if name in changed and state != "access":
            word = "changed by hand" if state == "damaged" else "earlier"
        access = Access.of(store.path(wanted[name])) if state != "missing" else None
        shown = f", {access}" if access else ""
        lines.append(f"{name}: {word} content{shown}, read by {_list(readers.get(name, []))}\n")
    return "".join(lines)


def describe_new(store: Store) -> str:
    """The diff's right side."""
    readers: dict[str, list[str]] = {}
    for service, targets in store.mounts().items():
        for target, source in targets.items():
            readers.setdefault(Path(source).name, []).append(f"{service}:{target}")
    lines = [
        f"{file.name}: current content, {file.access}, read by {_list(readers.get(file.name, []))}\n"
        for file in sorted(store.files, key=lambda file: file.name)
    ]
    return "".join(lines)


def _list(items: list[str]) -> str:
    return ", ".join(sorted(items)) or "nobody"
