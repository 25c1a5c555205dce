"""Embedded etcd: who is a member, what a reset changes, what counts as damaged."""

from __future__ import annotations

import dataclasses
import os
import re
import sqlite3
import threading
from pathlib import Path

import pytest

from lab.k3s.supervisor import bootstrap, etcd, network, plan, snapshot_command
from lab.k3s.supervisor.logs import FatalError
from lab.k3s.supervisor.paths import Paths
from lab.k3s.supervisor.settings import Settings


def make_database(path: Path, *values: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE kine (id INTEGER PRIMARY KEY, name TEXT, deleted INTEGER, value BLOB)")
        connection.executemany("INSERT INTO kine (name, deleted, value) VALUES (?, 0, ?)", [(v, v) for v in values])
    connection.close()


def names_in(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return [row[0] for row in connection.execute("SELECT name FROM kine ORDER BY id")]
    finally:
        connection.close()


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(network, "choose_address", lambda: "10.0.0.7")
    monkeypatch.setattr(network, "listen_error", lambda *_: None)
    monkeypatch.setattr(bootstrap, "overwrite", lambda *_: None)
    made = Paths(tmp_path)
    made.sqlite.parent.mkdir(parents=True)
    make_database(made.sqlite, "from-sqlite")
    return made


def member(paths: Paths, address: str = "10.0.0.7") -> etcd.Etcd:
    made = plan.make_plan(Settings({"node-name": ["one"]}))
    return etcd.Etcd(paths, dataclasses.replace(made, node_address=address))


@pytest.fixture
def cluster(paths: Paths) -> etcd.Etcd:
    made = member(paths)
    made.begin()
    return made


@pytest.fixture
def ended() -> threading.Event:
    stop = threading.Event()
    stop.set()
    return stop


def test_the_datastore_is_etcd_as_soon_as_its_log_is_there(paths: Paths) -> None:
    assert paths.database == paths.sqlite
    member(paths).begin()
    assert paths.database == paths.etcd / "member" / "snap" / "db"
    assert names_in(paths.database) == ["from-sqlite"]
    assert not paths.sqlite.exists()


def test_a_member_at_its_address_goes_on(
    cluster: etcd.Etcd, ended: threading.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.check_data()
    cluster.wait_for_membership(ended)
    assert "etcd data store connection OK" in capsys.readouterr().err


def test_at_another_address_it_waits_with_both_named(
    paths: Paths, cluster: etcd.Etcd, ended: threading.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    name = (paths.etcd / "name").read_text()
    member(paths, "10.0.0.8").wait_for_membership(ended)
    said = capsys.readouterr().err
    assert f"Found [{name}=https://10.0.0.7:2380], expect: {name}=https://10.0.0.8:2380" in said
    assert "data store connection OK" not in said


def test_an_address_that_is_gone_cannot_be_listened_on(
    cluster: etcd.Etcd, ended: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "listen_error", lambda *_: "listen tcp 10.0.0.7:2380: bind: x")
    with pytest.raises(FatalError, match="start managed database: listen tcp"):
        cluster.wait_for_membership(ended)


def test_a_reset_takes_the_address_of_now_once(paths: Paths, cluster: etcd.Etcd, ended: threading.Event) -> None:
    before = (paths.etcd / "name").read_text()
    moved = member(paths, "10.0.0.8")
    moved.reset("secret", "")
    after = (paths.etcd / "name").read_text()
    assert re.fullmatch(r"one-[0-9a-f]{8}", after)
    assert after != before
    moved.wait_for_membership(ended)
    with pytest.raises(FatalError, match="previously reset, please remove the cluster-reset flag"):
        moved.reset("secret", "")
    assert moved.started_normally()
    assert not moved.started_normally()
    moved.reset("secret", "")


def test_a_snapshot_takes_the_place_of_the_data(paths: Paths, cluster: etcd.Etcd, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"
    make_database(snapshot, "from-snapshot")
    paths.database.write_bytes(b"damaged")
    cluster.reset("secret", str(snapshot))
    assert names_in(paths.database) == ["from-snapshot"]
    (old,) = paths.etcd.parent.glob("etcd-old-*")
    assert (old / "member" / "snap" / "db").read_bytes() == b"damaged"
    old.rename(tmp_path / "old")
    # with a path the flag is not looked at
    cluster.reset("secret", str(snapshot))


@pytest.mark.parametrize("content", [b"damaged", None])
def test_a_bad_snapshot_changes_nothing(
    paths: Paths, cluster: etcd.Etcd, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "bad").write_bytes(content)
    with pytest.raises(FatalError, match="snapshot"):
        cluster.reset("secret", str(tmp_path / "bad"))
    assert names_in(paths.database) == ["from-sqlite"]


@pytest.mark.parametrize("damage", ["data", "log", "missing"])
def test_damage_is_fatal(paths: Paths, cluster: etcd.Etcd, damage: str) -> None:
    if damage == "data":
        paths.database.write_bytes(b"\0" * 8192)
    elif damage == "log":
        next((paths.etcd / "member" / "wal").iterdir()).write_bytes(b"\0" * 64)
    else:
        paths.database.unlink()
    with pytest.raises(FatalError, match="Failed to reconcile with temporary etcd"):
        cluster.check_data()


def test_snapshots_are_refused_with_sqlite(paths: Paths) -> None:
    with pytest.raises(FatalError, match="etcd datastore disabled"):
        snapshot_command.run(["save"], Settings({"data-dir": [str(paths.data_dir)]}))
