"""A fake server under the engine of releases."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.releases import (
    compose,
    containers,
    edge,
    fitting,
    journal,
    loading,
    move,
    rolling,
    switch,
    verify,
)
from ansible.module_utils.stale_readers import Readers

from tests.unit.releases.fake_server import FakeServer


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    fake = FakeServer(tmp_path / "i", tmp_path / "runs")
    for module in (containers, edge, journal, move, rolling, switch, verify):
        monkeypatch.setattr(module, "time", fake.clock)
    marks = tmp_path / "marks"

    class ReadersByThisClock(Readers):
        def reload(self, service: str, signal: str, directories: list[Path], *, all_of_it: bool = False) -> bool:
            due = super().reload(service, signal, directories, all_of_it=all_of_it)
            if due and not self.check_mode:
                os.utime(self.marks / f"{service}.loaded", (fake.clock.time(), fake.clock.time()))
            return due

    def write_file(path: Path, content: bytes, access: Any) -> None:
        written(path, content, access)
        os.utime(path, (fake.clock.time(), fake.clock.time()))

    def ask(self: edge.Edge, command: str) -> str:
        fake.call(f"edge: {command}")
        return asked(self, command)

    def send(request: verify.Request, outside: verify.Outside) -> verify.Reply:
        return verify.Reply(fake.answer(request, outside), fake.retry_after)

    written, asked = edge.write_file, edge.Edge.ask
    # files of others' are made without being root
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(edge, "write_file", write_file)
    monkeypatch.setattr(edge.Edge, "ask", ask)
    monkeypatch.setattr(loading, "MARKS", marks)
    monkeypatch.setattr(loading, "Readers", ReadersByThisClock)
    monkeypatch.setattr(rolling, "available_megabytes", lambda: fake.free_mb)
    monkeypatch.setattr(containers, "connect", fake.connect)
    monkeypatch.setattr(compose, "docker", fake.docker)
    monkeypatch.setattr(edge, "docker", fake.docker)
    monkeypatch.setattr(verify.Request, "send", send)
    monkeypatch.setattr(verify, "probe_all", fake.probed)
    monkeypatch.setattr(
        fitting,
        "read_listeners",
        lambda ports: {port: one for port, one in fake.listeners.items() if int(port) in ports},
    )

    def back_up(directory: Path, **how: Any) -> Any:
        fake.backups.append(str(directory))
        return SimpleNamespace(path=directory / "dump")

    monkeypatch.setattr(switch.application, "create", back_up)
    yield fake
    fake.edge.stop()
