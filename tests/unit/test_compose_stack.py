"""The compose file, as the plugins read it."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible.plugins.filter import compose_stack


def test_interpolation_has_composes_forms() -> None:
    assert compose_stack.interpolate("${A:-x}/${B}:${C:?need}", {"B": "b", "C": 3}) == "x/b:3"
    assert compose_stack.interpolate("${A:-x}", {"A": ""}) == "x"
    with pytest.raises(AnsibleFilterError, match="IMAGE_TAG: say which"):
        compose_stack.interpolate("${IMAGE_TAG:?say which}", {})
    with pytest.raises(AnsibleFilterError, match="IMAGE_TAG"):
        compose_stack.interpolate("${IMAGE_TAG}", {})


def test_images_of_the_real_file(project_root: Path) -> None:
    text = (project_root / "docker-compose.yaml").read_text()
    images = compose_stack.compose_images(text, {"IMAGE_TAG": "2026.2.20", "HUB_REGISTRY": "mirror.example"})
    assert images["backend"] == "ghcr.io/hardmax71/integr8scode/backend:2026.2.20"
    assert images["coordinator"] == images["backend"]
    assert images["mongo"].startswith("mirror.example/library/mongo:")
    assert "user-seed" not in images
    assert "user-seed" in compose_stack.compose_images(text, {"IMAGE_TAG": "2026.2.20"}, ["seed"])


def test_every_third_party_image_is_pinned_to_a_full_version(project_root: Path) -> None:
    text = (project_root / "docker-compose.yaml").read_text()
    for reference in set(compose_stack.compose_images(text, {"IMAGE_TAG": "2026.2.20"}).values()):
        tag = reference.rpartition(":")[2]
        assert tag.split("-")[0].count(".") == 2, reference


def test_a_file_that_is_none_is_named() -> None:
    with pytest.raises(AnsibleFilterError, match="not a compose file"):
        compose_stack.compose_images("- a list", {})


def test_a_secret_is_mounted_into_each_of_its_readers() -> None:
    assert compose_stack.secret_mounts(["backend", "user-seed"], "/app/secrets.toml") == [
        {"service": "backend", "target": "/app/secrets.toml"},
        {"service": "user-seed", "target": "/app/secrets.toml"},
    ]
