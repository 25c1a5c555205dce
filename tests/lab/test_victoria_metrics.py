"""The lab's VictoriaMetrics: paths, arguments and health check of the real image."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest
import yaml

from lab.settings import ROOT
from tests.lab.containers import Running, running, until, volume

COMMAND = ["--storageDataPath=/victoria-metrics-data", "--httpListenAddr=0.0.0.0:8428", "--retentionPeriod=30d"]
OBSERVABILITY = ROOT / "roles/integr8scode/files/observability"
SCRAPE = (OBSERVABILITY / "victoria-metrics-scrape.yaml").read_text("utf-8")
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


@pytest.mark.parametrize(("text", "good"), [(SCRAPE, True), (SCRAPE.replace("static_configs", "static_config"), False)])
def test_judges_the_scrape_configuration_of_the_role(text: str, good: bool) -> None:
    command = ["--promscrape.config=/etc/scrape.yaml", "--promscrape.config.dryRun"]
    with running("victoria-metrics", command, files={"/etc/scrape.yaml": (text, 0o644, 0)}) as container:
        assert (container.wait_end() == 0) == good, container.logs


def test_understands_every_expression_of_dashboard_and_alerts(data: str) -> None:
    dashboard = json.loads((OBSERVABILITY / "grafana-dashboard.json").read_text("utf-8"))
    rules = yaml.safe_load((OBSERVABILITY / "grafana-alerts.yaml").read_text("utf-8"))["groups"][0]["rules"]
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [rule["data"][0]["model"]["expr"] for rule in rules]
    with running("victoria-metrics", COMMAND, volumes={data: "/victoria-metrics-data"}, ports=(8428,)) as container:
        until("the health check", 15, lambda: container.say(HEALTH)[0] == 0)
        for expression in expressions:
            query = urllib.parse.urlencode({"query": expression})
            assert json.loads(ask(container, f"/api/v1/query?{query}"))["status"] == "success", expression
        with pytest.raises(OSError, match="422"):
            ask(container, "/api/v1/query?query=sum(")


def test_runs_on_a_read_only_root_without_capabilities(data: str) -> None:
    """As in docker-compose.yaml."""
    hardened = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}
    with running(
        "victoria-metrics", COMMAND, volumes={data: "/victoria-metrics-data"}, ports=(8428,), **hardened
    ) as container:
        until("the health check", 15, lambda: container.say(HEALTH)[0] == 0)
        ask(container, "/api/v1/import/prometheus", b"lab_read_only 1\n")
        assert container.stop() == 0
