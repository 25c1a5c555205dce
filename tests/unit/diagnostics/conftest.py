"""What the tests of the archive share."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest


@pytest.fixture
def quick() -> Callable[[], float]:
    """Seconds since the test began."""
    began = time.monotonic()
    return lambda: time.monotonic() - began
