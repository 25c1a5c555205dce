"""The lab's VictoriaMetrics: paths, arguments and health check of the real image."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator

import pytest

from tests.lab.containers import Running, running, until, volume

COMMAND = ["--storageDataPath=/victoria-metrics-data", "--httpListenAddr=0.0.0.0:8428", "--retentionPeriod=30d"]
HEALTH = "wget -qO- http://127.0.0.1:8428/-/healthy"


@pytest.fixture(scope="module")
def data() -> Iterator[str]:
    with volume() as name:
        yield name


def ask(container: Running, path: str, body: bytes | None = None) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{container.port(8428)}{path}", body, timeout=10) as answer:
        return str(answer.read().decode())


def test_keeps_what_was_written_over_a_clean_stop(data: str) -> None:
    with running("victoria-metrics", COMMAND, volumes={data: "/victoria-metrics-data"}, ports=(8428,)) as container:
        until("the health check", 15, lambda: container.say(HEALTH)[0] == 0)
        ask(container, "/api/v1/import/prometheus", b"lab_temperature 21\n")
        assert container.stop() == 0
        assert "successfully shut down" in container.logs or "the VictoriaMetrics has been stopped" in container.logs
    with running("victoria-metrics", COMMAND, volumes={data: "/victoria-metrics-data"}, ports=(8428,)) as container:
        until("the health check", 15, lambda: container.say(HEALTH)[0] == 0)

        def found() -> list[list[str]]:
            answer = ask(container, f"/api/v1/export?match[]=lab_temperature&start={int(time.time()) - 600}")
            return [json.loads(line)["values"] for line in answer.splitlines()]

        assert until("the sample", 10, found) == [[21]]


def test_has_the_real_images_tools_only() -> None:
    looked_for = "wget --help 2>&1 | grep -q BusyBox && ! { command -v curl || command -v bash || command -v vmctl; }"
    with running("victoria-metrics", ["-c", looked_for], entrypoint="sh") as container:
        assert container.wait_end() == 0, container.logs


def test_refuses_an_unknown_option() -> None:
    with running("victoria-metrics", ["--noSuchFlag=1"]) as container:
        assert container.wait_end() != 0
        assert "noSuchFlag" in container.logs
