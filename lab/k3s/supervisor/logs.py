"""Log lines in k3s' format: `time="..." level=info msg="..."`, on standard error."""

import json
import sys
import threading
import time

_lock = threading.Lock()
_debug = threading.Event()


class FatalError(Exception):
    """What ends k3s with exit code 1; the text is the message of its last line (level=fatal)."""


def enable_debug() -> None:
    """Show debug lines from now on (`debug: true`)."""
    _debug.set()


def quote(text: str) -> str:
    """Return `text` in double quotes, escaped as Go's %q does for the characters that occur here."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def timestamp(seconds: float) -> str:
    """Return RFC 3339 in local time, as logrus writes it: `Z` when local time is UTC."""
    local = time.localtime(seconds)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", local)
    if local.tm_gmtoff == 0:
        return f"{text}Z"
    sign = "-" if local.tm_gmtoff < 0 else "+"
    hours, minutes = divmod(abs(local.tm_gmtoff) // 60, 60)
    return f"{text}{sign}{hours:02d}:{minutes:02d}"


def _write(line: str) -> None:
    with _lock:
        print(line, file=sys.stderr, flush=True)


def log(level: str, message: str) -> None:
    """Write one line as k3s' own code does (logrus)."""
    _write(f"time={quote(timestamp(time.time()))} level={level} msg={quote(message)}")


def info(message: str) -> None:
    """Write a line of level info."""
    log("info", message)


def warning(message: str) -> None:
    """Write a line of level warning."""
    log("warning", message)


def error(message: str) -> None:
    """Write a line of level error."""
    log("error", message)


def debug(message: str) -> None:
    """Write a line of level debug, when asked for."""
    if _debug.is_set():
        log("debug", message)


def kubelet_error(source: str, message: str, **fields: str) -> None:
    """Write an error as the kubelet inside k3s does (klog): `E1123 20:47:09.123456     42 file.go:1] "…" key="…"`."""
    now = time.time()
    stamp = time.strftime("%m%d %H:%M:%S", time.localtime(now))
    pairs = "".join(f" {key}={quote(value)}" for key, value in fields.items())
    _write(f"E{stamp}.{int(now % 1 * 1e6):06d}       1 {source}] {quote(message)}{pairs}")


def etcd_panic(message: str, **fields: str) -> None:
    """Write the line with which etcd ends itself (zap)."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    record = {"level": "panic", "ts": f"{stamp}.{int(now % 1 * 1e6):06d}Z", "logger": "etcd", "msg": message, **fields}
    _write(json.dumps(record, separators=(",", ":")))
