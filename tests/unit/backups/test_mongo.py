"""MongoDB's archive: read to its end, damage found; and how the tools are run, without the password."""

from __future__ import annotations

import struct
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.backups import mongo
from ansible.module_utils.backups.mongo import MongoError, MongoServer
from hypothesis import given
from hypothesis import strategies as st

END = b"\xff\xff\xff\xff"


def document(**fields: object) -> bytes:
    """BSON with texts, truth values and numbers."""
    body = b""
    for name, value in fields.items():
        key = name.encode() + b"\0"
        if isinstance(value, bool):
            body += b"\x08" + key + bytes([value])
        elif isinstance(value, int):
            body += b"\x12" + key + struct.pack("<q", value)
        else:
            text = str(value).encode() + b"\0"
            body += b"\x02" + key + struct.pack("<i", len(text)) + text
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def archive(*, users: int = 3, end: bool = True, extra: bytes = b"") -> bytes:
    """An archive as mongodump writes it, with admin's users and an application's two collections."""
    parts = [
        mongo.MAGIC,
        document(concurrent_collections=4, version="0.1", server_version="8.0.20", tool_version="100"),
    ]
    names = [("admin", "system.users", 1), ("shop", "users", users), ("shop", "empty", 0)]
    parts += [document(db=db, collection=name, metadata="{}", size=0, type="collection") for db, name, _ in names]
    parts.append(END)
    for db, name, count in names:
        if count:
            head = document(db=db, collection=name, EOF=False, CRC=0)
            parts += [head, *(document(name=f"n{number}") for number in range(count)), END]
        if end or name != "empty":
            parts += [document(db=db, collection=name, EOF=True, CRC=7), END]
    return b"".join(parts) + extra


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "dump.archive"
    path.write_bytes(archive())
    return path


def test_counts_documents_by_collection(written: Path) -> None:
    found = mongo.read_archive(written)
    assert found.documents == {"admin.system.users": 1, "shop.users": 3, "shop.empty": 0}
    assert found.application() == {"shop.users": 3, "shop.empty": 0}
    assert (found.server_version, found.tool_version, found.size) == ("8.0.20", "100", len(archive()))


def test_every_cut_is_found(written: Path) -> None:
    whole = archive()
    # what ends between two collections has an end for one of them only
    for length in range(len(whole)):
        written.write_bytes(whole[:length])
        with pytest.raises(MongoError):
            mongo.read_archive(written)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no archive"),
        (b"garbage garbage", "no archive"),
        (mongo.MAGIC + END, "no header"),
        (archive(end=False), "shop.empty have no end"),
        (archive(extra=document(db="other", collection="x", EOF=False, CRC=0) + END), "does not name"),
        (archive(extra=END), "without a header"),
        (archive(extra=b"\x01\x00\x00\x00"), "no document has 1 bytes"),
        (archive(extra=b"\x00\x00\x00\x7f"), "no document has"),
        (archive(extra=b"\x05\x00\x00\x00\x01"), "without an end"),
    ],
)
def test_damage_is_named(written: Path, content: bytes, says: str) -> None:
    written.write_bytes(content)
    with pytest.raises(MongoError, match=says):
        mongo.read_archive(written)


@pytest.mark.parametrize("name", ["*", "sho*", "shop.x", "a/b", "a\\b", ""])
def test_a_database_s_name_that_is_a_pattern_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`*` would let mongorestore replace the server's own users."""
    path = tmp_path / "forged"
    head = document(concurrent_collections=4, version="0.1", server_version="8.0.20", tool_version="100")
    about = document(db=name, collection="users", metadata="{}", size=0, type="collection")
    path.write_bytes(mongo.MAGIC + head + about + END + document(db=name, collection="users", EOF=True, CRC=7) + END)
    monkeypatch.setattr(mongo, "_run", lambda *_, **__: pytest.fail("a tool was run"))
    with pytest.raises(MongoError, match="cannot be restored safely"):
        mongo.restore(SERVER, path)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_password_gets_through_as_one_line_of_yaml(password: str) -> None:
    line = mongo.login_line(password)
    assert (line.count(b"\n"), line[-1:]) == (1, b"\n")
    assert line.isascii()
    assert yaml.safe_load(line) == {"password": password}


PASSWORD = "pass'word \"$(x)\\"
SERVER = MongoServer("c0ffee", "mongo:8", "ro'ot", PASSWORD)


def test_the_shell_hands_the_login_on_and_the_archive_after_it(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text('#!/bin/sh\nprintf "%s|" "$@"\ncat "${5#--config=}"\ncat\n')
    tool.chmod(0o755)
    words = mongo.command_line(SERVER, str(tool), ["--x=$HOME 'y'"])
    assert words[:4] == ["docker", "exec", "--interactive", "c0ffee"]
    done = subprocess.run(words[4:], input=mongo.login_line(PASSWORD) + b"archive\0\n", capture_output=True, check=True)
    arguments, _, rest = done.stdout.decode().rpartition("|")
    assert arguments.split("|")[0] == "--username=ro'ot"
    assert "--x=$HOME 'y'" in arguments
    assert PASSWORD not in arguments
    login, _, stream = rest.partition("\n")
    assert yaml.safe_load(login) == {"password": PASSWORD}
    assert stream == "archive\0\n"


def test_the_password_is_in_no_argument_and_no_text_of_the_server() -> None:
    assert PASSWORD not in str(mongo.command_line(SERVER, "mongodump", []))
    assert PASSWORD not in repr(SERVER)


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `docker` that answers what the file `script` (of a shell) says."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\n. {tmp_path}/script\n")
    program.chmod(0o755)
    return tmp_path / "script"


def test_a_dump_is_compared_with_what_mongodump_says(tmp_path: Path, docker: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(archive())
    lines = ["admin.system.users (1 document)", "`shop.users` (3 documents)", "shop.empty (0 documents)"]
    said = "\n".join(f'echo "2026	done dumping {line}" >&2' for line in lines).replace("`", "\\`")
    docker.write_text(f"cat > /dev/null\n{said}\ncat {source}\n")
    assert mongo.dump(SERVER, tmp_path / "dump").documents["shop.users"] == 3
    source.write_bytes(archive(users=2))
    with pytest.raises(MongoError, match="does not hold what mongodump has written"):
        mongo.dump(SERVER, tmp_path / "dump")


def test_a_refused_login_names_the_cure_and_no_password(tmp_path: Path, docker: Path) -> None:
    docker.write_text('echo "2026	Failed: x: (AuthenticationFailed) Authentication failed." >&2; exit 1')
    with pytest.raises(MongoError, match="integr8scode_mongo_login_was_changed") as caught:
        mongo.dump(SERVER, tmp_path / "dump")
    assert PASSWORD not in str(caught.value)


def test_a_tool_that_hangs_is_ended(tmp_path: Path, docker: Path) -> None:
    docker.write_text("exec sleep 60")
    with pytest.raises(MongoError, match="did not end within"):
        mongo.dump(SERVER, tmp_path / "dump", timeout=0.2)


def test_a_tool_that_stops_reading_is_ended(docker: Path, tmp_path: Path) -> None:
    """What it is fed is more than a pipe holds, so that a write waits for it."""
    source = tmp_path / "dump.archive"
    source.write_bytes(archive(users=20_000))
    docker.write_text("exec sleep 10")
    began = time.monotonic()
    with pytest.raises(MongoError, match="mongorestore did not end within"):
        mongo.restore(SERVER, source, timeout=0.5)
    assert time.monotonic() - began < 8


def test_a_restore_takes_the_applications_databases_and_counts(written: Path, tmp_path: Path, docker: Path) -> None:
    docker.write_text(
        f'echo "$@" > {tmp_path}/asked; cat > {tmp_path}/got\n'
        'echo "2026	3 document(s) restored successfully. 0 document(s) failed to restore." >&2'
    )
    mongo.restore(SERVER, written)
    asked = (tmp_path / "asked").read_text()
    assert "--nsInclude=shop.*" in asked
    assert "--drop" in asked
    assert "admin.*" not in asked
    assert (tmp_path / "got").read_bytes() == mongo.login_line(PASSWORD) + archive()


def test_documents_that_failed_are_no_success(written: Path, docker: Path) -> None:
    docker.write_text(
        'cat > /dev/null; echo "2 document(s) restored successfully. 1 document(s) failed to restore." >&2'
    )
    with pytest.raises(MongoError, match="something else than the archive's 3 documents"):
        mongo.restore(SERVER, written)


def test_a_damaged_archive_reaches_no_server(written: Path, docker: Path, tmp_path: Path) -> None:
    written.write_bytes(archive()[:-9])
    docker.write_text(f"touch {tmp_path}/asked")
    with pytest.raises(MongoError):
        mongo.restore(SERVER, written)
    assert not (tmp_path / "asked").exists()
