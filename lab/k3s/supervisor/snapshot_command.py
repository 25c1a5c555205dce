"""`k3s etcd-snapshot save` and `list` (`pkg/cli/etcdsnapshot`): k3s asks the running server, so it has to run."""

import datetime as dt
import socket
import time
from pathlib import Path

from . import logs
from .etcd import copy_database
from .logs import FatalError
from .paths import Paths
from .settings import Settings

_SAVE, _LIST = {"save"}, {"list", "ls", "l"}
_OPTIONS = {"name": "name", "dir": "dir", "etcd-snapshot-dir": "dir", "data-dir": "data-dir", "d": "data-dir"}


def _options(arguments: list[str]) -> dict[str, str]:
    found = {"name": "on-demand"}
    queue = list(arguments)
    while queue:
        name, equals, value = queue.pop(0).partition("=")
        if not name.startswith("-"):
            raise FatalError("Error: this command does not take any arguments")
        option = _OPTIONS.get(name.lstrip("-"))
        if option is None:
            raise FatalError(f"Error: flag provided but not defined: -{name.lstrip('-')}")
        if not equals and not queue:
            raise FatalError(f"Error: flag needs an argument: -{name.lstrip('-')}")
        found[option] = value if equals else queue.pop(0)
    return found


def _server_answers(port: int) -> None:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FatalError(
            f'Error: failed to get CA certs: Get "https://127.0.0.1:{port}/cacerts": dial tcp 127.0.0.1:{port}: '
            f"connect: {reason}"
        ) from error


def run(arguments: list[str], settings: Settings) -> None:
    """Run the subcommand that is the first word.

    Args:
        arguments: the words after `etcd-snapshot`.
        settings: what config.yaml and its drop-ins say.

    Raises:
        FatalError: the datastore is not etcd, the server does not run, or there is no such subcommand.
    """
    name = arguments[0] if arguments and not arguments[0].startswith("-") else "save"
    options = _options(arguments[1:] if arguments and name == arguments[0] else arguments)
    paths = Paths(Path(options.get("data-dir") or settings.data_dir).absolute())
    if not paths.is_etcd:
        raise FatalError("Error: etcd datastore disabled")
    if name not in _SAVE | _LIST:
        raise FatalError(f"Error: the lab's k3s has no `etcd-snapshot {name}`; use a real k3s to try that")
    _server_answers(settings.number("https-listen-port", 6443))
    folder = Path(options.get("dir") or settings.text("etcd-snapshot-dir") or paths.server / "db" / "snapshots")
    if name in _SAVE:
        node = settings.text("node-name") or socket.gethostname()
        _save(paths, folder, f"{options['name']}-{node.lower()}-{int(time.time())}")
    else:
        _list(folder)


def _save(paths: Paths, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = folder / f".{name}.part"
    try:
        copy_database(paths.database, partial)
        partial.replace(folder / name)
    finally:
        partial.unlink(missing_ok=True)
    logs.info(f"Snapshot {name} saved.")


def _list(folder: Path) -> None:
    rows = [("Name", "Location", "Size", "Created")]
    for path in sorted(folder.glob("[!.]*"), key=lambda one: one.stat().st_mtime) if folder.is_dir() else []:
        created = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)
        rows.append((path.name, f"file://{path}", str(path.stat().st_size), f"{created:%Y-%m-%dT%H:%M:%SZ}"))
    widths = [max(len(row[index]) for row in rows) + 1 for index in range(3)]
    for row in rows:
        print("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + row[3])
