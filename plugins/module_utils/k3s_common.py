"""What the k3s_* modules share: versions, addresses, checksums and refusals, as functions that need no server."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

BINARY = "/usr/local/bin/k3s"
CONFIG_FOLDER = "/etc/rancher/k3s"
DATA_FOLDER = "/var/lib/rancher/k3s"
UNIT = "k3s.service"
# The interface of a fixed node address (role k3s: k3s_fixed_node_address).
NODE_INTERFACE = "k3s-node"
# Pods and services, unless config.yaml says otherwise.
CLUSTER_NETWORKS = {"cluster-cidr": "10.42.0.0/16", "service-cidr": "10.43.0.0/16"}
# Set while a new binary or file waits for a restart; /run forgets it on a reboot, which is a restart.
PENDING = "/run/k3s-restart.pending"

# Machine (uname -m) -> name in the vendor's releases, and the binary's suffix there.
ARCHITECTURES = {"x86_64": ("amd64", ""), "aarch64": ("arm64", "-arm64")}
# The addresses on which k3s hears the containers' bridge as well as everybody else.
WILDCARDS = frozenset({"", "0.0.0.0", "::", "[::]"})  # noqa: S104  (read, not bound)


class K3sError(Exception):
    """Something that has to be told to the operator, as complete sentences with the cure."""


@dataclass(frozen=True, order=True)
class Version:
    """A k3s release: Kubernetes' version, then k3s' own count for it (v1.34.4+k3s1)."""

    major: int
    minor: int
    patch: int
    build: int

    def __str__(self) -> str:
        return f"v{self.major}.{self.minor}.{self.patch}+k3s{self.build}"


def parse_version(text: str) -> Version:
    """A version as in v1.34.4+k3s1, also out of what `k3s --version` prints.

    Raises K3sError when there is none; release candidates and 'latest' are none.
    """
    match = re.search(r"v(\d+)\.(\d+)\.(\d+)\+k3s(\d+)(?![\w.-])", text)
    if match is None:
        raise K3sError(f"'{text.strip()}' holds no k3s release; write it as the vendor does, for example v1.34.4+k3s1.")
    return Version(*(int(group) for group in match.groups()))


def refuse_jump(installed: Version | None, wanted: Version) -> None:
    """Raise K3sError for a downgrade and for an upgrade that leaves out a minor version.

    Kubernetes supports neither: the datastore is converted upwards only, one minor version at a time.
    """
    if installed is None:
        return
    if wanted < installed:
        raise K3sError(
            f"k3s {installed} is installed and {wanted} is older: k3s cannot go back, its datastore may have been "
            f"converted. "
            f"Set k3s_version: {installed}, or restore a backup that was made under {wanted}. Nothing has been changed."
        )
    if (wanted.major, wanted.minor) > (installed.major, installed.minor + 1) or wanted.major != installed.major:
        raise K3sError(
            f"k3s {installed} is installed and {wanted} is more than one minor version newer. Go through every minor "
            f"version: "
            f"set k3s_version to a release of v{installed.major}.{installed.minor + 1} first. Nothing has been changed."
        )


def refuse_bind_address(settings: Mapping[str, str]) -> None:
    """Raise K3sError when a bind-address keeps the containers of the Compose network out.

    `settings` maps the file (or variable) that says so to the address. Containers call host-gateway, which is docker0's
    address: only a listener on every address hears it.
    """
    for source, address in settings.items():
        if address.strip() not in WILDCARDS:
            raise K3sError(
                f"{source} sets bind-address {address}: k3s would not listen on docker0, through which the workers' "
                f"containers "
                "reach it (host.docker.internal), and they could run nothing. Remove bind-address, and keep strangers "
                "out by "
                "the firewall instead. Nothing has been changed."
            )


def refuse_cgroup_v1(version: Version, *, cgroup_v1: bool, kubelet_arguments: list[str]) -> None:
    """Raise K3sError on cgroup v1 for releases whose kubelet does not start there (1.35 and newer)."""
    if not cgroup_v1 or (version.major, version.minor) < (1, 35):
        return
    if any(argument.replace(" ", "").lower() == "fail-cgroupv1=false" for argument in kubelet_arguments):
        return
    raise K3sError(
        f"This server has cgroup v1, on which k3s {version} does not start. Either boot it with cgroup v2 (kernel "
        f"parameter "
        "systemd.unified_cgroup_hierarchy=1, the default of Debian 11 and Ubuntu 22.04 on), or set k3s_version to a "
        "release of "
        "v1.34, or allow it for now with k3s_config: {kubelet-arg: ['fail-cgroupv1=false']}. Nothing has been changed."
    )


def refuse_addresses(node_ip: str, *, addresses: list[str], has_default_route: bool) -> None:
    """Raise K3sError when k3s would find no address for its node: a wrong node-ip, or none and no default route.

    `node_ip` may hold an IPv4 and an IPv6 address, separated by a comma, as k3s takes it.
    """
    if not node_ip:
        if not has_default_route:
            raise K3sError(
                "This server has no default route, and k3s looks for its node's address there ('no default routes "
                "found'). "
                f"Set k3s_node_ip to one of its addresses ({', '.join(addresses) or 'it has none yet'}). "
                "Nothing has been changed."
            )
        return
    for address in node_ip.split(","):
        try:
            wanted = ipaddress.ip_address(address.strip())
        except ValueError as error:
            raise K3sError(f"k3s_node_ip: {error}. Nothing has been changed.") from error
        if str(wanted) not in addresses:
            raise K3sError(
                f"k3s_node_ip {wanted} is no address of this server, which has {', '.join(addresses) or 'none'}: k3s "
                f"would "
                "crash again and again. Correct it or, where a default route exists, leave it empty. "
                "Nothing has been changed."
            )


def refuse_fixed_address(
    fixed: str, *, node_ip: str, settings: Mapping[str, str], others: list[str], config: Mapping[str, Any]
) -> None:
    """Raise K3sError when `fixed` ("": none is wanted) cannot be the node's address on an interface of its own.

    `settings` maps the file (or variable) that sets node-ip to what it sets, `others` are the addresses of the other
    interfaces, `config` holds settings of config.yaml.
    """
    if not fixed:
        return
    unchanged = "Nothing has been changed."
    try:
        address = ipaddress.IPv4Address(fixed)
    except ValueError as error:
        raise K3sError(f"k3s_fixed_node_address: {error}. Write one IPv4 address, as 192.0.2.1. {unchanged}") from error
    if address.is_loopback or address.is_multicast or address.is_link_local or address.is_unspecified:
        raise K3sError(
            f"k3s_fixed_node_address {fixed} is a loopback, link-local, multicast or unspecified address, which the "
            f"kubelet refuses. Take one as 192.0.2.1, which no network uses. {unchanged}"
        )
    if fixed in others:
        raise K3sError(
            f"k3s_fixed_node_address {fixed} is the address of another interface of this server. Take one that nothing "
            f"else has, as 192.0.2.1, or set k3s_node_ip instead. {unchanged}"
        )
    for key, default in CLUSTER_NETWORKS.items():
        for network in str(config.get(key) or default).split(","):
            if address in ipaddress.ip_network(network.strip(), strict=False):
                raise K3sError(
                    f"k3s_fixed_node_address {fixed} is in {key} {network.strip()}, whose addresses k3s gives away. "
                    f"Take one as 192.0.2.1, which no network uses. {unchanged}"
                )
    for source, other in {"k3s_node_ip": node_ip, **settings}.items():
        if other.strip() not in {"", fixed}:
            raise K3sError(
                f"{source} sets node-ip {other}, and k3s_fixed_node_address is {fixed}: the node can have one of them. "
                f"Remove one. {unchanged}"
            )


def token_secret(token: str) -> str:
    """The part of a k3s token that is the secret: all of a short one, what follows the last colon of a K10… one."""
    return token.strip().rsplit(":", 1)[-1] if token.strip().startswith("K10") else token.strip()


def refuse_token(wanted: str, present: str | None) -> None:
    """Raise K3sError for a token that is none, and for another one than the datastore was made with.

    `present` is the server's token file, None on a fresh server. k3s encrypts its bootstrap data with the token: with
    another one it does not start ('bootstrap data already found and encrypted with different token').
    """
    # k3s reads what stands before a colon as a user's name, and what follows K10 as the form of its own token files
    whole = re.fullmatch(r"K10[0-9a-f]{64}::[^:]+:[^:]+", wanted)
    if len(token_secret(wanted)) < 16 or re.search(r"\s", wanted) or (":" in wanted and not whole):
        raise K3sError(
            "k3s_token must have 16 characters or more, no white space and no colon. Make one with 'openssl rand -hex "
            "32' and keep it in the vault. Nothing has been changed."
        )
    if present is not None and token_secret(present) != token_secret(wanted):
        raise K3sError(
            "This server's k3s was made with another token than k3s_token; it would not start with the new one "
            "('bootstrap data already found and encrypted with different token'). Put the old token into the vault (on "
            f"the server: {DATA_FOLDER}/server/token, the part behind the last colon), or change it there first with "
            "'k3s token rotate'. Nothing has been changed."
        )


def asset_urls(release_url: str, version: Version, architecture: str) -> tuple[str, str]:
    """URLs of the binary and of the vendor's checksum file; the version's plus is escaped as in the vendor's links."""
    suffix = next(suffix for name, suffix in ARCHITECTURES.values() if name == architecture)
    base = f"{release_url.rstrip('/')}/{quote(str(version), safe='')}"
    return f"{base}/k3s{suffix}", f"{base}/sha256sum-{architecture}.txt"


def checksum_from_list(text: str, asset: str) -> str:
    """The sha256 of an asset from the text of the vendor's sha256sum file.

    Raises K3sError when it names no such asset.
    """
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 2 and fields[1].lstrip("*").removeprefix("./") == asset:
            return check_checksum(fields[0])
    raise K3sError(f"The checksum file names no {asset}. It is not a k3s release's sha256sum file.")


def check_checksum(text: str) -> str:
    """A sha256 in lower-case hexadecimal, without a leading 'sha256:'. Raises K3sError when it is none."""
    value = text.strip().lower().removeprefix("sha256:")
    if re.fullmatch(r"[0-9a-f]{64}", value) is None:
        raise K3sError(f"k3s_checksums: '{text}' is no sha256 (64 hexadecimal digits). Nothing has been changed.")
    return value


def addresses_from_kernel(fib_trie: str, if_inet6: str) -> list[str]:
    """This server's own addresses from the texts of /proc/net/fib_trie and /proc/net/if_inet6, without loopback."""
    found: set[str] = set()
    last = ""
    for line in fib_trie.splitlines():
        match = re.search(r"\|-- (\S+)", line)
        if match:
            last = match.group(1)
        elif "/32 host LOCAL" in line and last:
            found.add(last)
    for line in if_inet6.splitlines():
        fields = line.split()
        if len(fields) == 6:
            found.add(str(ipaddress.IPv6Address(int(fields[0], 16))))
    return sorted(address for address in found if not ipaddress.ip_address(address).is_loopback)


def has_default_route(route: str, ipv6_route: str) -> bool:
    """Whether the texts of /proc/net/route and /proc/net/ipv6_route hold a default route that leaves the server."""
    for line in route.splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 8 and fields[1] == "00000000" and fields[7] == "00000000" and int(fields[3], 16) & 1:
            return True
    for line in ipv6_route.splitlines():
        fields = line.split()
        if len(fields) == 10 and fields[0] == "0" * 32 and fields[1] == "00" and fields[9] != "lo":
            return True
    return False


def yaml_scalar(text: str, key: str) -> str | None:
    """The value of a top-level key with a plain value in a YAML text: the last one, or None.

    k3s' own files are flat, so this is enough to read another's drop-in where no YAML library may be installed.
    """
    pattern = rf"^[\"']?{re.escape(key)}[\"']?\s*:[ \t]*(.*?)[ \t]*(?:#.*)?$"
    values: list[Any] = re.findall(pattern, text, re.MULTILINE)
    return str(values[-1]).strip("\"'") if values else None
