"""From facts to causes: what is wrong with k3s, in plain sentences, and which rung of the recovery heals it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.k3s_recovery.facts import Facts

LADDER = (
    "restart", "configuration", "safe_mode", "node_object", "bootstrap_files", "node_password", "certificates", "token",
    "cluster_reset", "snapshot_restore", "restore", "delete_cluster",
)  # fmt: skip


@dataclass(frozen=True)
class Cause:
    """Something that is wrong. `details`: `edits` (of dicts as configuration.Edit) for configuration, `files` for
    bootstrap_files, `node` for node_object and node_password."""

    id: str
    sentence: str
    evidence: list[str]
    rung: str
    cure: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Diagnosis:
    """The judgement of one look at a server."""

    healthy: bool
    causes: list[Cause]
    warnings: list[str]
    refusal: str
    facts: dict[str, Any]
    expected_ip: str = ""  # the InternalIP that the node must have


def diagnose(facts: Facts, *, node_ip: str = "") -> Diagnosis:
    """Judge. `node_ip` is the address that the operator gives ('' when none; two with a comma between)."""
    raise NotImplementedError


def sentences(diagnosis: Diagnosis) -> list[str]:
    """The diagnosis as lines for a person."""
    raise NotImplementedError
