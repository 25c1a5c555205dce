"""Building what is due of the lab's images, and bringing it into the lab's registry."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping

import docker
from docker.errors import APIError, ImageNotFound
from docker.models.images import Image as EngineImage

from lab import apt, root_image
from lab.engine import connect
from lab.images import Build, Image, inputs_hash, parent
from lab.registry import Registry
from lab.settings import INPUTS_LABEL, REGISTRY_HOST, REGISTRY_PASSWORD, REGISTRY_USER, LabError, Settings
from lab.shell import tail
from lab.sources import Sources
from lab.stage import stage
from lab.state import write


class Builder:
    """Makes images in one engine.

    Every image carries the hash of its inputs as a label. One that is there with the right hash, in the engine
    or (for those that are pushed) in the registry, is left alone.
    """

    def __init__(
        self, settings: Settings, url: str, images: Mapping[str, Image], sources: Sources, load: bool = False
    ) -> None:
        """Look at the engine.

        Args:
            settings: whose lab.
            url: the engine's address.
            images: the catalogue.
            sources: what may come from where.
            load: have pushed images in the engine too, under their names in the registry, for tests of single images.
        """
        self.settings = settings
        self.load = load
        self.url = url
        self.images = images
        self.sources = sources
        self.registry = Registry.of(settings)
        client = connect(url)
        self.machine = str(client.version()["Arch"])
        client.close()
        self._mirror: apt.Mirror | None = None
        self._locks = {name: threading.Lock() for name in images}

    def mirror(self) -> apt.Mirror:
        """This machine's Debian mirror, looked up once."""
        if self._mirror is None:
            self._mirror = apt.host_mirror(dict(os.environ))
        return self._mirror

    def hash_of(self, image: Image, build: Build | None = None) -> str:
        """The inputs hash of an image's build (default: its only one), parents included."""
        if image.folder is None:
            if self.sources.wants_real(image.real):
                return f"real:{image.real}"
            return root_image.inputs_hash(self.mirror(), self.machine)
        base = parent(image, self.images)
        return inputs_hash(image, build or image.builds[0], self.hash_of(base) if base else "", self.machine)

    def local_hash(self, client: docker.DockerClient, name: str) -> str:
        """The inputs hash of an image in the engine; empty if there is none."""
        try:
            return str((client.images.get(name).labels or {}).get(INPUTS_LABEL, ""))
        except ImageNotFound:
            return ""

    def ensure_local(self, name: str) -> str:
        """Make a local image, and those it stands on, unless it is there. Returns what was done."""
        image = self.images[name]
        base = parent(image, self.images)
        with self._locks[name]:
            client = connect(self.url)
            try:
                digest = self.hash_of(image)
                if image.folder is None and digest.startswith("real:"):
                    return self._pull_root(client, image)
                if self.local_hash(client, image.local) == digest:
                    return "is there"
                if image.folder is None:
                    root_image.make(client, self.settings, self.mirror(), image.local, digest)
                    self.sources.used[image.local] = "stand-in"
                    return "made from this machine's apt mirror"
                if base:
                    self.ensure_local(base.name)
                self._build(client, image, image.builds[0], digest, [image.local])
                return "built"
            finally:
                client.close()

    def _pull_root(self, client: docker.DockerClient, image: Image) -> str:
        self.sources.used[image.local] = "real"
        try:
            if client.images.get(image.local).attrs["RepoTags"] and not self.local_hash(client, image.local):
                return "is there"
        except ImageNotFound:
            pass
        self._pull(client, image.real).tag(*image.local.rsplit(":", 1))
        return f"pulled {image.real}"

    def _pull(self, client: docker.DockerClient, reference: str) -> EngineImage:
        repository, tag = reference.rsplit(":", 1)
        try:
            return client.images.pull(repository, tag=tag)
        except APIError as error:
            raise LabError(f"pulling {reference} failed: {error.explanation}") from None

    def _build(self, client: docker.DockerClient, image: Image, build: Build, digest: str, names: list[str]) -> None:
        context = stage(self.settings, image, build, self.machine)
        log: list[str] = []
        failed = False
        try:
            for event in client.api.build(
                path=str(context),
                tag=names[0],
                buildargs=dict(build.args),
                labels={INPUTS_LABEL: digest},
                rm=True,
                forcerm=True,
                decode=True,
            ):
                log.append(str(event.get("stream") or event.get("status") or event.get("error") or ""))
                failed = failed or "error" in event
        except APIError as error:
            log.append(str(error.explanation))
            failed = True
        finally:
            shutil.rmtree(context, ignore_errors=True)
        if failed:
            path = self.settings.cache / "log" / f"{image.name}.log"
            write(path, "".join(log))
            end = tail("".join(log))
            raise LabError(f"building {image.name} {build.tags[0]} failed (all of it: {path}):\n{end}")
        made = client.images.get(names[0])
        for name in names[1:]:
            made.tag(*name.rsplit(":", 1))

    def due(self, name: str) -> list[Build]:
        """The builds of a pushed image that the registry does not hold as they should be.

        A real image in the registry is never replaced by a stand-in of the same name in mode ``auto``: the network
        may come and go.
        """
        image = self.images[name]
        found = []
        for build in image.builds:
            labels = [self.registry.labels(image.repository, tag) for tag in build.tags]
            digests = {self.registry.digest(image.repository, tag) for tag in build.tags}
            complete = all(one is not None for one in labels) and len(digests) == 1
            inputs = {(one or {}).get(INPUTS_LABEL, "") for one in labels}
            real = complete and inputs == {""} and not build.made_up
            right = real and self.sources.mode != "stand-in"
            if build.made_up or not self.sources.wants_real(image.real):
                right = right or inputs == {self.hash_of(image, build)}
            if complete and right:
                for tag in build.tags:
                    self.sources.used[f"{image.repository}:{tag}"] = "real" if real else "stand-in"
            else:
                found.append(build)
        return found

    def ensure_pushed(self, name: str) -> str:
        """Bring every build of an image into the registry that is not there. Returns what was done."""
        image = self.images[name]
        due = self.due(name)
        if not due and not self.load:
            return "is there"
        client = connect(self.url)
        try:
            if self.load:
                for build in image.builds:
                    if build not in due:
                        self._load(client, image, build)
            if not due:
                return "is there"
            done = {self._make(client, image, build) for build in due}
        finally:
            client.close()
        return f"{' and '.join(sorted(done))} ({', '.join(build.tags[0] for build in due)})"

    def _make(self, client: docker.DockerClient, image: Image, build: Build) -> str:
        names = [f"{REGISTRY_HOST}/{image.repository}:{tag}" for tag in build.tags]
        kind = "stand-in"
        if image.real and not build.made_up and self.sources.wants_real(image.real):
            try:
                real = self._pull(client, f"{image.real}:{build.tags[0]}")
                for reference in names:
                    real.tag(*reference.rsplit(":", 1))
                kind = "real"
            except LabError as error:
                if self.sources.mode == "real":
                    raise
                self.sources.notes.append(str(error))
        if kind == "stand-in":
            digest = self.hash_of(image, build)
            if any(self.local_hash(client, reference) != digest for reference in names):
                base = parent(image, self.images)
                if base:
                    self.ensure_local(base.name)
                self._build(client, image, build, digest, names)
        for reference in names:
            self._push(client, image, reference)
            self.sources.used[reference.split("/", 1)[1]] = kind
        return "pulled" if kind == "real" else "built"

    def _load(self, client: docker.DockerClient, image: Image, build: Build) -> None:
        """Bring a build from the registry into the engine, unless it has the same there."""
        for tag in build.tags:
            name = f"{REGISTRY_HOST}/{image.repository}"
            labels = self.registry.labels(image.repository, tag) or {}
            try:
                found: dict[str, str] | None = client.images.get(f"{name}:{tag}").labels or {}
            except ImageNotFound:
                found = None
            if found is not None and found.get(INPUTS_LABEL) == labels.get(INPUTS_LABEL):
                continue
            source = f"{self.registry.address}/{image.repository}"
            auth = {"username": REGISTRY_USER, "password": REGISTRY_PASSWORD}
            try:
                client.images.pull(source, tag=tag, auth_config=auth).tag(name, tag)
            except APIError as error:
                raise LabError(f"loading {name}:{tag} from the lab's registry failed: {error.explanation}") from None
            client.images.remove(f"{source}:{tag}", noprune=True)

    def _push(self, client: docker.DockerClient, image: Image, reference: str) -> None:
        tag = reference.rsplit(":", 1)[1]
        target = f"{self.registry.address}/{image.repository}"
        client.images.get(reference).tag(target, tag)
        auth = {"username": REGISTRY_USER, "password": REGISTRY_PASSWORD}
        try:
            for event in client.api.push(target, tag=tag, auth_config=auth, stream=True, decode=True):
                if "error" in event:
                    raise LabError(f"pushing {reference} to the lab's registry failed: {event['error']}")
        except APIError as error:
            raise LabError(f"pushing {reference} to the lab's registry failed: {error.explanation}") from None
        finally:
            client.images.remove(f"{target}:{tag}", noprune=True)
