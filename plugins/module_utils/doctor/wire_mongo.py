"""As much of MongoDB's wire protocol as a ping and a login need: OP_MSG, BSON, SCRAM-SHA-256 (RFC 7677).

The password goes over the server's own bridge as a proof only, and into no argument, environment or file.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.saslprep import saslprep

OP_MSG = 2013
AUTHENTICATION_FAILED = 18
LARGEST_REPLY = 1 << 20


class MongoRefused(Exception):  # noqa: N818  (an answer, not a fault of the program)
    """The server answered with an error; `code` is MongoDB's."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def encode(document: Mapping[str, Any]) -> bytes:
    """BSON of texts, truth values, 32-bit integers, bytes and documents. Raises TypeError for anything else."""
    body = b""
    for key, value in document.items():
        name = key.encode() + b"\0"
        if isinstance(value, bool):
            body += b"\x08" + name + bytes([value])
        elif isinstance(value, str):
            text = value.encode() + b"\0"
            body += b"\x02" + name + struct.pack("<i", len(text)) + text
        elif isinstance(value, int):
            body += b"\x10" + name + struct.pack("<i", value)
        elif isinstance(value, bytes):
            body += b"\x05" + name + struct.pack("<iB", len(value), 0) + value
        elif isinstance(value, Mapping):
            body += b"\x03" + name + encode(value)
        else:
            raise TypeError(f"{key} is a {type(value).__name__}")
    return struct.pack("<i", len(body) + 5) + body + b"\0"


_SIZES = {0x07: 12, 0x09: 8, 0x11: 8, 0x13: 16, 0x06: 0, 0x0A: 0}  # of the kinds whose value nobody here needs
_NUMBERS = {0x01: "<d", 0x08: "<?", 0x10: "<i", 0x12: "<q"}


def decode(data: bytes) -> dict[str, Any]:
    """A BSON document; kinds that no answer here needs are None. Raises ValueError for what is no BSON."""
    found: dict[str, Any] = {}
    position = 4
    try:
        while data[position]:
            kind = data[position]
            end = data.index(0, position + 1)
            name = data[position + 1 : end].decode()
            position = end + 1
            if kind in _NUMBERS:
                found[name] = struct.unpack_from(_NUMBERS[kind], data, position)[0]
                position += struct.calcsize(_NUMBERS[kind])
            elif kind in _SIZES:
                found[name] = None
                position += _SIZES[kind]
            else:
                (length,) = struct.unpack_from("<i", data, position)
                found[name], size = _sized(kind, data, position, length)
                position += size
    except (IndexError, struct.error) as error:
        raise ValueError(f"MongoDB's answer is no BSON ({error})") from error
    return found


def _sized(kind: int, data: bytes, position: int, length: int) -> tuple[Any, int]:
    """A value that begins with its length, and how many bytes it takes."""
    if kind == 0x02:
        return data[position + 4 : position + 3 + length].decode("utf-8", "replace"), 4 + length
    if kind == 0x05:
        return data[position + 5 : position + 5 + length], 5 + length
    if kind in (0x03, 0x04):
        return decode(data[position : position + length]), length
    raise ValueError(f"MongoDB's answer has a value of kind {kind}")


class Connection:
    """A connection to one MongoDB. Raises OSError (TimeoutError included) when it does not answer."""

    def __init__(self, host: str, port: int = 27017, timeout: float = 5.0) -> None:
        self._socket = socket.create_connection((host, port), timeout)
        self._number = 0

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise ConnectionError("MongoDB closed the connection")
            data += part
        return data

    def command(self, document: Mapping[str, Any], database: str = "admin") -> dict[str, Any]:
        """Run a command; its answer. Raises MongoRefused, OSError, ValueError."""
        self._number += 1
        body = struct.pack("<iB", 0, 0) + encode({**document, "$db": database})
        self._socket.sendall(struct.pack("<iiii", 16 + len(body), self._number, 0, OP_MSG) + body)
        length, _, _, _ = struct.unpack("<iiii", self._exactly(16))
        if not 21 < length <= LARGEST_REPLY:
            raise ValueError(f"MongoDB's answer has {length} bytes")
        answer = decode(self._exactly(length - 16)[5:])
        if not answer.get("ok"):
            raise MongoRefused(int(answer.get("code") or 0), str(answer.get("errmsg", "no reason given")))
        return answer

    def login(self, username: str, password: str, database: str = "admin") -> None:
        """Prove a login by SCRAM-SHA-256. Raises MongoRefused (code 18: wrong), OSError, ValueError."""
        nonce = base64.b64encode(os.urandom(18)).decode()
        escaped = username.replace("=", "=3D").replace(",", "=2C")
        first = f"n={escaped},r={nonce}"
        start = {
            "saslStart": 1,
            "mechanism": "SCRAM-SHA-256",
            "payload": f"n,,{first}".encode(),
            "options": {"skipEmptyExchange": True},
        }
        answer = self.command(start, database)
        server_first = answer["payload"].decode()
        told = dict(part.partition("=")[::2] for part in server_first.split(","))
        if not told.get("r", "").startswith(nonce):
            raise ValueError("MongoDB answered another login than this one")
        salted = hashlib.pbkdf2_hmac("sha256", saslprep(password).encode(), base64.b64decode(told["s"]), int(told["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c=biws,r={told['r']}"
        message = f"{first},{server_first},{without_proof}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()
        step = {"saslContinue": 1, "conversationId": answer["conversationId"]}
        answer = self.command({**step, "payload": f"{without_proof},p={proof}".encode()}, database)
        if not answer.get("done"):
            self.command({**step, "payload": b""}, database)
