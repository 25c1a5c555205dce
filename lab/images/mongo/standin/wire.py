"""Messages of MongoDB's wire protocol: framing, OP_MSG, and the OP_QUERY that drivers say hello with."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import Any

import bson

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
MAX_MESSAGE = 48_000_000
MORE_TO_COME = 1 << 1


class ProtocolError(Exception):
    """What came is not a message that a driver sends; the connection is closed, as mongod does."""


@dataclass
class Message:
    """A message and the command in it.

    Attributes:
        request: the sender's id of the message.
        opcode: `OP_MSG` or `OP_QUERY`.
        raw: all of it, header included.
        command: the command document, without documents that came in sections of their own.
        flags: of an OP_MSG.
    """

    request: int
    opcode: int
    raw: bytearray
    command: dict[str, Any]
    flags: int = 0

    @property
    def name(self) -> str:
        """The command: a document's first key."""
        return next(iter(self.command), "")

    @property
    def wants_no_reply(self) -> bool:
        """An unacknowledged write, for example."""
        return bool(self.flags & MORE_TO_COME)


async def read_raw(reader: asyncio.StreamReader) -> bytearray | None:
    """One message as bytes, or None at the end of the connection.

    Raises:
        ProtocolError: a length that no message has.
    """
    try:
        head = await reader.readexactly(16)
        size = int.from_bytes(head[:4], "little", signed=True)
        if not 16 < size <= MAX_MESSAGE:
            raise ProtocolError(f"message of {size} bytes")
        return bytearray(head + await reader.readexactly(size - 16))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def _document(raw: bytearray, start: int) -> dict[str, Any]:
    if len(raw) < start + 5:
        raise ProtocolError("message ends within a document")
    size = int.from_bytes(raw[start : start + 4], "little", signed=True)
    try:
        return bson.decode(bytes(raw[start : start + size]))
    except bson.errors.InvalidBSON as error:
        raise ProtocolError(str(error)) from error


def parse(raw: bytearray) -> Message:
    """Find the command in a message.

    Raises:
        ProtocolError: another kind of message, or a malformed one.
    """
    _, request, _, opcode = struct.unpack_from("<iiii", raw)
    if opcode == OP_MSG:
        flags = int.from_bytes(raw[16:20], "little")
        position, end = 20, len(raw) - (4 if flags & 1 else 0)
        while position < end:
            kind, position = raw[position], position + 1
            size = int.from_bytes(raw[position : position + 4], "little", signed=True)
            if kind == 0:
                return Message(request, opcode, raw, _document(raw, position), flags)
            if kind != 1 or size < 5:
                break
            position += size
        raise ProtocolError("no command in the message")
    if opcode == OP_QUERY:
        name_end = raw.find(0, 20)
        if name_end < 0:
            raise ProtocolError("no namespace in the message")
        command = _document(raw, name_end + 9)
        database = bytes(raw[20:name_end]).decode(errors="replace").partition(".")[0]
        return Message(request, opcode, raw, {**command.get("$query", command), "$db": database})
    raise ProtocolError(f"operation {opcode}, which drivers for MongoDB 8 do not send")


def reply(message: Message, document: dict[str, Any]) -> bytes:
    """The answer to a message, in its own form."""
    body = bson.encode(document)
    if message.opcode == OP_QUERY:
        payload, opcode = struct.pack("<iqii", 8, 0, 0, 1) + body, OP_REPLY
    else:
        payload, opcode = struct.pack("<iB", 0, 0) + body, OP_MSG
    return struct.pack("<iiii", 16 + len(payload), 0, message.request, opcode) + payload
