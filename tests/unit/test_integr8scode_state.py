"""The look at a server, with the kernel's and the engine's answers as they come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.integr8scode_docker import EngineUnavailableError
from ansible.module_utils.server_state import machine, releases, stack
from ansible.plugins.filter.status_table import describe, status_table

INSPECT = {
    "Id": "1f",
    "Name": "/integr8scode-backend-1",
    "RestartCount": 2,
    "State": {
        "Status": "running",
        "StartedAt": "2026-02-20T10:00:00.123456789Z",
        "ExitCode": 0,
        "OOMKilled": False,
        "Health": {"Status": "healthy"},
    },
    "Config": {
        "Image": f"registry.example/backend:2026.2.20@sha256:{'a' * 64}",
        "Labels": {"com.docker.compose.project.working_dir": "/opt/integr8scode/releases/x"},
    },
}


def test_a_container_is_described() -> None:
    described = stack.describe_container(INSPECT)
    assert described["digest"] == f"sha256:{'a' * 64}"
    assert (described["state"], described["health"], described["restarts"]) == ("running", "healthy", 2)


def test_listeners_are_found_in_the_kernels_table(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    table.write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n"
        "   1: 0100007F:1389 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n"
    )
    assert machine.listening_inodes({443, 5001}, [table, tmp_path / "tcp6"]) == {443: {"4711"}}


def test_history_survives_a_line_that_was_cut_off(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text('{"a": 1}\n{"a": 2}\n{"a":')
    assert releases.read_history(tmp_path) == [{"a": 1}, {"a": 2}]


def test_a_damaged_record_is_an_error_that_names_it(tmp_path: Path, run_module: Any) -> None:
    (tmp_path / "current").mkdir()
    (tmp_path / "current" / "release.json").write_text("{")
    answer = run_module("integr8scode_state", {"base": str(tmp_path)})
    assert answer["failed"]
    assert "release.json" in answer["msg"]


def test_works_without_docker(tmp_path: Path, run_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_engine(timeout: int) -> None:
        raise EngineUnavailableError("python3-docker is missing")

    monkeypatch.setattr(stack, "connect", no_engine)
    answer = run_module("integr8scode_state", {"base": str(tmp_path), "ports": [443]})
    assert answer["docker"] == {
        "available": False,
        "error": "python3-docker is missing",
        "version": None,
        "root": None,
    }
    assert answer["release"] is None
    assert answer["memory"]["total_bytes"] > 0


def test_status_names_what_is_missing_and_who_is_silent() -> None:
    release = {
        "id": "2026.2.20-abc",
        "created_at": "2026-02-20T10:00:00+00:00",
        "by": "ops",
        "images": {"backend": "x", "mongo": "y", "user-seed": "x"},
    }
    answer = {
        "docker": {"available": True},
        "release": release,
        "containers": {"backend": [stack.describe_container(INSPECT)]},
        "history": [
            {
                "at": "2026-02-20T10:00:00",
                "action": "deploy",
                "release": "2026.2.20-abc",
                "result": "ok",
                "by": "ops",
                "seconds": 40.0,
            }
        ],
    }
    text = "\n".join(describe("app1", json.loads(json.dumps(answer))))
    assert "release 2026.2.20-abc" in text
    assert "backend            running, healthy, 2 restarts, aaaaaaaaaaaa" in text
    assert "mongo              MISSING" in text
    assert "user-seed" not in text
    assert status_table(["app2"], {"app2": {}}) == ["app2: UNREACHABLE or failed"]
