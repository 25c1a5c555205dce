"""The lab's network, and the two machines in it that servers pull and download from: registry and file server."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, NotFound
from docker.models.containers import Container
from docker.types import IPAMConfig, IPAMPool

from lab import settings as names
from lab.registry import Registry
from lab.settings import LabError, Settings
from lab.shell import tail
from lab.state import write

START_SECONDS = 30

CONFIG_LABEL = "integr8scode.lab.config"
"""Label on the depot's containers: hash of what they were started with."""


def ensure_network(client: docker.DockerClient, settings: Settings) -> None:
    """Make the lab's network unless it is there.

    Raises:
        LabError: its addresses are taken, or there is one of that name that is not the lab's.
    """
    try:
        network = client.networks.get(settings.name)
    except NotFound:
        pass
    else:
        if (network.attrs.get("Labels") or {}).get(names.LABEL) != settings.name:
            raise LabError(f"there is a Docker network {settings.name} that is not the lab's: set another LAB_NAME")
        return
    pool = IPAMPool(subnet=names.SUBNET, iprange=names.DYNAMIC_RANGE, gateway=names.GATEWAY)
    try:
        ipam = IPAMConfig(pool_configs=[pool])
        client.networks.create(settings.name, driver="bridge", ipam=ipam, labels=settings.labels)
    except APIError as error:
        raise LabError(
            f"the network {settings.name} ({names.SUBNET}) cannot be made: {error.explanation}\n"
            "`docker network ls` shows what may hold these addresses (a lab of another LAB_NAME?)"
        ) from None


def _ensure_container(
    client: docker.DockerClient,
    settings: Settings,
    *,
    name: str,
    alias: str,
    address: str,
    image: str,
    mounts: dict[Path, tuple[str, str]],
    ports: dict[str, int],
    **options: Any,
) -> Container:
    """Start a container of the depot, anew if anything that it was started with is different now."""
    where = sorted(map(str, mounts.items()))
    what = [client.images.get(image).id, alias, address, where, ports, sorted(options.items())]
    contents = [path.read_bytes() for path in sorted(mounts) if path.is_file()]
    config = hashlib.sha256(repr((what, contents)).encode()).hexdigest()[:16]
    try:
        found = client.containers.get(name)
        if found.labels.get(names.LABEL) != settings.name:
            raise LabError(f"there is a container {name} that is not the lab's: set LAB_NAME to another name")
        if found.labels.get(CONFIG_LABEL) == config:
            found.start()
            return found
        found.remove(force=True)
    except NotFound:
        pass
    endpoint = client.api.create_endpoint_config(aliases=[alias], ipv4_address=address)
    # (the published types say it takes an EndpointConfig; it takes one for each network's name)
    networking = client.api.create_networking_config({settings.name: endpoint})  # type: ignore[arg-type]
    host_config = client.api.create_host_config(
        binds={str(path): {"bind": target, "mode": mode} for path, (target, mode) in mounts.items()},
        port_bindings={inside: ("127.0.0.1", outside) for inside, outside in ports.items()},
        restart_policy={"Name": "unless-stopped"},
        # the service's own port, for a user who is not root
        sysctls={"net.ipv4.ip_unprivileged_port_start": "0"},
    )
    made = client.api.create_container(
        image,
        name=name,
        hostname=alias,
        labels={**settings.labels, CONFIG_LABEL: config},
        ports=[tuple(inside.split("/")) for inside in ports],
        # files in the cache belong to the user who runs the lab
        user=f"{os.getuid()}:{os.getgid()}",
        host_config=host_config,
        networking_config=networking,
        **options,
    )
    container = client.containers.get(made["Id"])
    try:
        container.start()
    except APIError as error:
        container.remove(force=True)
        raise LabError(f"{alias} cannot be started: {error.explanation}") from None
    return container


def _wait(container: Container, what: str, url: str, verify: Path | None, expected: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    last = ""
    while time.monotonic() < deadline:
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.get(url, verify=str(verify) if verify else True, timeout=5)
            if answer.status_code == expected:
                return
            last = f"status {answer.status_code}"
        except requests.RequestException as error:
            last = str(error)
        time.sleep(0.2)
    log = tail(container.logs(tail=30).decode("utf-8", "replace"))
    raise LabError(f"{what} does not answer as it should at {url} ({last}); the end of its log:\n{log}")


def start(client: docker.DockerClient, settings: Settings, image: str) -> None:
    """Start registry and file server and wait until both answer. Does nothing where they run as they should.

    Args:
        client: the engine.
        settings: whose lab.
        image: the depot's image.

    Raises:
        LabError: one of them does not come up; with the end of its log.
    """
    ensure_network(client, settings)
    state = settings.state
    password = state / "registry-password"
    write(password, names.REGISTRY_PASSWORD, 0o600)
    registry_data, files_data = settings.cache / "registry", settings.cache / "files"
    registry_data.mkdir(parents=True, exist_ok=True)
    files_data.mkdir(parents=True, exist_ok=True)
    registry = _ensure_container(
        client,
        settings,
        name=f"{settings.name}-registry",
        alias=names.REGISTRY_HOST,
        address=names.REGISTRY_ADDRESS,
        image=image,
        mounts={
            registry_data: ("/srv/registry", "rw"),
            state / "registry.crt": ("/run/lab/registry.crt", "ro"),
            state / "registry.key": ("/run/lab/registry.key", "ro"),
            password: ("/run/lab/registry-password", "ro"),
        },
        ports={"443/tcp": settings.registry_port},
        command=["start-registry"],
        environment={"LOGIN_USER": names.REGISTRY_USER, "OTEL_TRACES_EXPORTER": "none"},
    )
    files = _ensure_container(
        client,
        settings,
        name=f"{settings.name}-files",
        alias=names.FILES_HOST,
        address=names.FILES_ADDRESS,
        image=image,
        mounts={files_data: ("/srv/files", "ro")},
        ports={"80/tcp": settings.files_port},
        command=["start-files"],
    )
    # 401 is the right answer of a private registry to somebody without a login
    url = f"https://{Registry.of(settings).address}/v2/"
    _wait(registry, names.REGISTRY_HOST, url, settings.state / "ca.crt", 401)
    _wait(files, names.FILES_HOST, f"http://127.0.0.1:{settings.files_port}/no-such-file", None, 404)
