#!/usr/bin/python
"""Write one release of the stack, named by its content."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_bundle
short_description: Write one release of the stack, named by its content
description:
  - Writes every mounted configuration file to C(<base>/files/<hash>/<name>) and the release to
    C(<base>/releases/<id>/) with C(docker-compose.yaml), C(digests.yaml), C(secrets.yaml), C(.env), C(haproxy.cfg) and
    C(release.json).
  - The id comes from the tag, the digests, the compose file and the configuration, not from time, author or secrets, so
    the same input gives the same id and nothing to do.
  - What is written is never changed again; C(release.json) comes last, so a release without it is not complete.
options:
  base:
    description: Where Integr8sCode is installed.
    type: path
    default: /opt/integr8scode
  tag:
    description: The release's tag.
    type: str
    required: true
  compose:
    description: Text of docker-compose.yaml.
    type: str
    required: true
  images:
    description: Pinned image of each service, as M(container_images) returns them.
    type: dict
    required: true
  digests:
    description: Digest by image reference, kept in release.json. Null where it is unknown (check mode, no engine).
    type: dict
    required: true
  files:
    description: Configuration files. None may hold a secret.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the file.
        type: str
        required: true
      variable:
        description: Variable of the compose file that gets the file's path.
        type: str
        required: true
      content:
        description: Text of the file.
        type: str
        required: true
  environment:
    description: Other variables of the compose file.
    type: dict
    default: {}
  edge_config:
    description: Text of the edge's configuration (HAProxy). Empty for none.
    type: str
    default: ""
  secrets:
    description: Compose file that mounts the newest secrets of all releases, by absolute path. Empty for none.
    type: path
    default: ""
  secret_services:
    description:
      - Services of this release that get from O(secrets) what it mounts into those of their name. They stand in
        C(secrets.yaml), so that the release keeps its own services whatever others have.
    type: list
    elements: str
    default: []
  consumer_groups:
    description: Kafka consumer groups that the release has to be in, for release.json.
    type: list
    elements: str
    default: []
  author:
    description: Who made the release, for release.json.
    type: str
    default: ""
  commit:
    description: Commit of this project that made it, for release.json.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    description: Shows the files that differ from the running release's.
"""

EXAMPLES = r"""
- name: Write the release
  release_bundle:
    tag: 2026.2.20
    compose: "{{ lookup('ansible.builtin.file', 'docker-compose.yaml') }}"
    images: "{{ pulled.services }}"
    digests: "{{ pulled.digests }}"
    files:
      - {name: config.toml, variable: CONFIG_TOML, content: "{{ config | integr8scode_toml }}"}
"""

RETURN = r"""
id:
  description: Name of the release, C(<tag>-<12 hex digits>).
  type: str
  returned: always
path:
  description: Folder of the release.
  type: path
  returned: always
current:
  description: Whether it is the one that runs.
  type: bool
  returned: always
files:
  description: Absolute path of each configuration file, by name.
  type: dict
  returned: always
"""

import hashlib
import json
import os
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.atomic_files import Access, write_file
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.compose_dotenv import dotenv
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


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
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
        },
        supports_check_mode=True,
    )
    bundle = Bundle(module.params)
    try:
        changed = not bundle.is_complete()
        diff = differences(bundle) if changed else []
        if changed and not module.check_mode:
            bundle.write(datetime.now(timezone.utc))
    except (OSError, TypeError, ValueError) as error:
        module.fail_json(msg=f"release {bundle.id} cannot be written: {error}")
    module.exit_json(
        changed=changed,
        id=bundle.id,
        path=str(bundle.path),
        current=bundle.is_current(),
        files={name: str(path) for name, path in bundle.files.items()},
        diff=diff,
    )


if __name__ == "__main__":
    main()
