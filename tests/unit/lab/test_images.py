"""The catalogue of images, and that a hash changes exactly when something that is built from changes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from lab import images
from lab.images import Build, Image
from lab.settings import REGISTRY_HOST, ROOT, LabError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "thing"
    made.mkdir()
    (made / "Dockerfile").write_text("FROM integr8scode-lab/base:13\n")
    (made / "run").write_text("#!/bin/sh\n")
    return made


def an_image(folder: Path, **changes: object) -> Image:
    values = {"name": "thing", "folder": folder, "local": "", "repository": "a/thing", "real": "", "builds": ()}
    return Image(**{**values, **changes})  # type: ignore[arg-type]


def hash_of(folder: Path, args: dict[str, str] | None = None, parent: str = "p", machine: str = "amd64") -> str:
    return images.inputs_hash(an_image(folder), Build(("1",), args or {}), parent, machine)


def test_hash_is_the_same_for_the_same_inputs(folder: Path, tmp_path: Path) -> None:
    before = hash_of(folder)
    moved = folder.rename(tmp_path / "elsewhere")
    assert hash_of(moved) == before
    assert re.fullmatch(r"[0-9a-f]{16}", before)


@pytest.mark.parametrize("product", ["__pycache__/a.pyc", "site-packages/x.py", "jars/a.jar", "b.pyc"])
def test_products_do_not_count(folder: Path, product: str) -> None:
    before = hash_of(folder)
    path = folder / product
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")
    assert hash_of(folder) == before


def test_everything_else_counts(folder: Path) -> None:
    seen = {hash_of(folder)}
    seen.add(hash_of(folder, args={"VERSION": "2"}))
    seen.add(hash_of(folder, parent="q"))
    seen.add(hash_of(folder, machine="arm64"))
    (folder / "run").chmod(0o755)
    seen.add(hash_of(folder))
    (folder / "run").write_text("#!/bin/bash\n")
    seen.add(hash_of(folder))
    (folder / "run").rename(folder / "walk")
    seen.add(hash_of(folder))
    (folder / "empty").write_text("")
    seen.add(hash_of(folder))
    assert len(seen) == 8


def test_moving_bytes_from_one_file_to_the_next_counts(folder: Path) -> None:
    (folder / "a").write_text("xy")
    (folder / "b").write_text("z")
    before = hash_of(folder)
    (folder / "a").write_text("x")
    (folder / "b").write_text("yz")
    assert hash_of(folder) != before


def test_parent_comes_from_the_dockerfile(folder: Path) -> None:
    base = an_image(folder, name="base", local="integr8scode-lab/base:13", repository="")
    thing = an_image(folder)
    assert images.parent(thing, {"base": base, "thing": thing}) is base


@pytest.mark.parametrize("line", ["FROM debian:13", "FROM integr8scode-lab/none:1"])
def test_a_dockerfile_that_starts_elsewhere_is_refused(folder: Path, line: str) -> None:
    (folder / "Dockerfile").write_text(f"{line}\n")
    with pytest.raises(LabError, match="its Dockerfile starts from"):
        images.parent(an_image(folder), {})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{folder: x, repository: a/b, builds: [{tags: [1.10]}]}", "quoted string"),
        ("{folder: x, repository: a/b, builds: [{tags: ['a b']}]}", "quoted string"),
        ("{folder: x, repository: a/b, builds: [{tags: []}]}", "without tags"),
        ("{folder: x, repository: a/b}", "no builds"),
        ("{folder: x, repository: a/b, local: c:1, builds: [{tags: ['1']}]}", "either"),
        ("{folder: x}", "either"),
        ("{folder: x, repository: a/b, bilds: []}", "unknown keys: bilds"),
        ("{folder: x, repository: a/b, builds: [{tags: ['1'], change: [x]}]}", "1 has unknown keys: change"),
        ("{folder: x, repository: a/b, builds: [{tags: ['1'], changes: [none]}]}", "1 names none, which is no folder"),
        ("{folder: x, repository: a/b, builds: [{tags: ['1']}, {tags: ['2', '1']}]}", "a/b:1 is made by"),
    ],
)
def test_a_catalogue_that_cannot_be_meant_is_refused(tmp_path: Path, entry: str, message: str) -> None:
    path = tmp_path / "images.yml"
    path.write_text(f"images:\n  thing: {entry}\n")
    with pytest.raises(LabError, match=message):
        images.load(path)


def test_every_image_has_its_parent() -> None:
    catalogue = images.load()
    for image in catalogue.values():
        base = images.parent(image, catalogue)
        assert (base is None) == (image.name == "debian")


def test_version_is_the_first_tag() -> None:
    builds = images.load()["backend"].builds
    assert [build.args["VERSION"] for build in builds[:3]] == ["2026.2.19", "2026.2.20", "sha-95389b4"]
    assert builds[2].tags == ("sha-95389b4", "latest")


def test_backend_and_frontend_are_released_together() -> None:
    backend, frontend = (images.load()[name].builds for name in ("backend", "frontend"))
    assert [(build.tags, build.made_up) for build in backend] == [(build.tags, build.made_up) for build in frontend]


def test_changes_of_a_build_count_for_that_build_alone(folder: Path, tmp_path: Path) -> None:
    changes = tmp_path / "changes"
    changes.mkdir()
    (changes / "added").write_text("x\n")
    plain = hash_of(folder)
    image = an_image(folder)

    def changed() -> str:
        return images.inputs_hash(image, Build(("1",), {}, (changes,)), "p", "amd64")

    seen = {plain, changed()}
    (changes / "added").write_text("y\n")
    seen.add(changed())
    assert len(seen) == 3
    assert hash_of(folder) == plain


def test_third_party_images_are_those_of_the_compose_file() -> None:
    """What the stack asks for is what the lab's registry has, and nothing of the same name in another version."""
    stack = yaml.safe_load((ROOT / "docker-compose.yaml").read_text("utf-8"))
    wanted = set()
    for service in stack["services"].values():
        found = re.fullmatch(r"\$\{HUB_REGISTRY:-docker\.io\}/(?P<name>.+)", service["image"])
        if found:
            wanted.add(f"{REGISTRY_HOST}/{found['name']}")
    offered = {
        f"{REGISTRY_HOST}/{image.repository}:{tag}"
        for image in images.load().values()
        for build in image.builds
        for tag in build.tags
        if image.repository
    }
    assert wanted
    assert wanted <= offered
    repositories = {name.rsplit(":", 1)[0] for name in wanted}
    assert {name for name in offered if name.rsplit(":", 1)[0] in repositories} == wanted
