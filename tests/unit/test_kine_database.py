"""kine's database: copied whole under load, damage found and named, the source left as it is."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from ansible.module_utils.kine_database import (
    DatabaseError,
    Inventory,
    bootstrap_key,
    bootstrap_keys,
    companions,
    integrity,
    inventory,
    kind_of,
    online_backup,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.support import kine


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return kine.make(tmp_path / "server/db/state.db")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def crashed(database: Path, rows: int = 50) -> None:
    """Leave what a killed kine leaves: the newest rows in -wal alone."""
    script = (
        "import sys, os; sys.path.insert(0, sys.argv[2]); from tests.unit.support import kine; "
        "from pathlib import Path; c = kine.connect(Path(sys.argv[1])); "
        "[kine.put(c, f'/registry/configmaps/default/late-{n}') for n in range(int(sys.argv[3]))]; os._exit(9)"
    )
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-c", script, str(database), root, str(rows)], check=False)
    assert done.returncode == 9
    assert database.with_name("state.db-wal").stat().st_size > 0


# the copy


def test_a_copy_under_load_holds_all_that_was_committed_before_it_and_a_plain_one_does_not(database: Path) -> None:
    copy, plain = database.parents[2] / "copy.db", database.parents[2] / "plain.db"
    with kine.writer(database) as process:
        assert process.stdout is not None
        # its output is read all the time, or it would stop writing
        reader = threading.Thread(target=process.stdout.read, daemon=True)
        reader.start()
        before = kine.committed(database)
        shutil.copy(database, plain)
        online_backup(database, copy)
        after = kine.committed(database)
    integrity(copy)
    assert before <= kine.committed(copy) <= after
    assert kine.committed(plain) < before, "the plain copy lacks what is in -wal"
    reader.join(5)


def test_a_copy_stands_alone_and_is_root_s_alone(database: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    online_backup(database, copy)
    assert companions(copy) == []
    assert copy.stat().st_mode & 0o777 == 0o600
    assert inventory(copy) == inventory(database)


def test_a_copy_of_a_crashed_server_has_what_only_the_log_holds(database: Path, tmp_path: Path) -> None:
    crashed(database)
    online_backup(database, tmp_path / "copy.db")
    assert inventory(tmp_path / "copy.db").objects["configmaps"] == 70


@pytest.mark.parametrize("missing", [[], ["-shm"]])
def test_a_log_without_its_index_is_read(database: Path, tmp_path: Path, missing: list[str]) -> None:
    crashed(database)
    for suffix in missing:
        database.with_name(f"state.db{suffix}").unlink()
    before = {name: content for name, content in files(database.parent).items() if not name.endswith("-shm")}
    assert inventory(database).objects["configmaps"] == 70
    online_backup(database, tmp_path / "copy.db")
    after = {name: content for name, content in files(database.parent).items() if not name.endswith("-shm")}
    assert after == before


def test_a_closed_database_is_not_touched_at_all(database: Path, tmp_path: Path) -> None:
    before, stamp = files(database.parent), database.stat().st_mtime_ns
    integrity(database)
    inventory(database)
    bootstrap_keys(database)
    online_backup(database, tmp_path / "copy.db")
    assert files(database.parent) == before
    assert list(before) == ["state.db"]
    assert database.stat().st_mtime_ns == stamp


def test_a_database_that_is_opened_while_it_is_read_without_a_lock_is_read_again(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = []
    original = sqlite3.connect

    def connect(*arguments: object, **more: object) -> sqlite3.Connection:
        connection = original(*arguments, **more)  # type: ignore[call-overload]
        if not connections:
            # k3s starts now, and writes
            connections.append(original(database, isolation_level=None))
            connections[0].execute("PRAGMA journal_mode = WAL")
            kine.put(connections[0], "/registry/namespaces/new")
        return connection  # type: ignore[no-any-return]

    monkeypatch.setattr(sqlite3, "connect", connect)
    found = inventory(database)
    monkeypatch.undo()
    connections[0].close()
    assert "new" in found.namespaces


def test_no_target_is_left_of_a_copy_that_failed(database: Path, tmp_path: Path) -> None:
    database.write_bytes(b"rubbish" * 1000)
    with pytest.raises(DatabaseError, match="file is not a database"):
        online_backup(database, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_link_in_the_place_of_the_copy_is_not_followed(database: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "copy.db").symlink_to(tmp_path / "precious")
    with pytest.raises(DatabaseError, match="cannot be written"):
        online_backup(database, tmp_path / "copy.db")
    assert (tmp_path / "precious").read_text() == "precious"


# damage


def test_a_damaged_header_is_named(database: Path) -> None:
    with database.open("r+b") as file:
        file.write(b"\xff" * 100)
    with pytest.raises(DatabaseError, match=r"state\.db: file is not a database"):
        integrity(database)


def test_a_damaged_page_is_found_in_the_copy(tmp_path: Path) -> None:
    database = kine.make(tmp_path / "state.db", objects=2000)
    with database.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(random.Random(1).randbytes(8 * 4096))
    # copied page by page, and only then looked at
    online_backup(database, tmp_path / "copy.db")
    with pytest.raises(DatabaseError, match=r"copy\.db"):
        integrity(tmp_path / "copy.db")


def test_a_cut_off_file_is_found(tmp_path: Path) -> None:
    database = kine.make(tmp_path / "state.db", objects=2000)
    os.truncate(database, database.stat().st_size // 2)
    with pytest.raises(DatabaseError, match="malformed"):
        integrity(database)


def test_an_empty_file_is_no_new_database(tmp_path: Path) -> None:
    (tmp_path / "state.db").touch()
    for look in (integrity, inventory, bootstrap_keys):
        with pytest.raises(DatabaseError, match="empty"):
            look(tmp_path / "state.db")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="No such file"):
        integrity(tmp_path / "state.db")


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        connection.execute("CREATE TABLE other (x)")
    with pytest.raises(DatabaseError, match="no such table: kine"):
        integrity(tmp_path / "state.db")


@given(at=st.integers(0, 39), data=st.binary(min_size=1, max_size=300), within=st.integers(0, 4000))
def test_damage_anywhere_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, at: int, data: bytes, within: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "damage"
    template = folder / "template.db"
    if not template.exists():
        kine.make(template, objects=500)
    database = folder / "state.db"
    shutil.copy(template, database)
    with database.open("r+b") as file:
        file.seek(min(at * 4096 + within, database.stat().st_size - len(data)))
        file.write(data)
    for look in (integrity, inventory, bootstrap_keys):
        try:
            look(database)
        except DatabaseError:
            continue


# what is in it


def test_the_inventory_takes_the_newest_row_of_each_key(database: Path) -> None:
    with closing(kine.connect(database)) as connection:
        kine.put(connection, "/registry/namespaces/gone")
        kine.put(connection, "/registry/namespaces/gone", deleted=True)
        kine.put(connection, "/registry/namespaces/back")
        kine.put(connection, "/registry/namespaces/back", deleted=True)
        newest = kine.put(connection, "/registry/namespaces/back")
    found = inventory(database)
    assert found.namespaces == ["back", "default", "integr8scode", "kube-system"]
    assert found.revision == newest
    assert found.nodes == ["server1"]
    assert found.objects == {"configmaps": 20, "namespaces": 4, "nodes": 1, "roles": 1}
    assert found.bootstrap_keys == 1
    assert found.keys == 27


def test_a_changed_right_has_another_checksum_and_its_text_is_not_kept(database: Path) -> None:
    key = "/registry/roles/integr8scode/k8s-worker"
    before = inventory(database).rbac
    with closing(kine.connect(database)) as connection:
        kine.put(connection, key, b"other rules")
    after = inventory(database).rbac
    assert list(before) == list(after) == [key]
    assert before[key] != after[key]
    assert len(after[key]) == 64


def test_an_inventory_survives_json(database: Path) -> None:
    import json
    from dataclasses import asdict

    found = inventory(database)
    assert Inventory(**json.loads(json.dumps(asdict(found)))) == found


def test_keys_of_tokens(database: Path) -> None:
    assert bootstrap_keys(database) == [bootstrap_key(kine.TOKEN)]
    with closing(kine.connect(database)) as connection:
        kine.put(connection, bootstrap_key(kine.TOKEN), deleted=True)
        kine.put(connection, bootstrap_key("another"))
    assert bootstrap_keys(database) == [bootstrap_key("another")]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("/registry/configmaps/default/a", ("configmaps", ["default", "a"])),
        ("/registry/namespaces/a", ("namespaces", ["a"])),
        ("/registry/minions/server1", ("nodes", ["server1"])),
        ("/registry/services/specs/default/kubernetes", ("services", ["default", "kubernetes"])),
        ("/registry/services/endpoints/default/kubernetes", ("endpoints", ["default", "kubernetes"])),
        ("/registry/k3s.cattle.io/addons/kube-system/coredns", ("k3s.cattle.io/addons", ["kube-system", "coredns"])),
        ("/registry/health", ("health", [])),
    ],
)
def test_kinds(key: str, expected: tuple[str, list[str]]) -> None:
    assert kind_of(key) == expected
