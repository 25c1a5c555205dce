"""A server that breaks and heals as the facts say, with a clock of its own; it may be killed at any of its calls."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.backups.store import Backup, BackupError
from ansible.module_utils.k3s_node import UnitState
from ansible.module_utils.k3s_recovery.diagnosis import LADDER, Cause, Diagnosis
from ansible.module_utils.k3s_recovery.machine import SAFE_MODE, Answer, Finished, MachineError, NoDatastoreError
from ansible.module_utils.k3s_recovery.rungs.node_object import FINALIZER
from ansible.module_utils.kine_database import Inventory

OLD, NEW = "10.0.0.1", "10.0.0.2"
CONFIG = "/etc/rancher/k3s/config.yaml"
SERVER = "/var/lib/rancher/k3s/server"
NODE = "server1"
TOKEN = "the-token-of-the-datastore"


class Killed(BaseException):
    """The run was killed here; nothing catches it."""


def inventory_of(**more: Any) -> Inventory:
    """What the fake cluster holds."""
    values: dict[str, Any] = {
        "revision": 100,
        "keys": 5,
        "namespaces": ["default", "integr8scode"],
        "rbac": {
            "/registry/roles/integr8scode/k8s-worker": "aa",
            "/registry/clusterroles/system:node": "bb",
            "/registry/networkpolicies/integr8scode/executor-deny-all": "cc",
        },
        "objects": {"configmaps": 3, "events": 9},
        "nodes": [NODE],
        "bootstrap_keys": 1,
    }
    return Inventory(**{**values, **more})


@dataclass
class FakeServer:
    """See `Machine`. `faults` are cause ids; each goes away by what heals it on a real server, and by nothing else."""

    root: Path
    faults: set[str] = field(default_factory=set)
    never_heals: set[str] = field(default_factory=set)
    kill_at: int = -1
    hostname: str = NODE

    def __post_init__(self) -> None:
        self.calls = 0
        self.clock = 1_700_000_000.0
        # by how much somebody has set the clock
        self.clock_set = 0.0
        self.datastore = ""
        self.started_at: float | None = None
        self.starts = 0
        self.log: list[str] = []
        self.node: dict[str, Any] | None = self._new_node(OLD)
        self.node["metadata"]["uid"] = "first"
        # after how many seconds k3s' controller has let a deleted node go; never where it hangs
        self.controller_seconds = 2.0
        self.deleting_at = 0.0
        self.node["metadata"]["labels"].update({"tier": "single", "kubernetes.io/os": "linux"})
        self.node["metadata"]["annotations"] = {"owner": "me", "k3s.io/internal-ip": OLD}
        self.node["spec"]["taints"] = [{"key": "only", "value": "mine", "effect": "NoSchedule"}]
        self.node["spec"]["unschedulable"] = True
        self.address = OLD
        self.policies_off_ever = False
        self.cluster = "old"
        # what is not as `inventory_of` says
        self.holds: dict[str, Any] = {}
        self.the_backups: list[Backup] = []
        self.kept_backup = True
        self.restored = False
        # parts of a backup, by its file's name, that may not be put back
        self.unfit: dict[str, set[str]] = {}
        # as the unit was when it was looked at, where that is not what `unit` says
        self.found = "activating"
        # what the last backup tells of the cluster, as facts.Kept
        self.kept: dict[str, Any] | None = None
        # faults that k3s runs with
        self.harmless: set[str] = set()
        self._files()

    def _files(self) -> None:
        for path, text in {
            CONFIG: f"node-ip: {OLD}\n" if "node_ip_stale" in self.faults else "disable: [traefik]\n",
            "/etc/rancher/k3s/token": "wrong\n" if "token_mismatch" in self.faults else f"{TOKEN}\n",
            f"{SERVER}/tls/service.key": "the key",
            f"{SERVER}/tls/server-ca.crt": "bad" if "certificate_newer_than_datastore" in self.faults else "good",
            f"{SERVER}/cred/passwd": "x",
            "/etc/rancher/node/password": "wrong\n" if "node_password_rejected" in self.faults else "right\n",
            "/proc/self/mounts": "proc /proc proc rw 0 0\n",
        }.items():
            self.path(path).parent.mkdir(parents=True, exist_ok=True)
            self.path(path).write_text(text)
        database = self.path(f"{SERVER}/db/state.db")
        (database.parent / "etcd" if "etcd_membership" in self.faults else database.parent).mkdir(parents=True)
        connection = sqlite3.connect(database)
        connection.execute("CREATE TABLE kine (id INTEGER PRIMARY KEY, name TEXT, deleted INTEGER, value BLOB)")
        key = hashlib.sha256(TOKEN.encode()).hexdigest()[:12]
        connection.execute("INSERT INTO kine (name, deleted) VALUES (?, 0)", (f"/bootstrap/{key}",))
        connection.commit()
        connection.close()

    @staticmethod
    def _new_node(address: str) -> dict[str, Any]:
        return {
            "metadata": {
                "name": NODE,
                "uid": "",
                "labels": {"kubernetes.io/hostname": NODE},
                "annotations": {},
                "finalizers": [FINALIZER],
            },
            "spec": {"podCIDR": "10.42.0.0/24"},
            "status": {
                "addresses": [{"type": "InternalIP", "address": address}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }

    def _controller(self) -> None:
        """What k3s' controller and the API server do with a deleted node; nobody registers it again but a start."""
        if self.node is None or "deletionTimestamp" not in self.node["metadata"] or self.started_at is None:
            return
        finalizers = self.node["metadata"]["finalizers"]
        if self.clock - max(self.deleting_at, self.started_at) >= self.controller_seconds and FINALIZER in finalizers:
            finalizers.remove(FINALIZER)
        if not finalizers:
            self.node = None

    def _call(self, what: str) -> None:
        self._controller()
        self.calls += 1
        if self.calls == self.kill_at:
            raise Killed(what)

    # what is wrong, as it is now

    def wrong(self) -> set[str]:
        """The faults that hold now."""
        text = self.path(CONFIG).read_text() if self.path(CONFIG).exists() else ""
        holds = {
            "node_ip_stale": OLD in text,
            "token_mismatch": "wrong" in self.path("/etc/rancher/k3s/token").read_text(),
            "certificate_newer_than_datastore": self._read(f"{SERVER}/tls/server-ca.crt") == "bad",
            "safe_mode_left_on": self.path(SAFE_MODE).exists(),
        }
        return {fault for fault in self.faults if fault in self.never_heals or holds.get(fault, True)}

    def _read(self, path: str) -> str:
        real = self.path(path)
        return real.read_text() if real.exists() else ""

    def _crashes(self) -> bool:
        wrong = self.wrong() - {"safe_mode_left_on"} - self.harmless
        safe = self.path(SAFE_MODE).exists()
        stale = {"node_object_stale", "sticky_node_object"}
        return bool(wrong - (stale if safe else set()) - {"stopped"})

    # Machine

    def path(self, text: str) -> Path:
        return self.root / text.lstrip("/")

    def now(self) -> float:
        return self.clock + self.clock_set

    def uptime(self) -> float:
        return self.clock

    def sleep(self, seconds: float) -> None:
        self._call("sleep")
        self.clock += seconds

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: str = "") -> Finished:  # noqa: ARG002
        self._call(f"run {argv}")
        self.log.append(" ".join(argv))
        if "rotate" in argv:
            self.faults -= {"certificate_mismatch"} - self.never_heals
        if "--cluster-reset" in argv:
            self.faults -= {"etcd_membership"} - self.never_heals
        return Finished(0)

    def kill(self, pid: int) -> None:
        self.log.append(f"kill {pid}")

    def unit(self) -> UnitState:
        self._call("unit")
        if self.started_at is None:
            return self._unit("inactive", "dead", 0, "old")
        passed = self.clock - self.started_at
        if self._crashes():
            # runs for 3 s, waits for 5
            crashes, phase = divmod(passed, 8)
            active, sub = ("active", "running") if phase < 3 else ("activating", "auto-restart")
            return self._unit(active, sub, int(crashes), f"{self.starts}-{int(crashes)}")
        return self._unit("active", "running", 0, f"{self.starts}-0")

    @staticmethod
    def _unit(active: str, sub: str, restarts: int, invocation: str) -> UnitState:
        return UnitState(
            loaded=True, enabled=True, active=active, sub=sub, restarts=restarts, invocation=invocation, stale=False,
            active_since=0.0,
        )  # fmt: skip

    def start(self, *, new_cluster: bool = False) -> None:
        self._call("start")
        if self.started_at is not None:
            return
        if not new_cluster and self.datastore != "external" and not self.path(f"{SERVER}/db").exists():
            raise NoDatastoreError("k3s was not started: there is no database")
        self.log.append("start")
        self.started_at = self.clock
        self.starts += 1
        safe = self.path(SAFE_MODE).exists()
        self.policies_off_ever |= safe
        self.faults -= {"stopped"} - self.never_heals
        if not self.path(f"{SERVER}/tls/server-ca.crt").exists():
            self.path(f"{SERVER}/tls").mkdir(parents=True, exist_ok=True)
            self.path(f"{SERVER}/tls/server-ca.crt").write_text("good")
        if not self.path(f"{SERVER}/db").exists():
            self.path(f"{SERVER}/db").mkdir()
            self.cluster = "new"
            self.node = None
            self.faults -= {"database_damaged", "token_mismatch"} - self.never_heals
        if self.node is None:
            self.node = self._new_node(NEW)
            self.node["metadata"]["uid"] = str(self.starts)
            self.faults -= {"node_object_stale", "sticky_node_object"} - self.never_heals
        if safe and not self.wrong() - {"node_object_stale", "safe_mode_left_on", "sticky_node_object"}:
            self.faults -= {"node_object_stale"} - self.never_heals
        if not self._crashes() and "sticky_node_object" not in self.faults:
            self.node["status"]["addresses"][0]["address"] = NEW

    def stop(self) -> None:
        self._call("stop")
        self.log.append("stop")
        self.started_at = None

    def answers(self) -> bool:
        return self.started_at is not None

    def request(self, method: str, path: str, body: Any = None) -> Answer:
        self._call(f"{method} {path}")
        if self.started_at is None or self.wrong() & {"token_mismatch", "database_damaged"}:
            raise MachineError("the API does not answer: refused")
        if path.startswith("/api/v1/namespaces/kube-system/secrets/"):
            self.log.append(f"{method} secret")
            self.faults -= {"node_password_rejected"} - self.never_heals
            return Answer(200)
        if path == "/api/v1/nodes":
            return Answer(200, {"items": [self._copy()] if self.node else []})
        if self.node is None:
            return Answer(404, {"message": "not found"})
        if method == "DELETE":
            self.log.append("delete node")
            self.node["metadata"]["deletionTimestamp"] = "now"
            self.deleting_at = self.clock
            return Answer(200)
        if method == "PATCH":
            self.log.append("patch node")
            metadata = self.node["metadata"]
            for key, value in body.get("metadata", {}).items():
                metadata[key] = {**metadata[key], **value} if isinstance(value, dict) else value
            self.node["spec"].update(body.get("spec", {}))
            answer = Answer(200, self._copy())
            self._controller()
            return answer
        return Answer(200, self._copy())

    def _copy(self) -> dict[str, Any]:
        copied: dict[str, Any] = json.loads(json.dumps(self.node))
        return copied

    def diagnose(self, node_ip: str) -> Diagnosis:
        rungs = {
            "node_ip_stale": "configuration", "node_object_stale": "safe_mode", "sticky_node_object": "safe_mode",
            "safe_mode_left_on": "safe_mode", "token_mismatch": "token", "stopped": "restart", "unknown": "restart",
            "certificate_newer_than_datastore": "bootstrap_files", "certificate_mismatch": "certificates",
            "node_password_rejected": "node_password", "database_damaged": "restore",
            "etcd_membership": "cluster_reset", "advertise_address_stale": "configuration",
        }  # fmt: skip
        edits = [{
            "file": CONFIG, "line": 1, "offset": 9, "before": OLD, "after": NEW, "source": "yaml",
            "sentence": f"node-ip in {CONFIG}:1 is {NEW} now.",
        }]  # fmt: skip
        details: dict[str, dict[str, Any]] = {"node_ip_stale": {"edits": edits}}
        if not self.path(f"{SERVER}/db").exists():
            details["database_damaged"] = {"missing": True}
        details["certificate_newer_than_datastore"] = {"files": [f"{SERVER}/tls/server-ca.crt"]}
        wrong = self.wrong()
        if self.path(SAFE_MODE).exists():
            wrong |= {"safe_mode_left_on"}
        if not wrong and self.started_at is None:
            wrong = {"stopped"}
        causes = [Cause(one, f"{one}.", [], rungs.get(one, ""), details=dict(details.get(one, {}))) for one in wrong]
        order = [*LADDER, ""]
        return Diagnosis(
            healthy=not wrong,
            causes=sorted(causes, key=lambda cause: order.index(cause.rung)),
            warnings=[],
            refusal="",
            facts={
                "node_name": NODE,
                "datastore": {"kind": self.datastore or ("etcd" if "etcd_membership" in self.faults else "sqlite")},
                "unit": {"running_seconds": 0.0, "active": self.found},
                "kept": self.kept,
                "api": {"nodes": [{"internal_ips": [OLD]}]},
            },
            expected_ip=node_ip or NEW,
        )

    def inventory(self, database: Path) -> Inventory:  # noqa: ARG002
        if self.cluster == "new":
            return inventory_of(revision=5, namespaces=["default"], rbac={}, objects={})
        return inventory_of(**self.holds)

    def last_good(self) -> Backup | None:
        return self.the_backups[0] if self.the_backups else None

    def backups(self) -> list[Backup]:
        return self.the_backups

    def intact(self, path: str) -> bool:  # noqa: ARG002
        return self.kept_backup

    def forbids(self, backup: Backup, parts: set[str]) -> list[str]:
        return [
            f"{part} of {backup.path} does not fit" for part in sorted(self.unfit.get(backup.path.name, set()) & parts)
        ]

    def restore(self, backup: Backup, parts: set[str]) -> list[str]:  # noqa: ARG002
        self._call("restore")
        self.log.append(f"restore {sorted(parts)}")
        self.restored = True
        self.path(f"{SERVER}/db").mkdir(exist_ok=True)
        self.faults -= {"database_damaged"} - self.never_heals
        return ["state.db was put back."]

    def read_member(self, backup: Backup, name: str) -> bytes:
        members: dict[str, bytes] = backup.manifest["fake_members"]
        if name not in members:
            raise BackupError(f"no {name}")
        return members[name]
