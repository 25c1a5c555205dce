"""Everything that a diagnosis needs to know of this server, read only, also from a broken k3s."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.backups import store
from ansible.module_utils.k3s_common import BINARY, CONFIG_FOLDER, DATA_FOLDER
from ansible.module_utils.k3s_recovery import journal as journals
from ansible.module_utils.k3s_recovery import listeners, probes
from ansible.module_utils.k3s_recovery.addresses import Network, read_network
from ansible.module_utils.k3s_recovery.configuration import Configuration, settings_with_places
from ansible.module_utils.k3s_recovery.journal import Journal
from ansible.module_utils.k3s_recovery.listeners import Certificate
from ansible.module_utils.k3s_recovery.probes import ApiState, Datastore, Unit
from ansible.module_utils.k3s_recovery.unit_words import read_text

SAFE_MODE = f"{CONFIG_FOLDER}/config.yaml.d/99-recover-k3s-safe-mode.yaml"
_ASIDE = (".before-restore-", ".before-delete-")  # in the names of what a restore or a deletion has put aside
FULL_BYTES = 32 << 20
FULL_PERCENT = 1.0
NODE_ID = "/etc/rancher/node/id"
NODE_PASSWORD = "/etc/rancher/node/password"  # noqa: S105  (a path)


@dataclass(frozen=True)
class Disk:
    """Room on a file system."""

    path: str
    free_bytes: int
    free_percent: float
    free_inodes_percent: float
    read_only: bool


@dataclass(frozen=True)
class Kept:
    """What the last verified backup says of the cluster; `backup` is its file."""

    backup: str
    created: str
    revision: int
    namespaces: list[str]


@dataclass(frozen=True)
class Facts:
    """All of it."""

    hostname: str = ""
    node_name: str = ""
    now: float = 0.0
    binary_version: str = ""  # '' when there is no binary, or it does not run
    binary_problem: str = ""
    unit: Unit = field(default_factory=Unit)
    configuration: Configuration = field(default_factory=Configuration)
    network: Network = field(default_factory=Network)
    journal: Journal = field(default_factory=Journal)
    datastore: Datastore = field(default_factory=lambda: Datastore("none"))
    certificates: list[Certificate] = field(default_factory=list)
    served: Certificate | None = None  # what the API's port shows
    api: ApiState = field(default_factory=ApiState)
    token_matches: bool | None = None  # the configured token against server/token; None: nothing to compare
    disks: list[Disk] = field(default_factory=list)
    safe_mode: bool = False  # a recovery's drop-in is there
    data_dir: str = DATA_FOLDER
    gone: list[str] = field(default_factory=list)  # of server/db, server/tls, server/token: what is missing
    memory_available_bytes: int = 0
    port: int = 6443
    port_holder: str = ""  # who listens on the API's port while k3s does not run
    known_servers: list[str] = field(default_factory=list)  # that k3s' load balancers remember
    wireguard: dict[str, str] = field(default_factory=dict)  # address -> interface, as configured, be it up or not
    kept: Kept | None = None  # in the last verified backup
    lan_discovery: str = ""  # enabled or disabled where a NordVPN client says so

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it, for a report: no secret, no place of a character, the last lines of the last start."""
        settings = {
            key: [{"value": one.value, "place": one.place} for one in found]
            for key, found in sorted(self.configuration.effective.items())
        }
        last = self.journal.starts[-1].lines if self.journal.starts else []
        return {
            "hostname": self.hostname,
            "node_name": self.node_name,
            "version": self.binary_version,
            "unit": asdict(self.unit),
            "settings": settings,
            "configuration_files": self.configuration.files,
            "configuration_problems": self.configuration.problems,
            "interfaces": [asdict(one) for one in self.network.interfaces if one.addresses],
            "default_routes": [asdict(one) for one in self.network.routes if one.default],
            "datastore": asdict(self.datastore),
            "certificates": [asdict(one) for one in self.certificates],
            "served_certificate": asdict(self.served) if self.served else None,
            "api": asdict(self.api),
            "disks": [asdict(one) for one in self.disks],
            "safe_mode": self.safe_mode,
            "missing": self.gone,
            "kept": asdict(self.kept) if self.kept else None,
            "memory_available_bytes": self.memory_available_bytes,
            "journal": [journals.quote(line) for line in last[-10:]],
            "journal_problem": self.journal.problem,
        }


def disk(path: str) -> Disk | None:
    """Room on the file system of `path`; None where it is not there."""
    try:
        status = os.statvfs(path)
    except OSError:
        return None
    free = status.f_bavail * status.f_frsize
    inodes = 100 * status.f_favail / status.f_files if status.f_files else 100.0
    percent = 100 * status.f_bavail / status.f_blocks if status.f_blocks else 100.0
    return Disk(path, free, round(percent, 1), round(inodes, 1), bool(status.f_flag & os.ST_RDONLY))


def full(disk: Disk) -> bool:
    """Whether nothing can be written any more that is worth it."""
    return disk.free_bytes < FULL_BYTES or disk.free_percent < FULL_PERCENT or disk.free_inodes_percent < FULL_PERCENT


def _disks(data: str) -> list[Disk]:
    found: dict[tuple[int, float], Disk] = {}
    for path in (f"{data}/server/db", data, "/var/lib/rancher", "/var/log", "/"):
        one = disk(path)
        # the same file system once
        if one is not None:
            found.setdefault((one.free_bytes, one.free_inodes_percent), one)
    return list(found.values())


def _memory() -> int:
    match = re.search(r"MemAvailable:\s*(\d+) kB", read_text(Path("/proc/meminfo")))
    return int(match[1]) << 10 if match else 0


@dataclass(frozen=True)
class _Tokens:
    """Secrets of this server, for comparing and for blotting out; they leave this module nowhere."""

    configured: str
    stored: str
    written: list[str]  # all that are in the configuration, also where another one counts

    @property
    def matches(self) -> bool | None:
        return self.configured == self.stored if self.configured and self.stored else None


def written_tokens(root: Path, configuration: Configuration) -> Iterable[str]:
    """Tokens as they are written in the configuration, the one that counts first; secrets, for comparing only."""
    counting = configuration.items("token")[::-1]
    others = [one for one in configuration.settings if one.key == "token" and one not in counting]
    for one in [*counting, *others]:
        if 0 <= one.start < one.end:
            yield read_text(root / one.file.lstrip("/"))[one.start : one.end]


def _tokens(root: Path, configuration: Configuration, data: Path) -> _Tokens:
    stored = probes.secret_of(read_text(data / "server/token"))
    written = list(written_tokens(root, configuration))
    given = (written or [""])[0]
    file = configuration.text("token-file")
    if not given and file:
        given = read_text(root / file.lstrip("/"))
    return _Tokens(probes.secret_of(given), stored, [probes.secret_of(one) for one in written])


def _datastore(configuration: Configuration, data: Path, secret: str, *, whole: bool) -> Datastore:
    endpoint = configuration.text("datastore-endpoint")
    if endpoint and endpoint != "sqlite":
        return Datastore("external", endpoint)
    if (data / "server/db/etcd").is_dir():
        return Datastore("etcd", str(data / "server/db/etcd"))
    if (data / "server/db/state.db").is_file():
        return probes.database(data / "server/db/state.db", secret, whole=whole)
    return Datastore("etcd" if configuration.switch("cluster-init") else "none")


def _node_name(root: Path, configuration: Configuration, hostname: str) -> str:
    """As k3s makes it: with an identifier of its own behind it where `with-node-id` asks for that."""
    name = configuration.text("node-name") or hostname
    own = read_text(root / NODE_ID.lstrip("/")).strip() if configuration.switch("with-node-id") else ""
    return (f"{name}-{own}" if own else name).lower()


def _kept(directory: Path, hostname: str, data: Path) -> Kept | None:
    """The last verified backup that tells what it holds, of the timer's where there are such.

    None where somebody has restored one, or let the cluster be deleted, since it was made: then a difference is meant.
    """
    told = [one for one in store.backups(directory, "k3s") if one.verified and one.manifest.get("inventory")]
    told = [one for one in told if one.manifest.get("host", hostname) == hostname]
    # a recovery's own backup is of what it found, maybe of the new cluster
    last = next(reversed([one for one in told if one.reason == store.ROUTINE] or told), None)
    if last is None:
        return None
    try:
        made = datetime.fromisoformat(last.created).timestamp()
        aside = [one for mark in _ASIDE for one in (data / "server").glob(f"*{mark}*")]
        if any(one.lstat().st_ctime > made for one in aside):
            return None
        found = last.manifest["inventory"]
        return Kept(str(last.path), last.created, int(found["revision"]), [str(one) for one in found["namespaces"]])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def collect(
    *,
    root: Path = Path("/"),
    settle_seconds: float = 10,
    backups: str = store.DEFAULT_DIRECTORY,
) -> Facts:
    """Look at this server. Never raises for a broken one.

    A k3s that somebody has just started is waited for until it has run `settle_seconds`: it runs before it fails.
    """
    unit = probes.unit()
    if unit.running and unit.restarts == 0 and unit.running_seconds < settle_seconds:
        time.sleep(settle_seconds - unit.running_seconds)
        unit = probes.unit()
    configuration = settings_with_places(root)
    data = root / configuration.text("data-dir", DATA_FOLDER).lstrip("/")
    tokens = _tokens(root, configuration, data)
    secrets = [tokens.configured, *tokens.written, tokens.stored, read_text(root / NODE_PASSWORD.lstrip("/")).strip()]
    hostname = os.uname().nodename
    binary_version, binary_problem = probes.version(str(root / BINARY.lstrip("/")))
    port = configuration.text("https-listen-port", "6443")
    number = int(port) if port.isdigit() else 6443
    bind = configuration.text("bind-address", "127.0.0.1")
    host = "127.0.0.1" if bind in {"0.0.0.0", "::", "[::]"} else bind.strip("[]")  # noqa: S104  (read, not bound)
    kubeconfig = configuration.text("write-kubeconfig", f"{CONFIG_FOLDER}/k3s.yaml")
    answer = probes.api(str(root / kubeconfig.lstrip("/")))
    well = unit.running and not answer.problem
    missing = [name for name in ("server/db", "server/tls", "server/token") if not (data / name).exists()]
    return Facts(
        hostname=hostname,
        node_name=_node_name(root, configuration, hostname),
        now=probes.now(),
        binary_version=binary_version,
        binary_problem=binary_problem,
        unit=unit,
        configuration=configuration,
        network=read_network(),
        journal=journals.read(secrets),
        datastore=_datastore(configuration, data, tokens.configured or tokens.stored, whole=not well),
        certificates=listeners.certificates(data),
        served=listeners.served(host, number, data),
        api=answer,
        token_matches=tokens.matches,
        disks=_disks(str(data)),
        safe_mode=(root / f"{configuration.config}.d/{Path(SAFE_MODE).name}".lstrip("/")).exists(),
        data_dir=str(data),
        gone=missing,
        memory_available_bytes=_memory(),
        port=number,
        port_holder="" if unit.running else probes.port_holder(number),
        known_servers=probes.known_servers(data),
        wireguard=probes.wireguard_addresses(root),
        kept=_kept(root / backups.lstrip("/"), hostname, data),
        lan_discovery=probes.lan_discovery(),
    )
