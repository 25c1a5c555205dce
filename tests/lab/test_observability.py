"""The stand-ins beside the application: users, ports, and what each refuses at its start."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from lab.settings import ROOT
from tests.lab.containers import running, until

FILES = ROOT / "roles/integr8scode/files/observability"
COLLECTOR = (FILES / "otel-collector.yaml").read_text("utf-8")
# as in docker-compose.yaml; the collector's root is read-only there too, which no file can be put into beforehand
HARDENED: dict[str, Any] = {"cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}


def ask(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


def test_the_collector_takes_the_roles_configuration() -> None:
    files = {"/etc/otel-collector-config.yaml": (COLLECTOR, 0o644, 0)}
    command = ["--config=/etc/otel-collector-config.yaml"]
    options = {"user": "10001:10001", "ports": (13133, 8888), "files": files, **HARDENED}
    with running("otel-collector", command, **options) as container:
        container.wait_log("is ready")
        assert json.loads(ask(container.port(13133), "/"))["status"] == "Server available"
        assert "process_start_time_seconds" in ask(container.port(8888), "/metrics")
        # nobody takes what it sends, and it goes on
        container.wait_log("exporting failed")
        assert container.stop() == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("exporters: [otlp/jaeger]", "exporters: [otlp/other]", "exporter 'otlp/other' which is not configured"),
        ("extensions: [health_check]", "extensions: [pprof]", "extension 'pprof' which is not configured"),
        ("processors:\n", "procesors:\n", "has invalid keys: procesors"),
        ("receivers:\n", "receivers: [\n", "otel-collector-config.yaml"),
    ],
)
def test_the_collector_refuses_what_does_not_fit(old: str, new: str, said: str) -> None:
    assert old in COLLECTOR
    files = {"/etc/otel-collector-config.yaml": (COLLECTOR.replace(old, new, 1), 0o644, 0)}
    with running("otel-collector", ["--config=/etc/otel-collector-config.yaml"], files=files) as container:
        assert container.wait_end() == 1
        assert said in container.logs


def test_the_collector_refuses_an_unknown_option() -> None:
    with running("otel-collector", ["--configuration=/x"]) as container:
        assert container.wait_end() == 1
        assert "unknown flag" in container.logs


def test_grafana_answers_as_its_user_and_refuses_a_data_folder_of_others() -> None:
    with running("grafana", user="472:0", ports=(3000,), **HARDENED) as container:
        container.wait_log("is ready")
        assert json.loads(ask(container.port(3000), "/api/health"))["database"] == "ok"
    with running("grafana", user="1234:1234", **HARDENED) as container:
        assert container.wait_end() == 1
        assert "is not writable" in container.logs


def test_jaeger_takes_otlp_only_where_it_is_switched_on() -> None:
    listens = "import socket; socket.create_connection(('127.0.0.1', 4317), 5)"
    for environment, code in (({"COLLECTOR_OTLP_ENABLED": "true"}, 0), ({}, 1)):
        with running("jaeger", environment=environment, user="10001:10001", ports=(16686,), **HARDENED) as container:
            container.wait_log("is ready")
            assert container.say(["python3", "-c", listens])[0] == code
            assert "Jaeger" in ask(container.port(16686), "/")


def test_kafdrop_ends_without_a_broker() -> None:
    with running("kafdrop", environment={"KAFKA_BROKERCONNECT": "127.0.0.1:29092"}) as container:
        until("its end", 30, lambda: container.status == "exited")
        assert container.wait_end() == 1
        assert "no broker at 127.0.0.1:29092" in container.logs
