"""The way to the Docker Engine through its SDK."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils import integr8scode_docker


def test_the_version_of_the_api_is_agreed_on_with_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old SDK by itself speaks 1.41; Engine 29 takes 1.44 and newer."""
    asked: list[dict[str, Any]] = []

    def from_env(**settings: Any) -> Any:
        asked.append(settings)
        return SimpleNamespace(ping=lambda: True)

    errors = SimpleNamespace(DockerException=RuntimeError)
    monkeypatch.setattr(integr8scode_docker, "docker", SimpleNamespace(from_env=from_env), raising=False)
    monkeypatch.setattr(integr8scode_docker, "docker_errors", errors)
    monkeypatch.setattr(integr8scode_docker, "DOCKER_IMPORT_ERROR", None)
    integr8scode_docker.connect(timeout=7)
    assert asked == [{"version": "auto", "timeout": 7}]
