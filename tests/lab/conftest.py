"""What the tests of the lab's images share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.application import Stack, neighbours


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Provide what the application's stand-ins need to run: Mongo, Redis, Kafka, and a network."""
    with neighbours(tmp_path_factory.mktemp("application")) as made:
        yield made
