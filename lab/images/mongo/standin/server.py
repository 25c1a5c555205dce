"""The front: speaks to clients as mongod does, knows who they are, and hands their commands to the storage.

A command comes, the storage answers, one after the other on each connection; each client has a connection of its own
to the storage, as cursors and errors belong to a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
from dataclasses import dataclass, field
from typing import Any

from . import wire
from .log import log
from .scram import MECHANISMS, Conversation, ScramError
from .users import UserError, Users

# Commands that mongod 8.0 answers before a login.
WITHOUT_LOGIN = {
    "hello", "isMaster", "ismaster", "ping", "buildInfo", "buildinfo", "connectionStatus", "whatsmyuri", "saslStart",
    "saslContinue", "logout", "endSessions",
}  # fmt: skip
MAX_WIRE_VERSION = 25
"""Of MongoDB 8.0."""


def error(code: int, name: str, text: str) -> dict[str, Any]:
    """A command's failure, as mongod reports it."""
    return {"ok": 0.0, "errmsg": text, "code": code, "codeName": name}


AUTHENTICATION_FAILED = (18, "AuthenticationFailed", "Authentication failed.")


@dataclass
class Client:
    """A connection from outside."""

    number: int
    address: str
    user: tuple[str, str] | None = None
    conversation: Conversation | None = None
    conversation_database: str = ""
    skip_empty_exchange: bool = False
    finished: bool = False
    """SCRAM is done, only the client's empty last word is missing."""
    storage: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    application: str = ""

    @property
    def context(self) -> str:
        """Name in the log."""
        return f"conn{self.number}"


@dataclass
class Front:
    """All connections of one mongod.

    Attributes:
        users: of the data directory.
        auth: clients must log in before anything but `WITHOUT_LOGIN`.
        storage_port: where the storage listens on 127.0.0.1.
        version: what buildInfo says.
    """

    users: Users
    auth: bool
    storage_port: int
    version: str
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection until it ends."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs is in a task
        self._tasks.add(task)
        peer = writer.get_extra_info("peername")
        client = Client(next(self._numbers), f"{peer[0]}:{peer[1]}")
        log("I", "NETWORK", 22943, "listener", "Connection accepted", remote=client.address,
            connectionId=client.number, connectionCount=len(self._tasks))  # fmt: skip
        try:
            while (raw := await wire.read_raw(reader)) is not None:
                message = wire.parse(raw)
                answer = await self._answer(client, message)
                if answer is None:
                    break
                if not message.wants_no_reply:
                    writer.write(answer)
                    await writer.drain()
        except (wire.ProtocolError, ConnectionError) as problem:
            log("I", "NETWORK", 22988, client.context, "Error receiving request from client. Ending connection "
                "from remote", error=str(problem), remote=client.address)  # fmt: skip
        finally:
            self._tasks.discard(task)
            for stream in (writer, client.storage[1] if client.storage else None):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
            log("I", "NETWORK", 22944, client.context, "Connection ended", remote=client.address,
                connectionId=client.number, connectionCount=len(self._tasks))  # fmt: skip

    async def close(self) -> None:
        """End every connection."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, client: Client, message: wire.Message) -> bytes | None:
        if message.opcode == wire.OP_QUERY and message.name not in ("hello", "isMaster", "ismaster"):
            text = f"Unsupported OP_QUERY command: {message.name}. The client driver may require an upgrade."
            return wire.reply(message, error(352, "UnsupportedOpQueryCommand", text))
        document = self._own(client, message)
        if document is not None:
            return wire.reply(message, document)
        return await self._forward(client, message)

    def _own(self, client: Client, message: wire.Message) -> dict[str, Any] | None:
        """What the front answers itself; None: it is the storage's."""
        name, command = message.name, message.command
        if self.auth and client.user is None and name not in WITHOUT_LOGIN:
            return error(13, "Unauthorized", f"Command {name} requires authentication")
        handler = getattr(self, f"_do_{name.lower()}", None)
        if handler is not None:
            result: dict[str, Any] = handler(client, command)
            return result
        if "txnNumber" in command or "startTransaction" in command:
            return error(
                20, "IllegalOperation", "Transaction numbers are only allowed on a replica set member or mongos"
            )
        if name == "aggregate" and any("$changeStream" in stage for stage in command.get("pipeline", [])[:1]):
            return error(40573, "Location40573", "The $changeStream stage is only supported on replica sets")
        return None

    async def _forward(self, client: Client, message: wire.Message) -> bytes | None:
        if client.storage is None:
            client.storage = await asyncio.open_connection("127.0.0.1", self.storage_port)
        reader, writer = client.storage
        if message.wants_no_reply:
            # the storage answers always: it is asked for an answer, which then goes nowhere
            message.raw[16:20] = (message.flags & ~wire.MORE_TO_COME).to_bytes(4, "little")
        writer.write(message.raw)
        await writer.drain()
        answer = await wire.read_raw(reader)
        return None if answer is None else bytes(answer)

    # Commands by name. Each takes the client and the command, and gives the answer.

    def _do_hello(self, client: Client, command: dict[str, Any]) -> dict[str, Any]:
        primary = "isWritablePrimary" if "hello" in command else "ismaster"
        answer: dict[str, Any] = {
            "helloOk": True,
            primary: True,
            "maxBsonObjectSize": 16 * 1024 * 1024,
            "maxMessageSizeBytes": wire.MAX_MESSAGE,
            "maxWriteBatchSize": 100_000,
            "localTime": dt.datetime.now(dt.timezone.utc),
            "logicalSessionTimeoutMinutes": 30,
            "connectionId": client.number,
            "minWireVersion": 0,
            "maxWireVersion": MAX_WIRE_VERSION,
            "readOnly": False,
        }
        asked = command.get("saslSupportedMechs")
        if isinstance(asked, str) and self.users.exists(*asked.split(".", 1)):
            answer["saslSupportedMechs"] = list(MECHANISMS)
        speculative = command.get("speculativeAuthenticate")
        if isinstance(speculative, dict) and "saslStart" in speculative:
            tried = self._do_saslstart(client, {"$db": speculative.get("db", "admin"), **speculative}, guess=True)
            if tried["ok"]:
                answer["speculativeAuthenticate"] = {key: value for key, value in tried.items() if key != "ok"}
        return {**answer, "ok": 1.0}

    _do_ismaster = _do_hello

    def _do_ping(self, _client: Client, _command: dict[str, Any]) -> dict[str, Any]:
        return {"ok": 1.0}

    _do_endsessions = _do_ping

    def _do_buildinfo(self, _client: Client, _command: dict[str, Any]) -> dict[str, Any]:
        return {
            "version": self.version,
            "gitVersion": "lab-stand-in",
            "versionArray": [*(int(part) for part in self.version.split(".")), 0][:4],
            "modules": [],
            "maxBsonObjectSize": 16 * 1024 * 1024,
            "storageEngines": ["devnull", "wiredTiger"],
            "ok": 1.0,
        }

    def _do_whatsmyuri(self, client: Client, _command: dict[str, Any]) -> dict[str, Any]:
        return {"you": client.address, "ok": 1.0}

    def _do_connectionstatus(self, client: Client, _command: dict[str, Any]) -> dict[str, Any]:
        users = [{"user": client.user[1], "db": client.user[0]}] if client.user else []
        roles = [{"role": "root", "db": "admin"}] if client.user else []
        return {"authInfo": {"authenticatedUsers": users, "authenticatedUserRoles": roles}, "ok": 1.0}

    def _do_logout(self, client: Client, _command: dict[str, Any]) -> dict[str, Any]:
        client.user = None
        return {"ok": 1.0}

    def _do_saslstart(self, client: Client, command: dict[str, Any], *, guess: bool = False) -> dict[str, Any]:
        mechanism, database = str(command.get("mechanism")), str(command.get("$db"))
        if mechanism not in MECHANISMS:
            text = f"Received authentication for mechanism {mechanism} which is not enabled"
            return error(334, "MechanismUnavailable", text)
        options = command.get("options") or {}
        client.skip_empty_exchange = bool(options.get("skipEmptyExchange"))
        client.finished = False
        client.conversation_database = database
        client.conversation = Conversation(mechanism, lambda user, name: self.users.find(database, user, name))
        try:
            payload = client.conversation.start(bytes(command.get("payload", b"")))
        except ScramError as problem:
            return self._refuse(client, str(problem), guess=guess)
        return {"conversationId": 1, "done": False, "payload": payload, "ok": 1.0}

    def _do_saslcontinue(self, client: Client, command: dict[str, Any]) -> dict[str, Any]:
        if client.conversation is None:
            return error(17, "ProtocolError", "No SASL session state found")
        if client.finished:
            payload = b""
        else:
            try:
                payload = client.conversation.finish(bytes(command.get("payload", b"")))
            except ScramError as problem:
                return self._refuse(client, str(problem))
            client.finished = True
            if not client.skip_empty_exchange:
                return {"conversationId": 1, "done": False, "payload": payload, "ok": 1.0}
        client.user = (client.conversation_database, client.conversation.user)
        log("I", "ACCESS", 5286306, client.context, "Successfully authenticated", client=client.address,
            mechanism=client.conversation.mechanism, user=client.user[1], db=client.user[0], result=0)  # fmt: skip
        client.conversation = None
        return {"conversationId": 1, "done": True, "payload": payload, "ok": 1.0}

    @staticmethod
    def _refuse(client: Client, why: str, *, guess: bool = False) -> dict[str, Any]:
        assert client.conversation is not None  # noqa: S101 - only called within a conversation
        log("I", "ACCESS", 5286307, client.context, "Failed to authenticate", client=client.address,
            isSpeculative=guess, mechanism=client.conversation.mechanism, user=client.conversation.user,
            db=client.conversation_database, error=why, result=18)  # fmt: skip
        client.conversation = None
        return error(*AUTHENTICATION_FAILED)

    def _do_createuser(self, _client: Client, command: dict[str, Any]) -> dict[str, Any]:
        return self._change(lambda: self.users.create(command["$db"], command["createUser"], command))

    def _do_updateuser(self, _client: Client, command: dict[str, Any]) -> dict[str, Any]:
        return self._change(lambda: self.users.update(command["$db"], command["updateUser"], command))

    def _do_dropuser(self, _client: Client, command: dict[str, Any]) -> dict[str, Any]:
        return self._change(lambda: self.users.drop(command["$db"], command["dropUser"]))

    def _do_usersinfo(self, _client: Client, command: dict[str, Any]) -> dict[str, Any]:
        shown = command.get("showCredentials") is True
        return {"users": self.users.info(command["$db"], command["usersInfo"], credentials=shown), "ok": 1.0}

    @staticmethod
    def _change(action: Any) -> dict[str, Any]:
        try:
            action()
        except UserError as problem:
            return error(problem.code, problem.name, str(problem))
        return {"ok": 1.0}
