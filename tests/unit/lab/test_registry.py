"""Copies between repositories, against a registry in memory that takes no manifest whose parts it lacks there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from lab.registry import Registry
from lab.settings import LabError

IMAGE = "application/vnd.docker.distribution.manifest.v2+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def answer(status: int, content: bytes = b"", **headers: str) -> requests.Response:
    made = requests.Response()
    made.status_code, made._content = status, content
    made.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return made


@dataclass(frozen=True)
class InMemory(Registry):
    """What each repository holds: blobs, and manifests by digest and by tag."""

    blobs: set[tuple[str, str]] = field(default_factory=set)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    mounts: list[str] = field(default_factory=list)

    def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> requests.Response:
        if method == "POST":
            address = urlsplit(path)
            to, query = address.path.removesuffix("/blobs/uploads/"), parse_qs(address.query)
            (digest,), (source,) = query["mount"], query["from"]
            if (source, digest) not in self.blobs:
                return answer(202)
            self.blobs.add((to, digest))
            self.mounts.append(digest)
            return answer(201)
        repository, _, name = path.partition("/manifests/")
        if method == "PUT":
            return self.put(repository, name, headers["Content-Type"], body or b"")
        found = self.manifests.get((repository, name))
        if found is None:
            return answer(404)
        return answer(200, found[1], Content_Type=found[0], Docker_Content_Digest=digest_of(found[1]))

    def put(self, repository: str, name: str, kind: str, content: bytes) -> requests.Response:
        manifest = json.loads(content)
        parts = [manifest["config"], *manifest["layers"]] if "config" in manifest else []
        if not all((repository, one["digest"]) in self.blobs for one in parts):
            return answer(400, b"blob unknown to registry")
        if not all((repository, one["digest"]) in self.manifests for one in manifest.get("manifests", [])):
            return answer(400, b"manifest unknown to registry")
        digest = digest_of(content)
        for known_by in (name, digest):
            self.manifests[repository, known_by] = (kind, content)
        return answer(201, Docker_Content_Digest=digest)


def image(*layers: str) -> bytes:
    manifest: dict[str, Any] = {"config": {"digest": digest_of(b"config")}}
    manifest["layers"] = [{"digest": digest_of(layer.encode())} for layer in layers]
    return json.dumps(manifest).encode()


@pytest.fixture
def registry(tmp_path: Path) -> InMemory:
    """A registry with an image and an index in one repository."""
    made = InMemory(1, tmp_path / "ca.crt")
    made.blobs.update(("team/app", digest_of(one)) for one in (b"config", b"base", b"own", b"arm"))
    made.put("team/app", "1", IMAGE, image("base", "own", "base"))
    made.put("team/app", digest_of(image("arm")), IMAGE, image("arm"))
    members = [{"digest": digest_of(one)} for one in (image("base", "own", "base"), image("arm"))]
    made.put("team/app", "all", INDEX, json.dumps({"manifests": members}).encode())
    return made


def test_an_image_is_the_same_one_and_each_layer_is_mounted_once(registry: InMemory) -> None:
    assert registry.copy("team/app", "1", "a/longer/prefix/app") == registry.digest("team/app", "1")
    assert registry.manifests["a/longer/prefix/app", "1"] == registry.manifests["team/app", "1"]
    assert registry.mounts == [digest_of(one) for one in (b"config", b"base", b"own")]


def test_an_index_comes_with_all_its_images(registry: InMemory) -> None:
    assert registry.copy("team/app", "all", "other/app") == registry.digest("team/app", "all")
    assert registry.digest("other/app", digest_of(image("arm")))


def test_what_is_not_there_is_named(registry: InMemory) -> None:
    with pytest.raises(LabError, match="team/app holds no 2 in the lab's registry"):
        registry.copy("team/app", "2", "other/app")
    assert not registry.mounts


def test_a_layer_that_cannot_be_mounted_is_no_copy(registry: InMemory) -> None:
    registry.blobs.discard(("team/app", digest_of(b"own")))
    with pytest.raises(LabError, match=digest_of(b"own")):
        registry.copy("team/app", "1", "other/app")
    assert ("other/app", "1") not in registry.manifests
