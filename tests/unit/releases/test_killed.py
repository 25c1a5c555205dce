"""A switch that is killed, at any of its calls to the outside: the next run finishes it, goes back, or goes on."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest

from tests.unit.releases.fake_server import INFRASTRUCTURE, SERVING, WORKERS, FakeServer, Killed

STEP = int(os.environ.get("KILLED_STEP", "31"))
"""Kill at every so manieth call; 1 takes long."""
POINTS = range(1, 400, STEP)


def kill(server: FakeServer, point: int) -> bool:
    """Deploy release two on a server with release one, killed at a call. Whether it came to that."""
    server.passwords("a")
    server.deployed("one", grafana={})
    server.busy = {"backend": 1.0, "backend_streams": 2.0}
    server.passwords("b")
    server.release("two", edge="another edge\n", kafka={"hash": "first"}, metrics={})
    try:
        outcome = server.switch("two", kill_at=point)
    except Killed:
        return True
    assert outcome.result == "ok"
    return False


def is_written_down(server: FakeServer, served: bool) -> None:
    """A killed switch whose release served has one line in the history, one that did not has none."""
    assert [entry["result"] for entry in server.history() if entry["run"] == "run02"] == ["ok"] * served


def is_whole(server: FakeServer, release: str) -> None:
    """The server runs one release, and nothing is left of another."""
    expected = {name: [release] for name in (*SERVING, *WORKERS)} | {name: ["first"] for name in INFRASTRUCTURE}
    assert {name: server.hashes()[name] for name in expected} == expected
    assert ("grafana" in server.hashes()) == (release == "one")
    assert ("metrics" in server.hashes()) == (release == "two")
    assert server.current == release
    assert not [slot for slot in server.edge.slots if slot.drained]
    assert not list((server.base / "edge/run").glob("servers.state"))
    assert not list((server.base / "edge").glob(".*"))
    assert not list((server.base / "lock").glob("owner.json"))
    assert server.outages == []
    assert server.to_nobody == []
    assert server.early == []


@pytest.mark.parametrize("point", POINTS)
def test_the_next_run_finishes_it(server: FakeServer, point: int) -> None:
    killed = kill(server, point)
    served = server.current == "two"
    outcome = server.switch("two")
    assert outcome.result == "ok", outcome
    is_whole(server, "two")
    is_written_down(server, served)
    ids = server.ids()
    assert server.switch("two").result == "ok"
    assert server.ids() == ids
    assert killed or point > 100


@pytest.mark.parametrize("point", POINTS)
def test_the_next_run_may_go_back_instead(server: FakeServer, point: int) -> None:
    killed = kill(server, point)
    served = server.current == "two"
    outcome = server.switch("one", "rollback")
    assert outcome.result == "ok", outcome
    is_whole(server, "one")
    is_written_down(server, served)
    assert server.edge.loaded == "the edge\n"
    assert killed or point > 100


@pytest.mark.parametrize("point", POINTS)
def test_the_next_release_may_be_a_bad_one(server: FakeServer, point: int) -> None:
    """What was left half-way is put back too: two was never proven."""
    if not kill(server, point):
        assert point > 100
        return
    if server.current == "two":
        # killed when all was done
        return
    server.release("bad", backend={"hash": "bad", "healthy_after": None})
    outcome = server.switch("bad", healthy_timeout_seconds=20)
    assert outcome.result == "rolled_back", outcome
    assert server.running("backend")[0].spec["hash"] == "one"
    assert len(server.running("backend")) == len(server.running("frontend")) == 1
    assert server.outages == []
    # and another run brings everything to where it was
    assert server.switch("one").result == "ok"
    is_whole(server, "one")


@pytest.mark.parametrize("point", range(1, 200, STEP))
def test_a_first_deploy_that_was_killed_is_finished(server: FakeServer, point: int) -> None:
    server.release("one", grafana={})
    with suppress(Killed):
        server.switch("one", kill_at=point)
    assert server.switch("one").result == "ok"
    is_whole(server, "one")


@pytest.mark.parametrize("point", range(1, 300, STEP))
def test_a_way_back_that_was_killed_is_finished(server: FakeServer, point: int) -> None:
    server.deployed("one", grafana={})
    server.release("two", result_processor={"hash": "two", "dies_after": 1})
    began: list[int] = []

    def count(_: str) -> None:
        if "undo:" in server.told():
            began.append(1)
            if len(began) == point:
                server.dead = True
                raise Killed

    server.before_call = count
    try:
        outcome = server.switch("two")
    except Killed:
        server.before_call = None
        outcome = server.switch("one")
        assert outcome.result == "ok", outcome
    else:
        assert outcome.result == "rolled_back", outcome
    is_whole(server, "one")
