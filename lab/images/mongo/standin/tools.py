"""What mongodump and mongorestore share: options, the password file, the log on standard error, the connection."""

from __future__ import annotations

import datetime as dt
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

TOOL_VERSION = "100.13.0"
RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
SHARED = {
    "--config": "config", "--host": "host", "--port": "port", "-u": "username", "--username": "username",
    "-p": "password", "--password": "password", "--authenticationDatabase": "authdb",
    "-j": "parallel", "--numParallelCollections": "parallel",
}  # fmt: skip
FLAGS = {"--gzip": "gzip", "--quiet": "quiet"}


def say(text: str) -> None:
    """Write a line as the tools log."""
    now = dt.datetime.now(dt.timezone.utc)
    print(f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03}+0000\t{text}", file=sys.stderr, flush=True)


def fail(text: str) -> NoReturn:
    """Exit with 1, as the tools do for every failure."""
    say(text)
    raise SystemExit(1)


@dataclass
class Options:
    """The command line, and what its configuration file adds."""

    tool: str
    values: dict[str, str] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)
    lists: dict[str, list[str]] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """Log, unless quiet."""
        if "quiet" not in self.flags:
            say(text)


def parse(tool: str, arguments: list[str], values: dict[str, str], flags: dict[str, str], lists: set[str]) -> Options:
    """Read the command line; exits for what is not supported.

    Args:
        tool: its name.
        arguments: of the command line.
        values: further options with a value, by their name in `Options.values`.
        flags: likewise, without one.
        lists: options that may be given several times.
    """
    options = Options(tool)
    known = {**SHARED, **values}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, separator, value = argument.partition("=")
        if argument == "--archive":
            options.values["archive"] = ""
        elif name == "--archive":
            options.values["archive"] = value
        elif argument in {**FLAGS, **flags}:
            options.flags.add({**FLAGS, **flags}[argument])
        elif name in known or name in lists:
            if not separator:
                if not rest:
                    fail(f"error parsing command line options: expected argument for flag `{name}'")
                value = rest.pop(0)
            if name in lists:
                options.lists.setdefault(name, []).append(value)
            else:
                options.values[known[name]] = value
        else:
            fail(f"error parsing command line options: {argument}: not supported by the lab's stand-in for {tool}")
    if "archive" not in options.values:
        fail(f"{tool} without --archive: not supported by the lab's stand-in")
    _read_config(options)
    return options


def _read_config(options: Options) -> None:
    path = options.values.get("config")
    if path is None:
        return
    try:
        found = yaml.safe_load(Path(path).read_bytes())
    except (OSError, yaml.YAMLError) as problem:
        fail(f"error parsing command line options: error opening file with --config: {problem}")
    if not isinstance(found, dict) or not set(found) <= {"password", "uri", "sslPEMKeyPassword"}:
        fail("error parsing command line options: error parsing config file: only password, uri, sslPEMKeyPassword")
    if set(found) != {"password"}:
        fail(f"--config with anything but password: not supported by the lab's stand-in for {options.tool}")
    options.values.setdefault("password", str(found["password"]))


def connect(options: Options) -> MongoClient[dict[str, Any]]:
    """Connect and log in; exits with the tools' message if that fails."""
    host, port = options.values.get("host", "localhost"), int(options.values.get("port", "27017"))
    login: dict[str, Any] = {}
    if "username" in options.values:
        if "password" not in options.values:
            fail("error getting password: the lab's stand-in does not ask for one")
        login = {
            "username": options.values["username"],
            "password": options.values["password"],
            "authSource": options.values.get("authdb", "admin"),
        }
    client: MongoClient[dict[str, Any]] = MongoClient(
        host, port, appname=options.tool, directConnection=True, serverSelectionTimeoutMS=5000, **login
    )
    where = f"Failed: can't create session: failed to connect to mongodb://{host}:{port}/: "
    try:
        client.admin.command("ping")
        client.admin.command("connectionStatus")
    except OperationFailure as problem:
        text = str((problem.details or {}).get("errmsg", problem))
        fail(
            f"{where}connection() error occurred during connection handshake: auth error: unable to authenticate using "
            f'mechanism "SCRAM-SHA-256": ({(problem.details or {}).get("codeName", problem.code)}) {text}'
        )
    except PyMongoError as problem:
        fail(f"{where}server selection error: {problem}")
    return client
