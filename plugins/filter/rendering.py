"""Filters that write values into the formats that the stack reads, each by that format's own rules.

A password may hold any printable character. So nothing is put between quotes by a template: TOML is written by tomli_w,
and the MongoDB URL is percent-encoded by urllib.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any
from urllib.parse import quote

import tomli_w
from ansible.errors import AnsibleFilterError

MONGODB_HOST = re.compile(r"[A-Za-z0-9.\-]+(?::[0-9]{1,5})?\Z")
# MongoDB's rule for names of databases (manual, "Naming Restrictions"), for servers on Unix and Windows alike
MONGODB_DATABASE = re.compile(r"[^/\\. \"$*<>:|?\x00]{1,63}\Z")


def _plain(value: Any, path: str) -> Any:
    """A copy of `value` in plain Python types, without Ansible's tagged subclasses; `path` names it in errors."""
    if value is None:
        raise AnsibleFilterError(f"{path} has no value, and TOML cannot say so. Give it one or leave the key out.")
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, str):
        return _encodable(str(value), path)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise AnsibleFilterError(f"{path} is not a finite number. Give it one.")
        return float(value)
    if isinstance(value, datetime | date | time):
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise AnsibleFilterError(f"{path} has a key that is not text ({key!r}). Put the key into quotes.")
        return {str(key): _plain(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
    raise AnsibleFilterError(
        f"{path} is a {type(value).__name__}, which TOML cannot hold. Use text, a number or a list."
    )


def _encodable(value: str, name: str) -> str:
    """`value`, or an error where it cannot be written as UTF-8 (a lone surrogate: text read with a wrong encoding)."""
    try:
        value.encode()
    except UnicodeEncodeError:
        # from None: the original message shows the value
        raise AnsibleFilterError(
            f"{name} is not valid Unicode text. Store the file that it comes from as UTF-8."
        ) from None
    return value


def integr8scode_toml(data: Mapping[str, Any]) -> str:
    """The text of a TOML document for `config.toml`, `secrets.toml` or `config.<worker>.toml`.

    Order is kept. Any text is escaped as TOML asks. Raises AnsibleFilterError, which names the key and never the
    value, for what TOML cannot hold: null, NaN and infinity (the application has no use for these two), keys that are
    not text.
    """
    if not isinstance(data, Mapping):
        raise AnsibleFilterError(f"integr8scode_toml needs a dictionary, not a {type(data).__name__}.")
    text: str = tomli_w.dumps(_plain(data, "document"))
    return text


def integr8scode_mongodb_url(user: str, password: str, host: str, database: str) -> str:
    """The `MONGODB_URL` for these credentials, percent-encoded, with `authSource=admin`.

    `host` is a name or IPv4 address with an optional port (27017 is MongoDB's own default). pymongo refuses raw `@ :
    % / ?` in credentials, and for `/` prints a part of the password. Raises AnsibleFilterError for an empty user or
    password (no password would be a login without one) and for a host or database that would change the URL's
    meaning.
    """
    for name, value in (("user", user), ("password", password)):
        if not isinstance(value, str) or not value:
            raise AnsibleFilterError(
                f"The {name} for MongoDB is empty or not text. Set it, in quotes, in the inventory."
            )
        _encodable(value, f"The {name} for MongoDB")
    if not MONGODB_HOST.match(host):
        raise AnsibleFilterError(f"{host!r} is not a host for MongoDB. Use NAME or NAME:PORT, for example mongo:27017.")
    if not MONGODB_DATABASE.match(database):
        raise AnsibleFilterError(f"{database!r} is not a name for a MongoDB database. Use letters, digits and _.")
    credentials = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return f"mongodb://{credentials}@{host}/{quote(database, safe='')}?authSource=admin"


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by their names in templates."""
        return {
            "integr8scode_toml": integr8scode_toml,
            "integr8scode_mongodb_url": integr8scode_mongodb_url,
        }
