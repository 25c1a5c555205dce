"""Asks one DNS server for one name, without this machine's resolver: for a look from inside a container's network."""

from __future__ import annotations

import os
import socket
import struct

_WORDS = {1: "it did not understand", 2: "it failed (SERVFAIL)", 3: "no such name (NXDOMAIN)", 5: "it refused"}


def query(name: str, number: int) -> bytes:
    """A question for an IPv4 address."""
    labels = b"".join(bytes([len(part)]) + part.encode("idna") for part in name.rstrip(".").split("."))
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)


def _skip_name(data: bytes, at: int) -> int:
    while data[at]:
        if data[at] & 0xC0:
            return at + 2
        at += data[at] + 1
    return at + 1


def addresses(data: bytes, number: int) -> list[str]:
    """The IPv4 addresses of an answer. Raises ValueError with the server's reason, or for what is no answer."""
    try:
        got, flags, questions, answers = struct.unpack_from(">HHHH", data)
        if got != number:
            raise ValueError("the answer is to another question")
        if flags & 15:
            raise ValueError(_WORDS.get(flags & 15, f"error {flags & 15}"))
        at = 12
        for _ in range(questions):
            at = _skip_name(data, at) + 4
        found = []
        for _ in range(answers):
            at = _skip_name(data, at)
            kind, _class, _ttl, size = struct.unpack_from(">HHIH", data, at)
            at += 10
            if kind == 1 and size == 4:
                found.append(socket.inet_ntoa(data[at : at + 4]))
            at += size
    except (IndexError, struct.error, OSError) as error:
        raise ValueError("the answer is cut off") from error
    return found


def resolve(name: str, server: str = "127.0.0.11", timeout: float = 2.0) -> list[str]:
    """Ask over UDP, twice at most. Raises OSError without an answer, ValueError for a refusal."""
    number = int.from_bytes(os.urandom(2), "big")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(timeout)
        udp.connect((server, 53))
        for attempt in (1, 2):
            udp.send(query(name, number))
            try:
                return addresses(udp.recv(4096), number)
            except TimeoutError:
                if attempt == 2:
                    raise
    return []
