"""What a server has of k3s, and everything that keeps the wanted release from running there."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from ansible.module_utils.k3s_common import (
    ARCHITECTURES,
    BINARY,
    CONFIG_FOLDER,
    DATA_FOLDER,
    NODE_INTERFACE,
    K3sError,
    Version,
    addresses_from_kernel,
    has_default_route,
    parse_version,
    refuse_addresses,
    refuse_bind_address,
    refuse_cgroup_v1,
    refuse_fixed_address,
    refuse_jump,
    refuse_token,
    yaml_scalar,
)

AGENT_UNIT = "/etc/systemd/system/k3s-agent.service"


class Runs(Protocol):
    """What runs a program, as AnsibleModule does."""

    def run_command(self, args: list[str]) -> tuple[int, str, str]:
        """Exit code, output and errors."""


def read(path: str) -> str:
    """A file's text; empty when there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def in_container() -> bool:
    """Whether this server is a container, by the word that systemd leaves at its start."""
    return os.path.exists("/run/systemd/container") or os.path.exists("/.dockerenv")


def interface_addresses(module: Runs, name: str) -> list[str] | None:
    """The IPv4 addresses of an interface; None when there is no such interface."""
    if not os.path.exists(f"/sys/class/net/{name}"):
        return None
    _code, out, _err = module.run_command(["ip", "-4", "-oneline", "address", "show", "dev", name])
    return re.findall(r" inet ([0-9.]+)/", out)


@contextmanager
def _noted(problems: list[str]) -> Iterator[None]:
    """Goes on after a refusal, which is kept."""
    try:
        yield
    except K3sError as error:
        problems.append(str(error))


def _installed(module: Runs) -> Version | None:
    """The release of the binary that is here. Raises K3sError where a datastore needs it and it is silent."""
    if not os.path.exists(BINARY):
        return None
    code, out, err = module.run_command([BINARY, "--version"])
    if code == 0:
        return parse_version(out)
    if os.path.isdir(f"{DATA_FOLDER}/server/db"):
        raise K3sError(
            f"'{BINARY} --version' fails ({(err or out).strip()}) and there is a datastore: what version it has cannot "
            "be told. Put the binary back that it ran with, then run again. Nothing has been changed."
        )
    return None


def _of_settings(parameters: Mapping[str, Any], wanted: Version | None, others: list[str], problems: list[str]) -> None:
    """What the settings of config.yaml and its drop-ins stand in the way of."""
    config: dict[str, Any] = parameters["config"]
    drop_ins = {path: read(path) for path in sorted(glob.glob(f"{CONFIG_FOLDER}/config.yaml.d/*.yaml"))}

    def settings(key: str) -> dict[str, str]:
        """Who sets `key`, and to what."""
        found = {"k3s_config": str(config.get(key, "") or "")}
        return found | {path: yaml_scalar(text, key) or "" for path, text in drop_ins.items()}

    with _noted(problems):
        refuse_bind_address(settings("bind-address"))
    kubelet = config.get("kubelet-arg", [])
    if wanted:
        with _noted(problems):
            refuse_cgroup_v1(
                wanted,
                cgroup_v1=not os.path.exists("/sys/fs/cgroup/cgroup.controllers"),
                kubelet_arguments=[str(item) for item in (kubelet if isinstance(kubelet, list) else [kubelet])],
            )
    with _noted(problems):
        refuse_fixed_address(
            parameters["fixed_node_address"],
            node_ip=parameters["node_ip"],
            settings=settings("node-ip"),
            others=others,
            config=config,
        )


def look(module: Runs, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What the module k3s_preflight returns, and every problem, as sentences with their cures.

    `parameters`: version, token, node_ip, fixed_node_address, config, as that module takes them. A token that is None
    is not judged.
    """
    problems: list[str] = []
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        problems.append(f"There is no k3s of the vendor for {machine} here, only for {' and '.join(ARCHITECTURES)}.")
    if os.path.exists(AGENT_UNIT):
        problems.append(
            "This server is the agent of another k3s (k3s-agent.service). A server of its own needs another machine, "
            "or the agent removed first with k3s-agent-uninstall.sh. Nothing has been changed."
        )
    wanted = installed = None
    with _noted(problems):
        wanted = parse_version(parameters["version"])
    with _noted(problems):
        installed = _installed(module)
    if wanted:
        with _noted(problems):
            refuse_jump(installed, wanted)

    addresses = addresses_from_kernel(read("/proc/net/fib_trie"), read("/proc/net/if_inet6"))
    fixed, present_fixed = parameters["fixed_node_address"], interface_addresses(module, NODE_INTERFACE)
    others = [address for address in addresses if address not in (present_fixed or [])]
    _of_settings(parameters, wanted, others, problems)
    # a fixed one that was refused already is no address of the server either
    if not any("k3s_fixed_node_address" in problem for problem in problems):
        with _noted(problems):
            refuse_addresses(
                fixed or parameters["node_ip"],
                # the fixed one is made by this run
                addresses=[*addresses, fixed] if fixed else addresses,
                has_default_route=has_default_route(read("/proc/net/route"), read("/proc/net/ipv6_route")),
            )
    if parameters["token"] is not None:
        # only a datastore ties k3s to a token
        present = read(f"{DATA_FOLDER}/server/token") or read(f"{CONFIG_FOLDER}/token")
        datastore = os.path.isdir(f"{DATA_FOLDER}/server/db")
        with _noted(problems):
            refuse_token(parameters["token"], present if datastore and present else None)
    facts = {
        "installed_version": str(installed) if installed else "",
        "architecture": ARCHITECTURES[machine][0] if machine in ARCHITECTURES else machine,
        "node_interface": present_fixed is not None,
        "fixed_node_addresses": present_fixed or [],
        "airgap_images": os.path.exists(f"{CONFIG_FOLDER}/airgap-images.json"),
        "container": in_container(),
    }
    return facts, problems
