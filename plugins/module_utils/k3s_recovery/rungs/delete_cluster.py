"""The deletion that the guide begins with: a new, empty cluster. Only by name, after a backup; moved, not deleted."""

from __future__ import annotations

from ansible.module_utils.k3s_recovery.rungs.base import Context, Rung, RungError
from ansible.module_utils.k3s_recovery.rungs.leftovers import clean

MOVED = ("db", "tls", "cred")


class DeleteCluster(Rung):
    """Stop, end what outlives k3s, move its state aside, start. Token and configuration stay."""

    name = "delete_cluster"
    finishes = True

    def unsuitable(self, context: Context) -> str:
        """Never without the name, a backup of what is there, and a datastore of which one can be made."""
        if not context.settings.allow_delete:
            return "it was not asked for by this server's name"
        if (context.diagnosis.facts.get("datastore") or {}).get("kind") == "external":
            return "the cluster is in an external datastore, from which k3s would take it back"
        if not context.record.backup.get("path"):
            return "there is no backup of what it would destroy"
        return ""

    def apply(self, context: Context) -> str:
        """Each step can be done again after a kill."""
        context.step("stop")
        context.machine.stop()
        context.step("end what outlives k3s")
        problems = clean(context.machine, context.data)
        suffix = f"before-delete-{context.record.id}"
        context.step("move the cluster aside", suffix=suffix)
        moved = []
        for name in MOVED:
            place = context.server(name)
            aside = place.with_name(f"{name}.{suffix}")
            # with both there, k3s was started already: what is in its place now is the new cluster's
            if place.exists() and not aside.exists():
                place.rename(aside)
            moved += [str(aside)] if aside.exists() else []
        self._name_the_loss(context)
        context.step("start")
        context.machine.start(new_cluster=True)
        told = f" {' '.join(problems)}." if problems else ""
        return f"The cluster was moved aside ({', '.join(moved) or 'nothing was left of it'}) and a new one made.{told}"

    @staticmethod
    def _name_the_loss(context: Context) -> None:
        before = context.record.before.get("inventory") or {}
        if before:
            context.record.add_lost(
                f"The whole cluster: namespaces {', '.join(before['namespaces'])}; {before['objects']} objects, every "
                f"token and kubeconfig that it ever issued. It is in the backup."
            )
        else:
            context.record.add_lost("The whole cluster, which nobody could read any more.")

    def undo(self, context: Context) -> str:
        """The old state back in its place; the new one is kept beside it."""
        suffix = context.entry.data.get("suffix")
        if not suffix:
            return ""
        context.machine.stop()
        back = []
        for name in MOVED:
            place = context.server(name)
            aside = place.with_name(f"{name}.{suffix}")
            if not aside.exists():
                continue
            if place.exists():
                new = place.with_name(f"{name}.not-wanted-{context.record.id}")
                if new.exists():
                    raise RungError(f"{new} is in the way; move it away, then {aside} to {place}.")
                place.rename(new)
            aside.rename(place)
            back.append(str(place))
        context.record.lost = [line for line in context.record.lost if not line.startswith("The whole cluster")]
        return f"{', '.join(back)} put back as before." if back else ""
