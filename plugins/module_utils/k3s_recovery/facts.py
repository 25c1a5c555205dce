"""Everything that a diagnosis needs to know of this server, read only, also from a broken k3s."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.k3s_recovery.addresses import Network
from ansible.module_utils.k3s_recovery.configuration import Configuration


@dataclass(frozen=True)
class Unit:
    """What systemd says of k3s.service."""

    loaded: bool = False
    enabled: bool = False
    active: str = "unknown"
    sub: str = "unknown"
    result: str = ""
    restarts: int = 0
    invocation: str = ""
    running_seconds: float = 0.0  # 0 when it does not run
    agent: bool = False  # k3s-agent.service is there instead, or the unit runs `k3s agent`
    fragment: str = ""


@dataclass(frozen=True)
class Journal:
    """The unit's journal; `starts` has the lines of each recent start, the oldest first."""

    readable: bool = True
    problem: str = ""
    starts: list[list[str]] = field(default_factory=list)


@dataclass(frozen=True)
class Certificate:
    """A certificate on disk or served; times in seconds since 1970."""

    place: str
    subject: str
    issuer: str
    names: list[str]
    not_before: float
    not_after: float
    signed_by_ca: bool | None  # by the CA file of this server; None when that could not be found out


@dataclass(frozen=True)
class Node:
    """A Node object."""

    name: str
    ready: bool
    internal_ips: list[str]
    control_plane: bool
    version: str
    labels: dict[str, str] = field(default_factory=dict)
    taints: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class ApiState:
    """What the API server answers; `problem` is empty when it does."""

    problem: str
    version: str = ""
    nodes: list[Node] = field(default_factory=list)
    stored_password: str = ""  # hash of kube-system's node password secret against /etc/rancher/node/password: same, different, none, ''


@dataclass(frozen=True)
class Datastore:
    """Where the cluster is kept."""

    kind: str  # sqlite, etcd, external, none
    path: str = ""
    problem: str = ""  # why the database cannot be opened, in the words of SQLite


@dataclass(frozen=True)
class Disk:
    """Room on a file system."""

    path: str
    free_bytes: int
    free_percent: float
    free_inodes_percent: float
    read_only: bool


@dataclass(frozen=True)
class Facts:
    """All of it."""

    hostname: str
    node_name: str
    now: float
    binary_version: str  # '' when there is no binary, or it does not run
    binary_problem: str
    unit: Unit
    configuration: Configuration
    network: Network
    journal: Journal
    datastore: Datastore
    certificates: list[Certificate]
    served: Certificate | None  # what port 6443 shows
    api: ApiState
    token_matches: bool | None  # the configured token against server/token; None when there is nothing to compare
    disks: list[Disk]
    safe_mode: bool  # a recovery's drop-in is there
    data_dir: str = "/var/lib/rancher/k3s"
    gone: list[str] = field(default_factory=list)  # of server/db, server/tls, server/token: what is missing
    memory_available_bytes: int = 0
    port_holder: str = ""  # another program that listens on the API's port

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it; no secret."""
        raise NotImplementedError


def collect(*, journal_lines: int = 400, root: Path = Path("/")) -> Facts:
    """Look at this server. Never raises for a broken one."""
    raise NotImplementedError
