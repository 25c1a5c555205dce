"""Looks at parts of this server that need programs or the network: systemd, the API, certificates, the datastore."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import ssl
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ansible.module_utils.k3s_common import UNIT, K3sError, token_secret
from ansible.module_utils.k3s_node import Api, monotonic
from ansible.module_utils.k3s_recovery.addresses import normal

# A database up to this size is read wholly when k3s does not run; 64 MiB take some 0.2 s.
QUICK_CHECK_BYTES = 64 << 20
EMPTY = "it is empty"  # of a database: the same as none


@dataclass(frozen=True)
class Unit:
    """What systemd says of k3s.service."""

    loaded: bool = False
    masked: bool = False
    enabled: bool = False
    active: str = "unknown"
    sub: str = "unknown"
    result: str = ""
    restarts: int = 0
    invocation: str = ""
    running_seconds: float = 0.0  # 0 when it does not run
    process_seconds: float = 0.0  # since its process began, which is before it counts as running
    agent: bool = False  # k3s-agent.service is there
    problem: str = ""  # why systemd does not tell; then nothing else here is known

    @property
    def running(self) -> bool:
        """Whether it is up, as far as systemd knows."""
        return self.active == "active" and self.sub == "running"


@dataclass(frozen=True)
class Node:
    """A Node object."""

    name: str
    ready: bool
    internal_ips: list[str]
    control_plane: bool
    version: str = ""
    not_ready_because: str = ""
    reported: float = 0.0  # when its kubelet last wrote the Ready condition, seconds since 1970


@dataclass(frozen=True)
class ApiState:
    """What the API server answers; `problem` is empty when it does."""

    problem: str = ""
    version: str = ""
    nodes: list[Node] = field(default_factory=list)


@dataclass(frozen=True)
class Datastore:
    """Where the cluster is kept. `token` says whether its bootstrap data belong to the token that k3s will use."""

    kind: str  # sqlite, etcd, external, none
    path: str = ""
    problem: str = ""  # why the database cannot be used, in SQLite's words
    token: bool | None = None
    size: int = 0
    revision: int = 0  # the newest one; it never goes back while the database is the same
    namespaces: list[str] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)


def _run(command: Sequence[str], stdin: bytes = b"") -> tuple[int, str]:
    """Exit code and output of a command; 127 where there is none of that name."""
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=20, check=False)
    except subprocess.TimeoutExpired as error:
        return 127, f"no answer within {error.timeout:.0f} s"
    except OSError as error:
        return 127, str(error)
    return done.returncode, done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")


def parse_units(text: str) -> Unit:
    """The unit's state from `systemctl show k3s.service k3s-agent.service`."""
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.strip().split("\n\n")]
    by_name = {block.get("Id", ""): block for block in blocks}
    own, agent = by_name.get(UNIT, {}), by_name.get("k3s-agent.service", {})
    since = int(own.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
    begun = int(own.get("ExecMainStartTimestampMonotonic") or 0) / 1e6
    running = own.get("ActiveState") == "active"
    return Unit(
        loaded=own.get("LoadState") == "loaded",
        masked=own.get("LoadState") == "masked",
        enabled=own.get("UnitFileState") == "enabled",
        active=own.get("ActiveState", "unknown"),
        sub=own.get("SubState", "unknown"),
        result=own.get("Result", ""),
        restarts=int(own.get("NRestarts") or 0),
        invocation=own.get("InvocationID", ""),
        running_seconds=max(0.0, monotonic() - since) if running and since else 0.0,
        process_seconds=max(0.0, monotonic() - begun) if running and begun else 0.0,
        agent=agent.get("LoadState") == "loaded",
    )


def unit() -> Unit:
    """The unit's state now."""
    names = "Id,LoadState,UnitFileState,ActiveState,SubState,Result,NRestarts,InvocationID"
    names += ",ActiveEnterTimestampMonotonic,ExecMainStartTimestampMonotonic"
    code, text = _run(["systemctl", "show", UNIT, "k3s-agent.service", f"--property={names}"])
    # of a unit that is not installed it tells as well
    if code or f"Id={UNIT}" not in text:
        return Unit(problem=" ".join(text.split())[:200] or f"exit code {code} and no words")
    return parse_units(text)


def _moment(text: str) -> float:
    """Seconds since 1970 of a time as Kubernetes writes it; 0 for what is none."""
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return 0.0


def parse_nodes(answer: dict[str, Any]) -> list[Node]:
    """The Node objects of /api/v1/nodes."""
    found = []
    for item in answer.get("items") or []:
        status = item.get("status") or {}
        labels = item["metadata"].get("labels") or {}
        ready: dict[str, Any] = next((one for one in status.get("conditions") or [] if one.get("type") == "Ready"), {})
        found.append(
            Node(
                name=item["metadata"]["name"],
                ready=ready.get("status") == "True",
                internal_ips=[
                    one["address"] for one in status.get("addresses") or [] if one.get("type") == "InternalIP"
                ],
                control_plane="node-role.kubernetes.io/control-plane" in labels
                or "node-role.kubernetes.io/etcd" in labels,
                version=(status.get("nodeInfo") or {}).get("kubeletVersion", ""),
                reported=_moment(str(ready.get("lastHeartbeatTime") or "")),
                not_ready_because=str(ready.get("message", "the kubelet has not reported yet")),
            )
        )
    return found


def api(kubeconfig: str) -> ApiState:
    """Ask the API server. Never raises; an answer that is missing is a problem."""
    try:
        client = Api(kubeconfig)
        version = str(client.get("/version").get("gitVersion", ""))
        return ApiState(version=version, nodes=parse_nodes(client.get("/api/v1/nodes")))
    except (K3sError, ssl.SSLError, OSError, ValueError, KeyError, TypeError, HTTPException) as error:
        return ApiState(problem=str(error) or repr(error))


def _open(path: Path) -> sqlite3.Connection:
    """Open to read without writing anything, not even the index of the write-ahead log."""
    log = path.with_name(f"{path.name}-wal")
    quiet = "mode=ro&readonly_shm=1" if log.exists() and log.stat().st_size else "mode=ro&immutable=1"
    return sqlite3.connect(f"file:{quote(str(path))}?{quiet}", uri=True, timeout=2)


def _words(told: list[str]) -> str:
    """What a check of SQLite's says, on one line."""
    text = "; ".join(line for one in told for line in one.splitlines() if not line.startswith("***"))
    return text[:300] or "its check says nothing"


def database(path: Path, secret: str, *, whole: bool) -> Datastore:
    """Look into kine's SQLite file: can it be read (`whole`: every page, if it is not too large), and its token."""
    size = path.stat().st_size
    if size == 0:
        return Datastore("sqlite", str(path), EMPTY, size=0)
    try:
        with contextlib.closing(_open(path)) as connection:
            if whole and size <= QUICK_CHECK_BYTES:
                told = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
                if told != ["ok"]:
                    return Datastore("sqlite", str(path), _words(told), size=size)
            row = connection.execute("SELECT id FROM kine ORDER BY id DESC LIMIT 1").fetchone()
            namespaces, nodes = _names(connection, "namespaces"), _names(connection, "minions")
            query = (
                "SELECT DISTINCT name FROM kine WHERE name >= '/bootstrap/' AND name < '/bootstrap0' AND deleted = 0"
            )
            keys = {str(row[0]).rpartition("/")[2] for row in connection.execute(query)}
    except sqlite3.Error as error:
        words = str(error)
        # busy is no damage
        problem = "" if "locked" in words or "busy" in words else words
        return Datastore("sqlite", str(path), problem, size=size)
    own = hashlib.sha256(secret.encode()).hexdigest()[:12] if secret else ""
    fits = own in keys if own and keys else None
    return Datastore("sqlite", str(path), "", fits, size, int(row[0]) if row else 0, namespaces, nodes)


def _names(connection: sqlite3.Connection, kind: str) -> list[str]:
    """The names of the objects of a kind that has no namespaces; a Node's key says `minions`."""
    query = "SELECT name, MAX(id), deleted FROM kine WHERE name >= ? AND name < ? GROUP BY name"
    rows = connection.execute(query, (f"/registry/{kind}/", f"/registry/{kind}0"))
    return sorted(str(name).rpartition("/")[2] for name, _id, deleted in rows if not deleted)


def secret_of(text: str) -> str:
    """The secret part of a token's text."""
    return token_secret(text) if text.strip() else ""


def port_holder(port: int) -> str:
    """The program that listens on a TCP port, as `name (pid 1)`; empty when nobody does."""
    wanted = f":{port:04X}"
    sockets = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
            sockets |= {f"socket:[{row[9]}]" for row in rows if row[1].endswith(wanted) and row[3] == "0A"}
    if not sockets:
        return ""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(os.readlink(one) in sockets for one in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return "a program that cannot be seen from here"


def version(binary: str) -> tuple[str, str]:
    """What `k3s --version` says, or why it does not run."""
    if not os.path.exists(binary):
        return "", f"{binary} is not there"
    code, text = _run([binary, "--version"])
    match = re.search(r"v\d+\.\d+\.\d+\S*\+k3s\d+", text)
    if match:
        return match.group(), ""
    return "", f"{binary} does not run (exit code {code}: {text.strip()[:200] or 'no output'})"


def known_servers(data: Path) -> list[str]:
    """The servers that k3s' own load balancers remember, by address; none where this server runs no such."""
    found = set()
    for path in (data / "agent/etc").glob("*load-balancer.json"):
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
            found |= {str(one).rpartition(":")[0] for one in json.loads(path.read_text()).get("ServerAddresses") or []}
    return sorted(found)


def wireguard_addresses(root: Path) -> dict[str, str]:
    """Addresses that WireGuard's configuration on this server gives, with the name of the interface."""
    found = {}
    for path in sorted((root / "etc/wireguard").glob("*.conf")):
        with contextlib.suppress(OSError):
            for match in re.finditer(r"(?mi)^\s*Address\s*=\s*(.+)$", path.read_text(errors="replace")):
                found.update({normal(one.strip().partition("/")[0]): path.stem for one in match[1].split(",")})
    return found


def lan_discovery() -> str:
    """Whether NordVPN's client lets the LAN in: enabled, disabled, or nothing where there is no such client."""
    if not os.path.exists("/usr/bin/nordvpn"):
        return ""
    _code, text = _run(["nordvpn", "settings"])
    match = re.search(r"LAN Discovery: (enabled|disabled)", text, re.IGNORECASE)
    return match[1].lower() if match else ""


def now() -> float:
    """Seconds since 1970."""
    return time.time()
