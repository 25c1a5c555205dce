#!/usr/bin/python
"""Ansible module: Docker's daemon.json and registry CAs, taken over with the least disturbance that does it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_daemon
short_description: Configure the Docker daemon and have it running
description:
  - Renders daemon.json, has C(dockerd --validate) read it before it replaces the old one, writes the CA certificates
    of private registries, and makes the daemon take it over. A reload (SIGHUP) where that is enough; otherwise a
    restart, before which a reload puts live-restore into force, so that running containers live through it.
  - A restart that would stop running containers (live-restore off) is refused unless it is allowed.
  - If the daemon does not come up with the new file, the old one is put back and the daemon started again.
options:
  log_max_size: {type: str, required: true, description: Size at which a container's log file is rotated.}
  log_max_file: {type: int, required: true, description: Number of log files kept for each container.}
  address_pools:
    {type: list, elements: dict, required: true, description: Pools (base and size) for networks without a subnet.}
  bridge_address:
    type: str
    default: ""
    description:
      - Address of docker0 with its prefix length.
      - Empty keeps the one that docker0 has, and writes it down. Without C(bip) docker0 may get another address at the
        next boot, and containers that were made before go on calling the old one host-gateway.
  live_restore: {type: bool, required: true, description: Whether containers live on while the daemon is down.}
  registry_mirrors: {type: list, elements: str, default: [], description: Pull-through mirrors of Docker Hub.}
  http_proxy:
    {type: str, default: "", description: Proxy's URL for what the daemon fetches over http; may hold a password.}
  https_proxy:
    {type: str, default: "", description: Proxy's URL for what the daemon fetches over https; may hold a password.}
  no_proxy:
    {type: list, elements: str, default: [], description: Hosts and domains that are reached without the proxy.}
  default_ulimits: {type: dict, default: {}, description: Limit name to its soft and hard value.}
  options: {type: dict, default: {}, description: Further keys of daemon.json; a null removes one. In no log.}
  registry_ca_certificates: {type: dict, default: {}, description: Registry (host or host:port) to its CA in PEM.}
  allow_container_restart: {type: bool, default: false, description: Allow a restart that stops running containers.}
  engine_min_version: {type: str, required: true, description: Oldest engine that is accepted once it runs.}
  compose_min_version: {type: str, required: true, description: Oldest Compose that is accepted.}
author: integr8scode-ansible
"""

EXAMPLES = r"""
- name: Configure Docker
  docker_daemon:
    log_max_size: 10m
    log_max_file: 3
    address_pools: [{base: 172.24.0.0/14, size: 24}]
    live_restore: true
    engine_min_version: "25.0"
    compose_min_version: 2.26.0
"""

RETURN = r"""
action: {description: "What was done to the daemon: none, start, reload or restart.", type: str, returned: always}
changed_keys: {description: Keys of daemon.json that changed., type: list, returned: always}
engine_version:
  {description: Version of the engine that runs; empty in check mode without one., type: str, returned: always}
compose_version:
  {description: Version of docker compose; empty in check mode without one., type: str, returned: always}
"""

import fcntl
import ipaddress
import json
import os
import re
import socket
import ssl
import struct
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.docker_daemon_common import (
    CA_MARK,
    DockerDaemonError,
    action_for,
    build_config,
    changed_keys,
    is_older,
    overlapping_routes,
    render_config,
)
from ansible.module_utils.docker_daemon_engine import CONFIG, DOCKER_SOCKET, Daemon, mask, read, secret_texts, write

CERTIFICATES = "/etc/docker/certs.d"
# set while a new file waits for the daemon to take it over; /run forgets it on a reboot, which takes it over as well
PENDING = "/run/docker-daemon.pending"


def bridge_now(name: str = "docker0") -> str:
    """The IPv4 address of an interface with its prefix length; empty when it has none."""
    packed = struct.pack("256s", name.encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # SIOCGIFADDR, SIOCGIFNETMASK (netdevice(7)): the address is at bytes 20 to 24 of struct ifreq
            numbers = [socket.inet_ntoa(fcntl.ioctl(probe, code, packed)[20:24]) for code in (0x8915, 0x891B)]
        except OSError:
            return ""
    return str(ipaddress.ip_interface("/".join(numbers)))


def choose_bridge(wanted: str, old: str | None) -> str:
    """The address that docker0 shall have: the wanted one, else the one that is written down, else the one it has.

    Raises DockerDaemonError when the wanted one is none, or hides a network that this server already reaches.
    """
    if not wanted:
        try:
            written = str(json.loads(old or "{}").get("bip", ""))
        except (ValueError, AttributeError):
            written = ""
        return written or bridge_now()
    try:
        hidden = overlapping_routes(read("/proc/net/route") or "", wanted)
    except ValueError as error:
        raise DockerDaemonError(
            f"docker_bridge_address: {error}. Write an address with its prefix, 172.17.0.1/16."
        ) from error
    if hidden:
        raise DockerDaemonError(
            f"docker_bridge_address {wanted} overlaps {', '.join(hidden)}: this server would lose the way to that "
            "network, and you perhaps the way to it. Choose another, or leave it empty. Nothing has been changed."
        )
    return wanted


def plan_certificates(wanted: dict[str, str]) -> dict[str, str | None]:
    """Path -> new text, or None for a file of ours whose registry was taken out; only what differs.

    Raises DockerDaemonError for a registry's name or a certificate that cannot be one.
    """
    plan: dict[str, str | None] = {}
    for registry, pem in wanted.items():
        if not re.fullmatch(r"[A-Za-z0-9.-]+(:\d+)?", registry):
            raise DockerDaemonError(
                f"docker_registry_ca_certificates: '{registry}' is no registry's name; write host or host:port."
            )
        blocks = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", pem or "", re.DOTALL)
        try:
            for block in blocks:
                ssl.PEM_cert_to_DER_cert(block)
        except ValueError:
            blocks = []
        if not blocks:
            raise DockerDaemonError(
                f"docker_registry_ca_certificates: what is given for {registry} holds no certificate in PEM form "
                "(-----BEGIN CERTIFICATE----- ...)."
            )
        path = f"{CERTIFICATES}/{registry}/ca.crt"
        text = CA_MARK + "\n".join(blocks) + "\n"
        if read(path) != text:
            plan[path] = text
    for registry in sorted(os.listdir(CERTIFICATES)) if os.path.isdir(CERTIFICATES) else []:
        path = f"{CERTIFICATES}/{registry}/ca.crt"
        if registry not in wanted and (read(path) or "").startswith(CA_MARK):
            plan[path] = None
    return plan


def apply_certificates(plan: dict[str, str | None]) -> None:
    """Write and remove the CA files; dockerd reads them at each connection, it needs no reload."""
    for path, text in plan.items():
        if text is not None:
            write(path, text, 0o644)
            continue
        os.unlink(path)
        if not os.listdir(os.path.dirname(path)):
            os.rmdir(os.path.dirname(path))


def put_back(old: str | None) -> None:
    """Have the old file again, or none."""
    if old is None:
        os.unlink(CONFIG)
    else:
        write(CONFIG, old, 0o600)
    os.unlink(PENDING)


def take_over(daemon: Daemon, text: str, old: str | None, action: str, *, live_restore: bool) -> None:
    """Write daemon.json and make the daemon take it over; put the old file back when it does not come up with it.

    Raises DockerDaemonError in that case.
    """
    write(PENDING, action, 0o600)
    write(CONFIG, text, 0o600)
    if action == "restart" and live_restore:
        try:
            daemon.protect_containers()
        except DockerDaemonError as error:
            put_back(old)
            raise DockerDaemonError(f"{error} The old file was put back, and nothing was restarted.") from error
    try:
        daemon.apply(action)
    except DockerDaemonError as error:
        put_back(old)
        try:
            daemon.apply("restart")
            state = "The old configuration was put back and the daemon runs with it."
        except DockerDaemonError as again:
            state = f"The old configuration was put back, and the daemon does not start with it either: {again}"
        raise DockerDaemonError(f"Docker does not start with the new {CONFIG}: {error}\n{state}") from error
    os.unlink(PENDING)


def refuse_interruption(daemon: Daemon, keys: set[str]) -> None:
    """Raise DockerDaemonError when a restart with live-restore off would stop running containers."""
    running = daemon.running_containers()
    if running:
        raise DockerDaemonError(
            f"{', '.join(sorted(keys)) or 'A change made before'} in {CONFIG} needs a restart of Docker, and with "
            f"live-restore off that would stop {len(running)} running containers ({', '.join(running[:8])}). Set "
            "docker_live_restore: true, or docker_allow_container_restart: true when you may stop them. "
            "Nothing has been changed."
        )


def wanted_config(parameters: dict[str, Any], old: str | None) -> dict[str, Any]:
    """The content of daemon.json that the module's parameters ask for."""
    names = (
        "log_max_size", "log_max_file", "address_pools", "live_restore", "registry_mirrors", "default_ulimits",
        "http_proxy", "https_proxy", "no_proxy",
    )  # fmt: skip
    return build_config(
        bridge_address=choose_bridge(parameters["bridge_address"], old),
        options=parameters["options"],
        **{name: parameters[name] for name in names},
    )


def make_diff(old: str | None, text: str, certificates: dict[str, str | None]) -> list[dict[str, str]]:
    """What --diff shows: each file that changes, without passwords in URLs and without tokens."""
    pairs = [(CONFIG, old, text), *((path, read(path), new) for path, new in certificates.items())]
    return [
        {"before_header": path, "after_header": path, "before": mask(before or ""), "after": mask(after or "")}
        for path, before, after in pairs
        if before != after
    ]


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do the module's work; what it returns to Ansible."""
    parameters = module.params
    daemon = Daemon(module)
    old = read(CONFIG)
    enabled, active = daemon.state()
    started = not active
    if started and not module.check_mode:
        # Docker makes docker0 when it starts; should the old file keep it from that, the new one may let it
        daemon.systemctl("start", "docker.service")
        active = daemon.state()[1]
    config = wanted_config(parameters, old)
    text = render_config(config)
    certificates = plan_certificates(parameters["registry_ca_certificates"])
    keys = changed_keys(old, config)
    if text != old:
        daemon.validate(text)

    action = action_for(keys, config) if text != old else "none"
    pending = read(PENDING)
    if pending is not None and action != "restart":
        action = "reload" if pending.strip() == "reload" else "restart"
    if not active:
        action = "start"
    live_restore = bool(config.get("live-restore"))
    if action == "restart" and not live_restore and not parameters["allow_container_restart"]:
        refuse_interruption(daemon, keys)

    diff = make_diff(old, text, certificates)
    if not module.check_mode:
        apply_certificates(certificates)
        if action != "none":
            take_over(daemon, text, old, action, live_restore=live_restore)
        elif text != old:
            write(CONFIG, text, 0o600)  # other bytes, same settings
        if not enabled:
            daemon.systemctl("enable", "docker.service")
    engine, compose = check_versions(daemon, parameters, strict=not module.check_mode)
    return {
        "changed": started or bool(diff) or not enabled or action != "none",
        "action": "start" if started and action in ("none", "reload") else action,
        "changed_keys": sorted(keys),
        "engine_version": engine,
        "compose_version": compose,
        "diff": diff,
    }


def check_versions(daemon: Daemon, parameters: dict[str, Any], *, strict: bool) -> tuple[str, str]:
    """Versions of the engine that runs and of `docker compose`, which a plugin elsewhere may shadow.

    Raises DockerDaemonError when one is too old or, if strict, cannot be told.
    """
    try:
        engine = str(daemon.api("/version")["Version"])
    except OSError as error:
        if strict:
            raise DockerDaemonError(f"The Docker daemon does not answer at {DOCKER_SOCKET}: {error}") from error
        return "", ""
    code, out, err = daemon.module.run_command(["docker", "compose", "version", "--short"])
    compose = str(out).strip()
    if code != 0 and strict:
        raise DockerDaemonError(
            f"'docker compose version' fails: {err.strip() or compose}. Is a broken plugin in the way?"
        )
    for name, version, minimum in (
        ("Docker Engine", engine, parameters["engine_min_version"]),
        ("Docker Compose", compose, parameters["compose_min_version"]),
    ):
        if version and is_older(version, minimum):
            raise DockerDaemonError(
                f"{name} {version} runs, {minimum} is the oldest that works here. If apt has a newer one installed, "
                "something older is in the way: look for dockerd in /usr/local/bin, for docker-compose in "
                "~/.docker/cli-plugins and /usr/local/lib/docker/cli-plugins, or restart Docker."
            )
    return engine, compose


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "log_max_size": {"type": "str", "required": True},
            "log_max_file": {"type": "int", "required": True},
            "address_pools": {"type": "list", "elements": "dict", "required": True},
            "bridge_address": {"type": "str", "default": ""},
            "live_restore": {"type": "bool", "required": True},
            "registry_mirrors": {"type": "list", "elements": "str", "default": []},
            "http_proxy": {"type": "str", "default": "", "no_log": True},
            "https_proxy": {"type": "str", "default": "", "no_log": True},
            "no_proxy": {"type": "list", "elements": "str", "default": []},
            "default_ulimits": {"type": "dict", "default": {}},
            # the whole, since the server's journal gets what is nested as it is
            "options": {"type": "dict", "default": {}, "no_log": True},
            "registry_ca_certificates": {"type": "dict", "default": {}},
            "allow_container_restart": {"type": "bool", "default": False},
            "engine_min_version": {"type": "str", "required": True},
            "compose_min_version": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    # ... and in results only what its name calls a secret is masked: json-file, or a 3, stands in many a message
    proxies = {module.params[name] for name in ("http_proxy", "https_proxy") if module.params[name]}
    module.no_log_values = proxies | secret_texts(module.params["options"])
    try:
        result = run(module)
    except DockerDaemonError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
