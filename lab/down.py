"""Removing the lab: every container, volume and network with its label, its state, and its own engine."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import docker
from docker.errors import APIError, NotFound

from lab import engine
from lab.images import load
from lab.prepare import exclusive
from lab.settings import INPUTS_LABEL, LABEL, LabError, Settings
from lab.shell import as_root, run


def remove_labelled(client: docker.DockerClient, name: str) -> dict[str, int]:
    """Remove all containers, volumes and networks of the lab of that name, whatever state a broken run left them in.

    Returns:
        How many of each were removed.

    Raises:
        LabError: one of them resists.
    """
    filters: dict[str, str | list[str] | bool] = {"label": f"{LABEL}={name}"}
    counts = {"containers": 0, "volumes": 0, "networks": 0}
    try:
        for container in client.containers.list(all=True, filters=filters, ignore_removed=True):
            try:
                container.remove(force=True, v=True)
            except NotFound:
                continue
            counts["containers"] += 1
        for volume in client.volumes.list(filters=filters):
            volume.remove(force=True)
            counts["volumes"] += 1
        for network in client.networks.list(filters=filters):
            network.reload()
            # a container that is not the lab's own may have been put into its network
            for guest in network.attrs.get("Containers") or {}:
                network.disconnect(guest, force=True)
            network.remove()
            counts["networks"] += 1
    except APIError as error:
        raise LabError(f"removing the lab {name}: {error.explanation}") from None
    return counts


def remove_remains(client: docker.DockerClient) -> int:
    """Remove what interrupted builds and tests left in an engine of the lab's own: dead containers, nameless volumes.

    Returns:
        How many things were removed.
    """
    count = 0
    dead: dict[str, str | list[str] | bool] = {"status": ["created", "exited", "dead"]}
    for container in client.containers.list(all=True, filters=dead, ignore_removed=True):
        container.remove(force=True, v=True)
        count += 1
    for volume in client.volumes.list(filters={"dangling": True}):
        # Docker names a volume that nobody named by 64 hex digits
        if re.fullmatch(r"[0-9a-f]{64}", str(volume.name)):
            volume.remove()
            count += 1
    return count


def _remove_tree(path: Path) -> None:
    """Remove a folder; as root where containers or an engine wrote it."""
    if not path.exists():
        return
    try:
        shutil.rmtree(path)
    except PermissionError:
        run(as_root(["rm", "-rf", "--one-file-system", path]), f"removing {path}")


def down(settings: Settings, keep_engine: bool = False) -> None:
    """Remove the lab. What was built or downloaded stays, so the next lab is quick.

    Args:
        settings: which lab.
        keep_engine: leave an engine of the lab's own running.

    Raises:
        LabError: something resists.
    """
    with exclusive(settings):
        try:
            url = engine.find(settings)
        except LabError as error:
            raise LabError(f"{error}\nThe lab is in that engine: start it, or unset DOCKER_HOST.") from None
        own = engine.Own.of(settings)
        emptied = settings.engine / "emptied"
        if not url and own.data.is_dir() and not emptied.exists():
            # after a restart of the machine its containers are still there, and would come back with the engine
            url = engine.start(settings)
        if url:
            client = engine.connect(url)
            counts = remove_labelled(client, settings.name)
            if url == own.url:
                counts["remains of tests and builds"] = remove_remains(client)
            client.close()
            print(f"removed {', '.join(f'{number} {what}' for what, number in counts.items() if number) or 'nothing'}")
        _remove_tree(settings.state)
        for left in settings.cache.glob("*/.new-*"):
            _remove_tree(left)
        if not keep_engine:
            print(engine.stop(settings))
        if url == own.url and not engine.own_pid(settings):
            emptied.touch()
    (settings.home / "lock").unlink(missing_ok=True)
    print(f"kept for the next lab: {settings.cache} (`make lab-clean` removes it)")


def _remove_images(settings: Settings) -> int:
    client = engine.connect(engine.find(settings))
    catalogue = load()
    local = {image.local for image in catalogue.values() if image.local}
    count = 0
    for image in client.images.list():
        names = [name for name in image.tags if name in local or name.startswith("registry.lab.test/")]
        if names or INPUTS_LABEL in image.labels:
            try:
                client.images.remove(str(image.id), force=True)
            except NotFound:
                continue
            count += 1
    client.close()
    return count


def clean(settings: Settings) -> None:
    """Remove the lab and everything that it built or downloaded: the next one starts from nothing.

    Raises:
        LabError: something resists.
    """
    own = engine.Own.of(settings)
    url = engine.find(settings)
    down(settings, keep_engine=bool(url) and url != own.url)
    if url and url != own.url:
        print(f"removed {_remove_images(settings)} images")
    elif engine.own_pid(settings):
        raise LabError("the lab's engine still runs, so its data cannot be removed: stop the containers it runs first")
    else:
        _remove_tree(settings.engine)
    _remove_tree(settings.cache)
    if settings.home.is_dir() and not any(settings.home.iterdir()):
        os.rmdir(settings.home)
    print(f"removed {settings.home}")
