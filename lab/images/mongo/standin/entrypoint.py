"""The image's entrypoint: drop root, read the first user's name and password, initialise an empty volume, exec mongod.

The order, the conditions and the messages are those of mongo:8.0's docker-entrypoint.sh. In particular:

- root is given up before the ``_FILE`` variables are read, and they are read on every start;
- while an empty volume is initialised, a server on 127.0.0.1 answers anyone;
- killed between the two, the volume counts as initialised, without a user, for ever;
- with neither name nor password (or empty files), nobody has to log in.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

from .options import OptionError, parse

NAME = "/usr/local/bin/docker-entrypoint.sh"
USER, PASSWORD = "MONGO_INITDB_ROOT_USERNAME", "MONGO_INITDB_ROOT_PASSWORD"
SCRIPTS = Path("/docker-entrypoint-initdb.d")
INITIALISED = ("WiredTiger", "journal", "local.0", "storage.bson")
TRIES_SECONDS = 30
# The real entrypoint starts mongosh twice meanwhile. Without its second each, a check of the loopback address would
# seldom meet the temporary server, and a lab would pass what fails in earnest.
MONGOSH_STARTS_SECONDS = 2.0


def fail(text: str) -> NoReturn:
    """End the container with a message."""
    print(text, file=sys.stderr, flush=True)
    raise SystemExit(1)


def drop_root(server: bool) -> None:
    """Become mongodb for good; what belongs to others in the data directories becomes its own."""
    if server:
        found = ["find", "-L", "/data/configdb", "/data/db", "!", "-user", "mongodb"]
        subprocess.run([*found, "-exec", "chown", "mongodb", "{}", "+"], check=True)
    account = pwd.getpwnam("mongodb")
    for descriptor in (1, 2):
        try:
            os.fchown(descriptor, account.pw_uid, -1)
        except OSError:
            print(f"cannot give file descriptor {descriptor} to mongodb", file=sys.stderr)
    os.initgroups("mongodb", account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def from_variable_or_file(name: str) -> str:
    """A value from NAME, or from the file that NAME_FILE names, without the newlines at its end as a shell reads it."""
    value, path = os.environ.get(name, ""), os.environ.get(f"{name}_FILE", "")
    if value and path:
        fail(f"error: both {name} and {name}_FILE are set (but are exclusive)")
    if path:
        try:
            value = Path(path).read_bytes().replace(b"\0", b"").decode(errors="surrogateescape").rstrip("\n")
        except OSError as problem:
            fail(f"{NAME}: line 77: {path}: {problem.strerror}")
    return value


def scripts() -> list[Path]:
    """What the real image would run in an empty volume."""
    return sorted(path for path in SCRIPTS.iterdir() if path.suffix in (".sh", ".js")) if SCRIPTS.is_dir() else []


def initialise(arguments: list[str], user: str, password: str) -> None:
    """Start a server that only this container reaches, make the first user, stop it."""
    # not at the top: most starts do not need them
    from pymongo import MongoClient  # noqa: PLC0415
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    options = parse(arguments)
    temporary = ["mongod", "--dbpath", options.dbpath, "--bind_ip", "127.0.0.1", "--port", "27017"]
    if options.cache_gigabytes is not None:
        temporary += ["--wiredTigerCacheSizeGB", str(options.cache_gigabytes)]
    server = subprocess.Popen(temporary)
    end = time.monotonic() + TRIES_SECONDS
    client: MongoClient[dict[str, object]] = MongoClient("127.0.0.1", 27017, serverSelectionTimeoutMS=200)
    while True:
        if server.poll() is not None:
            fail("\nerror: mongod does not appear to have stayed running -- perhaps it had an error?\n")
        try:
            client.admin.command("ping")
            break
        except PyMongoError:
            if time.monotonic() > end:
                fail(
                    "\nerror: mongod does not appear to have accepted connections quickly enough -- perhaps it had an "
                    "error?\n"
                )
    time.sleep(MONGOSH_STARTS_SECONDS)
    try:
        client.admin.command("createUser", user, pwd=password, roles=[{"role": "root", "db": "admin"}])
    except PyMongoError as problem:
        fail(f"MongoServerError: {problem}")
    finally:
        client.close()
        server.send_signal(signal.SIGTERM)
        server.wait()
    print("\nMongoDB init process complete; ready for start up.\n", flush=True)


def prepare_mongod(arguments: list[str]) -> list[str]:
    """Everything that comes before the real start; gives mongod's final arguments."""
    user, password = from_variable_or_file(USER), from_variable_or_file(PASSWORD)
    if bool(user) != bool(password):
        fail(f"\nerror: missing '{USER}' or '{PASSWORD}'\n       both must be specified for a user to be created\n")
    try:
        options = parse(arguments)
    except OptionError:
        # mongod itself says it better
        return arguments
    if scripts():
        fail(f"{SCRIPTS}: scripts there are not supported by the lab's stand-in for mongo (the real image runs them).")
    if user and password:
        if "--auth" not in arguments:
            arguments = [*arguments, "--auth"]
        if not any((Path(options.dbpath) / name).exists() for name in INITIALISED):
            initialise(arguments, user, password)
    if not any(argument.partition("=")[0] in ("--bind_ip", "--bind_ip_all") for argument in arguments):
        arguments = [*arguments, "--bind_ip_all"]
    for name in [name for name in os.environ if name.startswith("MONGO_INITDB_")]:
        del os.environ[name]
    return arguments


def main() -> NoReturn:
    """Do all of it, then become the command."""
    command = sys.argv[1:] or ["mongod"]
    if command[0].startswith("-"):
        command = ["mongod", *command]
    program = command[0]
    if program.startswith("mongo") and os.getuid() == 0:
        drop_root(program == "mongod")
    if program == "mongod":
        command = [program, *prepare_mongod(command[1:])]
    try:
        os.execvp(program, command)  # noqa: S606 - PID 1 becomes mongod
    except OSError as problem:
        print(f"{NAME}: exec: {program}: {problem.strerror}", file=sys.stderr)
        raise SystemExit(127) from None
