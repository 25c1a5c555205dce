"""The lab's mongodump and mongorestore: the real format, options, messages and refusals, as backups use them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import bson
import pymongo
import pytest

from lab import engine
from lab.settings import Settings
from tests.lab.containers import Running, running
from tests.lab.test_mongo import COMMAND, FILES, PASSWORD, SECRETS, connected, healthy

LOGIN = ["--username=root", "--authenticationDatabase=admin"]


@pytest.fixture(scope="module")
def mongo() -> Iterator[Running]:
    with running("mongo", COMMAND, environment=FILES, files=SECRETS, ports=(27017,)) as server:
        healthy(server)
        yield server


def tool(mongo: Running, *words: str, archive: bytes = b"", password: str = PASSWORD) -> tuple[int, bytes, str]:
    """Run a tool in the container as backups do: the login as first line, then the archive; exit code and outputs."""
    login = "".join(char if char.isalnum() else f"\\U{ord(char):08X}" for char in password)
    quoted = " ".join(f"'{word}'" for word in words)
    script = f"IFS= read -r login && exec {quoted} --config=/dev/fd/3 3<<END\n$login\nEND\n"
    url = engine.find(Settings.from_environment()) or ""
    done = subprocess.run(
        ["docker", "--host", url, "exec", "--interactive", str(mongo.container.id), "sh", "-c", script],
        input=f'password: "{login}"\n'.encode() + archive,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr.decode()


def fill(mongo: Running) -> None:
    with connected(mongo) as client:
        client.drop_database("shop")
        client.shop.items.create_index([("kind", 1), ("price", -1)], sparse=True)
        client.shop.items.create_index("number", unique=True)
        client.shop.items.insert_many(
            [{"number": n, "kind": "ä" * (n % 7), "price": bson.Decimal128("1.10"), "at": None} for n in range(600)]
        )
        client.shop.empty.create_index("name")


def content(mongo: Running) -> dict[str, object]:
    with connected(mongo) as client:
        return {
            name: (
                list(client.shop[name].find(sort=[("_id", 1)])),
                sorted((index["name"], str(index)) for index in client.shop[name].list_indexes()),
            )
            for name in client.shop.list_collection_names()
        }


def test_what_is_dumped_comes_back(mongo: Running) -> None:
    fill(mongo)
    before = content(mongo)
    code, archive, said = tool(mongo, "mongodump", *LOGIN, "--archive")
    assert (code, archive[:4]) == (0, b"\x6d\xe2\x99\x81"), said
    assert "done dumping shop.items (600 documents)" in said
    assert "done dumping admin.system.users (1 document)" in said
    with connected(mongo) as client:
        client.shop.items.delete_many({"number": {"$lt": 100}})
        client.shop.items.update_many({}, {"$set": {"kind": "changed"}})
        client.shop.items.drop_index("number_1")
        client.shop.empty.insert_one({"_id": 1})
    assert content(mongo) != before
    words = ["mongorestore", *LOGIN, "--archive", "--drop", "--stopOnError", "--nsInclude=shop.*"]
    code, _, said = tool(mongo, *words, archive=archive)
    assert code == 0, said
    assert "600 document(s) restored successfully. 0 document(s) failed to restore." in said
    assert content(mongo) == before


def test_compressed_and_one_database_alone(mongo: Running) -> None:
    fill(mongo)
    code, archive, said = tool(mongo, "mongodump", *LOGIN, "--archive", "--gzip", "--db=shop")
    assert (code, archive[:2]) == (0, b"\x1f\x8b"), said
    assert "admin" not in said
    assert tool(mongo, "mongorestore", *LOGIN, "--archive", "--gzip", "--drop", archive=archive)[0] == 0


def test_without_drop_what_is_there_stays_and_is_told(mongo: Running) -> None:
    fill(mongo)
    _, archive, _ = tool(mongo, "mongodump", *LOGIN, "--archive", "--db=shop")
    code, _, said = tool(mongo, "mongorestore", *LOGIN, "--archive", archive=archive)
    assert "duplicate key" in said
    assert (code, "0 document(s) restored successfully. 600 document(s) failed" in said) == (0, True)
    code, _, said = tool(mongo, "mongorestore", *LOGIN, "--archive", "--stopOnError", archive=archive)
    assert (code, "Failed: " in said) == (1, True)


def test_a_dry_run_changes_nothing(mongo: Running) -> None:
    fill(mongo)
    _, archive, _ = tool(mongo, "mongodump", *LOGIN, "--archive")
    with connected(mongo) as client:
        client.shop.items.delete_one({"number": 1})
    before = content(mongo)
    words = ["mongorestore", *LOGIN, "--archive", "--drop", "--dryRun", "--nsInclude=shop.*"]
    code, _, said = tool(mongo, *words, archive=archive)
    assert (code, "dry run completed" in said) == (0, True)
    assert content(mongo) == before


@pytest.mark.parametrize("name", ["mongodump", "mongorestore"])
def test_a_wrong_password_is_refused_in_the_tools_words(mongo: Running, name: str) -> None:
    code, out, said = tool(mongo, name, *LOGIN, "--archive", password=PASSWORD + "x")
    assert (code, out) == (1, b"")
    assert "Failed: can't create session: failed to connect to mongodb://localhost:27017/" in said
    assert "(AuthenticationFailed) Authentication failed." in said


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_cut_off_archive_fails_after_dropping(mongo: Running, keep: float) -> None:
    """As the real one: whoever restores has to read the archive first."""
    fill(mongo)
    _, archive, _ = tool(mongo, "mongodump", *LOGIN, "--archive", "--db=shop")
    cut = archive[: int(len(archive) * keep)]
    code, _, said = tool(mongo, "mongorestore", *LOGIN, "--archive", "--drop", archive=cut)
    assert (code, "Failed: " in said) == (1, True)
    with connected(mongo) as client:
        assert client.shop.items.count_documents({}) < 600


def test_a_changed_document_does_not_fit_the_checksum(mongo: Running) -> None:
    fill(mongo)
    _, archive, _ = tool(mongo, "mongodump", *LOGIN, "--archive", "--db=shop")
    changed = archive.replace("ää".encode(), "öö".encode(), 1)
    assert changed != archive
    code, _, said = tool(mongo, "mongorestore", *LOGIN, "--archive", "--drop", archive=changed)
    assert (code, "CRC mismatch" in said) == (1, True)


def test_the_servers_own_users_are_not_restored_here(mongo: Running) -> None:
    """The real one would; a backup leaves them out, and the stand-in says so where somebody does not."""
    fill(mongo)
    _, archive, _ = tool(mongo, "mongodump", *LOGIN, "--archive")
    code, _, said = tool(mongo, "mongorestore", *LOGIN, "--archive", "--drop", archive=archive)
    assert (code, "restoring admin.system.users: not supported" in said) == (1, True)
    assert tool(mongo, "mongorestore", *LOGIN, "--archive", "--drop", "--nsExclude=admin.*", archive=archive)[0] == 0
    with connected(mongo) as client:
        assert client.admin.command("usersInfo", 1)["users"][0]["user"] == "root"


@pytest.mark.parametrize("option", ["--oplog", "--out=/tmp/x", "--uri=mongodb://localhost", "--collection=x"])
def test_what_the_stand_in_cannot_is_refused(mongo: Running, option: str) -> None:
    code, _, said = tool(mongo, "mongodump", *LOGIN, "--archive", option)
    assert (code, "not supported by the lab's stand-in for mongodump" in said) == (1, True)


def test_credentials_are_shown_to_who_asks_as_the_tools_do(mongo: Running) -> None:
    with connected(mongo) as client:
        plain = client.admin.command({"usersInfo": {"forAllDBs": True}})["users"]
        shown = client.admin.command({"usersInfo": {"forAllDBs": True}, "showCredentials": True})["users"]
    assert ["credentials" in plain[0], "credentials" in shown[0]] == [False, True]
    assert PASSWORD not in str(shown)
    with connected(mongo, user="") as client, pytest.raises(pymongo.errors.OperationFailure, match="authentication"):
        client.admin.command({"usersInfo": {"forAllDBs": True}})
