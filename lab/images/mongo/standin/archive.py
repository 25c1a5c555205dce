"""The format of ``mongodump --archive`` (its specification: common/archive/spec.md of mongodb/mongo-tools).

A magic number, a header, a document about each collection and a terminator; then blocks, each a header that names the
collection, its documents and a terminator. A collection's last block is empty and holds the documents' checksum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import bson
from bson.int64 import Int64

MAGIC = 0x8199E26D
TERMINATOR = b"\xff\xff\xff\xff"
VERSION = "0.1"
BLOCK_BYTES = 1 << 20
MAX_DOCUMENT = 16 * 1024 * 1024 + 16 * 1024
_POLYNOMIAL = 0xC96C5795D7870F42
"""CRC-64/XZ, which Go calls ECMA."""


class ArchiveError(Exception):
    """Not an archive, or a damaged one; in mongorestore's words."""


def _table() -> tuple[int, ...]:
    entries = []
    for value in range(256):
        entry = value
        for _ in range(8):
            entry = (entry >> 1) ^ _POLYNOMIAL if entry & 1 else entry >> 1
        entries.append(entry)
    return tuple(entries)


_TABLE = _table()


def checksum(data: bytes, start: int = 0) -> int:
    """CRC-64 of bytes, going on from an earlier one."""
    value = start ^ 0xFFFFFFFFFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFFFFFFFFFF


def signed(value: int) -> int:
    """The same 64 bits as BSON holds them."""
    return value - (1 << 64) if value >> 63 else value


@dataclass
class Collection:
    """What the archive's beginning says about a collection."""

    database: str
    name: str
    metadata: str
    size: int = 0
    kind: str = "collection"

    @property
    def namespace(self) -> str:
        """As commands name it."""
        return f"{self.database}.{self.name}"


class Writer:
    """Writes an archive, one collection after the other."""

    def __init__(self, sink: BinaryIO, server_version: str, tool_version: str, collections: list[Collection]) -> None:
        """Write all that comes before the documents."""
        self._sink = sink
        header = {
            "concurrent_collections": 1,
            "version": VERSION,
            "server_version": server_version,
            "tool_version": tool_version,
        }
        sink.write(MAGIC.to_bytes(4, "little") + bson.encode(header))
        for one in collections:
            about = {"db": one.database, "collection": one.name, "metadata": one.metadata}
            sink.write(bson.encode({**about, "size": one.size, "type": one.kind}))
        sink.write(TERMINATOR)

    def _block(self, collection: Collection, documents: bytes, crc: int | None) -> None:
        header = {"db": collection.database, "collection": collection.name}
        head = bson.encode({**header, "EOF": crc is not None, "CRC": Int64(signed(crc or 0))})
        self._sink.write(head + documents + TERMINATOR)

    def collection(self, collection: Collection, documents: Iterator[bytes]) -> int:
        """Write a collection's documents; returns how many there were."""
        count, crc, waiting = 0, 0, bytearray()
        for document in documents:
            count += 1
            crc = checksum(document, crc)
            waiting += document
            if len(waiting) >= BLOCK_BYTES:
                self._block(collection, bytes(waiting), None)
                waiting.clear()
        if waiting:
            self._block(collection, bytes(waiting), None)
        self._block(collection, b"", crc)
        return count


@dataclass
class Reader:
    """Reads an archive from a stream.

    Raises:
        ArchiveError: from every method, for what is not an archive.
    """

    source: BinaryIO
    header: dict[str, Any] = field(default_factory=dict)
    collections: list[Collection] = field(default_factory=list)

    def __post_init__(self) -> None:
        if int.from_bytes(self._exactly(4), "little") != MAGIC:
            raise ArchiveError("stream or file does not appear to be a mongodump archive")
        first = self._document()
        if first is None:
            raise ArchiveError("archive has no header")
        self.header = bson.decode(first)
        while (raw := self._document()) is not None:
            about = bson.decode(raw)
            self.collections.append(
                Collection(about["db"], about["collection"], about["metadata"], about["size"], about.get("type", ""))
            )

    def _exactly(self, size: int) -> bytes:
        data = self.source.read(size)
        while len(data) < size:
            more = self.source.read(size - len(data))
            if not more:
                raise ArchiveError("I/O failure reading archive: unexpected EOF")
            data += more
        return data

    def _document(self) -> bytes | None:
        """A document, or None at a terminator."""
        size = self._exactly(4)
        if size == TERMINATOR:
            return None
        length = int.from_bytes(size, "little", signed=True)
        if not 5 <= length <= MAX_DOCUMENT:
            raise ArchiveError(f"corruption found in archive; {length} is neither a valid bson length nor a terminator")
        return size + self._exactly(length - 4)

    def documents(self) -> Iterator[tuple[str, bytes]]:
        """Every document with its namespace, then for each namespace its end as an empty document."""
        sums: dict[str, int] = {}
        ended: set[str] = set()
        while first := self.source.read(4):
            if len(first) < 4 or first == TERMINATOR:
                raise ArchiveError("corruption found in archive; a block has no header")
            length = int.from_bytes(first, "little", signed=True)
            if not 5 <= length <= MAX_DOCUMENT:
                raise ArchiveError(f"corruption found in archive; {length} is no length of a header")
            header = bson.decode(first + self._exactly(length - 4))
            namespace = f"{header['db']}.{header['collection']}"
            while (raw := self._document()) is not None:
                sums[namespace] = checksum(raw, sums.get(namespace, 0))
                yield namespace, raw
            if header["EOF"]:
                if signed(sums.get(namespace, 0)) != header["CRC"]:
                    raise ArchiveError(f"CRC mismatch for namespace {namespace}")
                ended.add(namespace)
                yield namespace, b""
        if cut_off := {one.namespace for one in self.collections} - ended:
            raise ArchiveError(f"archive ends before the end of {', '.join(sorted(cut_off))}")
