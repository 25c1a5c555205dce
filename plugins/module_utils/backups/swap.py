"""Exchanges files and folders all together: what is there is moved aside, never deleted, and can be put back.

A journal is on the disk before the first move, and a move is a rename within one folder: so whoever comes after a kill
sees at each path whether it was exchanged, and puts back what was there.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible.module_utils.atomic_files import Access, sync_folder, write_file

JOURNAL = "journal.json"


@dataclass(frozen=True)
class Item:
    """One path that is exchanged.

    Attributes:
        path: what is replaced.
        ready: what comes there; "" when the path shall be empty afterwards.
        aside: where that goes which is there now.
    """

    path: str
    ready: str
    aside: str


def copy_tree(source: Path, target: Path) -> None:
    """Copy a file, link or folder with owners, permissions and times. Raises OSError."""
    if source.is_dir() and not source.is_symlink():
        target.mkdir(mode=0o700)
        for child in source.iterdir():
            copy_tree(child, target / child.name)
    elif source.is_symlink():
        target.symlink_to(os.readlink(source))
    else:
        shutil.copy2(source, target)
        with target.open("rb") as written:
            os.fsync(written.fileno())
    status = source.lstat()
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not target.is_symlink():
        shutil.copystat(source, target)


def make_parents(folder: Path) -> None:
    """Make missing folders, with the permissions that k3s gives them. Raises OSError."""
    if not folder.is_dir():
        make_parents(folder.parent)
        folder.mkdir(mode=0o700 if folder.name in {"server", "db", "cred"} else 0o755)


def remove(path: Path) -> None:
    """Delete a file, link or folder; nothing there is no error. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def there(path: Path) -> bool:
    """Whether something is there, a dangling link included."""
    return os.path.lexists(path)


class Swap:
    """An exchange with its journal, in a folder of its own."""

    def __init__(self, folder: Path, items: Sequence[Item], state: str = "preparing") -> None:
        self.folder = folder
        self.items = list(items)
        self.state = state

    @classmethod
    def load(cls, folder: Path) -> Swap:
        """What a killed run left; without a journal it had exchanged nothing. Raises OSError, ValueError."""
        try:
            read = json.loads((folder / JOURNAL).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls(folder, [])
        return cls(folder, [Item(**one) for one in read["items"]], read["state"])

    @property
    def settled(self) -> bool:
        """Whether nothing has to be put back."""
        return self.state != "swapping"

    def prepare(self, sources: Mapping[str, Path]) -> None:
        """Bring beside each path what it shall get, across file systems if need be. Raises OSError.

        :param sources: by `ready`; they are moved.
        """
        self.state = "preparing"
        self._save()
        for ready, source in sources.items():
            make_parents(Path(ready).parent)
            try:
                os.rename(source, ready)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                copy_tree(source, Path(ready))

    def _save(self) -> None:
        content = {"state": self.state, "items": [asdict(one) for one in self.items]}
        write_file(
            self.folder / JOURNAL,
            (json.dumps(content, indent=1) + "\n").encode(),
            Access(os.geteuid(), os.getegid(), 0o600),
        )

    def run(self) -> list[str]:
        """Exchange all of it, or nothing.

        :returns: the paths that were moved aside.
        :raises OSError: a move failed; what was there is there again.
        """
        self.state = "swapping"
        self._save()
        try:
            for item in self.items:
                if there(Path(item.path)):
                    os.rename(item.path, item.aside)
                if item.ready:
                    os.rename(item.ready, item.path)
            self._sync()
        except OSError:
            self.undo()
            self.state = "undone"
            self._save()
            raise
        self.state = "swapped"
        self._save()
        return [item.aside for item in self.items if there(Path(item.aside))]

    def undo(self, keep: str = "") -> list[str]:
        """Put back what was there, for each path that was exchanged; may be run again after a kill.

        :param keep: suffix under which that stays which had come there; "": it goes to where it lay ready.
        :returns: the paths that were put back or emptied.
        :raises OSError: a move failed; the next undo goes on.
        """
        done = []
        for item in reversed(self.items):
            path = Path(item.path)
            exchanged = bool(item.ready) and not there(Path(item.ready)) and there(path)
            if exchanged:
                path.rename(f"{item.path}{keep}" if keep else item.ready)
            if there(Path(item.aside)):
                os.rename(item.aside, item.path)
            elif not exchanged:
                continue
            done.append(item.path)
        self._sync()
        return done

    def _sync(self) -> None:
        for folder in dict.fromkeys(Path(item.path).parent for item in self.items):
            sync_folder(folder)

    def clean(self) -> None:
        """Remove what lies ready, then the journal with its folder. Raises OSError."""
        for item in self.items:
            if item.ready:
                remove(Path(item.ready))
        shutil.rmtree(self.folder)


def leftovers(parents: Iterable[Path], prefix: str) -> list[Path]:
    """The folders of exchanges that were killed."""
    return [one for parent in parents if parent.is_dir() for one in sorted(parent.glob(f"{prefix}*")) if one.is_dir()]
