"""A server that is well, as the probes would tell of it; each test makes one thing of it wrong."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.doctor.examination import judge
from ansible.module_utils.doctor.finding import Answer, Finding

NOW = 1_780_000_000.0
DAY = 86400.0
SERVICES = {
    "mongo": 1024, "redis": 300, "kafka": 1280, "edge": 128, "backend": 768, "frontend": 128, "coordinator": 160,
    "k8s-worker": 160, "pod-monitor": 160, "result-processor": 160,
}  # fmt: skip
WORKERS = ("coordinator", "k8s-worker", "pod-monitor", "result-processor")


def container(service: str, mib: int) -> dict[str, Any]:
    mounts = []
    if service in (*WORKERS, "backend"):
        mounts = [
            {"target": "/app/config.toml", "source": "/opt/integr8scode/files/a/config.toml", "kind": "file"},
            {"target": "/app/secrets.toml", "source": "/opt/integr8scode/secrets/b/secrets.toml", "kind": "file"},
        ]
    if service in WORKERS:
        source = f"/opt/integr8scode/files/c/config.{service}.toml"
        mounts.append({"target": f"/app/config.{service}.toml", "source": source, "kind": "file"})
    return {
        "id": service, "name": f"integr8scode-{service}-1", "service": service, "one_off": False,
        "working_dir": "/opt/integr8scode/releases/x", "image": f"registry.example/{service}", "state": "running",
        "health": None if service in WORKERS else "healthy", "exit_code": 0, "oom_killed": False, "error": "",
        "started_at": "", "restarts": 0, "pid": 100, "memory_limit": mib << 20, "restart_policy": "unless-stopped",
        "memory": {"used": mib << 19, "oom_kills": 0}, "mounts": mounts, "variables": {},
        "networks": {"integr8scode": "172.31.209.5"}, "host_gateway": "172.17.0.1",
    }  # fmt: skip


def well() -> dict[str, Any]:
    """What every probe says of a server that is well."""
    certificate = {
        "path": "/opt/x.crt", "problem": "", "names": ["app1.example.org"], "not_before": NOW - DAY,
        "not_after": NOW + 300 * DAY, "life_left": 0.9, "fingerprint": "aa",
    }  # fmt: skip
    unit = {"LoadState": "loaded", "UnitFileState": "enabled", "ActiveState": "active", "Result": "success"}
    return {
        "docker": {
            "version": "26.1.5", "root": "/var/lib/docker", "bridge_gateway": "172.17.0.1", "foreign": [],
            "containers": [container(name, mib) for name, mib in SERVICES.items()],
        },
        "units": {
            "units": {
                "docker.service": dict(unit), "integr8scode.service": dict(unit),
                "integr8scode-switch.service": {"LoadState": "not-found", "ActiveState": "inactive"},
                "integr8scode-backup.timer": dict(unit), "integr8scode-renew-kubeconfig.timer": dict(unit),
            },
            "docker_lines": [],
        },
        "memory": {
            "total_mib": 7800, "available_mib": 3000, "swap_free_mib": 0, "killed": [], "kernel_log_problem": "",
        },
        "records": {
            "release": {
                "id": "2026.2.20-abc", "images": dict.fromkeys([*SERVICES, "user-seed"], "registry.example/x"),
                "files": {f"config.{name}.toml": "" for name in WORKERS} | {"config.toml": ""},
            },
            "dangling": False, "environment": {"KAFKA_CLUSTER_ID": "MkU3OEVBNTcwNTJENDM2Qk"}, "lock": None,
            "history": [{"at": "2026-05-01", "action": "deploy", "result": "ok", "by": "ops"}],
            "jobs": {"backup": {"result": "ok"}, "renew-kubeconfig": {"result": "ok"}},
            "backups": {"k3s": NOW - DAY / 2, "application": NOW - DAY / 2},
        },
        "disks": [
            {"path": "/", "free_mib": 30000, "free_percent": 60.0, "inodes_percent": 80.0, "read_only": False},
        ],
        "clock": {"time": NOW, "container": False, "keeper": True, "synchronized": True},
        "trust": {
            "certificates": {
                kind: dict(certificate) for kind in ("public", "edge", "backend", "frontend", "authority")
            },
            "missing_names": [], "served": "aa",
        },
        "tokens": {
            name: {"path": f"/opt/{name}.yaml", "problem": "", "issued": NOW - DAY, "expires": NOW + 29 * DAY}
            for name in ("k8s-worker", "pod-monitor")
        },
        "edge": {
            "api": {"port": 443, "status": 200, "problem": ""}, "web": {"port": 5001, "status": 200, "problem": ""},
        },
        "firewalls": [],
        "names": {
            "names": {"registry.example": {"addresses": ["192.0.2.7"], "problem": ""}}, "servers": ["192.0.2.53"],
        },
        "logs": {f"integr8scode-{name}-1": ["INFO all is well"] for name in SERVICES},
        "mongo": {"places": {"mongo's own secret files": "accepted", "secrets.toml": "accepted"}, "same": True},
        "kafka": {
            "brokers": ["kafka:29092"], "cluster_id": "MkU3OEVBNTcwNTJENDM2Qk", "controller": 1,
            "topics": {"dev_execution_requested": 0, "__consumer_offsets": 0},
            "groups": {"execution-coordinator": 1, "k8s-worker": 1, "result-processor": 1, "saga-orchestrator": 1},
        },
        "redis": {"answer": "+PONG"},
        "kafka_volume": {
            "container": "MkU3OEVBNTcwNTJENDM2Qk", "volume": "MkU3OEVBNTcwNTJENDM2Qk", "source": "/var/lib/docker/v",
        },
        "inside": {
            "from": "k8s-worker", "gateway": "172.17.0.1", "bridge_gateway": "172.17.0.1", "port": 6443, "host": "open",
            "reached": "open", "dns": {"mongo": "", "kafka": ""}, "neighbours": {"mongo": "open", "kafka": "open"},
            "kubernetes": {
                "k8s-worker": {"status": 200, "kind": "", "problem": ""},
                "pod-monitor": {"status": 200, "kind": "", "problem": ""},
            },
        },
        "k3s": {
            "installed": True, "healthy": True, "refusal": "", "causes": [], "warnings": [], "network": [],
            "expected_ip": "192.0.2.10", "version": "v1.34.4+k3s1", "unit": {}, "api_problem": "",
        },
    }  # fmt: skip


class Case:
    """A server to make ill: `at` is what the probes say, `silent` which of them said nothing, and why."""

    def __init__(self) -> None:
        self.at = copy.deepcopy(well())
        self.silent: dict[str, str] = {}
        self.settings: dict[str, Any] = {"now": NOW, "controller_time": NOW, "base": "/opt/integr8scode"}

    def service(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(one for one in self.at["docker"]["containers"] if one["service"] == name)
        return found

    def findings(self, *checks: str) -> list[Finding]:
        answers = {name: Answer(value) for name, value in self.at.items()}
        answers |= {name: Answer(problem=problem) for name, problem in self.silent.items()}
        return judge("app1", answers, self.settings, checks)

    def bad(self, *checks: str) -> list[Finding]:
        """What is not well, of these checks or of all."""
        return [one for one in self.findings(*checks) if one.status != "ok"]

    def only(self, check: str, status: str) -> Finding:
        """The one thing that is not well on the whole server, which must be this."""
        bad = self.bad()
        assert [(one.check, one.status) for one in bad] == [(check, status)], bad
        assert bad[0].why
        assert bad[0].cure
        return bad[0]


@pytest.fixture
def case() -> Case:
    return Case()


@pytest.fixture
def quick() -> Callable[[], float]:
    """Seconds since the test began."""
    began = time.monotonic()
    return lambda: time.monotonic() - began
