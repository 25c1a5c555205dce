"""MongoDB's data as one archive: dumped out of the running container, read again, and put back.

The password reaches ``mongodump`` and ``mongorestore`` as the first line of the container's standard input, from where
a shell hands it on as a file without a name: it is in no argument, no variable of an environment and no file.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ansible.module_utils.integr8scode_docker import PROJECT_LABEL, SERVICE_LABEL, EngineUnavailableError, connect

MAGIC = (0x8199E26D).to_bytes(4, "little")
TERMINATOR = b"\xff\xff\xff\xff"
# a document has at most 16 MB, and a header of the server's own a little more
MAX_DOCUMENT = 16 * 1024 * 1024 + 64 * 1024
SYSTEM_DATABASES = ("admin", "config", "local")
"""Of the server, not of the application: its root user is made from the vault when its volume is empty."""
# the login's line, then the archive if there is one to read
SCRIPT = "IFS= read -r login && exec {command} --config=/dev/fd/3 3<<END\n$login\nEND\n"
LOGIN_PATHS = {"username": "/run/secrets/mongo_root_username", "password": "/run/secrets/mongo_root_password"}


class MongoError(Exception):
    """MongoDB could not be dumped or restored; the message says why and the cure, and holds no password."""


@dataclass(frozen=True)
class MongoServer:
    """The running container, and its root login.

    Attributes:
        container: its id.
        image: as the release names it.
        username: of the root user.
        password: likewise.
    """

    container: str
    image: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Contents:
    """What an archive holds.

    Attributes:
        server_version: of the MongoDB that was dumped.
        tool_version: of the mongodump.
        documents: how many, by namespace (database.collection).
        sha256: of the whole archive.
        size: in bytes.
    """

    server_version: str
    tool_version: str
    documents: dict[str, int]
    sha256: str
    size: int

    def application(self) -> dict[str, int]:
        """Documents of the application's own databases."""
        return {name: count for name, count in self.documents.items() if name.split(".")[0] not in SYSTEM_DATABASES}


def find(project: str = "integr8scode") -> MongoServer:
    """The project's running MongoDB with the login that is mounted into it.

    :raises MongoError: Docker or MongoDB does not run, or the login cannot be read.
    """
    try:
        client = connect()
    except EngineUnavailableError as error:
        raise MongoError(str(error)) from error
    labels = [f"{PROJECT_LABEL}={project}", f"{SERVICE_LABEL}=mongo"]
    found = client.containers.list(filters={"label": labels}, ignore_removed=True)
    if len(found) != 1:
        raise MongoError(
            f"{len(found)} containers of service mongo run in project {project}, instead of one. Cure: "
            "`systemctl start integr8scode`, or playbooks/site.yml"
        )
    attributes: dict[str, Any] = found[0].attrs
    sources = {mount["Destination"]: mount["Source"] for mount in attributes["Mounts"] if mount.get("Source")}
    login = {}
    for name, target in LOGIN_PATHS.items():
        if target not in sources:
            raise MongoError(f"{found[0].name} mounts no {target}. Cure: playbooks/site.yml writes and mounts it")
        try:
            # the image's entrypoint drops line breaks at the end too
            login[name] = Path(sources[target]).read_text(encoding="utf-8").rstrip("\n")
        except (OSError, ValueError) as error:
            raise MongoError(f"{sources[target]} cannot be read ({error}). Cure: playbooks/site.yml") from error
    return MongoServer(attributes["Id"], attributes["Config"]["Image"], login["username"], login["password"])


def login_line(password: str) -> bytes:
    """The tools' configuration file as one line of YAML; whatever is not plain ASCII is escaped."""
    plain = "".join(char if " " <= char <= "~" and char not in '"\\' else f"\\U{ord(char):08X}" for char in password)
    return f'password: "{plain}"\n'.encode()


def command_line(server: MongoServer, tool: str, arguments: Sequence[str]) -> list[str]:
    """How a tool is run in the container, without the password."""
    words = [tool, f"--username={server.username}", "--authenticationDatabase=admin", "--archive", *arguments]
    quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
    return ["docker", "exec", "--interactive", server.container, "sh", "-c", SCRIPT.format(command=quoted)]


def _failure(tool: str, code: int, said: str) -> MongoError:
    lines = [line.partition("\t")[2] or line for line in said.strip().splitlines()]
    why = " / ".join(lines[-4:]) or "it said nothing"
    if "AuthenticationFailed" in said:
        why += (
            ". The mounted login is not the one that MongoDB has. Cure: put the right password into the vault and run "
            "playbooks/site.yml with -e integr8scode_mongo_login_was_changed=true"
        )
    return MongoError(f"{tool} failed with exit code {code}: {why}")


def _run(
    server: MongoServer,
    tool: str,
    arguments: Sequence[str],
    *,
    timeout: float,
    sink: Any = subprocess.DEVNULL,
    source: BinaryIO | None = None,
) -> str:
    """Run a tool in the container.

    :param sink: file that takes its standard output.
    :param source: what it reads after the login.
    :returns: what it said on standard error.
    :raises MongoError: it failed, or took longer than ``timeout`` seconds in all, be it that it reads no more.
    """
    late = threading.Event()
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                command_line(server, tool, arguments), stdin=subprocess.PIPE, stdout=sink, stderr=said
            )
        except OSError as error:
            raise MongoError(f"docker cannot be run: {error}. Cure: playbooks/site.yml, role docker") from error

        def end() -> None:
            late.set()
            process.kill()

        # over feeding too: nothing else ends a write to a tool that has stopped reading
        timer = threading.Timer(timeout, end)
        timer.daemon = True
        timer.start()
        try:
            assert process.stdin is not None  # noqa: S101 - asked for above
            # whoever ends early says why on standard error
            with suppress(BrokenPipeError):
                process.stdin.write(login_line(server.password))
                while source is not None and (chunk := source.read(1 << 20)):
                    process.stdin.write(chunk)
            with suppress(BrokenPipeError):
                process.stdin.close()
            code = process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                process.kill()
                process.wait()
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
    if code != 0 and late.is_set():
        raise MongoError(f"{tool} did not end within {timeout:.0f} seconds")
    if code != 0:
        raise _failure(tool, code, text)
    return text


def dump(server: MongoServer, target: Path, *, timeout: float = 3600) -> Contents:
    """Write an archive of all databases, read it again and compare it with what mongodump says it wrote.

    A single server has no common moment for all of it: each document is whole, but one that is written meanwhile may be
    in the archive or not, and two of different collections may be of different moments.

    :raises MongoError: it failed, or the archive does not hold what mongodump has said.
    :raises OSError: it cannot be written.
    """
    with target.open("wb") as sink:
        said = _run(server, "mongodump", [], timeout=timeout, sink=sink)
    contents = read_archive(target)
    reported = {match[1]: int(match[2]) for match in re.finditer(r"done dumping `?(\S+?)`? \((\d+) documents?\)", said)}
    if reported != contents.documents:
        different = sorted(set(reported.items()) ^ set(contents.documents.items()))
        raise MongoError(f"the archive does not hold what mongodump has written: {different[:6]}")
    return contents


def restore(server: MongoServer, source: Path, *, timeout: float = 3600) -> Contents:
    """Put an archive's collections in the place of those of the same name; the server's own databases are left alone.

    The archive is read to its end first, since mongorestore drops before it finds that something is missing.

    :raises MongoError: the archive is damaged (nothing was changed), or not everything was restored.
    """
    contents = read_archive(source)
    wanted = contents.application()
    databases = sorted({name.split(".")[0] for name in wanted})
    if not databases:
        raise MongoError("the backup holds no database of the application; nothing was changed")
    arguments = ["--drop", "--stopOnError", *(f"--nsInclude={name}.*" for name in databases)]
    with source.open("rb") as stream:
        said = _run(server, "mongorestore", arguments, timeout=timeout, source=stream)
    found = re.search(r"(\d+) document\(s\) restored successfully\. (\d+) document\(s\) failed", said)
    expected = sum(wanted.values())
    if found is None or (int(found[1]), int(found[2])) != (expected, 0):
        told = found[0] if found else "nothing"
        raise MongoError(f"mongorestore restored something else than the archive's {expected} documents: {told}")
    return contents


class _Stream:
    """Reads an archive and adds up its checksum."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int) -> bytes:
        """Exactly so many bytes, or fewer at the end."""
        data = self._source.read(size)
        self.digest.update(data)
        self.size += len(data)
        return data

    def exactly(self, size: int) -> bytes:
        data = self.read(size)
        if len(data) < size:
            raise MongoError(f"the archive ends after {self.size} bytes, in the middle of something")
        return data

    def document(self) -> bytes | None:
        """A document; None at a terminator."""
        head = self.exactly(4)
        if head == TERMINATOR:
            return None
        return head + self.rest_of_document(head)

    def rest_of_document(self, head: bytes) -> bytes:
        length = int.from_bytes(head, "little", signed=True)
        if not 5 <= length <= MAX_DOCUMENT:
            raise MongoError(f"the archive is damaged at byte {self.size - 4}: no document has {length} bytes")
        rest = self.exactly(length - 4)
        if rest[-1:] != b"\0":
            raise MongoError(f"the archive is damaged before byte {self.size}: a document without an end")
        return rest


def read_archive(path: Path) -> Contents:
    """Read an archive to its end (mongo-tools' common/archive/spec.md) and count.

    :raises MongoError: it is none, or damaged, or cut off.
    :raises OSError: it cannot be read.
    """
    with path.open("rb") as source:
        stream = _Stream(source)
        if stream.read(4) != MAGIC:
            raise MongoError("the file is no archive of mongodump")
        header = stream.document()
        if header is None:
            raise MongoError("the archive has no header")
        about = fields(header)
        documents: dict[str, int] = {}
        while (raw := stream.document()) is not None:
            documents[_namespace(fields(raw))] = 0
        ended = _count(stream, documents)
    if open_ones := sorted(set(documents) - ended):
        raise MongoError(f"the archive is cut off: {', '.join(open_ones)} have no end")
    return Contents(
        str(about.get("server_version", "")),
        str(about.get("tool_version", "")),
        documents,
        stream.digest.hexdigest(),
        stream.size,
    )


def _count(stream: _Stream, documents: dict[str, int]) -> set[str]:
    """Count each block's documents into ``documents``; gives the namespaces that have an end."""
    ended: set[str] = set()
    while head := stream.read(4):
        if len(head) < 4 or head == TERMINATOR:
            raise MongoError(f"the archive is damaged at byte {stream.size}: a block without a header")
        block = fields(head + stream.rest_of_document(head))
        name = _namespace(block)
        if name not in documents:
            raise MongoError(f"the archive is damaged: documents of {name}, which its beginning does not name")
        while stream.document() is not None:
            documents[name] += 1
        if block.get("EOF"):
            ended.add(name)
    return ended


def _namespace(about: Mapping[str, Any]) -> str:
    """:raises MongoError: its database has a name that mongorestore would take for a pattern, or for more than one."""
    name = str(about.get("db", ""))
    if not name or set(name) & set("*./\\"):
        raise MongoError(f"the archive names a database {name!r}, which cannot be restored safely")
    return f"{name}.{about.get('collection', '')}"


def fields(document: bytes) -> dict[str, Any]:
    """The texts, truth values and integers of a BSON document's top level: all that an archive's headers have.

    :raises MongoError: it holds anything else.
    """
    found: dict[str, Any] = {}
    position = 4
    try:
        while document[position]:
            kind = document[position]
            end = document.index(0, position + 1)
            name = document[position + 1 : end].decode("utf-8")
            position = end + 1
            if kind == 0x02:
                length = int.from_bytes(document[position : position + 4], "little")
                found[name] = document[position + 4 : position + 3 + length].decode("utf-8")
                position += 4 + length
            elif kind in (0x08, 0x10, 0x12):
                size = {0x08: 1, 0x10: 4, 0x12: 8}[kind]
                number = int.from_bytes(document[position : position + size], "little", signed=True)
                found[name] = bool(number) if kind == 0x08 else number
                position += size
            else:
                raise MongoError(f"the archive is damaged: a header with a field {name!r} of kind {kind}")
    except (IndexError, ValueError) as error:
        raise MongoError(f"the archive is damaged: a header that is no document ({error})") from error
    return found
