"""Where the parts of a diagnostics archive come from: programs, files, objects; each bounded in size and time."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.diagnostics.masking import without_environment

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/root"}


@dataclass(frozen=True)
class Text:
    """What a source brought. `cut`: its beginning (or an unfinished end) is left out. `note`: what went wrong."""

    text: str
    cut: bool = False
    note: str = ""


# a source is given the most bytes that it may bring
Source = Callable[[int], Text]


def whole_lines(data: bytes, *, begins_whole: bool, ends_whole: bool) -> str:
    """Text of whole lines: half a line could hold half a secret, which nobody would recognise."""
    if not begins_whole:
        data = data.partition(b"\n")[2]
    if not ends_whole and not data.endswith(b"\n"):
        data = data.rpartition(b"\n")[0] + b"\n" if b"\n" in data else b""
    return data.decode("utf-8", "replace")


class _Tail:
    """The last bytes of a stream."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.data = bytearray()
        self.cut = False

    def add(self, part: bytes) -> None:
        self.data += part
        if len(self.data) > 2 * self._limit:
            self.trim()

    def trim(self) -> None:
        if len(self.data) > self._limit:
            del self.data[: -self._limit]
            self.cut = True


def _follow(process: subprocess.Popen[bytes], tail: _Tail, deadline: float) -> bool:
    """Read until the end, True, or the deadline, False."""
    assert process.stdout is not None  # noqa: S101 - asked for
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                return False
            part = os.read(process.stdout.fileno(), 1 << 16)
            if not part:
                return True
            tail.add(part)


def command(argv: Sequence[str], timeout: float = 20) -> Source:
    """Output of a program, its errors with it: the last bytes, when it is too much."""

    def source(limit: int) -> Text:
        tail = _Tail(limit)
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT,
                start_new_session=True,
            )
        except OSError as error:
            return Text("", note=f"{argv[0]} cannot be run: {error.strerror or error}")
        try:
            ended = _follow(process, tail, time.monotonic() + timeout)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            # one that even SIGKILL does not end at once is not waited for
            with suppress(subprocess.TimeoutExpired):
                process.wait(2)
            if process.stdout is not None:
                process.stdout.close()
        tail.trim()
        text = whole_lines(bytes(tail.data), begins_whole=not tail.cut, ends_whole=ended)
        note = "" if ended else f"no end within {timeout:g} s"
        return Text(text, tail.cut or not ended, note)

    return source


def file(path: Path, *, grows: bool = False) -> Source:
    """A file: its last bytes, when it is too large. `grows`: its last line may be half written."""

    def source(limit: int) -> Text:
        try:
            with path.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                stream.seek(max(0, size - limit))
                data = stream.read(limit)
        except OSError as error:
            return Text("", note=error.strerror or str(error))
        cut = size > limit
        return Text(whole_lines(data, begins_whole=not cut, ends_whole=not grows), cut)

    return source


def value(found: Any) -> Source:
    """Anything that JSON can hold, environments masked."""

    def source(limit: int) -> Text:
        text = json.dumps(without_environment(found), indent=1, sort_keys=True, default=str) + "\n"
        if len(text) > limit:
            return Text("", note=f"left out: it has {len(text)} bytes")
        return Text(text)

    return source


# objects of these kinds hold no secret; config maps are users' programs, and stay where they are
KUBERNETES_KINDS = (
    "nodes", "namespaces", "pods", "events", "daemonsets", "deployments", "services", "serviceaccounts", "roles",
    "rolebindings", "networkpolicies", "persistentvolumes", "persistentvolumeclaims",
)  # fmt: skip


def _bare(item: Mapping[str, Any]) -> dict[str, Any]:
    """An object without what only repeats it, environments included."""
    metadata = {key: one for key, one in (item.get("metadata") or {}).items() if key != "managedFields"}
    annotations = dict(metadata.get("annotations") or {})
    annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
    return {**item, "metadata": {**metadata, "annotations": annotations}}


def kubernetes(kind: str, timeout: float = 15) -> Source:
    """All objects of a kind, by k3s' own kubectl."""

    def source(limit: int) -> Text:
        argv = ["k3s", "kubectl", "get", kind, "--all-namespaces", "--output=json", "--request-timeout=10s"]
        told = command(argv, timeout)(8 * limit)
        try:
            items = json.loads(told.text).get("items", [])
        except (ValueError, AttributeError):
            # not JSON: the reason why there is none
            return Text(told.text[-2000:], note=told.note or "kubectl did not answer with objects")
        return value([_bare(one) for one in items])(limit)

    return source
