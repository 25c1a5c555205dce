from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of little files are written: what a power cut would leave is not what these tests ask."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
