"""As much of Kafka's protocol as a look needs: cluster, topics and consumer groups, without a JVM for each question.

Requests of old versions (Metadata 2, ListGroups 0, DescribeGroups 0), which brokers 1.0 to 3.9 take. Asking for all
topics makes none.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

METADATA, DESCRIBE_GROUPS, LIST_GROUPS = 3, 15, 16
LARGEST_REPLY = 8 << 20


class _Reader:
    """Reads the protocol's primitive values. Raises ValueError at the end of the data."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _number(self, format_: str) -> int:
        try:
            value: int = struct.unpack_from(format_, self._data, self._at)[0]
        except struct.error as error:
            raise ValueError("Kafka's answer is cut off") from error
        self._at += struct.calcsize(format_)
        return value

    def int8(self) -> int:
        return self._number(">b")

    def int16(self) -> int:
        return self._number(">h")

    def int32(self) -> int:
        return self._number(">i")

    def text(self) -> str | None:
        size = self.int16()
        return None if size < 0 else self._take(size).decode("utf-8", "replace")

    def raw(self) -> bytes:
        return self._take(max(0, self.int32()))

    def _take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        if len(part) < size:
            raise ValueError("Kafka's answer is cut off")
        self._at += size
        return part

    def array(self, item: Callable[[], Any]) -> list[Any]:
        return [item() for _ in range(max(0, self.int32()))]


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">h", len(data)) + data


def parse_metadata(data: bytes) -> dict[str, Any]:
    """`cluster_id`, `controller` (-1: none), `brokers`, and `topics`: name -> number of partitions without a leader."""
    reader = _Reader(data)

    def broker() -> str:
        reader.int32()
        host, port = reader.text(), reader.int32()
        reader.text()
        return f"{host}:{port}"

    def partition() -> bool:
        error = reader.int16()
        reader.int32()
        leader = reader.int32()
        reader.array(reader.int32)
        reader.array(reader.int32)
        return leader < 0 or error not in (0, 9)  # 9: a replica is away, the leader serves

    def topic() -> tuple[str, int]:
        reader.int16()
        name = reader.text() or ""
        reader.int8()
        return name, sum(reader.array(partition))

    brokers = reader.array(broker)
    return {
        "brokers": brokers,
        "cluster_id": reader.text(),
        "controller": reader.int32(),
        "topics": dict(reader.array(topic)),
    }


def parse_groups(data: bytes) -> list[str]:
    """Names of the consumer groups. Raises ValueError when the broker cannot tell yet."""
    reader = _Reader(data)
    error = reader.int16()
    if error:
        raise ValueError(f"Kafka does not tell its consumer groups (error {error})")
    names = []
    for _ in range(max(0, reader.int32())):
        names.append(reader.text() or "")
        reader.text()
    return sorted(names)


def parse_members(data: bytes) -> dict[str, int]:
    """Number of members of each described group."""
    reader = _Reader(data)

    def member() -> None:
        for _ in range(3):
            reader.text()
        reader.raw()
        reader.raw()

    def group() -> tuple[str, int]:
        reader.int16()
        name = reader.text() or ""
        for _ in range(3):
            reader.text()
        return name, len(reader.array(member))

    return dict(reader.array(group))


class Broker:
    """A connection to a broker. Raises OSError (TimeoutError included) when it does not answer."""

    def __init__(self, host: str, port: int, timeout: float = 5.0) -> None:
        self._socket = socket.create_connection((host, port), timeout)
        self._number = 0

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._socket.recv(min(size - len(data), 1 << 16))
            if not part:
                raise ConnectionError("Kafka closed the connection")
            data += part
        return bytes(data)

    def _ask(self, key: int, version: int, body: bytes) -> bytes:
        self._number += 1
        request = struct.pack(">hhi", key, version, self._number) + _text("integr8scode-doctor") + body
        self._socket.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", self._exactly(4))
        if not 4 <= size <= LARGEST_REPLY:
            raise ValueError(f"Kafka's answer has {size} bytes")
        return self._exactly(size)[4:]

    def metadata(self) -> dict[str, Any]:
        """As `parse_metadata`. Raises OSError, ValueError."""
        return parse_metadata(self._ask(METADATA, 2, struct.pack(">i", -1)))

    def groups(self) -> list[str]:
        """As `parse_groups`."""
        return parse_groups(self._ask(LIST_GROUPS, 0, b""))

    def members(self, groups: Sequence[str]) -> dict[str, int]:
        """As `parse_members`."""
        body = struct.pack(">i", len(groups)) + b"".join(map(_text, groups))
        return parse_members(self._ask(DESCRIBE_GROUPS, 0, body))
