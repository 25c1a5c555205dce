"""What the comparison of deploys counts, and how its table says it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import yaml

from bench.releases import Timing, busy_share, serving_at, steps_of
from bench.table import releases_markdown
from lab.settings import ROOT


def test_steps_are_summed_and_unfinished_ones_left_out() -> None:
    lines = [
        {"at": 10.0, "step": "workers", "state": "started"},
        {"at": 11.0, "step": "workers", "state": "running"},
        {"at": 14.5, "step": "workers", "state": "done"},
        {"at": 15.0, "step": "workers", "state": "started"},
        {"at": 17.0, "step": "workers", "state": "failed"},
        {"at": 18.0, "step": "verify", "state": "started"},
    ]
    assert steps_of("\n".join(map(json.dumps, lines))) == {"workers": 6.5}


def test_a_switch_serves_before_it_is_done() -> None:
    lines = [{"at": 10.0, "step": "backend", "state": "started"}, {"at": 12.5, "step": "serving", "state": "running"}]
    assert serving_at("\n".join(map(json.dumps, lines))) == 12.5
    # a deploy that fails says it of what was put back, which is no deploy's success
    assert serving_at(json.dumps({"at": 12.5, "step": "undo:serving", "state": "running"})) is None


def test_table_tells_the_window_apart() -> None:
    mine = [asdict(Timing(30, 10, 12)), asdict(Timing(34, 10, 13)), asdict(Timing(32, 10, 11))]
    again = [asdict(Timing(5))]
    guide = [asdict(Timing(20)), asdict(Timing(44)), asdict(Timing(22))]
    text = releases_markdown(
        {
            "measured_at": "2026-11-29T01:00:00+00:00",
            "processors": 2,
            "health_limit": 30,
            "decision": 1.24,
            "guide": {"a new tag": {"mine": mine, "guide": guide}, "again": {"mine": again, "guide": guide}},
            "fleet": {"ten": [100.0, 120.0], "one": [40.0, 60.0, 50.0]},
        }
    )
    there = "22.0 s (20.0 to 44.0)"
    assert (
        f"| a new tag, until the release answers every new request | 12.0 s (11.0 to 13.0) | {there} | 0.55 |" in text
    )
    assert f"| a new tag, until all is replaced and proven | 22.0 s (20.0 to 24.0) | {there} | 1.00 |" in text
    assert f"| again, until the end | 5.0 s (5.0 to 5.0) | {there} | 0.23 |" in text
    assert "the watching after that, up to 10.0 s" in text
    assert "given up 1.2 s after the limit of 30 s" in text
    assert "| ten servers (one whole, nine thin) | 110.0 | 2.20 |" in text


def test_the_guides_stack_is_this_projects() -> None:
    """The same services, memory and programs, so that both do the same work."""
    guide = yaml.safe_load((ROOT / "bench/guide/docker-compose.yaml").read_text("utf-8"))["services"]
    mine = yaml.safe_load((ROOT / "docker-compose.yaml").read_text("utf-8"))["services"]
    beside = {name for name, service in mine.items() if service.get("profiles", ["seed"]) != ["seed"]}
    assert guide.keys() == mine.keys() - {"edge"} - beside
    for name, service in guide.items():
        image = mine[name]["image"]
        if "HUB_REGISTRY" in image:
            assert service["image"].split("/", 1)[1] == image.split("/", 1)[1].split(" ")[0]
        if name.startswith(("k8s", "pod", "co", "res", "saga", "ev", "dlq")):
            assert service["command"] == mine[name]["command"]
    # what the thin servers of the fleet are left with
    thin = re.sub("(?ms)^  coordinator:.*?^networks:", "networks:", (ROOT / "docker-compose.yaml").read_text("utf-8"))
    services = yaml.safe_load(thin)["services"]
    assert services.keys() == {"mongo", "redis", "kafka", "user-seed", "backend", "frontend", "edge"}


def test_the_share_of_work_is_that_between_two_readings() -> None:
    before = "cpu  100 0 100 700 100 0 0 0 0 0"
    assert busy_share(before, "cpu  130 0 120 740 110 0 0 0 0 0") == 0.5
    assert busy_share(before, "cpu  100 0 100 800 100 0 0 0 0 0") == 0
