"""Filters of the role k3s: where it gets images from, and through which proxy. No message holds a value of a login."""

from __future__ import annotations

import os
import re
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

# on servers Ansible adds the project's folder to ansible.module_utils, here not
_is_proxy = runpy.run_path(str(Path(__file__).parents[1] / "module_utils" / "proxy_address.py"))["is_proxy"]
MARK = "# Managed by Ansible (role k3s).\n"
"""First line of a file that the role may also remove; k3s_files.py knows it, too."""
AUTHORITIES = "/etc/rancher/k3s/registry-ca"
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.bz2", ".tbz", ".tar.lz4")
"""What k3s takes for an archive of images; any other file is passed over in silence."""
# what k3s knows; it skips any other key in silence
_MIRROR = {"endpoint", "rewrite"}
_CONFIG = {"auth", "tls"}
_AUTH = {"username", "password", "auth", "identity_token"}
_TLS = {"ca_file", "cert_file", "key_file", "insecure_skip_verify"}
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_NETWORKS = {"cluster-cidr": "10.42.0.0/16", "service-cidr": "10.43.0.0/16"}


def _authority_path(host: str) -> str:
    return f"{AUTHORITIES}/{host}.crt"


def k3s_authority_files(authorities: Mapping[str, str]) -> list[dict[str, str]]:
    """The files of the registries' CAs, as M(k3s_files) takes them.

    :param authorities: registry (host or host:port) to PEM.
    """
    return [
        {"path": _authority_path(host), "content": f"{str(pem).strip()}\n", "mode": "0644"}
        for host, pem in sorted(authorities.items())
    ]


def k3s_registries_yaml(registries: Mapping[str, Any], authorities: Mapping[str, str]) -> str:
    """The text of registries.yaml; empty where nothing is set.

    :param registries: `mirrors` and `configs`, as k3s takes them.
    :param authorities: registry to PEM; its file is named in that registry's `configs`.
    """
    if not registries and not authorities:
        return ""
    configs = {host: dict(config or {}) for host, config in (registries.get("configs") or {}).items()}
    for host in authorities:
        config = configs.setdefault(host, {})
        config["tls"] = {**(config.get("tls") or {}), "ca_file": _authority_path(host)}
    wanted = {"mirrors": registries.get("mirrors") or {}, "configs": configs}
    return MARK + yaml.safe_dump({name: _plain(part) for name, part in wanted.items() if part})


def _plain(value: Any) -> Any:
    """Ansible's own kinds of text, list and dict as Python's, which YAML can write."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, str) else value


def k3s_environment(
    http_proxy: str, https_proxy: str, no_proxy: Any, addresses: Sequence[str], config: Mapping[str, Any]
) -> str:
    """The text of k3s.service.env; empty without a proxy.

    What the cluster talks to itself must not go to the proxy: this machine, the node, pods, services, their names.

    :param no_proxy: further hosts, domains and networks; a list, or a text with commas.
    :param addresses: the node's, as far as they are set.
    :param config: settings of config.yaml.
    """
    if not http_proxy and not https_proxy:
        return ""
    networks = [str(config.get(key) or default) for key, default in _NETWORKS.items()]
    names = [".svc", f".{config.get('cluster-domain') or 'cluster.local'}"]
    # programs that know no networks look for the address itself
    own = ["localhost", "127.0.0.1", "127.0.0.0/8", "::1", *addresses, *networks, *names]
    direct = [part.strip() for one in [*own, *_items(no_proxy)] for part in str(one).split(",")]
    values = {
        "HTTP_PROXY": http_proxy,
        "HTTPS_PROXY": https_proxy,
        "NO_PROXY": ",".join(dict.fromkeys(filter(None, direct))),
    }
    return MARK + "".join(f'{name}="{value}"\n' for name, value in values.items() if value)


def k3s_images(entries: Any, checksums: Mapping[str, str]) -> list[dict[str, str]]:
    """The archives as M(k3s_images) takes them: name on the server, URL or file on the controller, pinned checksum."""
    found = []
    for entry in map(str, _items(entries)):
        name = image_name(entry)
        where = {"url": entry} if "://" in entry else {"file": os.path.expanduser(entry)}
        found.append({"name": name, **where, "sha256": str(checksums.get(name, ""))})
    return found


def k3s_image_file(name: str, folder: str) -> dict[str, str]:
    """An archive as a file that the role owns; it is too large to be compared by its content."""
    return {"path": f"{folder}/{name}", "mode": "0644"}


def image_name(entry: str) -> str:
    """The name that an archive has on the server."""
    path = unquote(urlsplit(entry).path) if "://" in entry else entry
    return path.rsplit("/", 1)[-1]


def _items(value: Any) -> list[Any]:
    """A list; of a text from the command line its parts."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return list(value or [])


def k3s_network_problems(wanted: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with the settings, as sentences with their cures.

    :param wanted: registries, authorities, images, checksums, http_proxy, https_proxy, no_proxy.
    """
    return [
        *_registries_problems(wanted["registries"], wanted["authorities"]),
        *_images_problems(wanted["images"], wanted["checksums"]),
        *_proxy_problems(wanted),
    ]


def _unknown(where: str, value: Any, known: set[str]) -> list[str]:
    if not isinstance(value, Mapping):
        return [f"{where} must be a dict with {', '.join(sorted(known))}."]
    found = sorted(map(str, set(value) - known))
    return (
        [f"{where} has {', '.join(found)}, which k3s would skip in silence; it knows {', '.join(sorted(known))}."]
        if found
        else []
    )


def _registries_problems(registries: Any, authorities: Any) -> list[str]:
    problems = _unknown("k3s_registries", registries, {"mirrors", "configs"})
    if problems:
        return problems
    for part in ("mirrors", "configs"):
        if not isinstance(registries.get(part) or {}, Mapping):
            return [f"k3s_registries.{part} must be a dict with a registry's name as key."]
    for host, mirror in (registries.get("mirrors") or {}).items():
        problems += _mirror_problems(str(host), mirror)
    for host, config in (registries.get("configs") or {}).items():
        problems += _config_problems(str(host), config, authorities)
    for host, pem in authorities.items():
        if not _HOST.fullmatch(str(host)):
            problems.append(f"k3s_registry_ca_certificates: '{host}' is no registry. Write host or host:port.")
        if "-----BEGIN CERTIFICATE-----" not in str(pem) or "PRIVATE KEY-----" in str(pem):
            problems.append(
                f"k3s_registry_ca_certificates: what {host} has is no certificate in PEM form. It begins with "
                "-----BEGIN CERTIFICATE-----, and holds no private key."
            )
    return problems


def _mirror_problems(host: str, mirror: Any) -> list[str]:
    where = f"k3s_registries.mirrors['{host}']"
    problems = _unknown(where, mirror, _MIRROR)
    if problems:
        return problems
    if host != "*" and not _HOST.fullmatch(host):
        problems.append(f"{where} is no registry. Write the host as it stands in images' names, as docker.io.")
    endpoints = mirror.get("endpoint")
    if not isinstance(endpoints, (list, tuple)) or not endpoints:
        return [*problems, f"{where} has no endpoint. Write a list: endpoint: ['https://registry.example.org']."]
    for endpoint in endpoints:
        parts = urlsplit(str(endpoint))
        if "@" in parts.netloc:
            # not shown: it holds a login
            problems.append(
                f"{where} has a login in an endpoint's URL. It belongs into k3s_registries.configs, as auth."
            )
        elif parts.scheme not in ("http", "https") or not parts.hostname:
            problems.append(f"{where}: the endpoint '{endpoint}' is no URL. Write it as https://registry.example.org.")
    return problems


def _config_problems(host: str, config: Any, authorities: Mapping[str, str]) -> list[str]:
    where = f"k3s_registries.configs['{host}']"
    problems = _unknown(where, config, _CONFIG)
    if problems:
        return problems
    if not _HOST.fullmatch(host):
        problems.append(f"{where} is no registry. Write the endpoint's host or host:port, without https://.")
    auth, tls = config.get("auth") or {}, config.get("tls") or {}
    problems += _unknown(f"{where}.auth", auth, _AUTH) + _unknown(f"{where}.tls", tls, _TLS)
    if not problems:
        # a number would keep k3s from starting
        texts = sorted(name for name, value in auth.items() if not isinstance(value, str))
        if texts:
            problems.append(f"{where}.auth: {', '.join(texts)} must be text. Write it in quotes.")
        if ("username" in auth) != ("password" in auth):
            problems.append(f"{where}.auth has one of username and password. It needs both.")
        if host in authorities and tls.get("ca_file"):
            problems.append(
                f"{where}.tls names a ca_file, and k3s_registry_ca_certificates has that registry, too. Remove one."
            )
    return problems


def _images_problems(entries: Any, checksums: Any) -> list[str]:
    problems = [problem for entry in map(str, _items(entries)) for problem in _image_problems(entry, checksums)]
    names = [image_name(str(entry)) for entry in _items(entries)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        problems.append(f"k3s_airgap_images names {', '.join(twice)} twice; they would be one file on the server.")
    for name, checksum in checksums.items():
        if not re.fullmatch(r"(sha256:)?[0-9a-fA-F]{64}", str(checksum).strip()):
            problems.append(f"k3s_airgap_checksums['{name}'] is no sha256 (64 hexadecimal digits).")
        if name not in names:
            problems.append(f"k3s_airgap_checksums has {name}, which k3s_airgap_images does not. Correct or remove it.")
    return problems


def _image_problems(entry: str, checksums: Any) -> list[str]:
    parts = urlsplit(entry) if "://" in entry else None
    where = f"k3s_airgap_images: {entry}"
    if parts and "@" in parts.netloc:
        # not shown: it holds a login
        return ["k3s_airgap_images has a URL with a login, which every log would show. Use a mirror that needs none."]
    problems = []
    if not entry.endswith(ARCHIVES):
        problems.append(f"{where} would be skipped by k3s in silence. It takes {', '.join(ARCHIVES)}.")
    if parts is None:
        path = os.path.expanduser(entry)
        if not os.path.isabs(path):
            problems.append(f"{where} is neither a URL nor a path from the root of the machine that runs Ansible.")
        elif not os.path.isfile(path):
            problems.append(f"{where} is no file on the machine that runs Ansible.")
    elif parts.scheme not in ("http", "https", "file"):
        problems.append(f"{where} is neither http, https nor file.")
    elif parts.scheme == "http" and image_name(entry) not in checksums:
        problems.append(
            f"{where} comes over plain http, where a list of checksums proves nothing. Set k3s_airgap_checksums for "
            f"{image_name(entry)}, or use https."
        )
    return problems


def _proxy_problems(wanted: Mapping[str, Any]) -> list[str]:
    problems = [
        f"k3s_{name} is no proxy's address. Write http://host:port or http://user:password@host:port, and in user and "
        'password each of @ : / ? # % " \\ and blanks percent-encoded (@ is %40). It is not shown here, as it may '
        "hold a password."
        for name in ("http_proxy", "https_proxy")
        if wanted[name] and not _is_proxy(str(wanted[name]))
    ]
    wrong = [one for one in _items(wanted["no_proxy"]) if not re.fullmatch(r"[A-Za-z0-9.:/*\[\]_-]+", str(one))]
    if wrong:
        problems.append(f"k3s_no_proxy: {wrong} cannot be hosts. Write one host, .domain or network in each entry.")
    return problems


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "k3s_authority_files": k3s_authority_files,
            "k3s_environment": k3s_environment,
            "k3s_image_file": k3s_image_file,
            "k3s_images": k3s_images,
            "k3s_network_problems": k3s_network_problems,
            "k3s_registries_yaml": k3s_registries_yaml,
        }
