"""Two servers in one play: one after the other, no further after a failure, and only one deploy at a time on both."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.releases import (
    APPLICATION,
    FIRST,
    NEVER_HEALTHY,
    SECOND,
    Playbook,
    changed,
    current,
    history,
    ids,
    locked,
    wait,
    whole,
)
from tests.servers.test_deploys import snapshot

ROOT = Path(__file__).resolve().parents[2]
REVERSED = str(ROOT / "molecule/two-servers/reversed")
QUICK_SECONDS = 25
"""A deploy that meets a lock is over by then."""


@pytest.fixture(scope="module")
def both(server_named: Any) -> list[Any]:
    """The servers, in the inventory's order."""
    return [server_named("two1"), server_named("two2")]


@pytest.fixture
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Start deploys that run on while the test does something else."""
    running: list[Playbook] = []

    def begin(inventory: str, *arguments: str) -> Playbook:
        run = Playbook(
            arguments, inventory or request.config.getoption("--inventory"), tmp_path / f"{len(running)}.log"
        )
        running.append(run)
        return run

    yield begin
    for run in running:
        run.clean_up()


def tags(both: list[Any]) -> list[str]:
    return [current(server)["tag"] for server in both]


def holders(both: list[Any]) -> list[bool]:
    return [locked(server) for server in both]


def test_two_deploys_in_opposite_order(both: list[Any], start: Any) -> None:
    """One of them wins on both servers; the other changes nothing, says who has won, and leaves at once."""
    assert tags(both) == [FIRST, FIRST]
    lines = [len(history(server)) for server in both]
    runs = {
        SECOND: start("", "deploy.yml", "-e", f"tag={SECOND}"),
        "2026.2.20": start(REVERSED, "deploy.yml", "-e", "tag=2026.2.20"),
    }
    began = time.monotonic()
    wait("the end of one of them", 120, lambda: any(run.process.poll() is not None for run in runs.values()))
    seconds = time.monotonic() - began
    loser = next(tag for tag, run in runs.items() if run.process.poll() is not None)
    winner = next(tag for tag in runs if tag != loser)
    said = runs[loser].output

    assert runs[loser].process.returncode == 2, said
    assert "Nothing was changed" in said
    for text in (winner, "@", "since", "unlock.yml"):
        assert text in said, said
    assert changed(said) == 0
    assert seconds < QUICK_SECONDS
    # one lock on both, before anything is changed on either
    assert holders(both) == [True, True]

    # a third one is told the same while the first is at work
    late = start("", "deploy.yml", "-e", "tag=2026.2.19", "--limit", "two2")
    assert late.wait(60) == 2
    assert winner in late.output
    refused = start("", "playbooks/unlock.yml", "-e", "unlock_confirm=two1", "--limit", "two1")
    assert refused.wait(60) == 2, refused.output

    assert runs[winner].wait() == 0, runs[winner].output
    assert tags(both) == [winner, winner]
    assert holders(both) == [False, False]
    for server, known in zip(both, lines, strict=True):
        assert [entry["result"] for entry in history(server)[known:]] == ["ok"]
    # the canary first: nothing is started on the second server before all is done on the first
    order = both if winner == SECOND else both[::-1]
    started = [[one.started for name, one in whole(server).items() if name in APPLICATION] for server in order]
    assert max(started[0]) < min(started[1])


def test_a_failure_stops_before_the_next_server(both: list[Any], playbook: Any) -> None:
    serving, before, untouched = tags(both), ids(both[0]), snapshot(both[1])
    settings = json.dumps({"integr8scode_healthy_timeout_seconds": 25})
    run = playbook("deploy.yml", "-e", f"tag={NEVER_HEALTHY}", "-e", settings)
    assert run.returncode == 2, run.stdout + run.stderr
    assert tags(both) == serving
    assert history(both[0])[-1]["result"] == "rolled_back"
    assert ids(both[0]) == before
    assert holders(both) == [False, False]
    after = snapshot(both[1])
    assert after["containers"] == untouched["containers"]
    # the summary says of each server what it runs
    for name in ("two1", "two2"):
        assert re.search(rf"{name}\b.*{re.escape(serving[0])}", run.stdout), run.stdout
    assert re.search(r"two2\b.*(untouched|not touched)", run.stdout), run.stdout


def test_a_lock_that_nobody_holds_any_more_is_removed_by_hand(both: list[Any], playbook: Any, start: Any) -> None:
    run = start("", "deploy.yml", "-e", f"tag={NEVER_HEALTHY}")
    wait("the locks", 60, lambda: holders(both) == [True, True])
    run.kill(everything=True)
    shown = playbook("playbooks/unlock.yml")
    assert NEVER_HEALTHY in shown.stdout, shown.stdout
    assert holders(both)[1]
    removed = playbook("playbooks/unlock.yml", "-e", "unlock_confirm=two2", "--limit", "two2")
    assert removed.returncode == 0, removed.stdout
    assert not locked(both[1])


def test_status_of_both_as_a_table_and_as_json(both: list[Any], playbook: Any, tmp_path: Path) -> None:
    shown = playbook("playbooks/status.yml")
    assert shown.returncode == 0, shown.stdout
    path = tmp_path / "status.json"
    written = playbook("playbooks/status.yml", "-e", "format=json", "-e", f"status_file={path}")
    assert written.returncode == 0, written.stdout
    body = json.loads(path.read_text("utf-8"))
    for server in both:
        release = current(server)
        assert release["tag"] in shown.stdout
        assert release["id"] in json.dumps(body)
