"""What the docker_daemon_* modules share: versions, supported systems, the daemon's configuration; pure functions."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.proxy_address import is_proxy

# Beside Docker itself, whichever source it comes from: what its containers' confinement, https and the modules need.
COMMON_PACKAGES = ("apparmor", "ca-certificates", "python3-docker", "python3-requests", "python3-yaml")
# The systems whose distribution is new enough, and the packages that make up Docker there. Debian splits the client
# off; Ubuntu does not, and calls Compose v2 docker-compose-v2.
SUPPORTED: dict[tuple[str, str], tuple[str, ...]] = {
    ("debian", "13"): ("docker.io", "docker-cli", "docker-compose", *COMMON_PACKAGES),
    ("ubuntu", "24.04"): ("docker.io", "docker-compose-v2", *COMMON_PACKAGES),
}
# Those whose distribution has no Compose 2; Docker's own repository has it for them.
VENDOR_ONLY = frozenset({("debian", "12"), ("ubuntu", "22.04")})

# docker_source -> the engine's and Compose's packages
ENGINE_PACKAGES = {"distribution": "docker.io", "vendor": "docker-ce"}
COMPOSE_PACKAGES = {"distribution": ("docker-compose", "docker-compose-v2"), "vendor": ("docker-compose-plugin",)}

# docker_source -> packages of other sources: apt would remove them, and with them the running daemon.
FOREIGN_PACKAGES = {
    "distribution": (
        "docker-ce",
        "docker-ce-cli",
        "containerd.io",
        "docker-compose-plugin",
        "docker-buildx-plugin",
        "docker-ce-rootless-extras",
        "moby-engine",
        "podman-docker",
    ),
    "vendor": (
        "docker.io",
        "docker-cli",
        "docker-compose",
        "docker-compose-v2",
        "docker-buildx",
        "containerd",
        "runc",
        "moby-engine",
        "podman-docker",
    ),
}

# Keys that dockerd takes over on SIGHUP (moby: daemon/reload.go); any other needs a restart.
RELOADABLE = frozenset(
    {
        "allow-nondistributable-artifacts",
        "authorization-plugins",
        "debug",
        "default-runtime",
        "features",
        "insecure-registries",
        "labels",
        "live-restore",
        "max-concurrent-downloads",
        "max-concurrent-uploads",
        "max-download-attempts",
        "network-diagnostic-port",
        "registry-mirrors",
        "runtimes",
        "shutdown-timeout",
    }
)

# First line of every ca.crt that this project wrote; readers of PEM skip what stands outside the blocks.
CA_MARK = "# Managed by Ansible (role docker). Removed when its registry leaves docker_registry_ca_certificates.\n"


class DockerDaemonError(Exception):
    """Something that has to be told to the operator, as one complete sentence with its cure."""


@dataclass(frozen=True)
class System:
    """A distribution as /etc/os-release names it."""

    id: str
    version: str
    name: str


def parse_os_release(text: str) -> System:
    """Read ID, VERSION_ID and PRETTY_NAME out of the text of /etc/os-release (os-release(5))."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.strip().partition("=")
        if separator and not key.startswith("#"):
            values[key] = value.strip().strip("\"'")
    return System(
        id=values.get("ID", "unknown").lower(),
        version=values.get("VERSION_ID", ""),
        name=values.get("PRETTY_NAME", values.get("ID", "an unknown system")),
    )


def packages_for(system: System) -> tuple[str, ...]:
    """The distribution's packages that make up Docker on this system.

    Raises DockerDaemonError for a system that is not supported, by its name.
    """
    packages = SUPPORTED.get((system.id, system.version))
    if packages is None and (system.id, system.version) in VENDOR_ONLY:
        raise DockerDaemonError(
            f"{system.name} has no Compose 2 in its distribution. Set docker_source: vendor, which takes Docker from "
            "its makers' own repository, or install Debian 13 or Ubuntu 24.04 on the server. Nothing has been changed."
        )
    if packages is None:
        known = ", ".join(f"{name.capitalize()} {version}" for name, version in SUPPORTED)
        raise DockerDaemonError(
            f"{system.name} is not supported by the role docker, whose packages are known for {known}. "
            "Its distribution may lack Docker Engine 25 or Compose 2.26: install one of these systems on the server. "
            "Nothing has been changed."
        )
    return packages


def version_tuple(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: '26.1.5+dfsg1-9+b11', '1:2.26.1-4' and 'v2.26.1' alike.

    An epoch (before a colon) and a leading v are left out. Raises ValueError when no number is found.
    """
    match = re.match(r"(?:\d+:)?v?(\d+(?:\.\d+)*)", version.strip())
    if match is None:
        raise ValueError(f"'{version}' does not begin with a version number")
    return tuple(int(part) for part in match.group(1).split("."))


def is_older(version: str, minimum: str) -> bool:
    """Whether a version is older than a minimum, comparing only numbers ('26.1' is not older than '26.1.0')."""
    left, right = list(version_tuple(version)), list(version_tuple(minimum))
    length = max(len(left), len(right))
    return left + [0] * (length - len(left)) < right + [0] * (length - len(right))


def parse_apt_policy(text: str) -> dict[str, tuple[str, str]]:
    """Package -> (installed, candidate) from `apt-cache policy`; an empty string where it says (none)."""
    found: dict[str, tuple[str, str]] = {}
    package, installed = "", ""
    for line in text.splitlines():
        if line and not line.startswith(" ") and line.endswith(":"):
            package = line[:-1].split(":")[0]
        elif line.strip().startswith("Installed:"):
            installed = line.split(":", 1)[1].strip()
        elif line.strip().startswith("Candidate:") and package:
            candidate = line.split(":", 1)[1].strip()
            found[package] = (
                "" if installed == "(none)" else installed,
                "" if candidate == "(none)" else candidate,
            )
    return found


def build_config(
    *,
    log_max_size: str,
    log_max_file: int,
    address_pools: list[dict[str, Any]],
    bridge_address: str,
    live_restore: bool,
    registry_mirrors: list[str],
    default_ulimits: Mapping[str, Mapping[str, int]],
    options: Mapping[str, Any],
    http_proxy: str = "",
    https_proxy: str = "",
    no_proxy: Sequence[str] = (),
) -> dict[str, Any]:
    """The content of daemon.json; `options` is laid over the rest, key by key, and a null there removes a key.

    Raises DockerDaemonError when a limit has no soft or hard value, or a proxy is none.
    """
    config: dict[str, Any] = {
        "log-driver": "json-file",
        # dockerd wants strings here
        "log-opts": {"max-size": log_max_size, "max-file": str(log_max_file)},
        "live-restore": live_restore,
        # also when empty: a reload leaves a key that is absent as it was
        "registry-mirrors": list(registry_mirrors),
    }
    if address_pools:
        config["default-address-pools"] = [{"base": pool["base"], "size": int(pool["size"])} for pool in address_pools]
    if bridge_address:
        config["bip"] = bridge_address
    if default_ulimits:
        ulimits = {}
        for name, limits in default_ulimits.items():
            if not {"soft", "hard"} <= set(limits):
                raise DockerDaemonError(
                    f"docker_default_ulimits: {name} needs both soft and hard, as in "
                    f"{{{name}: {{soft: 20000, hard: 20000}}}}."
                )
            ulimits[name] = {"Name": name, "Soft": int(limits["soft"]), "Hard": int(limits["hard"])}
        config["default-ulimits"] = ulimits
    proxies = build_proxies(http_proxy, https_proxy, no_proxy)
    if proxies:
        config["proxies"] = proxies
    if "proxies" in options:
        # there its password would be in Ansible's output
        raise DockerDaemonError(
            "docker_daemon_options: proxies is not taken from there. Use docker_http_proxy, docker_https_proxy and "
            "docker_no_proxy, whose passwords are kept out of every output."
        )
    for key, value in options.items():
        if value is None:
            config.pop(key, None)
        else:
            config[key] = value
    return config


def build_proxies(http_proxy: str, https_proxy: str, no_proxy: Sequence[str]) -> dict[str, str]:
    """The key `proxies` of daemon.json (Engine 23 and newer); empty without any.

    Raises DockerDaemonError when a proxy's URL cannot be one. The message holds no part of it: it may hold a password.
    """
    proxies = {}
    for variable, key, url in (
        ("docker_http_proxy", "http-proxy", http_proxy),
        ("docker_https_proxy", "https-proxy", https_proxy),
    ):
        if not url:
            continue
        if not is_proxy(url):
            raise DockerDaemonError(
                f"{variable} is no proxy's address. Write http://host:port or http://user:password@host:port, and in "
                "user and password each of @ : / ? # % \\ ' \" and blanks percent-encoded (@ is %40). It is not shown "
                "here, as it may hold a password."
            )
        proxies[key] = url
    if no_proxy:
        wrong = [name for name in no_proxy if not name or re.search(r"[\s,]", name)]
        if wrong:
            raise DockerDaemonError(
                f"docker_no_proxy: {wrong} cannot be hosts. Write a list with one host, .domain or network in each "
                "entry."
            )
        proxies["no-proxy"] = ",".join(no_proxy)
    return proxies


def render_config(config: Mapping[str, Any]) -> str:
    """daemon.json as text: sorted, so that the same settings give the same bytes."""
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def changed_keys(old_text: str | None, new: Mapping[str, Any]) -> set[str]:
    """The top-level keys whose value differs between the old file (None: absent) and the new settings.

    An old file that is not JSON counts as different in every key.
    """
    old: Any = {}
    if old_text and old_text.strip():
        try:
            old = json.loads(old_text)
        except ValueError:
            return set(new)
    if not isinstance(old, dict):
        return set(new)
    return {key for key in {*old, *new} if old.get(key) != new.get(key)}


def overlapping_routes(routes: str, address: str, bridge: str = "docker0") -> list[str]:
    """Networks that this server reaches through another interface than `bridge` and that overlap `address`.

    `routes` is the text of /proc/net/route, with little-endian hexadecimal numbers; the default route never counts.
    Raises ValueError when the address is none.
    """
    wanted = ipaddress.ip_interface(address).network
    found = []
    for line in routes.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or fields[0] == bridge or fields[7] == "00000000":
            continue
        numbers = [int.from_bytes(bytes.fromhex(field), "little") for field in (fields[1], fields[7])]
        network = ipaddress.ip_network((numbers[0], numbers[1].bit_count()), strict=False)
        if network.overlaps(wanted):
            found.append(f"{network} on {fields[0]}")
    return found


def action_for(keys: set[str], new: Mapping[str, Any]) -> str:
    """What makes dockerd take over these changed keys: 'none', 'reload' (SIGHUP) or 'restart'.

    A key that is no longer there needs a restart, since a reload only takes over what the file holds.
    """
    if not keys:
        return "none"
    return "reload" if keys <= RELOADABLE and keys <= set(new) else "restart"
