"""The doctor's own small clients, against other people's encoders and a server that checks a real SCRAM proof."""

from __future__ import annotations

import asyncio
import importlib
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import dns.message
import dns.rrset
import pytest
from ansible.module_utils.doctor import wire_dns, wire_kafka
from ansible.module_utils.doctor.wire_mongo import Connection, MongoRefused, decode, encode
from ansible.module_utils.saslprep import saslprep
from hypothesis import given
from hypothesis import strategies as st
from pymongo.saslprep import saslprep as drivers

# the lab's Mongo front: it checks SCRAM proofs by itself, and real drivers log in to it
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "lab/images/mongo"))
Front: Any = importlib.import_module("standin.server").Front
Users: Any = importlib.import_module("standin.users").Users
sys.path.pop(0)

PASSWORD = "lab mongo $pa\"ss'word\\ #@:/%!?{}é;"


@pytest.fixture(scope="module")
def mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Mongo that knows root's password."""
    users = Users(tmp_path_factory.mktemp("mongo") / "users.json")
    users.create("admin", "root", {"pwd": PASSWORD, "roles": [{"role": "root", "db": "admin"}]})
    loop = asyncio.new_event_loop()
    front = Front(users, auth=True, storage_port=1, version="8.0.20")
    server = loop.run_until_complete(asyncio.start_server(front.serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    server.close()


def test_mongo_answers_a_ping_without_a_login(mongo: int) -> None:
    connection = Connection("127.0.0.1", mongo)
    assert connection.command({"ping": 1})["ok"] == 1.0
    connection.close()


def test_mongo_takes_the_right_password(mongo: int) -> None:
    connection = Connection("127.0.0.1", mongo)
    connection.login("root", PASSWORD)
    users = connection.command({"connectionStatus": 1})["authInfo"]["authenticatedUsers"]
    assert users["0"]["user"] == "root"
    connection.close()


@pytest.mark.parametrize(("user", "password"), [("root", "wrong"), ("nobody", PASSWORD), ("root", "")])
def test_mongo_refuses_another_one(mongo: int, user: str, password: str) -> None:
    connection = Connection("127.0.0.1", mongo)
    with pytest.raises(MongoRefused) as refused:
        connection.login(user, password)
    assert refused.value.code == 18
    assert password not in str(refused.value) or not password
    connection.close()


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=9),
        st.text(st.characters(codec="utf-8")) | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.binary(),
        max_size=6,
    )
)
def test_bson_is_what_the_driver_reads(document: dict[str, Any]) -> None:
    assert bson.decode(encode(document)) == document


def test_bson_of_the_driver_is_read() -> None:
    document = {"a": 1.5, "b": 2**40, "c": None, "d": [1, {"e": "ü"}], "f": bson.ObjectId(), "g": True, "h": b"x"}
    assert decode(bson.encode(document)) == {
        **{key: document[key] for key in "abcgh"}, "d": {"0": 1, "1": {"e": "ü"}}, "f": None
    }  # fmt: skip


@given(st.binary(max_size=60))
def test_rubbish_is_a_value_error(data: bytes) -> None:
    for read in (decode, wire_kafka.parse_metadata, wire_kafka.parse_groups, wire_kafka.parse_members):
        try:
            read(data)
        except ValueError:
            continue


@given(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cc", "Cn"]), min_size=1))
def test_passwords_are_prepared_as_the_driver_does(password: str) -> None:
    try:
        expected = drivers(password)
    except ValueError:
        return
    assert saslprep(password) == expected


# -- Kafka


def text(value: str | None) -> bytes:
    return struct.pack(">h", -1) if value is None else struct.pack(">h", len(value)) + value.encode()


def array(*items: bytes) -> bytes:
    return struct.pack(">i", len(items)) + b"".join(items)


def partition(number: int, leader: int, error: int = 0) -> bytes:
    return struct.pack(">hii", error, number, leader) + array(struct.pack(">i", 1)) + array(struct.pack(">i", 1))


METADATA = (
    array(struct.pack(">i", 1) + text("kafka") + struct.pack(">i", 29092) + text(None))
    + text("MkU3OEVBNTcwNTJENDM2Qk")
    + struct.pack(">i", 1)
    + array(
        struct.pack(">h", 0) + text("dev_x") + b"\0" + array(partition(0, 1), partition(1, -1, 5)),
        struct.pack(">h", 0) + text("__consumer_offsets") + b"\1" + array(partition(0, 1, 9)),
    )
)
MEMBER = text("m-1") + text("client") + text("/172.31.209.5") + struct.pack(">i", 3) + b"abc" + struct.pack(">i", 0)
ANSWERS = {
    wire_kafka.METADATA: METADATA,
    wire_kafka.LIST_GROUPS: struct.pack(">h", 0) + array(text("k8s-worker") + text("consumer")),
    wire_kafka.DESCRIBE_GROUPS: array(
        struct.pack(">h", 0) + text("k8s-worker") + text("Stable") + text("consumer") + text("range") + array(MEMBER)
    ),
}


@pytest.fixture
def kafka() -> Iterator[tuple[int, list[bytes]]]:
    """The port of a broker with canned answers, and the requests that it got."""
    server = socket.create_server(("127.0.0.1", 0))
    requests: list[bytes] = []

    def serve() -> None:
        peer, _ = server.accept()
        with peer:
            while head := peer.recv(4):
                request = peer.recv(struct.unpack(">i", head)[0])
                requests.append(request)
                key, _, number = struct.unpack(">hhi", request[:8])
                body = struct.pack(">i", number) + ANSWERS[key]
                peer.sendall(struct.pack(">i", len(body)) + body)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1], requests
    server.close()
    thread.join(5)


def test_kafka_tells_its_cluster_topics_and_groups(kafka: tuple[int, list[bytes]]) -> None:
    port, requests = kafka
    broker = wire_kafka.Broker("127.0.0.1", port)
    assert broker.metadata() == {
        "brokers": ["kafka:29092"],
        "cluster_id": "MkU3OEVBNTcwNTJENDM2Qk",
        "controller": 1,
        "topics": {"dev_x": 1, "__consumer_offsets": 0},
    }
    assert broker.groups() == ["k8s-worker"]
    assert broker.members(["k8s-worker"]) == {"k8s-worker": 1}
    broker.close()
    # all topics, by a null array: an empty one, or a name, could make a topic
    assert requests[0].endswith(struct.pack(">i", -1))


def test_kafka_that_cannot_tell_its_groups_yet() -> None:
    with pytest.raises(ValueError, match="error 15"):
        wire_kafka.parse_groups(struct.pack(">h", 15) + array())


# -- DNS


def answer(question: bytes, code: int = 0) -> bytes:
    message = dns.message.make_response(dns.message.from_wire(question))
    message.set_rcode(code)
    if not code:
        name = message.question[0].name
        message.answer = [
            dns.rrset.from_text(name, 60, "IN", "CNAME", "other.test."),
            dns.rrset.from_text("other.test.", 60, "IN", "A", "172.31.209.5", "172.31.209.6"),
        ]
    return message.to_wire()


def test_addresses_of_an_answer() -> None:
    question = wire_dns.query("mongo", 7)
    assert str(dns.message.from_wire(question).question[0].name) == "mongo."
    assert sorted(wire_dns.addresses(answer(question), 7)) == ["172.31.209.5", "172.31.209.6"]


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="NXDOMAIN"):
        wire_dns.addresses(answer(wire_dns.query("nobody", 7), 3), 7)


@pytest.mark.parametrize("kept", [0, 4, 20, -3])
def test_a_dns_answer_that_is_cut_off(kept: int) -> None:
    with pytest.raises(ValueError, match="cut off"):
        wire_dns.addresses(answer(wire_dns.query("mongo", 7))[:kept], 7)


def test_an_answer_to_somebody_elses_question() -> None:
    with pytest.raises(ValueError, match="another question"):
        wire_dns.addresses(answer(wire_dns.query("mongo", 8)), 7)


def test_users_file_of_the_fixture_holds_no_password(tmp_path: Path) -> None:
    """The proof would be worth nothing if the server compared passwords."""
    users = Users(tmp_path / "users.json")
    users.create("admin", "root", {"pwd": PASSWORD, "roles": [{"role": "root", "db": "admin"}]})
    assert PASSWORD not in (tmp_path / "users.json").read_text()
