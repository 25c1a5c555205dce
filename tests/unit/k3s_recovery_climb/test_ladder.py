"""Which rungs would be tried, and in which order."""

from __future__ import annotations

import pytest
from ansible.module_utils.k3s_recovery.diagnosis import LADDER, Cause
from ansible.module_utils.k3s_recovery.ladder import Wishes, plan
from hypothesis import given
from hypothesis import strategies as st


def cause(name: str, rung: str) -> Cause:
    return Cause(name, f"{name}.", [], rung)


def names(*causes: Cause, tried: tuple[str, ...] = (), **wishes: object) -> list[str]:
    return [choice.rung for choice in plan(causes, Wishes(**wishes), tried)]  # type: ignore[arg-type]


NODE_IP = cause("node_ip_stale", "configuration")
TOKEN = cause("token_mismatch", "token")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([NODE_IP], ["configuration", "safe_mode", "node_object"]),
        ([cause("node_object_stale", "safe_mode")], ["safe_mode", "node_object"]),
        ([cause("unknown", "restart")], ["restart", "safe_mode", "node_object"]),
        ([cause("waiting_for_address", "")], ["restart", "safe_mode", "node_object"]),
        ([TOKEN], ["token"]),
        ([cause("database_damaged", "restore")], ["restore"]),
        ([cause("etcd_membership", "cluster_reset")], ["cluster_reset", "snapshot_restore"]),
        ([cause("disk_full", "")], []),
        # what another cause needs comes before what might help this one as well
        ([NODE_IP, TOKEN], ["configuration", "token", "safe_mode", "node_object"]),
    ],
)
def test_order(found: list[Cause], expected: list[str]) -> None:
    assert names(*found) == expected


def test_all_gone_is_restored_where_there_is_a_backup() -> None:
    gone = cause("database_missing_all_gone", "")
    assert names(gone) == []
    assert names(gone, have_backup=True) == ["restore"]
    assert names(gone, allow_delete=True) == ["delete_cluster"]


@pytest.mark.parametrize("name", ["clock_wrong", "port_taken", "disk_full", "configuration_unreadable"])
def test_nothing_is_deleted_for_what_a_person_heals(name: str) -> None:
    assert names(cause(name, ""), allow_delete=True) == []
    assert "delete_cluster" not in names(cause(name, ""), cause("unknown", "restart"), allow_delete=True)
    assert names(cause(name, ""), allow_delete=True, only={"delete_cluster"}) == []


@pytest.mark.parametrize(
    "missing",
    [
        Cause("database_damaged", "Gone.", [], "restore", details={"missing": True}),
        cause("database_missing_all_gone", ""),
    ],
)
def test_without_a_database_nothing_else_starts_k3s(missing: Cause) -> None:
    stopped = cause("stopped", "restart")
    assert names(NODE_IP, stopped, missing, have_backup=True) == ["restore"]
    assert names(NODE_IP, missing, have_backup=True, tried=("restore",)) == []
    assert names(NODE_IP, missing, have_backup=True, allow_delete=True) == ["restore", "delete_cluster"]
    assert names(NODE_IP, missing, only={"configuration", "restart"}) == []
    # one that is damaged is not gone
    assert names(NODE_IP, cause("database_damaged", "restore"))[0] == "configuration"


def test_the_deletion_comes_last() -> None:
    assert names(NODE_IP, allow_delete=True)[-1] == "delete_cluster"


causes_strategy = st.lists(
    st.builds(
        cause, st.sampled_from(["a", "b", "unknown", "database_missing_all_gone"]), st.sampled_from([*LADDER, ""])
    ),
    max_size=4,
)
rungs = st.sets(st.sampled_from(LADDER))


@given(causes_strategy, rungs, rungs, rungs, st.booleans(), st.booleans())
def test_never(
    found: list[Cause], only: set[str], skip: set[str], tried: set[str], allow_delete: bool, have_backup: bool
) -> None:
    wishes = Wishes(only=only, skip=skip, allow_delete=allow_delete, have_backup=have_backup)
    chosen = [choice.rung for choice in plan(found, wishes, tried)]
    assert len(chosen) == len(set(chosen))
    assert not set(chosen) & (skip | tried)
    if only:
        assert set(chosen) <= only
    if not allow_delete:
        assert "delete_cluster" not in chosen
    if "delete_cluster" in chosen:
        assert chosen[-1] == "delete_cluster"
    if not only and "restore" in chosen:
        assert {one.rung for one in found} & {"restore"} or any(one.id == "database_missing_all_gone" for one in found)
