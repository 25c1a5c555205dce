"""mongosh, as far as health checks and operators use it: one-shot scripts from ``--eval`` or standard input.

No prompt, no files, no TLS; scripts are what `javascript` knows. Whatever else is asked for is refused, loudly and
with exit code 1, so that nothing passes here that would mean something else to the real shell.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from pymongo import MongoClient
from pymongo.errors import ConfigurationError, InvalidURI, OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from .javascript import UNDEFINED, Evaluator, Undefined, UnsupportedError, show, to_json

SERVER_SELECTION_MILLISECONDS = 2000
FLAGS = {"--quiet", "--norc"}
VALUES = {
    "--eval": "eval", "--host": "host", "--port": "port", "-u": "username", "--username": "username", "-p": "password",
    "--password": "password", "--authenticationDatabase": "authdb", "--authenticationMechanism": "mechanism",
}  # fmt: skip


class Collection:
    """``db.<name>``: counting and looking at one document."""

    def __init__(self, database: Any, name: str) -> None:
        self._database = database
        self._name = name

    def member(self, name: str) -> Any:
        """A function of the collection, or the collection of a dotted name."""
        collection = self._database[self._name]
        members: dict[str, Callable[..., Any]] = {
            "countDocuments": lambda query=None: collection.count_documents(query or {}),
            "findOne": lambda query=None: collection.find_one(query or {}),
        }
        if name in members:
            return members[name]
        return Collection(self._database, f"{self._name}.{name}")

    def __call__(self, *_arguments: Any) -> NoReturn:
        """Refuse the functions that are not known: their names read as collections."""
        raise UnsupportedError(f"db.{self._name}()")


class Database:
    """``db``."""

    def __init__(self, client: MongoClient[dict[str, Any]], name: str) -> None:
        self._client = client
        self._name = name

    def _run(self, database: str, command: Any) -> Any:
        document = {command: 1} if isinstance(command, str) else command
        return self._client[database].command(document)

    def member(self, name: str) -> Any:
        """A function of the database, or a collection."""
        members: dict[str, Callable[..., Any]] = {
            "runCommand": lambda command: self._run(self._name, command),
            "adminCommand": lambda command: self._run("admin", command),
            "getSiblingDB": lambda other: Database(self._client, other),
            "getName": lambda: self._name,
            "getCollection": lambda other: Collection(self._client[self._name], other),
            "changeUserPassword": lambda user, password: self._run(self._name, {"updateUser": user, "pwd": password}),
            "getUsers": lambda: self._run(self._name, {"usersInfo": 1}),
            "version": lambda: self._run(self._name, {"buildInfo": 1})["version"],
            "hello": lambda: self._run(self._name, {"hello": 1}),
        }
        return members.get(name) or Collection(self._client[self._name], name)


class Namespace:
    """An object that only has members."""

    def __init__(self, **members: Callable[..., Any]) -> None:
        self._members = members

    def member(self, name: str) -> Any:
        """The function of that name."""
        if name not in self._members:
            raise UnsupportedError(f"member {name!r}")
        return self._members[name]


def fail(text: str) -> NoReturn:
    """Exit with 1."""
    print(text, file=sys.stderr, flush=True)
    raise SystemExit(1)


def unsupported(what: str) -> NoReturn:
    """Refuse what the real shell can and this one cannot."""
    fail(f"mongosh: {what}: not supported by the lab's stand-in for mongosh")


def parse_arguments(arguments: list[str]) -> tuple[dict[str, str], list[str], str]:
    """Options by name, scripts, and the address; exits for what is not supported."""
    options: dict[str, str] = {}
    scripts: list[str] = []
    addresses: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, separator, value = argument.partition("=")
        if argument in FLAGS:
            continue
        if not argument.startswith("-"):
            addresses.append(argument)
            continue
        if name not in VALUES or (separator and not name.startswith("--")):
            unsupported(f"option {name}")
        if not separator:
            if not rest or (rest[0].startswith("-") and VALUES[name] != "password"):
                unsupported(f"{name} without a value (asking for one)")
            value = rest.pop(0)
        if VALUES[name] == "eval":
            scripts.append(value)
        else:
            options[VALUES[name]] = value
    if len(addresses) > 1:
        unsupported(f"file {addresses[1]!r}")
    return options, scripts, addresses[0] if addresses else ""


def locate(options: dict[str, str], address: str) -> dict[str, Any]:
    """Host, port, database and credentials as mongosh reads options and address."""
    if address.startswith("mongodb+srv://"):
        unsupported("mongodb+srv addresses")
    found: dict[str, Any] = {"host": "127.0.0.1", "port": 27017, "database": "test"}
    if address.startswith("mongodb://"):
        try:
            uri = parse_uri(address)
        except (InvalidURI, ConfigurationError) as problem:
            fail(f"MongoParseError: {problem}")
        found.update(host=uri["nodelist"][0][0], port=uri["nodelist"][0][1], database=uri["database"] or "test")
        source = uri["options"].get("authsource") or uri["database"]
        found.update(username=uri["username"], password=uri["password"], authdb=source)
    elif address:
        host, slash, database = address.partition("/")
        if not slash and not {".", ":"} & set(host):
            host, database = "", host
        name, _, port = host.partition(":")
        found.update(host=name or "127.0.0.1", port=int(port or 27017), database=database or "test")
        if slash and database:
            found["authdb"] = database
    if "host" in options:
        if address and found["host"] != "127.0.0.1":
            unsupported("both an address and --host")
        name, _, port = options["host"].partition(":")
        found.update(host=name, port=int(port or found["port"]))
    if "port" in options:
        found["port"] = int(options["port"])
    found.update({key: options[key] for key in ("username", "password", "authdb", "mechanism") if key in options})
    if found.get("username") and found.get("password") is None:
        unsupported("a user without a password (asking for it)")
    return found


def connect(place: dict[str, Any]) -> MongoClient[dict[str, Any]]:
    """Connect and log in; exits with mongosh's message if that fails."""
    try:
        socket.create_connection((place["host"], place["port"]), timeout=SERVER_SELECTION_MILLISECONDS / 1000).close()
    except ConnectionRefusedError:
        fail(f"MongoNetworkError: connect ECONNREFUSED {place['host']}:{place['port']}")
    except socket.gaierror:
        fail(f"MongoNetworkError: getaddrinfo ENOTFOUND {place['host']}")
    except OSError as problem:
        fail(f"MongoServerSelectionError: {problem}")
    login: dict[str, Any] = {}
    if place.get("username"):
        login = {
            "username": place["username"],
            "password": place["password"],
            "authSource": place.get("authdb") or "admin",
        }
        if "mechanism" in place:
            login["authMechanism"] = place["mechanism"]
    client: MongoClient[dict[str, Any]] = MongoClient(
        place["host"],
        place["port"],
        appname="mongosh",
        directConnection=True,
        serverSelectionTimeoutMS=SERVER_SELECTION_MILLISECONDS,
        **login,
    )
    try:
        client.admin.command("ping")
    except OperationFailure as problem:
        fail(f"MongoServerError: {(problem.details or {}).get('errmsg', problem)}")
    except PyMongoError as problem:
        fail(f"MongoServerSelectionError: {problem}")
    return client


def quit_shell(code: Any = 0) -> NoReturn:
    """The function quit."""
    raise SystemExit(int(code))


def say(*values: Any) -> Undefined:
    """The function print."""
    print(*map(show, values), flush=True)
    return UNDEFINED


def main() -> int:
    """Connect, run the scripts, print the last value; gives the exit code."""
    options, scripts, address = parse_arguments(sys.argv[1:])
    place = locate(options, address)
    piped = not scripts
    if piped and sys.stdin.isatty():
        unsupported("a prompt")
    client = connect(place)
    stringify = Namespace(stringify=to_json)
    evaluator = Evaluator(
        {
            "db": Database(client, place["database"]),
            "quit": quit_shell,
            "exit": quit_shell,
            "print": say,
            "printjson": say,
            "JSON": stringify,
            "EJSON": stringify,
        }
    )
    value: Any = UNDEFINED
    try:
        for script in sys.stdin if piped else scripts:
            value = evaluator.run(script)
            if piped and value is not UNDEFINED:
                print(show(value), flush=True)
    except UnsupportedError as problem:
        unsupported(str(problem))
    except OperationFailure as problem:
        details = problem.details or {}
        fail(f"MongoServerError[{details.get('codeName', problem.code)}]: {details.get('errmsg', problem)}")
    except PyMongoError as problem:
        fail(f"MongoServerSelectionError: {problem}")
    except TypeError as problem:
        unsupported(str(problem))
    finally:
        client.close()
    if not piped and value is not UNDEFINED:
        print(show(value), flush=True)
    return 0
