"""Files that are either wholly there or not at all: for modules that write keys, secrets and certificates."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

MASK = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"  # what Ansible itself shows in place of a no_log argument


@dataclass(frozen=True)
class Access:
    """Who owns a file or folder and who may do what; user and group by number, as containers see them."""

    owner: int
    group: int
    mode: int

    def __str__(self) -> str:
        return f"{self.owner}:{self.group} {self.mode:04o}"

    @classmethod
    def of(cls, path: Path) -> Access | None:
        """The access to `path` itself (a link is not followed); None where nothing is."""
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return cls(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))


def parse_mode(text: str) -> int:
    """The number of an octal mode such as `0400`. Raises ValueError for anything else."""
    if not text.isdigit() or len(text) > 4:
        raise ValueError(f"{text!r} is not an octal mode. Write it as text, for example '0400'.")
    try:
        return int(text, 8)
    except ValueError:
        raise ValueError(f"{text!r} is not an octal mode: its digits are 0 to 7.") from None


def read_file(path: Path) -> bytes | None:
    """The content of a regular file; None where nothing is.

    Raises OSError with what is in the way where `path` is something else, a link included.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(f"{path} is a symbolic link. Move it away.") from None
        raise
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} is not a regular file. Move it away.")
        return file.read()


def sync_folder(folder: Path) -> None:
    """Waits until the names in `folder` are on the disk, so that a power cut does not undo a rename."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, content: bytes, access: Access) -> None:
    """Makes or replaces `path` at once: a reader sees the old content or the new, with its final access from the start.

    The temporary file's name is fixed, so what a killed run left is overwritten by the next one and not collected.
    """
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchown(file.fileno(), access.owner, access.group)
            # after chown, which clears bits
            os.fchmod(file.fileno(), access.mode)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def ensure_access(path: Path, access: Access) -> None:
    """Gives `path`, a regular file or folder, its owner, group and mode where they differ."""
    if Access.of(path) == access:
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fchown(descriptor, access.owner, access.group)
        os.fchmod(descriptor, access.mode)
    finally:
        os.close(descriptor)


def ensure_folder(path: Path, access: Access) -> None:
    """Makes the folder `path` with missing parents (root's, 0755) and gives it `access`."""
    if not path.is_dir():
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        # closed until it belongs to whom it should
        path.mkdir(mode=0o700)
        sync_folder(path.parent)
    ensure_access(path, access)
