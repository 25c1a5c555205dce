"""age: what is encrypted with public keys, and read again with the identity, which never stands on a command line."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from ansible.module_utils.backups.store import BackupError

HEADER = b"age-encryption.org/v1\n"
_CHUNK, _TAG, _NONCE = 65536, 16, 16
_MISSING = "age cannot be run ({}). Cure: apt install age, or playbooks/site.yml --tags backup"


def check_file(path: Path, plain_size: int) -> None:
    """Compare a file's header and size with what age makes of ``plain_size`` bytes.

    :raises BackupError: it is not complete.
    """
    length = 0
    with path.open("rb") as stream:
        if stream.readline(100) != HEADER:
            raise BackupError(f"{path}: age has not written its header")
        length = len(HEADER)
        # the last line of the header is its checksum
        while line := stream.readline(1000):
            length += len(line)
            if line.startswith(b"---"):
                break
    chunks = max(1, -(-plain_size // _CHUNK))
    expected = length + _NONCE + plain_size + chunks * _TAG
    found = path.stat().st_size
    if found != expected:
        raise BackupError(f"{path}: age has written {found} bytes, and should have written {expected}")


@contextmanager
def encrypting(sink: BinaryIO, recipients: Sequence[str]) -> Iterator[BinaryIO]:
    """What is written to the yielded file gets into ``sink`` encrypted for the public keys.

    :raises BackupError: age is not there, refuses a key, or fails.
    """
    command = ["age", "--encrypt"]
    for one in recipients:
        command += ["--recipient", one]
    with tempfile.TemporaryFile("w+") as said:
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sink, stderr=said)
        except OSError as error:
            raise BackupError(_MISSING.format(error)) from error
        assert process.stdin is not None  # noqa: S101  (asked for above)
        try:
            try:
                yield process.stdin  # type: ignore[misc]  # a pipe is a BinaryIO
                process.stdin.close()
            except BrokenPipeError:
                # age's own words say more
                pass
            if process.wait() != 0:
                raise BackupError(f"age failed: {_words(said) or process.returncode}")
        finally:
            _end(process)


@contextmanager
def decrypting(path: Path, identity: str) -> Iterator[BinaryIO]:
    """What a file holds. ``identity``: the path of a file with age's identity, or the identity itself.

    :raises BackupError: age is not there, the identity does not fit, or the file is damaged (perhaps only at its end).
    """
    if not identity:
        raise BackupError(
            f"{path} is encrypted. Cure: name the file on the server with age's identity "
            "(restore_age_identity_file, recover_k3s_age_identity_file)"
        )
    memory = -1
    if "AGE-SECRET-KEY-" in identity:
        memory = os.memfd_create("identity")
        os.write(memory, identity.strip().encode() + b"\n")
        os.lseek(memory, 0, os.SEEK_SET)
    keys = identity if memory < 0 else f"/dev/fd/{memory}"
    with tempfile.TemporaryFile("w+") as said:
        try:
            process = subprocess.Popen(
                ["age", "--decrypt", "--identity", keys, str(path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                pass_fds=() if memory < 0 else (memory,),
            )
        except OSError as error:
            raise BackupError(_MISSING.format(error)) from error
        finally:
            if memory >= 0:
                os.close(memory)
        assert process.stdout is not None  # noqa: S101  (asked for above)
        try:
            yield process.stdout  # type: ignore[misc]  # a pipe is a BinaryIO
            if process.stdout.read(1):
                return  # the caller has what it wanted
        except BackupError:
            raise
        except Exception as error:
            process.stdout.close()
            if process.wait() > 0:
                raise BackupError(f"{path} cannot be decrypted: {_words(said) or error}") from error
            raise
        finally:
            _end(process)
        if process.returncode > 0:
            raise BackupError(f"{path} cannot be decrypted: {_words(said)}")


def _words(said: TextIO) -> str:
    said.seek(0)
    return " ".join(said.read().split())


def _end(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None and not stream.closed:
            try:
                stream.close()
            except BrokenPipeError:
                continue
    process.wait()
