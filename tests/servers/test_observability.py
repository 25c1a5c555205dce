"""The profiles observability and debug on a server: who answers, what is measured, and that nobody outside sees it."""

from __future__ import annotations

import json
import time
import urllib.parse
from typing import Any

import pytest

PAGES = {
    "grafana": "http://127.0.0.1:3000/api/health",
    "victoria-metrics": "http://127.0.0.1:8428/-/healthy",
    "otel-collector": "http://127.0.0.1:13133/",
    "jaeger": "http://127.0.0.1:16686/",
    "kafdrop": "http://127.0.0.1:9000/actuator/health",
}
JOBS = {"edge", "victoria-metrics", "otel-collector", "jaeger", "grafana"}


def get(host: Any, url: str) -> str:
    program = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"
    return str(host.check_output("python3 -c %s %s", program, url))


def query(host: Any, expression: str) -> list[dict[str, Any]]:
    url = "http://127.0.0.1:8428/api/v1/query?" + urllib.parse.urlencode({"query": expression, "latency_offset": "1s"})
    answer: list[dict[str, Any]] = json.loads(get(host, url))["data"]["result"]
    return answer


def until_found(host: Any, expression: str, wanted: int = 1) -> list[dict[str, Any]]:
    """What VictoriaMetrics answers once it has enough series; it asks every 15 s."""
    deadline = time.monotonic() + 90
    while len(found := query(host, expression)) < wanted:
        assert time.monotonic() < deadline, f"{expression}: {found}"
        time.sleep(3)
    return found


@pytest.mark.parametrize("service", PAGES)
def test_answers_on_the_server(host: Any, service: str) -> None:
    assert get(host, PAGES[service])


def test_everybody_is_asked_for_metrics_and_answers(host: Any) -> None:
    found = until_found(host, "up == 1", len(JOBS))
    assert {one["metric"]["job"] for one in found} == JOBS


def test_the_edge_counts_what_users_ask(host: Any) -> None:
    until_found(host, 'haproxy_frontend_http_responses_total{proxy="api",code="2xx"}')
    (one,) = until_found(host, 'haproxy_backend_active_servers{proxy="backend"}')
    assert float(one["value"][1]) >= 1


def test_the_collector_sends_the_servers_memory(host: Any) -> None:
    (one,) = until_found(host, 'sum(system_memory_utilization{state="used"})')
    assert 0 < float(one["value"][1]) < 1


def test_the_application_is_told_where_to_send(host: Any) -> None:
    config = host.check_output(
        "docker exec $(docker ps -q --filter label=com.docker.compose.service=backend | head -1) cat /app/config.toml"
    )
    assert 'OTEL_EXPORTER_OTLP_ENDPOINT = "http://otel-collector:4317"' in config
    assert 'OTLP_TRACES_ENDPOINT = "http://otel-collector:4317"' in config
