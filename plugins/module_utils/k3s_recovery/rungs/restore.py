"""The last good backup, when the database itself is damaged or gone; what came after it is lost, and said."""

from __future__ import annotations

from datetime import datetime

from ansible.module_utils.backups.store import Backup
from ansible.module_utils.k3s_recovery.expected import remember_inventory
from ansible.module_utils.k3s_recovery.rungs.base import Context, Rung, RungError

# What belongs together in a cluster. Configuration and unit are this server's own and stay as they are.
PARTS = frozenset({"database", "token", "certificates", "node_password"})


def _moment(created: str) -> float:
    # Python 3.10 does not know the Z
    return datetime.fromisoformat(created.replace("Z", "+00:00")).timestamp()  # noqa: FURB162


def age(created: str, now: float) -> str:
    """How long ago a backup was made, for people."""
    seconds = now - _moment(created)
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172800 else f"{seconds / 86400:.0f} days"


def newest_first(backups: list[Backup], now: float) -> list[Backup]:
    """Backups by their time; where one is of the future, a clock was wrong, and the database's own revisions tell."""
    if all(_moment(backup.created) <= now for backup in backups):
        return sorted(backups, key=lambda backup: _moment(backup.created), reverse=True)
    return sorted(backups, key=lambda backup: (_revision(backup), _moment(backup.created)), reverse=True)


def _revision(backup: Backup) -> int:
    found = backup.manifest.get("inventory")
    return int(found.get("revision", 0)) if isinstance(found, dict) else 0


class Restore(Rung):
    """Stop, put back, start."""

    name = "restore"
    finishes = True

    def unsuitable(self, context: Context) -> str:
        """Nothing to put back, or a datastore of another kind."""
        if (context.diagnosis.facts.get("datastore") or {}).get("kind") == "etcd":
            return "the datastore is embedded etcd, which has snapshots of its own"
        return "" if context.machine.last_good() else "there is no backup that was found whole"

    def apply(self, context: Context) -> str:
        """What is there is moved aside by the restore itself, never deleted."""
        context.step("choose a backup")
        backup, parts = self._choose(context)
        context.step("stop", backup=str(backup.path), parts=sorted(parts))
        context.machine.stop()
        if not context.entry.data.get("restored"):
            context.step("restore")
            context.machine.restore(backup, parts)
            context.step("restored", restored=True)
        context.record.restored_from = str(backup.path)
        found = context.machine.inventory(context.server("db/state.db"))
        lost = context.record.before.get("inventory") or {}
        remember_inventory(context.record, found)
        when = age(backup.created, context.machine.now())
        revisions = int(lost["revision"]) - found.revision if lost.get("revision") else 0
        context.record.add_lost(
            f"All that changed in the cluster after the backup of {backup.created} ({when} ago)"
            f"{f', {revisions} revisions' if revisions > 0 else ''}."
        )
        context.step("start")
        context.machine.start()
        return f"The backup {backup.path} of {backup.created} ({when} old) was put back."

    @staticmethod
    def _choose(context: Context) -> tuple[Backup, set[str]]:
        """The newest backup that fits, and what is taken from it; after a kill the one that was begun with.

        A backup that was made while the token was wrong holds that one: then this server's own token may fit better.
        """
        begun = context.entry.data.get("backup")
        why_not = []
        for backup in newest_first(context.machine.backups(), context.machine.now()):
            if str(backup.path) == begun:
                return backup, set(context.entry.data["parts"])
            if begun or not backup.verified:
                continue
            for parts in (set(PARTS), set(PARTS - {"token"})):
                problems = context.machine.forbids(backup, parts)
                if not problems:
                    return backup, parts
            why_not += problems
        raise RungError(" ".join(["No backup can be put back.", *why_not[:2]]))

    def undo(self, context: Context) -> str:
        """Nothing: what was there could not be used, and lies beside what was put back."""
        if not context.entry.data.get("restored"):
            return ""
        return f"What was put back stays; what was there before lies beside it in {context.data}/server."
