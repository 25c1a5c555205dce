"""A server's files as k3s and its role leave them, below a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tests.unit.support import kine

DATA = "/var/lib/rancher/k3s"
VERSION = "v1.34.4+k3s1"


@dataclass(frozen=True)
class Server:
    """See `make_server`."""

    root: Path
    data: str = DATA

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    @property
    def database(self) -> Path:
        return self.path(f"{self.data}/server/db/state.db")

    @property
    def database_member(self) -> str:
        return f"{self.data}/server/db/state.db".lstrip("/")

    @property
    def bootstrap_key(self) -> str:
        from ansible.module_utils.kine_database import bootstrap_key

        return str(bootstrap_key(kine.TOKEN))

    def k3s_answers(self, script: str, version: str = VERSION) -> None:
        """What the binary does; it says its version besides."""
        binary = self.path("/usr/local/bin/k3s")
        binary.parent.mkdir(parents=True, exist_ok=True)
        said = f'[ "$1" = --version ] && {{ echo "k3s version {version} (abc)"; exit 0; }}'
        binary.write_text(f"#!/bin/sh\n{said}\n{script}\n")
        binary.chmod(0o755)

    def content(self) -> dict[str, tuple[int, bytes | str]]:
        """Each file and link below the root; folders by their mode."""
        found: dict[str, tuple[int, bytes | str]] = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if path.is_symlink():
                found[name] = (0, os.readlink(path))
            elif path.is_file():
                found[name] = (path.stat().st_mode, path.read_bytes())
            else:
                found[name] = (path.stat().st_mode, b"")
        return found

    def live(self) -> dict[str, tuple[int, bytes | str]]:
        """`content` without what a restore has put aside."""
        return {name: value for name, value in self.content().items() if ".before-restore-" not in name}


def make_server(
    root: Path,
    *,
    data: str = DATA,
    token_file: str = "/etc/rancher/k3s/token",
    token: str = kine.TOKEN,
    objects: int = 20,
    mark: str = "",
) -> Server:
    """A stopped server; `mark` makes its files differ from another one's."""
    server = Server(root, data)
    config = f"token-file: {token_file}\ntls-san: [host.docker.internal]\n# {mark}\n"
    if data != DATA:
        config += f"data-dir: {data}\n"
    for path, text, mode in (
        ("/etc/default/k3s", f"X={mark}\n", 0o644),
        ("/etc/rancher/k3s/config.yaml", config, 0o600),
        ("/etc/rancher/k3s/config.yaml.d/10-more.yaml", f"node-label: [mark={mark}]\n", 0o600),
        ("/etc/rancher/k3s/k3s.yaml", f"kubeconfig {mark}\n", 0o600),
        ("/etc/rancher/k3s/registries.yaml", f"mirrors: {{}} # {mark}\n", 0o600),
        (token_file, f"{token}\n", 0o600),
        ("/etc/rancher/node/password", f"node-password {mark}\n", 0o600),
        ("/etc/systemd/system/k3s.service", f"[Service]\nExecStart=/usr/local/bin/k3s server\n# {mark}\n", 0o644),
        ("/etc/systemd/system/k3s.service.d/10-limit.conf", f"[Service]\n# {mark}\n", 0o644),
        ("/etc/systemd/system/k3s.service.env", f"Y={mark}\n", 0o600),
        (f"{data}/agent/etc/containerd/config.toml", "made by k3s", 0o644),
        (f"{data}/agent/etc/containerd/config.toml.tmpl", f"template {mark}", 0o644),
        (f"{data}/server/cred/passwd", f"{token},server,server,k3s:server\n", 0o600),
        (f"{data}/server/manifests/own.yaml", f"kind: Own # {mark}\n", 0o600),
        (f"{data}/server/tls/server-ca.crt", f"ca {mark}\n", 0o644),
        (f"{data}/server/tls/service.key", f"the service key {mark}\n", 0o600),
        (f"{data}/server/token", f"K10ca-hash{mark}::server:{token}\n", 0o600),
    ):
        file = server.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
    server.path(f"{data}/server/node-token").symlink_to(f"{data}/server/token")
    server.k3s_answers("exit 1")
    kine.make(server.database, token=token, objects=objects)
    return server
