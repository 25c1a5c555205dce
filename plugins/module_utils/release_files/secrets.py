"""The secret files of the stack and the compose file that mounts them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, ClassVar

from ansible.module_utils.atomic_files import MASK
from ansible.module_utils.basic import missing_required_lib
from ansible.module_utils.release_files.part import Part
from ansible.module_utils.secret_files import (
    HAS_YAML,
    Store,
    changed_files,
    changed_services,
    describe_new,
    describe_old,
    wanted_files,
)


class SecretsPart(Part):
    """The secrets, each in a file of its own."""

    OPTIONS: ClassVar[dict[str, Any]] = {
        "directory": {"type": "path", "required": True},
        "files": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "no_log": True,
            "options": {
                "name": {"type": "str", "required": True},
                "content": {"type": "str", "required": True, "no_log": True},
                "owner": {"type": "int", "default": 0},
                "group": {"type": "int", "default": 0},
                "mode": {"type": "str", "default": "0400"},
                "fixed": {"type": "str", "default": ""},
                "services": {
                    "type": "list",
                    "elements": "dict",
                    "default": [],
                    "options": {
                        "service": {"type": "str", "required": True},
                        "target": {"type": "str", "required": True},
                    },
                },
            },
        },
        "releases": {"type": "path"},
        "prune": {"type": "bool", "default": False},
    }

    def __init__(self, given: dict[str, Any], *, check: bool) -> None:
        directory = Path(given["directory"])
        self.unseen: dict[str, Any] = {}
        if not HAS_YAML:
            if not check or directory.exists():
                raise ValueError(missing_required_lib("PyYAML") + " On Debian and Ubuntu: apt-get install python3-yaml")
            # a fresh server: an earlier task of the real run brings the library
            entries = given["files"]
            self.changed, self.diff = True, []
            self.unseen = {
                "changed_files": [entry["name"] for entry in entries],
                "services": sorted({mount["service"] for entry in entries for mount in entry["services"]}),
                "paths": {entry["name"]: str(directory / "unknown" / entry["name"]) for entry in entries},
                "override": str(directory / "current.yaml"),
                "unused": [],
            }
            return
        self.files = wanted_files(given["files"])
        self.store = Store(directory, self.files, Path(given["releases"]) if given["releases"] else None)
        for file in self.files:
            if file.fixed and self.store.moved(file):
                raise ValueError(f"{file.name} has another content than until now. {file.fixed}")
        self.states = {file.name: self.store.state(file) for file in self.files}
        self.changed_files = changed_files(self.store, self.states)
        self.services = changed_services(self.store, self.states)
        self.unused = self.store.unused()
        self.pruned = self.unused if given["prune"] else []
        self.changed = bool(self.changed_files or self.services or not self.store.frame_in_order() or self.pruned)
        self.diff = [
            {
                "before_header": str(directory),
                "after_header": str(directory),
                "before": describe_old(self.store, self.states, self.changed_files),
                "after": describe_new(self.store),
            }
        ]

    @staticmethod
    def failure(given: dict[str, Any]) -> str:
        """See Part."""
        return f"The secrets in {given['directory']} cannot be written"

    @staticmethod
    def without_secrets(given: dict[str, Any]) -> dict[str, Any]:
        """See Part."""
        return {**given, "files": [{**file, "content": MASK} for file in given["files"]]}

    def write(self) -> None:
        """See Part."""
        self.store.write(self.states)
        for folder in self.pruned:
            shutil.rmtree(folder)

    def result(self) -> dict[str, Any]:
        """See Part."""
        if self.unseen:
            return {"changed": True, **self.unseen}
        return {
            "changed": self.changed,
            "changed_files": self.changed_files,
            "services": self.services,
            # a first run makes the key by which the folders are named when it writes
            "paths": {file.name: str(self.store.path(file)) for file in self.files},
            "override": str(self.store.override),
            "unused": self.unused,
        }
