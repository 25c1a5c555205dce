"""Log lines of mongod's shape: one JSON object a line on standard output."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any


def log(severity: str, component: str, number: int, context: str, message: str, **attributes: Any) -> None:
    """Write a line.

    Args:
        severity: ``I``, ``W``, ``E`` or ``F``.
        component: mongod's name of the part that speaks, for example ``NETWORK``.
        number: mongod's own id of this message.
        context: thread or connection.
        message: mongod's own text.
        attributes: the values of the message.
    """
    line: dict[str, Any] = {
        "t": {"$date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="milliseconds")},
        "s": severity,
        "c": component,
        "id": number,
        "ctx": context,
        "msg": message,
    }
    if attributes:
        line["attr"] = attributes
    print(json.dumps(line, separators=(",", ":"), ensure_ascii=False), flush=True)
