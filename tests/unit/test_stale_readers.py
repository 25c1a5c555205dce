"""Who has loaded an older file restarts or gets its signal, and nobody else."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.releases import lock
from ansible.modules import stale_readers


class Container:
    """What docker-py's container offers and the module uses."""

    def __init__(self, started: float, *, running: bool = True) -> None:
        when = datetime.fromtimestamp(started, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")
        self.attrs = {"State": {"Running": running, "StartedAt": when + "123Z"}, "Config": {"StopTimeout": 33}}
        self.restarts: list[int] = []
        self.signals: list[str] = []

    def restart(self, timeout: int) -> None:
        self.restarts.append(timeout)

    def kill(self, signal: str) -> None:
        self.signals.append(signal)


@pytest.fixture(autouse=True)
def _no_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "switch_active", lambda: False)


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two workers, whose files were replaced at 1000; returns their containers and the module's arguments."""

    def make(**containers: Container) -> dict[str, Any]:
        def find(filters: dict[str, list[str]], **_: Any) -> list[Container]:
            return [containers[filters["label"][1].partition("=")[2]]]

        client = type("Client", (), {"containers": type("Containers", (), {"list": staticmethod(find)})})
        monkeypatch.setattr(stale_readers, "connect", lambda: client)
        readers = {}
        for name in containers:
            path = tmp_path / name
            path.touch()
            os.utime(path, (1000, 1000))
            readers[name] = str(path)
        return {"restart": readers}

    return make


def test_only_the_one_that_started_before_is_restarted(workers: Any, run_module: Any) -> None:
    old, new = Container(999.5), Container(1000.5)
    arguments = workers(old=old, new=new)
    assert run_module("stale_readers", arguments, check=True)["restarted"] == ["old"]
    assert old.restarts == []
    answer = run_module("stale_readers", arguments)
    assert (answer["changed"], answer["restarted"]) == (True, ["old"])
    assert (old.restarts, new.restarts) == ([33], [])


def test_a_switch_ends_before_one_is_restarted(workers: Any, run_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = Container(999.5), Container(1000.5)
    waited: list[list[int]] = []
    monkeypatch.setattr(lock, "wait_for_switch", lambda: waited.append(list(old.restarts)))
    assert not run_module("stale_readers", workers(new=new))["changed"]
    run_module("stale_readers", workers(old=old), check=True)
    assert waited == [], "for nothing"
    run_module("stale_readers", workers(old=old))
    assert (waited, old.restarts) == ([[]], [33])


def test_what_does_not_run_reads_the_file_when_it_starts(workers: Any, run_module: Any) -> None:
    ended = Container(1.0, running=False)
    assert not run_module("stale_readers", workers(ended=ended))["changed"]


def test_a_missing_file_is_named(run_module: Any, workers: Any) -> None:
    workers()
    answer = run_module("stale_readers", {"restart": {"k8s-worker": "/nowhere/k8s-worker.yaml"}})
    assert "/nowhere/k8s-worker.yaml, which a container reads, does not exist" in answer["msg"]


def test_a_program_is_signalled_once_for_newer_files(workers: Any, run_module: Any, tmp_path: Path) -> None:
    edge = Container(999.5)
    workers(edge=edge)
    (tmp_path / "tls").mkdir()
    certificate = tmp_path / "tls/server.crt"
    certificate.touch()
    os.utime(certificate, (1000, 1000))
    arguments = {
        "reload": {"edge": {"signal": "SIGUSR2", "directories": [str(tmp_path / "tls")]}},
        "marks": str(tmp_path / "marks"),
    }
    assert run_module("stale_readers", arguments, check=True)["reloaded"] == ["edge"]
    assert edge.signals == []
    assert run_module("stale_readers", arguments)["reloaded"] == ["edge"]
    assert not run_module("stale_readers", arguments)["changed"]
    assert edge.signals == ["SIGUSR2"]
    renewed = (tmp_path / "marks/edge.loaded").stat().st_mtime + 1
    os.utime(certificate, (renewed, renewed))
    assert run_module("stale_readers", arguments)["reloaded"] == ["edge"]


def test_a_program_that_started_later_is_left_alone(workers: Any, run_module: Any, tmp_path: Path) -> None:
    edge = Container(1000.5)
    workers(edge=edge)
    reload = {"edge": {"signal": "SIGUSR2", "directories": [str(tmp_path)]}}
    assert not run_module("stale_readers", {"reload": reload, "marks": str(tmp_path / "marks")})["changed"]
