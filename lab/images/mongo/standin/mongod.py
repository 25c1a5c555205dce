"""mongod: takes the data directory, starts the storage, listens, and stops cleanly on SIGTERM."""

from __future__ import annotations

import asyncio
import fcntl
import os
import platform
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bson

from .log import log
from .options import EXIT_BAD_OPTIONS, OptionError, Options, parse
from .server import Front
from .users import Users

# mongod's exit codes
EXIT_ABRUPT, EXIT_CANNOT_LISTEN, EXIT_STORAGE_FAILED = 14, 48, 100
LIBRARY = Path("/usr/local/lib/mongo-standin")
DATABASE = "stand-in.mv"
MARKER = "storage.bson"
"""One of the files by which the image's entrypoint knows that a volume is not empty."""
JAVA = (
    "java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xms16m", "-Xmx256m", "-Djava.awt.headless=true",
    f"-XX:SharedArchiveFile={LIBRARY}/storage.jsa", "-Xshare:auto", "-Xlog:cds=off", "-Xlog:cds+dynamic=off",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dio.netty.noUnsafe=true",
)  # fmt: skip


class StartError(Exception):
    """mongod cannot start.

    Attributes:
        code: exit code.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@contextmanager
def data_directory(path: Path) -> Iterator[None]:
    """Hold the directory's lock file, which names the process while it runs and is empty after a clean stop.

    Raises:
        StartError: absent, not writable, in use, or written by a real mongod.
    """
    if not path.is_dir():
        raise StartError(
            EXIT_STORAGE_FAILED, f"NonExistentPath: Data directory {path} not found. Create the missing directory or "
            "specify another path using (1) the --dbpath command line option, or (2) by adding the 'storage.dbPath' "
            "option in the configuration file."
        )  # fmt: skip
    lock = path / "mongod.lock"
    try:
        file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as problem:
        raise StartError(
            EXIT_STORAGE_FAILED, f"IllegalOperation: Attempted to create a lock file on a read-only directory: {path} "
            f"({problem.strerror})"
        ) from None  # fmt: skip
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(
                EXIT_STORAGE_FAILED, f"DBPathInUse: Unable to lock the lock file: {lock} (Resource temporarily "
                f"unavailable). Another mongod instance is already running on the {path} directory"
            ) from None  # fmt: skip
        if (path / "WiredTiger").exists():
            raise StartError(
                EXIT_STORAGE_FAILED, f"{path} was written by a real mongod, which this stand-in cannot read"
            )
        if os.fstat(file).st_size:
            log("W", "STORAGE", 22271, "initandlisten",
                "Detected unclean shutdown - Lock file is not empty", lockFile=str(lock))  # fmt: skip
        os.ftruncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode())
        yield
        os.ftruncate(file, 0)
    finally:
        os.close(file)


async def start_storage(path: Path) -> tuple[asyncio.subprocess.Process, int]:
    """Start the wire protocol server on the directory; gives its process and port.

    Raises:
        StartError: it did not start.
    """
    process = await asyncio.create_subprocess_exec(
        *JAVA, "-cp", f"{LIBRARY}/jars/*", "Storage", str(path / DATABASE),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None  # noqa: S101 - asked for above
    line = await process.stdout.readline()
    if not line.strip().isdigit():
        raise StartError(EXIT_STORAGE_FAILED, "the storage did not start, its own messages are above")
    return process, int(line)


async def listen(front: Front, options: Options) -> list[asyncio.Server]:
    """Open the port.

    Raises:
        StartError: it is taken, or the address is not this machine's.
    """
    servers = []
    for address in options.bind:
        try:
            servers.append(
                await asyncio.start_server(front.serve, address, options.port, family=socket.AF_INET, backlog=4096)
            )
        except OSError as problem:
            raise StartError(
                EXIT_CANNOT_LISTEN, f"SocketException: Failed to set up listener on {address}:{options.port}: "
                f"{problem.strerror}"
            ) from None  # fmt: skip
        log("I", "NETWORK", 23015, "listener", "Listening on", address=f"{address}:{options.port}")
    log("I", "NETWORK", 23016, "listener", "Waiting for connections", port=options.port, ssl="off")
    return servers


async def run(options: Options) -> int:
    """Serve until a signal comes or the storage dies; gives the exit code."""
    stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def on_signal(number: int) -> None:
        if not stopped.done():
            stopped.set_result(number)

    for handled in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(handled, on_signal, int(handled))

    path = Path(options.dbpath)
    with data_directory(path):
        if not (path / MARKER).exists():
            (path / MARKER).write_bytes(bson.encode({"storage": {"engine": "wiredTiger", "options": {}}}))
        storage, port = await start_storage(path)
        if not options.auth:
            log("W", "CONTROL", 22120, "initandlisten", "Access control is not enabled for the database. "
                "Read and write access to data and configuration is unrestricted",
                tags=["startupWarnings"])  # fmt: skip
        users = Users(path / "stand-in-users.json")
        front = Front(users, options.auth, port, os.environ.get("MONGO_VERSION", "8.0.0"))
        servers: list[asyncio.Server] = []
        try:
            servers = await listen(front, options)
            died = asyncio.ensure_future(storage.wait())
            await asyncio.wait({stopped, died}, return_when=asyncio.FIRST_COMPLETED)
            if died.done():
                log("F", "STORAGE", 0, "storage", "The storage ended by itself", exitCode=died.result())
                return EXIT_ABRUPT
            number = stopped.result()
            name = "Terminated" if number == signal.SIGTERM else "Interrupt"
            log("I", "CONTROL", 23377, "SignalHandler", "Received signal", signal=number, error=name)
        finally:
            log("I", "NETWORK", 20562, "SignalHandler", "Shutdown: going to close listening sockets")
            for server in servers:
                server.close()
            await front.close()
            log("I", "STORAGE", 20520, "SignalHandler", "Shutdown: going to close all files...")
            assert storage.stdin is not None  # noqa: S101 - asked for at its start
            storage.stdin.close()
            code = await storage.wait()
    if code != 0:
        log("F", "STORAGE", 0, "storage", "The storage was not closed cleanly", exitCode=code)
        return EXIT_ABRUPT
    log("I", "CONTROL", 20565, "SignalHandler", "Now exiting")
    log("I", "CONTROL", 23138, "SignalHandler", "Shutting down", exitCode=0)
    return 0


def describe(options: Options) -> None:
    """The first lines of mongod's log."""
    log("I", "CONTROL", 4615611, "initandlisten", "MongoDB starting", pid=os.getpid(), port=options.port,
        dbPath=options.dbpath, architecture="64-bit", host=platform.node())  # fmt: skip
    version: Any = os.environ.get("MONGO_VERSION", "8.0.0")
    log(
        "I",
        "CONTROL",
        23403,
        "initandlisten",
        "Build Info",
        buildInfo={"version": version, "gitVersion": "lab-stand-in"},
    )
    log("I", "CONTROL", 21951, "initandlisten", "Options set by command line", options={"arguments": options.given})


def main() -> int:
    """Parse, describe, run; gives the exit code."""
    try:
        options = parse(sys.argv[1:])
    except OptionError as problem:
        print(problem, file=sys.stderr)
        return EXIT_BAD_OPTIONS
    describe(options)
    try:
        return asyncio.run(run(options))
    except StartError as problem:
        log("E", "CONTROL", 20557, "initandlisten", "DBException in initAndListen, terminating", error=str(problem))
        log("I", "CONTROL", 23138, "initandlisten", "Shutting down", exitCode=problem.code)
        return problem.code
