"""The module k3s_diagnose on a machine without k3s: a result, no failure, nothing changed."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("check", [False, True])
def test_it_only_looks(run_module: Any, check: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    result = run_module("k3s_diagnose", {}, check=check)
    assert (result["changed"], result["healthy"]) == (False, False)
    assert "systemd does not answer" in result["refusal"]
    assert any(line.startswith("Refused: ") for line in result["sentences"])
    assert result["facts"]["unit"]["loaded"] is False
