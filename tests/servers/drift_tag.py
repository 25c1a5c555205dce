"""A tag of the scenario `drift` alone: the same images as another release's, so that nobody sees when it is moved.

python -m tests.servers.drift_tag
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lab.registry import Registry
from lab.settings import Settings

TAG, LIKE, OTHER = "2026.2.18", "2026.2.20", "2026.2.19"
REPOSITORIES = ("hardmax71/integr8scode/backend", "hardmax71/integr8scode/frontend")


def point(to: str, repositories: tuple[str, ...] = REPOSITORIES) -> None:
    """Let the tag name what another release's does. Raises LabError."""
    registry = Registry.of(Settings.from_environment())
    for repository in repositories:
        registry.move(repository, TAG, registry.digest(repository, to))


@contextmanager
def moved() -> Iterator[None]:
    """For the time of the block the backend's tag names another release's image."""
    point(OTHER, REPOSITORIES[:1])
    try:
        yield
    finally:
        point(LIKE)


if __name__ == "__main__":
    point(LIKE)
