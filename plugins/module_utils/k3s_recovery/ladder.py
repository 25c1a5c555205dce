"""Which rung comes next: from the causes of the diagnosis, the least destructive first, none twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ansible.module_utils.k3s_recovery.diagnosis import LADDER, Cause

DELETE = "delete_cluster"
# What still makes sense for the same cause after a rung did not heal it. Nothing here loses what a cause does not say
# is lost already, but the snapshot of an etcd that a reset did not bring back.
FALLBACKS = {
    "restart": ("safe_mode", "node_object"),
    "configuration": ("safe_mode", "node_object"),
    "safe_mode": ("node_object",),
    "cluster_reset": ("snapshot_restore",),
}
# Causes for which the diagnosis names no rung, since it depends on a backup or on time.
WAITING = "waiting_for_address"
GONE = "database_missing_all_gone"
# What may start k3s where its database is missing: anything else would make it begin a new, empty cluster.
WITHOUT_DATABASE = ("restore",)


@dataclass(frozen=True)
class Wishes:
    """What may be tried. `only`: these and nothing else, whatever the diagnosis says."""

    only: Collection[str] = ()
    skip: Collection[str] = ()
    allow_delete: bool = False
    have_backup: bool = False


@dataclass(frozen=True)
class Choice:
    """A rung and the cause that it is for; "" when it was only asked for."""

    rung: str
    cause: str = ""


def first_rung(cause: Cause, wishes: Wishes) -> str:
    """The rung that a cause begins with; "" when none can heal it."""
    if cause.id == WAITING:
        return "restart"
    if cause.id == GONE and not cause.rung:
        return "restore" if wishes.have_backup else ""
    return cause.rung


def plan(causes: Sequence[Cause], wishes: Wishes, tried: Collection[str] = ()) -> list[Choice]:
    """The rungs that would be tried if none healed, in that order: each cause's own first, then what else helps.

    The deletion stands at the end, and only where it was asked for by name and nothing waits for a person: a wrong
    clock or a full disk is no reason to lose a cluster. Without a database the restore is the only other one.
    """
    own: dict[str, str] = {}
    further: dict[str, str] = {}
    for cause in causes:
        first = first_rung(cause, wishes)
        own.setdefault(first, cause.id)
        for name in FALLBACKS.get(first, ()):
            further.setdefault(name, cause.id)
    if wishes.only:
        ordered = [Choice(name, own.get(name, further.get(name, ""))) for name in LADDER if name in wishes.only]
    else:
        ordered = [Choice(name, own[name]) for name in LADDER if name in own]
        ordered += [Choice(name, further[name]) for name in LADDER if name in further and name not in own]
    missing = any(cause.id == GONE or cause.details.get("missing") for cause in causes)
    possible = WITHOUT_DATABASE if missing else LADDER
    allowed = [choice for choice in ordered if choice.rung in possible and choice.rung != DELETE]
    for_a_person = any(not first_rung(cause, wishes) and cause.id != GONE for cause in causes)
    if wishes.allow_delete and causes and not for_a_person and (not wishes.only or DELETE in wishes.only):
        allowed.append(Choice(DELETE, causes[0].id))
    return [choice for choice in allowed if choice.rung not in wishes.skip and choice.rung not in tried]
