"""What all tests share: those marked `long` run in `make test-long` alone."""

from __future__ import annotations

import os

import pytest

LONG = bool(os.environ.get("INTEGR8SCODE_TEST_LONG"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, and count as skipped, what takes longer than `make test` may."""
    if LONG:
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="make test-long runs it"))
