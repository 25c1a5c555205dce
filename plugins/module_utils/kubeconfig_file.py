"""A worker's kubeconfig: what it must hold, whether the one on disk still does, and its safe replacement."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime as dt
import ipaddress
import json
import os
import stat
import urllib.parse
from pathlib import Path

from ansible.module_utils.atomic_files import Access, write_file
from ansible.module_utils.kubernetes_access_client import ApiError, KubeconfigError, parse_kubeconfig

try:
    import yaml
except ImportError:  # told by the modules with missing_required_lib
    yaml = None  # type: ignore[assignment]

# the API refuses less: "may not specify a duration less than 10 minutes"; TokenRequest's upper bound is 2^32 seconds
SHORTEST_LIFETIME, LONGEST_LIFETIME = 600, 2**32
# an API server may grant a few seconds more or less than was asked for
SLACK_SECONDS = 60
HEADER = "# Managed by Ansible (role kubernetes_access): changes made by hand are replaced."


class InputError(ApiError):
    """A parameter that cannot be used: which, why, and what to give instead."""


@dataclasses.dataclass(frozen=True)
class Claims:
    """What a service account's token says about itself; times are seconds since 1970."""

    issued: int
    expires: int
    namespace: str
    account: str
    uid: str

    @property
    def lifetime(self) -> int:
        """Seconds from issue to expiry."""
        return self.expires - self.issued


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a worker's file must hold. `ca` is PEM text, `uid` the account's, "" when it does not exist yet."""

    server: str
    ca: str
    namespace: str
    account: str
    uid: str


@dataclasses.dataclass(frozen=True)
class Assessment:
    """What is wrong with a file: `token` reasons need a new token, `file` reasons only new text."""

    token: tuple[str, ...] = ()
    file: tuple[str, ...] = ()


def check_lifetime(seconds: int) -> None:
    """Raises InputError unless the API can grant a token of that life (seconds)."""
    if not SHORTEST_LIFETIME <= seconds <= LONGEST_LIFETIME:
        raise InputError(
            f"token_lifetime_seconds is {seconds}: Kubernetes grants {SHORTEST_LIFETIME} (ten minutes) "
            f"to {LONGEST_LIFETIME} seconds. Cure: set kubernetes_access_token_lifetime_seconds within that"
        )


def check_server(server: str) -> str:
    """The host of an address that workers can use for ever. Raises InputError for anything but https and a name."""
    parts = urllib.parse.urlsplit(server)
    cure = "Cure: set kubernetes_access_server to a name, for example https://host.docker.internal:6443"
    try:
        port_given = parts.port is not None
    except ValueError:
        port_given = False
    if parts.scheme != "https" or not parts.hostname or not port_given or parts.path.strip("/") or parts.query:
        raise InputError(f"server {server!r} is not https://NAME:PORT. {cure}")
    try:
        ipaddress.ip_address(parts.hostname)
    except ValueError:
        return parts.hostname
    raise InputError(f"server {server!r} holds an address, which dies when the server's address changes. {cure}")


def iso(seconds: int) -> str:
    """`2026-01-31T00:00:00Z`."""
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_claims(token: str) -> Claims:
    """The claims of a service account's token (a JWT), not verified. Raises KubeconfigError when it is none."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        kubernetes = claims["kubernetes.io"]
        account = kubernetes["serviceaccount"]
        return Claims(
            int(claims["iat"]),
            int(claims["exp"]),
            str(kubernetes["namespace"]),
            str(account["name"]),
            str(account["uid"]),
        )
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error) as error:
        # never the text itself: it may be a token all the same
        raise KubeconfigError("its token is not one of a service account with an expiry") from error


def render(wanted: Wanted, token: str, expires: str) -> str:
    """The file's text. `expires` goes into a comment, for whoever reads the file."""
    name = wanted.account
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "k3s",
                "cluster": {
                    "certificate-authority-data": base64.b64encode(wanted.ca.encode()).decode(),
                    "server": wanted.server,
                },
            }
        ],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": "k3s", "namespace": wanted.namespace, "user": name}}],
        "current-context": name,
        "preferences": {},
    }
    return f"{HEADER}\n# The token expires {expires}.\n{yaml.safe_dump(document, sort_keys=False, width=1000000)}"


def assess(text: str | None, wanted: Wanted, *, now: float, lifetime: int) -> Assessment:
    """Compares a file's text (None: there is no file) with what is wanted, without asking the API.

    now: seconds since 1970. lifetime: seconds that a new token would live.
    """
    if text is None:
        return Assessment(token=("there is no file",))
    try:
        held = parse_kubeconfig(text)
        claims = read_claims(held.token)
    except KubeconfigError as error:
        return Assessment(token=(f"the file cannot be used: {error}",))
    token: list[str] = []
    remaining = claims.expires - now
    if (claims.namespace, claims.account) != (wanted.namespace, wanted.account):
        token.append(
            f"the token belongs to {claims.namespace}/{claims.account}, not to {wanted.namespace}/{wanted.account}"
        )
    elif claims.uid != wanted.uid:
        # a token of a deleted account is accepted for about ten more seconds, then never again
        token.append("the service account was made again")
    if remaining <= 0:
        token.append(f"the token expired at {iso(claims.expires)}")
    elif remaining * 3 < lifetime:
        # of the life that is wanted: one that was issued for less may end before somebody looks again
        token.append(f"less than a third of a token's life is left: it expires at {iso(claims.expires)}")
    elif remaining > lifetime + SLACK_SECONDS:
        token.append(f"the token lives until {iso(claims.expires)}, longer than {lifetime} s from now")
    file: list[str] = []
    if held.ca.strip() != wanted.ca.strip():
        file.append("the cluster's certificate authority changed")
    if held.server != wanted.server:
        file.append(f"the server changed from {held.server} to {wanted.server}")
    if not file and not token and text != render(wanted, held.token, iso(claims.expires)):
        file.append("the text was changed")
    return Assessment(tuple(token), tuple(file))


def masked(text: str | None) -> str:
    """The text fit for a diff: every value that is or may be a secret is replaced, also in a file made by hand."""
    if text is None:
        return ""
    try:
        document = yaml.safe_load(text)
        for entry in document["users"]:
            entry["user"] = {
                key: value if key == "username" else "(not shown)" for key, value in (entry.get("user") or {}).items()
            }
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        return "(not a kubeconfig: not shown)\n"
    comments = "".join(line + "\n" for line in text.splitlines() if line.startswith("# The token expires "))
    return comments + str(yaml.safe_dump(document, sort_keys=False, width=1000000))


def read_text(path: str) -> str | None:
    """The text of a regular file; None where there is none, or where an empty folder lies that Docker made.

    Docker makes a folder for a bind mount whose file is missing. Raises InputError for anything else that is no file.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        if os.listdir(path):
            raise InputError(
                f"{path} is a folder with something in it. Cure: look what it is, move it away, run this again"
            )
        return None
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path} is not a regular file. Cure: look what it is, remove it, run this again")
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def write(path: str, text: str, access: Access) -> None:
    """Replaces `path` in one step; an empty folder in its place is removed. Raises OSError."""
    if os.path.isdir(path) and not os.path.islink(path):
        os.rmdir(path)
    write_file(Path(path), text.encode(), access)
