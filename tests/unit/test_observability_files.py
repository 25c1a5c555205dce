"""The files of the profile observability fit each other and the stack.

What VictoriaMetrics itself says of the scrape configuration and of every expression is in
tests/lab/test_victoria_metrics.py.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.plugins.filter.configuration_files import profile_files

from tests.unit.support.templating import evaluate, role_variables

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "roles/integr8scode/files/observability"
VARIABLES: dict[str, Any] = yaml.safe_load((ROOT / "roles/integr8scode/vars/main.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text(encoding="utf-8"))[
    "services"
]
# what a service's own port is for others in the stack
PORTS = {
    "kafka": {29092},
    "jaeger": {4317, 14269, 16686},
    "victoria-metrics": {8428},
    "otel-collector": {4317, 8888, 13133},
    "edge": {8404},
    "grafana": {3000},
}
# The edge's are seen on a running server (tests/servers); the collector's are those of its hostmetrics 0.91.0 and
# kafkametrics receivers, with dots as underscores and nothing added.
KNOWN = {
    "up",
    "haproxy_frontend_http_responses_total",
    "haproxy_backend_response_time_average_seconds",
    "haproxy_backend_active_servers",
    "system_memory_utilization",
    "system_cpu_utilization",
    "system_cpu_load_average_1m",
    "kafka_consumer_group_lag_sum",
    "kafka_consumer_group_members",
}


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    return found


COLLECTOR = load("otel-collector.yaml")
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana-dashboard.json").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = load("grafana-alerts.yaml")["groups"][0]["rules"]
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]] + [
    rule["data"][0]["model"]["expr"] for rule in RULES
]


def test_every_file_is_mounted_where_its_reader_looks() -> None:
    names = VARIABLES["__integr8scode_observability_names"]
    assert sorted(names) == sorted(path.name for path in FOLDER.iterdir())
    mounts = " ".join(str(service.get("volumes")) for service in SERVICES.values())
    for entry in profile_files(str(FOLDER), names):
        assert f"${{{entry['variable']}:-./config/{entry['name']}}}:/etc/" in mounts
        assert entry["content"] == (FOLDER / entry["name"]).read_text(encoding="utf-8")
    assert f"--config={mounted('otel-collector')}" in SERVICES["otel-collector"]["command"]
    assert f"--promscrape.config={mounted('victoria-metrics')}" in SERVICES["victoria-metrics"]["command"]


def mounted(service: str) -> str:
    """Where the one file of a service is in its container."""
    return str(SERVICES[service]["volumes"][-1]).split("}")[1].split(":")[1]


def test_a_file_that_is_missing_is_named() -> None:
    with pytest.raises(AnsibleFilterError, match=r"none\.yaml cannot be read"):
        profile_files(str(FOLDER), ["none.yaml"])


def test_pipelines_use_what_is_defined_and_all_of_it() -> None:
    pipelines = COLLECTOR["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert {one for pipeline in pipelines for one in pipeline[kind]} == set(COLLECTOR[kind])
    assert set(COLLECTOR["service"]["extensions"]) == set(COLLECTOR["extensions"])
    for pipeline in pipelines:
        # it can refuse only what has not been worked on yet
        assert pipeline["processors"][0] == "memory_limiter"


def test_the_collector_stays_below_its_limit() -> None:
    limiter = COLLECTOR["processors"]["memory_limiter"]
    assert limiter["limit_mib"] + 40 <= int(SERVICES["otel-collector"]["mem_limit"].rstrip("m"))
    assert limiter["spike_limit_mib"] < limiter["limit_mib"]


def test_addresses_are_services_of_the_stack() -> None:
    texts = [(FOLDER / name).read_text(encoding="utf-8") for name in VARIABLES["__integr8scode_observability_names"]]
    found = set(re.findall(r"\b([a-z][a-z-]+):(\d{4,5})\b", " ".join(texts)))
    found -= {("localhost", "8428")}
    assert found
    for service, port in found:
        assert service in SERVICES, service
        assert int(port) in PORTS[service], (service, port)
    for kind in ("otlp", "traces"):
        key = {"otlp": "OTEL_EXPORTER_OTLP_ENDPOINT", "traces": "OTLP_TRACES_ENDPOINT"}[kind]
        base, added = VARIABLES["__integr8scode_config_base"], VARIABLES["__integr8scode_config_observability"]
        assert "http://otel-collector:4317" in {**base, **added}[key]


def test_who_is_scraped_is_part_of_the_profile_or_always_there() -> None:
    jobs = {
        one["job_name"]: one["static_configs"][0]["targets"]
        for one in load("victoria-metrics-scrape.yaml")["scrape_configs"]
    }
    for job, (target,) in jobs.items():
        assert target.split(":")[0] in {job, "localhost"}
        assert SERVICES[job].get("profiles", ["observability"]) == ["observability"]


def test_only_metrics_that_somebody_brings_are_asked_for() -> None:
    asked = {
        name for expression in EXPRESSIONS for name in re.findall(r"\b(?:haproxy|system|kafka)_\w+|\bup\b", expression)
    }
    assert asked == KNOWN
    enabled = {
        f"system_{scraper}_utilization"
        for scraper, settings in COLLECTOR["receivers"]["hostmetrics"]["scrapers"].items()
        if settings and settings["metrics"][f"system.{scraper}.utilization"]["enabled"]
    }
    assert {name for name in asked if name.endswith("_utilization")} == enabled
    # else their names would end in _ratio
    assert COLLECTOR["exporters"]["prometheusremotewrite"]["add_metric_suffixes"] is False
    edge = (ROOT / "roles/integr8scode/templates/haproxy.cfg.j2").read_text(encoding="utf-8")
    for name in re.findall(r'proxy=~?"([\w|]+)"', " ".join(EXPRESSIONS)):
        for proxy in name.split("|"):
            assert re.search(rf"^frontend {proxy}$", edge, re.MULTILINE) or proxy in ("backend", "frontend")


def test_the_dashboards_panels_fit_and_use_the_source() -> None:
    (source,) = [one for one in load("grafana-datasources.yaml")["datasources"] if one.get("isDefault")]
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        assert max(x for x, _ in cells) < 24
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    (provider,) = load("grafana-dashboards.yaml")["providers"]
    assert any(f":{provider['options']['path']}/" in str(volume) for volume in SERVICES["grafana"]["volumes"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["uid"])
def test_a_rule_compares_what_it_asks_for(rule: dict[str, Any]) -> None:
    query, threshold = rule["data"]
    assert rule["condition"] == threshold["refId"] == threshold["model"]["refId"]
    assert threshold["model"]["expression"] == query["refId"] == query["model"]["refId"]
    assert query["datasourceUid"] in {one["uid"] for one in load("grafana-datasources.yaml")["datasources"]}
    assert threshold["datasourceUid"] == "__expr__"
    assert threshold["model"]["conditions"][0]["evaluator"]["type"] in ("gt", "lt")
    assert re.fullmatch(r"\d+m", rule["for"])
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["noDataState"] in ("NoData", "Alerting", "OK")
    # Grafana replaces $ in provisioned files by its environment
    assert "$" not in json.dumps(rule)


def test_memory_alerts_are_the_guides() -> None:
    found = {
        (rule["data"][1]["model"]["conditions"][0]["evaluator"]["params"][0], rule["for"], rule["labels"]["severity"])
        for rule in RULES
        if "system_memory_utilization" in rule["data"][0]["model"]["expr"]
    }
    assert found == {(0.85, "5m", "warning"), (0.95, "2m", "critical")}


def rendered(*profiles: str, **inputs: Any) -> dict[str, Any]:
    """What the role makes of its variables when these profiles are chosen."""
    variables = {
        **role_variables("integr8scode"),
        "inventory_hostname": "server1",
        "__integr8scode_tag": "2026.2.20",
        "integr8scode_profiles": list(profiles),
        **inputs,
    }
    names = ("environment_variables", "files", "services", "needs_memory_mb")
    found: dict[str, Any] = {name: evaluate(f"{{{{ __integr8scode_{name} }}}}", variables) for name in names}
    found["config"] = tomllib.loads(found["files"][0]["content"])
    return found


def test_without_a_profile_nothing_is_sent_and_nothing_is_asked_for() -> None:
    plain = rendered()
    assert "COMPOSE_PROFILES" not in plain["environment_variables"]
    assert plain["config"]["OTLP_TRACES_ENDPOINT"] == ""
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in plain["config"]
    assert not {one["name"] for one in plain["files"]} & set(VARIABLES["__integr8scode_observability_names"])
    assert not {"grafana", "kafdrop"} & set(plain["services"])
    assert plain["needs_memory_mb"] == 7000


def test_a_profile_brings_its_services_files_and_settings() -> None:
    both = rendered("observability", "debug", integr8scode_metrics_retention_days=7)
    assert both["environment_variables"]["COMPOSE_PROFILES"] == "debug,observability"
    assert str(both["environment_variables"]["METRICS_RETENTION_DAYS"]) == "7"
    assert both["config"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://otel-collector:4317"
    files = {one["name"]: one["content"] for one in both["files"]}
    # Grafana's own braces have to arrive as they are
    assert json.loads(files["grafana-dashboard.json"]) == DASHBOARD
    assert "{{code}}" in files["grafana-dashboard.json"]
    assert {"grafana", "jaeger", "otel-collector", "victoria-metrics", "kafdrop"} <= set(both["services"])
    assert both["needs_memory_mb"] > rendered("observability")["needs_memory_mb"] > 7000


def test_profiles_from_the_command_line_are_the_same() -> None:
    assert rendered(integr8scode_profiles="debug, observability") == rendered("observability", "debug")


def test_kafdrop_alone_tells_the_application_nothing() -> None:
    debug = rendered("debug")
    assert debug["files"] == rendered()["files"]
    assert debug["environment_variables"]["COMPOSE_PROFILES"] == "debug"


def test_the_inventory_has_the_last_word_on_the_configuration() -> None:
    own = {"OTLP_TRACES_ENDPOINT": "http://traces.example:4317"}
    assert (
        rendered("observability", integr8scode_config=own)["config"] | own
        == rendered("observability", integr8scode_config=own)["config"]
    )
