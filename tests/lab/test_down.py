"""Removing a lab removes all of it, whatever state a broken run left it in, and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import docker
import pytest
from docker.errors import NotFound

from lab import engine
from lab.down import remove_labelled
from lab.images import load
from lab.settings import LABEL, Settings

IMAGE = load()["base"].local


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    made = engine.connect(engine.find(Settings.from_environment()), 60)
    yield made
    made.close()


@pytest.fixture
def name() -> str:
    return f"t-down-{secrets.token_hex(3)}"


def test_everything_of_that_lab_goes_and_nothing_of_another(client: docker.DockerClient, name: str) -> None:
    mine, other = {LABEL: name}, {LABEL: f"{name}-other"}
    network = client.networks.create(name, labels=mine)
    client.volumes.create(name, labels=mine)
    running = client.containers.run(
        IMAGE, ["sleep", "300"], detach=True, labels=mine, network=name, volumes=[f"{name}:/data"], name=name
    )
    # as an interrupted run leaves it: made, never started
    half_made = client.containers.create(IMAGE, ["true"], labels=mine)
    stopped = client.containers.run(IMAGE, ["true"], detach=True, labels=mine, restart_policy={"Name": "always"})
    foreign = client.containers.create(IMAGE, ["true"], labels=other)
    foreign_volume = client.volumes.create(f"{name}-other", labels=other)
    guest = client.containers.run(IMAGE, ["sleep", "300"], detach=True, network=name)
    try:
        assert remove_labelled(client, name) == {"containers": 3, "volumes": 1, "networks": 1}
        for gone in (running, half_made, stopped):
            with pytest.raises(NotFound):
                client.containers.get(str(gone.id))
        with pytest.raises(NotFound):
            client.networks.get(str(network.id))
        with pytest.raises(NotFound):
            client.volumes.get(name)
        assert client.containers.get(str(foreign.id)).status == "created"
        assert client.containers.get(str(guest.id)).status == "running"
        assert client.volumes.get(f"{name}-other").name == foreign_volume.name
        assert remove_labelled(client, name) == {"containers": 0, "volumes": 0, "networks": 0}
    finally:
        foreign.remove(force=True)
        guest.remove(force=True)
        foreign_volume.remove(force=True)
        remove_labelled(client, name)
