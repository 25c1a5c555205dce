"""What the tests of backups share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.backups import k3s, k3s_restore
from ansible.module_utils.k3s_node import UnitState


@pytest.fixture(autouse=True)
def unit(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What systemd says of k3s: stopped, until a test says otherwise."""
    says = {"active": "inactive", "sub": "dead"}
    monkeypatch.setattr(
        k3s_restore, "unit_state", lambda: UnitState(True, True, says["active"], says["sub"], 0, "", False, 0.0)
    )
    return says


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Lets the modules see a server's root as `/`."""
    original = {name: getattr(k3s, name) for name in k3s.__all__ if callable(getattr(k3s, name))}

    def on(server: Any) -> None:
        root: Path = server.root

        def at(name: str) -> Callable[..., Any]:
            return lambda *arguments, **more: original[name](*arguments, **{"root": root, **more})

        for name in ("check", "contents", "create", "estimate", "losses", "restore"):
            monkeypatch.setattr(k3s, name, at(name))
        for name in ("present", "require_present"):
            monkeypatch.setattr(k3s, name, lambda _root=root, name=name: original[name](_root))

    return on
