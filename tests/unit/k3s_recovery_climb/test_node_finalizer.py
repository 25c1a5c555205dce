"""A deleted Node object stays until k3s' controller lets it go: nothing may take it for the one that comes after it."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.k3s_recovery.climb import Climb
from ansible.module_utils.k3s_recovery.rungs import RUNGS
from ansible.module_utils.k3s_recovery.rungs.base import RungError, Settings
from ansible.module_utils.k3s_recovery.rungs.node_object import FINALIZER, NodeObject, owed, put_back
from ansible.module_utils.k3s_recovery.verify import see_node

from tests.unit.k3s_recovery_climb.fake_server import NODE, FakeServer
from tests.unit.k3s_recovery_climb.test_climb import begin, climb, recover, states
from tests.unit.k3s_recovery_climb.test_rungs import context_of

ONLY = Settings(stable_seconds=10, timeout_seconds=30, only=("node_object",))
NEVER = 1e9


def is_the_new_one(server: FakeServer) -> bool:
    assert server.node is not None
    metadata = server.node["metadata"]
    return metadata["uid"] != "first" and metadata["labels"]["tier"] == "single"


@pytest.mark.parametrize("seconds", [0.0, 3.0, 20.0])
def test_the_old_one_is_gone_before_k3s_is_stopped(tmp_path: Path, seconds: float) -> None:
    server = FakeServer(tmp_path, {"sticky_node_object"})
    server.controller_seconds = seconds
    record, _outcomes = recover(server, ONLY)
    assert states(record) == [("node_object", "healed")]
    assert "finalizer" not in record.rungs[0].sentence
    assert is_the_new_one(server)


def test_a_finalizer_of_k3s_that_stays_is_taken_away_and_told(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"sticky_node_object"})
    server.controller_seconds = NEVER
    record, _outcomes = recover(server, ONLY)
    assert states(record) == [("node_object", "healed")]
    assert f"its finalizer {FINALIZER} was taken away" in record.rungs[0].sentence
    assert is_the_new_one(server)


def test_a_finalizer_of_somebody_else_stays_and_the_labels_are_kept_for_the_next_run(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"sticky_node_object"})
    server.controller_seconds = NEVER
    assert server.node is not None
    server.node["metadata"]["finalizers"].append("example.com/mine")
    record, outcomes = recover(server, ONLY)
    assert not outcomes[-1].healed
    assert "example.com/mine holds it" in outcomes[0].sentence
    assert server.node["metadata"]["finalizers"] == ["example.com/mine"]
    assert [entry.name for entry in owed(record)] == ["node_object"]
    # its owner lets it go
    server.node = None
    server.stop()
    server.start()
    assert climb(server, begin(server), ONLY)[-1].healed
    assert is_the_new_one(server)


def test_a_node_on_its_way_out_is_not_right_and_gets_nothing(tmp_path: Path) -> None:
    server = FakeServer(tmp_path)
    context = context_of(server, "node_object")
    server.start()
    assert server.node is not None
    assert see_node(server, name=NODE, address="").problem == ""
    assert "being deleted" in see_node(server, name=NODE, address="", deleted=["first"]).problem
    NodeObject._save(context)
    del server.node["metadata"]["labels"]["tier"]
    context.entry.data["deleted"] = True
    assert "being deleted" in context.node().problem
    # a restore has brought it back
    context.record.restored_from = "/b"
    assert context.node().problem == ""
    server.node["metadata"]["deletionTimestamp"] = "now"
    server.controller_seconds = NEVER
    assert "being deleted" in context.node().problem
    with pytest.raises(RungError, match="the old Node object is still there"):
        put_back(context, context.entry)
    assert "tier" not in server.node["metadata"]["labels"]


def test_undone_after_the_deletion_the_node_comes_back_with_the_next_start(tmp_path: Path) -> None:
    class Fails(NodeObject):
        @staticmethod
        def _wait_until_gone(context: object, saved: object) -> None:  # noqa: ARG004
            server.sleep(5)
            raise RungError("no")

    server = FakeServer(tmp_path, {"advertise_address_stale"}, never_heals={"advertise_address_stale"})
    server.harmless = {"advertise_address_stale"}
    server.start()
    record = begin(server, ONLY)
    steady = server.diagnose
    server.diagnose = lambda node_ip: _steady(steady(node_ip))  # type: ignore[method-assign]
    outcome = Climb(server, record, ONLY, rungs={**RUNGS, "node_object": Fails()}).step()
    assert outcome.state == "undone"
    assert "made anew by the next start" in outcome.sentence
    assert server.node is not None
    assert server.node["metadata"]["uid"] != "first"
    assert [entry.name for entry in owed(record)] == ["node_object"]


def _steady(found: object) -> object:
    found.facts["unit"]["running_seconds"] = 600.0  # type: ignore[attr-defined]
    return found
