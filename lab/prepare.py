"""``python -m lab prepare``: everything that has to be there before a lab server is made."""

from __future__ import annotations

import fcntl
import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import depot, engine, images, k3s_files, server, state
from lab.builder import Builder
from lab.jobs import Heartbeat, Job, run_jobs
from lab.settings import FILES_HOST, REGISTRY_HOST, SUBNET, UPLINK_GATEWAY, UPLINK_SUBNET, LabError, Settings
from lab.sources import Sources
from lab.state import write

WORKERS = 3
"""Two for images, as the usual machine has two cores, and one for the long build of Kubernetes' parts."""

MACHINES = ("server", "depot")
"""Local images that are always needed; the other ones only when something that stands on them is due."""


@contextmanager
def exclusive(settings: Settings) -> Iterator[None]:
    """Hold the lab's lock: two runs at a time would build the same things twice."""
    settings.home.mkdir(parents=True, exist_ok=True)
    with (settings.home / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("waiting for another `python -m lab` to end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(line: str, lock: threading.Lock = threading.Lock()) -> None:  # noqa: B008 (one lock for all lines, on purpose)
    with lock:
        print(line, flush=True)


def plan(builder: Builder, settings: Settings, names: Iterable[str], with_k3s: bool) -> list[Job]:
    """The jobs that make the named images (and those they need) and the k3s download."""
    client = engine.connect(builder.url)
    jobs = []
    if with_k3s:
        jobs.append(Job("k3s", lambda: k3s_files.ensure(settings, builder.sources, builder.machine, _say)))
    jobs.append(Job("debian", lambda: builder.ensure_local("debian")))
    needed = set(names)
    jobs.append(Job("base", lambda: builder.ensure_local("base"), ("debian",)))
    jobs.append(Job("depot", lambda: builder.ensure_local("depot"), ("base",)))

    def start_depot() -> str:
        depot.start(client, settings, builder.images["depot"].local)
        return "answer"

    jobs.append(Job(f"{REGISTRY_HOST} and {FILES_HOST}", start_depot, ("depot",)))
    for name in sorted(needed - {"debian", "base", "depot"}):
        if builder.images[name].local:
            jobs.append(Job(name, lambda name=name: builder.ensure_local(name), ("base",)))  # type: ignore[misc]
        else:
            need = (f"{REGISTRY_HOST} and {FILES_HOST}",)
            jobs.append(Job(name, lambda name=name: builder.ensure_pushed(name), need))  # type: ignore[misc]
    return jobs


def describe(settings: Settings, url: str, options: dict[str, object]) -> dict[str, object]:
    """What ``lab/create.yml`` and the tests must know about this lab (``state/lab.json``)."""
    return {
        "name": settings.name,
        "labels": settings.labels,
        "docker_host": url,
        "network": settings.name,
        "address_prefix": SUBNET.rsplit(".", 1)[0] + ".",
        "uplink": {
            "network": settings.uplink,
            "subnet": UPLINK_SUBNET,
            "gateway": UPLINK_GATEWAY,
            "address_prefix": UPLINK_SUBNET.rsplit(".", 1)[0] + ".",
        },
        "port_base": settings.port_base,
        "registry": {"host": REGISTRY_HOST, "port": settings.registry_port},
        "files": {"host": FILES_HOST, "port": settings.files_port},
        "server": {"image": server.IMAGE, "options": options},
    }


def prepare(settings: Settings, only: Iterable[str] = (), with_k3s: bool = True, load: bool = False) -> Sources:
    """Bring the lab to where servers can be made: engine, keys, images, registry, file server.

    Args:
        settings: which lab.
        only: names of images (default all); the depot and the server image always come along.
        with_k3s: whether the k3s download is made too.
        load: have the pushed images in the engine too; tests of single images start them there.

    Raises:
        LabError: something failed; what, and the end of its output.
    """
    catalogue = images.load()
    names = set(only) or {name for name, image in catalogue.items() if image.repository}
    unknown = names - set(catalogue)
    if unknown:
        raise LabError(f"lab/images.yml has no image {', '.join(sorted(unknown))}; it has {', '.join(catalogue)}")
    with exclusive(settings):
        url = engine.ensure(settings)
        state.make(settings)
        sources = Sources.probe(settings)
        builder = Builder(settings, url, catalogue, sources, load)
        jobs = plan(builder, settings, names | set(MACHINES), with_k3s)
        try:
            with Heartbeat("preparing the lab"):
                run_jobs(jobs, WORKERS, _say)
        finally:
            sources.save(settings)
        client = engine.connect(url)
        options = server.container_options(server.inspect_host(client, catalogue["base"].local))
        client.close()
        description = describe(settings, url, options)
        write(settings.state / "lab.json", json.dumps(description, indent=2) + "\n")
    for note in sources.notes:
        _say(f"note: {note}")
    _say(sources.describe())
    return sources


def read_description(settings: Settings) -> dict[str, object]:
    """The description of the prepared lab.

    Raises:
        LabError: it was not prepared.
    """
    path: Path = settings.state / "lab.json"
    try:
        found: dict[str, object] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise LabError(f"{path} is missing: run `make lab-prepare` first") from None
    return found
