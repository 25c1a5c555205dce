"""Finds the secrets that lie on this server, to search for them in what leaves it. They themselves go nowhere."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ansible.module_utils.diagnostics.masking import is_harmless

LARGEST_FILE = 1 << 20
# names of users are no secrets, and masking `root` would spoil everything
NO_SECRETS = frozenset({"mongo_root_username", "current.yaml", "seeded"})
_K3S = "var/lib/rancher/k3s/server"
# files that are secrets as a whole
WHOLE = (
    "etc/rancher/k3s/token", "etc/rancher/node/password", f"{_K3S}/token", f"{_K3S}/node-token", f"{_K3S}/agent-token",
    "etc/integr8scode/backup-copy.key", "root/.ssh/id_*", "etc/ssh/ssh_host_*_key",
    f"{_K3S}/tls/**/*.key", f"{_K3S}/tls/*.key", "var/lib/rancher/k3s/agent/*.key", "etc/wireguard/*.key",
)  # fmt: skip
# files in which some values are
STRUCTURED = (
    "etc/rancher/k3s/config.yaml", "etc/rancher/k3s/config.yaml.d/*.yaml", "etc/rancher/k3s/registries.yaml",
    "etc/rancher/k3s/k3s.yaml", "etc/systemd/system/k3s.service.env", "etc/rancher/k3s/k3s.env", f"{_K3S}/cred/*.json",
    f"{_K3S}/cred/*.kubeconfig", "root/.kube/config", "home/*/.kube/config", "etc/wireguard/*.conf",
)  # fmt: skip
# files with addresses of proxies, which may hold a login
WITH_URLS = (
    "etc/docker/daemon.json", "etc/systemd/system/docker.service.d/*.conf", "etc/systemd/system/k3s.service.env",
    "etc/systemd/system/k3s.service.d/*.conf", "etc/environment", "etc/apt/apt.conf", "etc/apt/apt.conf.d/*",
)  # fmt: skip
DOCKER_LOGINS = ("root/.docker/config.json", "home/*/.docker/config.json")
_VALUE = re.compile(
    r"(?im)^[ \t\"'-]*(?:[\w.-]*(?:token|password|passwd|secret|private-?key|presharedkey|key-data|auth|identitytoken)"
    r"|key)[\"']?[ \t]*[:=][ \t]*[\"']?([^\s\"',}]+)"
)


_NO_SECRET = re.compile(r"/[\w./-]*|true|false|null|none", re.IGNORECASE)


def _read(path: Path) -> str:
    """A file's text; '' for what cannot be read, is no file or is too large to be a secret."""
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_FILE:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _found(root: Path, patterns: Iterable[str]) -> Iterator[Path]:
    for pattern in patterns:
        yield from sorted(root.glob(pattern))


def _key_lines(text: str) -> list[str]:
    """Lines of a PEM file's body: a log may show one without the frame around it."""
    return [line for line in text.splitlines() if len(line) >= 16 and not line.startswith("-----") and ":" not in line]


def _of_secret_file(text: str) -> Iterator[str]:
    """A secret file's content and each value in it: TOML, JSON or a plain value."""
    yield text
    for match in re.finditer(r'"((?:[^"\\\n]|\\.)*)"', text):
        try:
            value = str(json.loads(f'"{match[1]}"'))
        except ValueError:
            value = match[1]
        if re.fullmatch(r"[A-Z_]{3,40}", value):
            continue  # the name of a value
        yield value
        yield from of_url(value)


def of_url(value: str) -> Iterator[str]:
    """The password in a URL, as it is and decoded."""
    if "://" not in value:
        return
    try:
        password = urlsplit(value).password
    except ValueError:
        return
    if password:
        yield password
        yield unquote(password)


def _of_logins_in_urls(text: str) -> Iterator[str]:
    """What stands before the @ of URLs, as those of proxies: the password, or the user where that is all."""
    for match in re.finditer(r"://([^\s/@]+)@", text):
        # JSON writes \" for "
        user, _, password = match[1].replace("\\", "").partition(":")
        yield from (password or user, unquote(password or user))


def _of_docker_login(text: str) -> Iterator[str]:
    try:
        logins = json.loads(text or "{}").get("auths", {})
        entries = [one for one in logins.values() if isinstance(one, Mapping)]
    except (ValueError, AttributeError):
        return
    for entry in entries:
        for key in ("auth", "identitytoken", "registrytoken", "password"):
            value = str(entry.get(key) or "")
            yield value
            if key == "auth":
                try:
                    yield base64.b64decode(value).decode().partition(":")[2]
                except ValueError:
                    continue


def _of_k3s_token(text: str) -> Iterator[str]:
    """A token and the secret part of it: K10<hash>::server:<secret>."""
    yield text
    if "::" in text:
        yield text.strip().rpartition(":")[2]


def _of_passwords(text: str) -> Iterator[str]:
    """k3s' own logins, one a line: <password>,<user>,<id>,<groups>."""
    for line in text.splitlines():
        yield line.partition(",")[0]


def of_containers(inspected: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Values of the containers' environments that are not known to be harmless."""
    for one in inspected:
        for entry in (one.get("Config") or {}).get("Env") or []:
            name, _, value = str(entry).partition("=")
            if value and not is_harmless(name) and not re.fullmatch(r"true|false|[\d.]+|/\S*", value):
                yield value
                yield from of_url(value)


def collect(base: Path, *, root: Path = Path("/"), more: Callable[[], Iterable[str]] = tuple) -> set[str]:
    """All secrets that lie on this server, and those of `more`. Never raises for a file that cannot be read."""
    found: set[str] = set(more())
    for path in sorted((base / "secrets").glob("**/*")):
        if path.name not in NO_SECRETS:
            if path.name == ".key":
                found |= _binary(path)
            else:
                found.update(_of_secret_file(_read(path)))
    for path in [*(base / "tls").glob("**/*.key"), *_found(root, WHOLE)]:
        text = _read(path)
        found.update(_key_lines(text) if "PRIVATE KEY" in text else _of_k3s_token(text))
    for path in [*(base / "kubeconfig").glob("*"), *_found(root, STRUCTURED)]:
        for value in _VALUE.findall(_read(path)):
            found.update(_of_k3s_token(value) if "::" in value else [value])
    found.update(_of_passwords(_read(root / _K3S / "cred/passwd")))
    for path in _found(root, WITH_URLS):
        found.update(_of_logins_in_urls(_read(path)))
    for path in _found(root, DOCKER_LOGINS):
        found.update(_of_docker_login(_read(path)))
    # paths and switches stand where a value could
    return {one for one in found if one.strip() and not _NO_SECRET.fullmatch(one.strip())}


def _binary(path: Path) -> set[str]:
    """A binary key as text may show it."""
    try:
        key = path.read_bytes()
    except OSError:
        return set()
    return {key.hex(), base64.b64encode(key).decode()} if key else set()
