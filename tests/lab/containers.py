"""Containers for tests of single images: started, asked, and removed with their volumes; every wait has an end."""

from __future__ import annotations

import contextlib
import functools
import io
import secrets
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import docker
import pytest
from docker.errors import DockerException, ImageNotFound, NotFound
from docker.models.containers import Container
from docker.models.images import Image
from docker.models.volumes import Volume

from lab import engine, images
from lab.registry import Registry
from lab.settings import INPUTS_LABEL, REGISTRY_HOST, REGISTRY_PASSWORD, REGISTRY_USER, Settings

PREFIX = "t-infra-"


@functools.cache
def client() -> docker.DockerClient:
    """Connect to the lab's engine (or the one that DOCKER_HOST names)."""
    url = engine.find(Settings.from_environment())
    if not url:
        pytest.fail("no Docker engine answers: run `make lab-prepare`")
    return engine.connect(url, 120)


def _pull(reference: str, repository: str) -> Image:
    """Bring an image back that was removed from the engine but is in the lab's registry."""
    name, tag = reference.rsplit(":", 1)
    address = Registry.of(Settings.from_environment()).address
    login = {"username": REGISTRY_USER, "password": REGISTRY_PASSWORD}
    try:
        found = client().images.pull(f"{address}/{repository}", tag=tag, auth_config=login)
    except DockerException as error:
        pytest.fail(f"{reference} is neither in the engine nor in the lab's registry ({error}): run `make lab-prepare`")
    found.tag(name, tag)
    client().images.remove(f"{address}/{repository}:{tag}", noprune=True)
    return found


@functools.cache
def image(name: str) -> str:
    """Name the stand-in among the catalogue's images that a test is about."""
    entry = images.load()[name]
    reference = entry.local or f"{REGISTRY_HOST}/{entry.repository}:{entry.builds[0].tags[0]}"
    try:
        labels = client().images.get(reference).labels or {}
    except ImageNotFound:
        labels = _pull(reference, entry.repository).labels or {}
    if not labels.get(INPUTS_LABEL):
        pytest.skip(f"{reference} is the real image, these tests are about its stand-in")
    return reference


def until(what: str, seconds: float, ask: Callable[[], Any]) -> Any:
    """Ask until the answer is true; fail with `what` when it has not been for so many seconds."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds} s: {what}; last answer: {answer!r}")
        time.sleep(0.1)


@dataclass
class Running:
    """A container of a test."""

    container: Container

    @property
    def logs(self) -> str:
        return self.container.logs().decode(errors="replace")

    def say(self, command: list[str] | str, user: str = "", **environment: str) -> tuple[int, str]:
        """Run a command inside (a string: by a shell); exit code and output of both kinds."""
        words = ["sh", "-c", command] if isinstance(command, str) else command
        done = self.container.exec_run(words, user=user, environment=environment)
        assert isinstance(done.output, bytes)
        return -1 if done.exit_code is None else done.exit_code, done.output.decode(errors="replace")

    def must(self, command: list[str] | str, **environment: str) -> str:
        """Run a command inside that has to succeed; its output without the last line end."""
        code, output = self.say(command, **environment)
        assert code == 0, f"{command!r} ended with {code}: {output}"
        return output.rstrip("\n")

    def ask(self, command: list[str] | str, **environment: str) -> str:
        """Run a command inside that changes nothing, has to succeed and always says something; its output.

        Engine 20.10 now and then loses what a short command said (exit code 0, no output), hence up to three times.
        """
        outputs = (self.must(command, **environment) for _ in range(3))
        return next(filter(None, outputs), "")

    def wait_log(self, text: str, seconds: float = 30) -> None:
        """Wait for a piece of the log; fail at once when the container has ended without it."""

        def seen() -> bool:
            if text in self.logs:
                return True
            if self.status == "exited" and text not in self.logs:
                pytest.fail(f"ended without {text!r}:\n{self.logs[-3000:]}")
            return False

        until(f"{text!r} in the log of {self.container.name}", seconds, seen)

    @property
    def status(self) -> str:
        self.container.reload()
        return str(self.container.status)

    def wait_end(self, seconds: float = 30) -> int:
        """Wait for the container's end; its exit code."""
        until(f"the end of {self.container.name}", seconds, lambda: self.status == "exited")
        return int(self.container.attrs["State"]["ExitCode"])

    def stop(self, grace: int = 20) -> int:
        """Stop as Docker does, with the image's own signal; its exit code (137: it had to be killed)."""
        self.container.stop(timeout=grace)
        return self.wait_end()

    def port(self, number: int) -> int:
        """The port on 127.0.0.1 that stands for one of the container's."""
        self.container.reload()
        return int(self.container.attrs["NetworkSettings"]["Ports"][f"{number}/tcp"][0]["HostPort"])

    @property
    def address(self) -> str:
        """The container's own address."""
        self.container.reload()
        networks: dict[str, Any] = self.container.attrs["NetworkSettings"]["Networks"]
        return str(next(iter(networks.values()))["IPAddress"])

    def put(self, path: str, text: str, mode: int = 0o644, uid: int = 0) -> None:
        """Write a file inside."""
        folder, _, name = path.rpartition("/")
        data = text.encode()
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid = len(data), mode, uid
            archive.addfile(entry, io.BytesIO(data))
        assert self.container.put_archive(folder, buffer.getvalue())


@contextlib.contextmanager
def running(
    name: str,
    command: list[str] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    volumes: Mapping[str, str] | None = None,
    ports: tuple[int, ...] = (),
    files: Mapping[str, tuple[str, int, int]] | None = None,
    **options: Any,
) -> Iterator[Running]:
    """Start the image `name` of the catalogue; whatever happens, it and its anonymous volumes are removed.

    Args:
        name: key in lab/images.yml.
        command: instead of the image's own.
        environment: variables.
        volumes: path in the container by name of the volume.
        ports: the container's ports to publish on a free port of 127.0.0.1.
        files: text, mode and uid by path of files that are there before it starts.
        options: any other of the Docker SDK's ``containers.create``.
    """
    container = client().containers.create(
        image(name),
        command,
        name=f"{PREFIX}{name}-{secrets.token_hex(3)}",
        environment=dict(environment or {}),
        volumes={volume: {"bind": path, "mode": "rw"} for volume, path in (volumes or {}).items()},
        ports={f"{port}/tcp": ("127.0.0.1", 0) for port in ports},
        **options,
    )
    found = Running(container)
    try:
        for path, (text, mode, uid) in (files or {}).items():
            found.put(path, text, mode, uid)
        container.start()
        yield found
    finally:
        with contextlib.suppress(NotFound):
            container.remove(force=True, v=True)


@contextlib.contextmanager
def volume() -> Iterator[str]:
    """An empty named volume, removed afterwards."""
    made: Volume = client().volumes.create(f"{PREFIX}{secrets.token_hex(4)}")
    try:
        yield str(made.name)
    finally:
        with contextlib.suppress(NotFound):
            made.remove(force=True)
