"""Compose's ``.env`` files, written so that Compose reads back what was meant.

By Compose's own parser (compose-go's ``dotenv/parser.go``, 2.0 to 2.16): its behaviour, quirks included, is what the
unit tests parse back with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
ENV_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]+\Z")
# an odd number of backslashes before a quote or at the end: Compose's single quotes cannot hold it
ODD_BACKSLASHES = re.compile(r"(?<!\\)(?:\\\\)*\\(?='|\Z)")


def _env_value(value: str) -> str:
    if not value or ENV_PLAIN.match(value):
        return value
    if not ODD_BACKSLASHES.search(value):
        # Compose takes everything between single quotes as it is, a backslash too, except for \'
        return "'" + value.replace("'", "\\'") + "'"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$") + '"'


def dotenv(data: Mapping[str, Any]) -> str:
    r"""The text of a `.env` file that Compose reads back as exactly `data`, in the order given.

    Values are text, numbers or booleans (`true`, `false`). Plain values stay unquoted; others go into single quotes,
    in which Compose interpolates nothing; those with an odd number of backslashes before a quote or at the end, which
    single quotes cannot hold, into double quotes with `\\`, `\"` and `$$`. Raises ValueError for a name that
    Compose would not take and for values with a line break or NUL: neither has a place in a variable of this project;
    TypeError for values of other types.
    """
    lines = []
    for name, value in data.items():
        if not isinstance(name, str) or not ENV_NAME.match(name):
            raise ValueError(f"{name!r} is not a name for a variable. Use letters, digits and _, no digit first.")
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, str | int | float):
            text = str(value)
        else:
            raise TypeError(f"{name} is a {type(value).__name__}. A .env file holds text and numbers only.")
        if re.search(r"[\x00\r\n]", text):
            raise ValueError(f"{name} holds a line break or a NUL character. Remove it.")
        lines.append(f"{name}={_env_value(text)}\n")
    return "".join(lines)
