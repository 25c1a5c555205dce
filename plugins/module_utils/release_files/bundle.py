"""One release of the stack, named by its content."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, ClassVar

from ansible.module_utils.atomic_files import Access, write_file
from ansible.module_utils.compose_dotenv import dotenv
from ansible.module_utils.release_files.part import Part
from ansible.module_utils.release_secrets import LIST, own_list
from ansible.module_utils.releases.layout import read_record

HASH_DIGITS = 12


def digest_of(*parts: str) -> str:
    """Return a short hash of texts; which part a character belongs to matters."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:HASH_DIGITS]


class Bundle:
    """One release, as it is to stand on the server."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.base = Path(parameters["base"])
        self.tag: str = parameters["tag"]
        self.parameters = parameters
        self.files = {
            entry["name"]: self.base / "files" / digest_of(entry["name"], entry["content"]) / entry["name"]
            for entry in parameters["files"]
        }
        self.environment: dict[str, str] = {
            **{name: str(value) for name, value in parameters["environment"].items()},
            **{entry["variable"]: str(self.files[entry["name"]]) for entry in parameters["files"]},
            "IMAGE_TAG": self.tag,
        }
        identity = {
            "tag": self.tag,
            "compose": parameters["compose"],
            "images": parameters["images"],
            "environment": self.environment,
            "edge": parameters["edge_config"],
        }
        self.id = f"{self.tag}-{digest_of(json.dumps(identity, sort_keys=True))}"
        self.path = self.base / "releases" / self.id

    def contents(self) -> dict[Path, str]:
        """Return every file of the release but its record."""
        secrets = self.parameters["secrets"]
        names = ["docker-compose.yaml", "digests.yaml", *([LIST] if secrets else [])]
        settings = {
            "COMPOSE_PROJECT_NAME": "integr8scode",
            "COMPOSE_FILE": ":".join(str(self.path / name) for name in names),
            **dict(sorted(self.environment.items())),
        }
        # JSON is YAML, and needs no library on the server
        digests = {"services": {name: {"image": image} for name, image in self.parameters["images"].items()}}
        edge = self.parameters["edge_config"]
        return {
            **{self.files[entry["name"]]: entry["content"] for entry in self.parameters["files"]},
            **({self.path / "haproxy.cfg": edge} if edge else {}),
            self.path / "docker-compose.yaml": self.parameters["compose"],
            self.path / "digests.yaml": json.dumps(digests, indent=2, sort_keys=True) + "\n",
            **({self.path / LIST: own_list(self.parameters["secret_services"], secrets)} if secrets else {}),
            self.path / ".env": dotenv(settings),
        }

    def record(self, now: datetime) -> dict[str, Any]:
        """Return release.json."""
        return {
            "id": self.id,
            "tag": self.tag,
            "images": self.parameters["images"],
            "digests": self.parameters["digests"],
            "files": {name: str(path) for name, path in self.files.items()},
            "consumer_groups": self.parameters["consumer_groups"],
            "created_at": now.isoformat(timespec="seconds"),
            "by": self.parameters["author"],
            "commit": self.parameters["commit"],
        }

    def is_current(self) -> bool:
        """Return whether this release is the one that runs."""
        return (self.base / "current").resolve() == self.path

    def _is_recorded(self) -> bool:
        """Return whether release.json says what it was written to say; who made it and when is its own."""
        try:
            found = read_record(self.path / "release.json")
        except (OSError, ValueError):
            return False
        wanted = self.record(datetime.now(timezone.utc))
        return all(found.get(name) == wanted[name] for name in ("id", "tag", "images", "files"))

    def is_complete(self) -> bool:
        """Return whether everything stands as it was written."""
        return self._is_recorded() and all(
            path.exists() and path.read_text(encoding="utf-8") == text for path, text in self.contents().items()
        )

    def write(self, now: datetime) -> None:
        """Write the release; its record last."""
        for directory, mode in ((self.base, 0o755), (self.base / "files", 0o755), (self.base / "releases", 0o750)):
            directory.mkdir(mode=mode, parents=True, exist_ok=True)
        self.path.mkdir(mode=0o750, exist_ok=True)
        for path, text in self.contents().items():
            path.parent.mkdir(mode=0o755, exist_ok=True)
            write_file(path, text.encode(), Access(os.getuid(), os.getgid(), 0o644))
        record = json.dumps(self.record(now), indent=2) + "\n"
        write_file(self.path / "release.json", record.encode(), Access(os.getuid(), os.getgid(), 0o640))


def running_texts(base: Path) -> dict[str, str]:
    """Return the running release's files by name, for the diff."""
    current = base / "current"
    paths = [current / name for name in ("docker-compose.yaml", "digests.yaml", LIST, ".env", "haproxy.cfg")]
    with suppress(OSError, ValueError, KeyError):
        # one that cannot be read is written again
        paths += [Path(path) for path in read_record(current / "release.json")["files"].values()]
    return {path.name: path.read_text(encoding="utf-8") for path in paths if path.exists()}


def differences(bundle: Bundle) -> list[dict[str, str]]:
    """Return Ansible's diff of the release against the running one."""
    before = running_texts(bundle.base)
    return [
        {
            "before_header": f"{path.name} (running)",
            "after_header": str(path),
            "before": before.get(path.name, ""),
            "after": text,
        }
        for path, text in bundle.contents().items()
        if before.get(path.name, "") != text
    ]


class BundlePart(Part):
    """The release and its configuration files."""

    OPTIONS: ClassVar[dict[str, Any]] = {
        "base": {"type": "path", "default": "/opt/integr8scode"},
        "tag": {"type": "str", "required": True},
        "compose": {"type": "str", "required": True},
        "images": {"type": "dict", "required": True},
        "digests": {"type": "dict", "required": True},
        "files": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "name": {"type": "str", "required": True},
                "variable": {"type": "str", "required": True},
                "content": {"type": "str", "required": True},
            },
        },
        "environment": {"type": "dict", "default": {}},
        "edge_config": {"type": "str", "default": ""},
        "secrets": {"type": "path", "default": ""},
        "secret_services": {"type": "list", "elements": "str", "default": []},
        "consumer_groups": {"type": "list", "elements": "str", "default": []},
        "author": {"type": "str", "default": ""},
        "commit": {"type": "str", "default": ""},
    }

    def __init__(self, given: dict[str, Any], *, check: bool) -> None:
        del check
        self.bundle = Bundle(given)
        self.changed = not self.bundle.is_complete()
        self.diff = differences(self.bundle) if self.changed else []

    @staticmethod
    def failure(given: dict[str, Any]) -> str:
        """See Part."""
        return f"The release {given['tag']} cannot be written"

    def write(self) -> None:
        """See Part."""
        self.bundle.write(datetime.now(timezone.utc))

    def result(self) -> dict[str, Any]:
        """See Part."""
        return {
            "changed": self.changed,
            "id": self.bundle.id,
            "path": str(self.bundle.path),
            "current": self.bundle.is_current(),
            "files": {name: str(path) for name, path in self.bundle.files.items()},
        }
