"""What belongs to a k3s server: its parts, and the paths of each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.k3s_common import CONFIG_FOLDER, DATA_FOLDER, UNIT
from ansible.module_utils.k3s_recovery.configuration import Configuration, settings_with_places

NODE_PASSWORD = "/etc/rancher/node/password"  # noqa: S105  (a path)
PARTS = (
    "database",
    "token",
    "config",
    "certificates",
    "node_password",
    "manifests",
    "unit",
    "local_volumes",
)
# Marks what a restore puts aside and what it lays ready, so that no later backup takes it for a part.
ASIDE, READY = ".before-restore-", ".restore-"


@dataclass(frozen=True)
class Layout:
    """Where a k3s server keeps its things, as its configuration says.

    Attributes:
        root: below which all paths are; `/` but in tests.
        data: k3s' data folder.
        config: config.yaml.
        token_file: the file that `token-file` names, "" where there is none.
        external: kind of an external datastore, as `mysql`; "" where there is none.
        node_name: `node-name`, "" where it is the host's name.
    """

    root: Path
    data: str = DATA_FOLDER
    config: str = f"{CONFIG_FOLDER}/config.yaml"
    token_file: str = ""
    external: str = ""
    node_name: str = ""

    def path(self, absolute: str) -> Path:
        """The file of a path as k3s sees it."""
        return self.root / absolute.lstrip("/")

    def server(self, name: str) -> str:
        """A path below k3s' own folder of the server."""
        return f"{self.data}/server/{name}"

    @property
    def database(self) -> str:
        """SQLite's file."""
        return self.server("db/state.db")

    @property
    def etcd(self) -> bool:
        """Whether the datastore is embedded etcd."""
        return self.path(self.server("db/etcd")).is_dir()

    def parts(self, wanted: frozenset[str]) -> dict[str, list[str]]:
        """The paths of each wanted part that are there; the database is not among them."""
        found: dict[str, list[str]] = {}
        for part in PARTS[1:]:
            if part in wanted:
                found[part] = [path for path in self._paths(part) if self._is_there(path)]
        return found

    def owns(self, part: str, path: str) -> bool:
        """Whether a part may have this path here, be it there or not."""
        folder, name = os.path.split(path)
        if name in {"", "."} or ".." in Path(path).parts:
            return False
        if part == "database":
            return path.startswith(self.server("db/"))
        if part == "config" and folder == f"{self.data}/agent/etc/containerd":
            return name.endswith(".tmpl")
        # a fresh server has no configuration yet that would name the token's file
        if part in {"config", "token"} and folder == CONFIG_FOLDER:
            return True
        if part == "config":
            return path in {self.config, f"{self.config}.d"}
        if part == "local_volumes":
            return folder == f"{self.data}/storage"
        return path in self._paths(part)

    def _is_there(self, path: str) -> bool:
        real = self.path(path)
        return real.exists() or real.is_symlink()

    def _paths(self, part: str) -> Iterator[str]:
        if part == "token":
            yield from (self.server("token"), self.server("node-token"), self.server("agent-token"))
            if self.token_file and self.token_file != self.server("token"):
                yield self.token_file
        elif part == "config":
            yield from self._config()
        elif part == "certificates":
            # the administrator's kubeconfig holds a certificate of this CA
            yield from (self.server("tls"), self.server("cred"), f"{CONFIG_FOLDER}/k3s.yaml")
        elif part == "node_password":
            yield NODE_PASSWORD
        elif part == "manifests":
            yield self.server("manifests")
        elif part == "unit":
            unit = f"/etc/systemd/system/{UNIT}"
            name = UNIT.partition(".")[0]
            yield from (unit, f"{unit}.env", f"{unit}.d", f"/etc/default/{name}", f"/etc/sysconfig/{name}")
        elif part == "local_volumes":
            # each volume by itself: the folder may be a file system of its own
            yield from self._entries(f"{self.data}/storage")

    def _config(self) -> Iterator[str]:
        others = {self.token_file, f"{CONFIG_FOLDER}/k3s.yaml"}
        folders = dict.fromkeys([CONFIG_FOLDER, str(Path(self.config).parent)])
        for folder in folders:
            for path in self._entries(folder):
                # a config file elsewhere is not alone in its folder
                if path not in others and (folder == CONFIG_FOLDER or path in {self.config, f"{self.config}.d"}):
                    yield path
        for path in self._entries(f"{self.data}/agent/etc/containerd"):
            if path.endswith(".tmpl"):
                yield path

    def _entries(self, folder: str) -> Iterator[str]:
        real = self.path(folder)
        if real.is_dir():
            for entry in sorted(real.iterdir()):
                if ASIDE not in entry.name and READY not in entry.name:
                    yield f"{folder}/{entry.name}"


def layout(root: Path = Path("/")) -> Layout:
    """The layout of the server below `root`. Never raises: what cannot be read is k3s' default."""
    found: Configuration = settings_with_places(root)
    return Layout(
        root=root,
        data=found.text("data-dir", DATA_FOLDER).rstrip("/"),
        config=found.config,
        token_file=found.text("token-file"),
        external=found.text("datastore-endpoint"),
        node_name=found.text("node-name"),
    )
