"""The lab's Mongo: users, init phase, restarts and refusals of mongo:8.0, asked by the application's driver."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import bson
import pymongo
import pytest
from pymongo.errors import ConfigurationError, OperationFailure

from tests.lab.containers import Running, running, until, volume

USER = "root"
# every printable character of ASCII, and some that SASLprep changes
PASSWORD = "".join(map(chr, range(33, 127))) + " äß\u00a0\u212b"
COMMAND = ["mongod", "--wiredTigerCacheSizeGB", "0.4"]
USER_FILE, PASSWORD_FILE = "/etc/lab-user", "/etc/lab-password"
FILES = {"MONGO_INITDB_ROOT_USERNAME_FILE": USER_FILE, "MONGO_INITDB_ROOT_PASSWORD_FILE": PASSWORD_FILE}
# as the stack mounts them: for mongod's user alone
SECRETS = {USER_FILE: (USER, 0o400, 999), PASSWORD_FILE: (PASSWORD + "\n", 0o400, 999)}
PLAIN = {"MONGO_INITDB_ROOT_USERNAME": USER, "MONGO_INITDB_ROOT_PASSWORD": "lab-password"}
DATA = "/data/db"
INITIALISED = "MongoDB init process complete; ready for start up."
# docker-compose.yaml's health check
HEALTH = 'mongosh --quiet --host "$HOSTNAME" --eval "quit(db.adminCommand({ping: 1}).ok ? 0 : 1)"'


def healthy(container: Running) -> None:
    def ask() -> bool:
        if container.status == "exited":
            pytest.fail(f"ended:\n{container.logs[-3000:]}")
        return container.say(HEALTH)[0] == 0

    until("the health check", 40, ask)


@pytest.fixture(scope="module")
def data() -> Iterator[str]:
    with volume() as name:
        yield name


@pytest.fixture(scope="module")
def mongo(data: str) -> Iterator[Running]:
    with running("mongo", COMMAND, environment=FILES, files=SECRETS, volumes={data: DATA}, ports=(27017,)) as server:
        healthy(server)
        yield server


@contextlib.contextmanager
def connected(container: Running, user: str = USER, password: str = PASSWORD, **options: Any) -> Iterator[Any]:
    """A client as the application makes it: one URL, user and password encoded."""
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
    url = f"mongodb://{login}127.0.0.1:{container.port(27017)}/integr8scode?authSource=admin"
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(url, serverSelectionTimeoutMS=5000, **options)
    try:
        yield client
    finally:
        client.close()


def code_of(client: Any, command: str = "listCollections") -> int | None:
    with pytest.raises(OperationFailure) as caught:
        client.integr8scode.command(command)
    return caught.value.code


def test_serves_who_knows_the_password(mongo: Running) -> None:
    with connected(mongo) as client:
        collection = client.integr8scode.executions
        collection.create_index("execution_id", unique=True)
        collection.insert_many([{"execution_id": str(n), "status": "queued" if n % 2 else "done"} for n in range(300)])
        assert collection.count_documents({"status": {"$in": ["queued", "running"]}}) == 150
        assert len(list(collection.find({"status": "done"}, batch_size=20))) == 150
        with pytest.raises(pymongo.errors.DuplicateKeyError):
            collection.insert_one({"execution_id": "7"})


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_both_mechanisms_tell_right_from_wrong(mongo: Running, mechanism: str) -> None:
    with connected(mongo, authMechanism=mechanism) as client:
        assert client.integr8scode.command("ping")["ok"] == 1
        status = client.admin.command("connectionStatus")
        assert status["authInfo"]["authenticatedUsers"] == [{"user": USER, "db": "admin"}]
    with connected(mongo, password=PASSWORD + "x", authMechanism=mechanism) as client:
        assert code_of(client) == 18


@pytest.mark.parametrize(("user", "password"), [(USER, "wrong"), (USER, "Authentication"), ("nobody", PASSWORD)])
def test_refuses_others_with_error_18(mongo: Running, user: str, password: str) -> None:
    with connected(mongo, user, password) as client:
        with pytest.raises(OperationFailure, match=r"Authentication failed\.") as caught:
            client.integr8scode.command("ping")
        assert caught.value.code == 18
        assert (caught.value.details or {})["codeName"] == "AuthenticationFailed"
    assert '"msg":"Failed to authenticate"' in mongo.logs


def test_the_user_belongs_to_database_admin(mongo: Running) -> None:
    with connected(mongo, authSource="integr8scode") as client:
        assert code_of(client) == 18


def test_a_password_must_be_encoded_in_a_url(mongo: Running) -> None:
    with pytest.raises((pymongo.errors.InvalidURI, ConfigurationError)):
        pymongo.MongoClient(f"mongodb://{USER}:{PASSWORD}@127.0.0.1:{mongo.port(27017)}/")


def test_without_a_login_there_is_ping_and_nothing_else(mongo: Running) -> None:
    with connected(mongo, user="") as client:
        assert client.admin.command("ping")["ok"] == 1
        assert client.server_info()["version"].startswith("8.0")
        for command in ("listCollections", "usersInfo", "serverStatus", "noSuchCommand"):
            assert code_of(client, command) == 13
        with pytest.raises(OperationFailure, match="Command find requires authentication"):
            client.integr8scode.executions.find_one()
        with pytest.raises(OperationFailure, match="requires authentication"):
            client.admin.command("createUser", "second", pwd="x", roles=["root"])


def test_is_a_standalone_server_of_version_8(mongo: Running) -> None:
    with connected(mongo) as client:
        hello = client.admin.command("hello")
        assert hello["maxWireVersion"] == 25
        assert "setName" not in hello
        with pytest.raises(OperationFailure) as caught, client.start_session() as session, session.start_transaction():
            client.integr8scode.executions.insert_one({}, session=session)
        assert caught.value.code == 20
        with pytest.raises(OperationFailure, match="only supported on replica sets"):
            client.integr8scode.executions.watch()


def test_an_unacknowledged_write_arrives(mongo: Running) -> None:
    with connected(mongo) as client:
        collection = client.integr8scode.get_collection("events", write_concern=pymongo.WriteConcern(w=0))
        collection.insert_one({"kind": "unacknowledged"})
        until("the document", 5, lambda: client.integr8scode.events.find_one({"kind": "unacknowledged"}))


def test_runs_as_mongodb_and_shows_no_password(mongo: Running) -> None:
    assert mongo.ask("grep -E '^(Uid|Gid):' /proc/1/status | awk '{print $2}'").split() == ["999", "999"]
    shown = json.dumps(mongo.container.attrs) + mongo.logs
    shown += mongo.say("cat /proc/1/environ /proc/1/cmdline", user="999")[1]
    shown += mongo.ask(f"cat {DATA}/stand-in-users.json")
    assert PASSWORD[:20] not in shown
    assert "MONGO_INITDB" not in mongo.say("cat /proc/1/environ", user="999")[1]


def shell(container: Running, arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and output; asked again when nothing was said without an error (see `Running.ask`)."""
    code, output = 0, ""
    for _ in range(1 if "quit(" in arguments else 3):
        code, output = container.say(f"mongosh --quiet {arguments}", **environment)
        if code or output:
            break
    return code, output.strip()


def test_the_shell_pings_and_logs_in(mongo: Running) -> None:
    login = '-u root -p "$LAB" --authenticationDatabase admin'
    assert shell(mongo, "--eval 'db.runCommand({ping:1}).ok'") == (0, "1")
    assert shell(mongo, """--eval "db.adminCommand('ping')" """) == (0, "{ ok: 1 }")
    assert shell(mongo, """--eval 'db.runCommand("ping").ok === 1 ? quit(0) : quit(7)'""") == (0, "")
    assert shell(mongo, "--eval 'quit(3)'") == (3, "")
    # the guide's health check
    guide = f"""echo 'db.runCommand("ping").ok' | mongosh localhost/integr8scode {login} --quiet"""
    assert mongo.ask(guide, LAB=PASSWORD) == "1"
    code, output = mongo.say(guide, LAB="wrong")
    assert (code, output.strip()) == (1, "MongoServerError: Authentication failed.")
    counted = """--eval 'db.getSiblingDB("integr8scode").absent.countDocuments({status: {$in: ["queued"]}})'"""
    assert shell(mongo, f"{login} {counted}", LAB=PASSWORD) == (0, "0")
    code, output = shell(mongo, counted)
    assert code == 1
    assert output == "MongoServerError[Unauthorized]: Command aggregate requires authentication"


@pytest.mark.parametrize(
    "arguments",
    [
        "--eval 'while(true){}'",
        "--eval 'db.executions.drop()'",
        "--eval 'function f(){}'",
        "--eval 'db.runCommand({ping:1}).ok; nonsense'",
        "--file script.js",
        "--tls --eval 'db.hello()'",
        "localhost/test script.js --eval 'db.hello()'",
        "-u root --eval 'db.hello()'",
    ],
)
def test_the_shell_refuses_the_rest(mongo: Running, arguments: str) -> None:
    code, output = shell(mongo, arguments)
    assert code == 1
    assert "not supported by the lab's stand-in for mongosh" in output


def test_the_shell_says_that_nobody_answers(mongo: Running) -> None:
    assert shell(mongo, "--port 1 --eval 'db.hello()'") == (1, "MongoNetworkError: connect ECONNREFUSED 127.0.0.1:1")
    assert shell(mongo, "--host nobody.invalid --eval 'db.hello()'")[1].startswith("MongoNetworkError: getaddrinfo")


def test_a_second_server_on_the_same_data_is_refused(mongo: Running, data: str) -> None:
    with running("mongo", COMMAND, environment=FILES, files=SECRETS, volumes={data: DATA}) as second:
        assert second.wait_end() == 100
        assert "DBPathInUse" in second.logs


# the next ones stop the module's server: they come last among those that use it
def test_stops_cleanly_and_keeps_users_and_data_without_its_container(mongo: Running, data: str) -> None:
    with connected(mongo) as client:
        client.integr8scode.kept.insert_one({"value": 1})
    assert mongo.stop() == 0
    last = json.loads(mongo.logs.splitlines()[-1])
    assert (last["msg"], last["attr"]) == ("Shutting down", {"exitCode": 0})
    assert '"msg":"Received signal"' in mongo.logs

    # with other values, which nobody reads any more
    with running("mongo", COMMAND, environment=PLAIN, volumes={data: DATA}, ports=(27017,)) as later:
        healthy(later)
        assert INITIALISED not in later.logs
        assert "unclean shutdown" not in later.logs
        with connected(later) as client:
            assert client.integr8scode.kept.find_one()["value"] == 1
            client.admin.command("updateUser", USER, pwd="lab-new-password")
        with connected(later, password=PLAIN["MONGO_INITDB_ROOT_PASSWORD"]) as client:
            assert code_of(client) == 18
        # no last word: killed
        later.container.kill()
        later.wait_end()
        later.container.start()
        healthy(later)
        assert "Detected unclean shutdown" in later.logs
        with connected(later, password="lab-new-password") as client:
            assert client.integr8scode.kept.find_one()["value"] == 1


def test_files_are_read_on_every_start_as_mongodb(mongo: Running, data: str) -> None:
    if mongo.status != "exited":
        mongo.stop()
    closed = {**SECRETS, PASSWORD_FILE: (PASSWORD, 0o400, 0)}
    with running("mongo", COMMAND, environment=FILES, files=closed, volumes={data: DATA}) as container:
        assert container.wait_end() == 1
        assert f"{PASSWORD_FILE}: Permission denied" in container.logs
    with running("mongo", COMMAND, environment=FILES, volumes={data: DATA}) as container:
        assert container.wait_end() == 1
        assert f"{USER_FILE}: No such file or directory" in container.logs


# Pings both addresses over and over, from before mongod's start until the container's own address answers.
WATCH = """
import socket, sys, time
ping, seen = bytes.fromhex(sys.argv[1]), set()
def answers(host):
    try:
        with socket.create_connection((host, 27017), 0.5) as connection:
            connection.sendall(ping)
            return len(connection.recv(100)) > 0
    except OSError:
        return False
while (False, True) not in seen and (True, True) not in seen:
    seen.add((answers("127.0.0.1"), answers(socket.gethostname())))
    time.sleep(0.05)
print("watched: too early:", (True, False) in seen, flush=True)
"""


def test_while_it_initialises_the_loopback_address_answers_anyone_too_early() -> None:
    body = bson.encode({"ping": 1, "$db": "admin"})
    ping = struct.pack("<iiiiiB", 21 + len(body), 1, 0, 2013, 0, 0) + body
    script = f'python3 -c "$WATCH" {ping.hex()} & exec docker-entrypoint.sh {" ".join(COMMAND)}'
    environment = {**PLAIN, "WATCH": WATCH}
    with running("mongo", ["-c", script], entrypoint="sh", environment=environment) as container:
        container.wait_log("watched: ", 40)
        assert "watched: too early: True" in container.logs
        loopback, done, outside = '"address":"127.0.0.1:27017"', INITIALISED, '"address":"0.0.0.0:27017"'
        assert container.logs.index(loopback) < container.logs.index(done) < container.logs.index(outside)


def test_a_volume_whose_initialisation_was_cut_off_has_no_user_for_ever() -> None:
    with running(
        "mongo", COMMAND, environment=PLAIN, files={f"{DATA}/storage.bson": ("", 0o600, 999)}, ports=(27017,)
    ) as cut:
        healthy(cut)
        assert INITIALISED not in cut.logs
        with connected(cut, password=PLAIN["MONGO_INITDB_ROOT_PASSWORD"]) as client:
            assert code_of(client) == 18


@pytest.mark.parametrize("empty_files", [False, True], ids=["no values", "empty files"])
def test_without_both_values_nobody_has_to_log_in(empty_files: bool) -> None:
    environment, files = (FILES, dict.fromkeys(SECRETS, ("", 0o444, 0))) if empty_files else ({}, {})
    with running("mongo", COMMAND, environment=environment, files=files, ports=(27017,)) as container:
        healthy(container)
        assert "Access control is not enabled for the database" in container.logs
        with connected(container, user="") as client:
            client.integr8scode.open.insert_one({"value": 1})
            assert client.integr8scode.open.count_documents({}) == 1
        # who does log in must exist
        with connected(container) as client:
            assert code_of(client) == 18


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"MONGO_INITDB_ROOT_USERNAME": USER},
            "error: missing 'MONGO_INITDB_ROOT_USERNAME' or 'MONGO_INITDB_ROOT_PASSWORD'",
        ),
        ({"MONGO_INITDB_ROOT_PASSWORD": "x"}, "both must be specified for a user to be created"),
        (
            {**PLAIN, "MONGO_INITDB_ROOT_PASSWORD_FILE": PASSWORD_FILE},
            "error: both MONGO_INITDB_ROOT_PASSWORD and MONGO_INITDB_ROOT_PASSWORD_FILE are set (but are exclusive)",
        ),
    ],
    ids=["no password", "no user", "both"],
)
def test_refuses_values_that_the_entrypoint_refuses(environment: dict[str, str], message: str) -> None:
    with running("mongo", COMMAND, environment=environment, files=SECRETS) as container:
        assert container.wait_end() == 1
        assert message in container.logs


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--noSuchOption"], "Error parsing command line: unrecognised option '--noSuchOption'"),
        (["--wiredTigerCacheSizeGB"], "the required argument for option '--wiredTigerCacheSizeGB' is missing"),
        (["--wiredTigerCacheSizeGB", "much"], "the argument ('much') for option '--wiredTigerCacheSizeGB' is invalid"),
        (["--replSet", "rs0"], "'--replSet': not supported by the lab's stand-in"),
    ],
    ids=["unknown", "no value", "no number", "real only"],
)
def test_refuses_options_that_mongod_refuses(option: list[str], message: str) -> None:
    with running("mongo", ["mongod", *option]) as container:
        assert container.wait_end() == 2
        assert message in container.logs


def test_a_volume_of_a_container_that_began_as_root_goes_on_as_its_user() -> None:
    """As docker-compose.yaml runs it, after an earlier version of it did not."""
    hardened = {
        "user": "999:999",
        "read_only": True,
        "tmpfs": {"/tmp": "size=64m"},
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    }
    login = {"MONGO_INITDB_ROOT_USERNAME": "root", "MONGO_INITDB_ROOT_PASSWORD": "a-fake-password"}
    with volume() as data:
        for options in ({}, hardened):
            with running("mongo", environment=login, volumes={data: "/data/db"}, **options) as container:
                ping = (
                    'HOME=/tmp mongosh --quiet --host "$HOSTNAME" --eval "quit(db.adminCommand({ping: 1}).ok ? 0 : 1)"'
                )
                until("an answer", 60, lambda here=container, ask=ping: here.say(ask)[0] == 0)
                assert container.stop() == 0
