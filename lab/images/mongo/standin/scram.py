"""SCRAM (RFC 5802, RFC 7677) as mongod serves it: credentials that hold no password, and the server's half."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import stringprep
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

# mongod's defaults (parameters scramIterationCount and scramSHA256IterationCount)
MECHANISMS = {"SCRAM-SHA-1": ("sha1", 10000, 16), "SCRAM-SHA-256": ("sha256", 15000, 28)}


class ScramError(Exception):
    """The login is refused; the text is for the log, never for the client."""


@dataclass(frozen=True)
class Credentials:
    """What a server keeps of a password for one mechanism; the bytes are base64."""

    salt: str
    iterations: int
    stored_key: str
    server_key: str


def saslprep(text: str) -> str:
    """Normalise a password as RFC 4013 says.

    Raises:
        ValueError: it holds a character that RFC 4013 forbids (control characters, for example).
    """
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in text if not stringprep.in_table_b1(char)
    )
    normal = unicodedata.normalize("NFKC", mapped)
    forbidden = (
        stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4,
        stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8,
        stringprep.in_table_c9, stringprep.in_table_a1,
    )  # fmt: skip
    if any(table(char) for char in normal for table in forbidden):
        raise ValueError("the password holds a character that SASLprep forbids")
    right_to_left = [stringprep.in_table_d1(char) for char in normal]
    if any(right_to_left):
        mixed = any(stringprep.in_table_d2(char) for char in normal)
        if mixed or not (right_to_left[0] and right_to_left[-1]):
            raise ValueError("the password mixes directions of writing in a way that SASLprep forbids")
    return normal


def _hmac(algorithm: str, key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, algorithm)


def make_credentials(mechanism: str, user: str, password: str) -> Credentials:
    """Derive what is kept of a password.

    Raises:
        ValueError: see `saslprep`.
    """
    algorithm, iterations, salt_size = MECHANISMS[mechanism]
    if mechanism == "SCRAM-SHA-1":
        # the older mechanism salts what MongoDB-CR used to send
        secret = hashlib.md5(f"{user}:mongo:{password}".encode(), usedforsecurity=False).hexdigest()
    else:
        secret = saslprep(password)
    salt = secrets.token_bytes(salt_size)
    salted = hashlib.pbkdf2_hmac(algorithm, secret.encode(), salt, iterations)
    stored = hashlib.new(algorithm, _hmac(algorithm, salted, b"Client Key")).digest()
    return Credentials(
        base64.b64encode(salt).decode(),
        iterations,
        base64.b64encode(stored).decode(),
        base64.b64encode(_hmac(algorithm, salted, b"Server Key")).decode(),
    )


def _attributes(message: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in message.split(",")]
    if any(len(name) != 1 or not separator for name, separator, _ in pairs):
        raise ScramError("malformed message")
    return {name: value for name, _, value in pairs}


class Conversation:
    """One login on one connection: `start`, then `finish`."""

    def __init__(self, mechanism: str, find: Callable[[str, str], Credentials | None]) -> None:
        """Prepare a login.

        Args:
            mechanism: a key of `MECHANISMS`.
            find: credentials of a user for a mechanism, or None.
        """
        self.mechanism = mechanism
        self.user = ""
        self._find = find
        self._credentials: Credentials | None = None
        self._nonce = ""
        self._signed = ""

    def start(self, payload: bytes) -> bytes:
        """Answer the client's first message with nonce, salt and iterations.

        Raises:
            ScramError: malformed, channel binding asked for, or an unknown user.
        """
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            raise ScramError("message is not UTF-8") from None
        binding, _, rest = text.partition(",")
        authorize, _, bare = rest.partition(",")
        if binding not in ("n", "y") or authorize:
            raise ScramError("channel binding or an authorization identity, which mongod has not")
        attributes = _attributes(bare)
        if "n" not in attributes or not attributes.get("r"):
            raise ScramError("user or nonce missing")
        self.user = attributes["n"].replace("=2C", ",").replace("=3D", "=")
        self._credentials = self._find(self.user, self.mechanism)
        if self._credentials is None:
            raise ScramError("UserNotFound: Could not find user")
        self._nonce = attributes["r"] + base64.b64encode(secrets.token_bytes(24)).decode()
        answer = f"r={self._nonce},s={self._credentials.salt},i={self._credentials.iterations}"
        self._signed = f"{bare},{answer}"
        return answer.encode()

    def finish(self, payload: bytes) -> bytes:
        """Check the client's proof and answer with the server's signature.

        Raises:
            ScramError: the proof is not that of the password.
        """
        if self._credentials is None:
            raise ScramError("no conversation under way")
        algorithm = MECHANISMS[self.mechanism][0]
        try:
            without_proof, _, proof_text = payload.decode().rpartition(",p=")
            proof = base64.b64decode(proof_text, validate=True)
        except ValueError:
            raise ScramError("malformed message") from None
        attributes = _attributes(without_proof)
        if attributes.get("c") not in ("biws", "eSws") or attributes.get("r") != self._nonce:
            raise ScramError("nonce or channel binding differ from the first message's")
        signed = f"{self._signed},{without_proof}".encode()
        stored = base64.b64decode(self._credentials.stored_key)
        signature = _hmac(algorithm, stored, signed)
        if len(proof) != len(signature):
            raise ScramError("malformed proof")
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        if not hmac.compare_digest(hashlib.new(algorithm, client_key).digest(), stored):
            raise ScramError("AuthenticationFailed: SCRAM authentication failed, storedKey mismatch")
        server_key = base64.b64decode(self._credentials.server_key)
        return b"v=" + base64.b64encode(_hmac(algorithm, server_key, signed))
