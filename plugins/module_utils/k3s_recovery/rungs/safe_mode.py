"""A start without network policies, so that k3s can write its node's new address; then one with them again."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.atomic_files import sync_folder
from ansible.module_utils.k3s_recovery.configuration import settings_with_places
from ansible.module_utils.k3s_recovery.machine import SAFE_MODE, Machine
from ansible.module_utils.k3s_recovery.rungs.base import Context, Rung, RungError, replace

TEXT = (
    "# Written by the recovery of k3s for a minute: network policies are not enforced while it is here.\n"
    "# Left behind? Run playbooks/recover-k3s.yml again, it takes it away.\n"
    "disable-network-policy: true\n"
)
# The node has to be right for so long before policies are switched on again.
SETTLE_SECONDS = 5


def drop_in(machine: Machine) -> Path:
    """The file of the safe mode: k3s reads drop-ins beside its config.yaml, wherever that is."""
    return machine.path(f"{settings_with_places(machine.path('/')).config}.d/{Path(SAFE_MODE).name}")


def enter(context: Context) -> None:
    """Start k3s without network policies. Raises RecordError, MachineError, OSError."""
    context.step("stop")
    context.machine.stop()
    context.step("write the safe-mode drop-in")
    replace(drop_in(context.machine), TEXT.encode())
    context.step("start without network policies", policies_off_at=context.machine.now())
    context.machine.start()


def leave(context: Context) -> bool:
    """Take the drop-in away and stop k3s, which has read it; whether it was there. Counts the time without policies.

    Raises RecordError, MachineError, OSError.
    """
    path = drop_in(context.machine)
    if not path.exists() and "policies_off_at" not in context.entry.data:
        return False
    context.step("leave safe mode")
    context.machine.stop()
    path.unlink(missing_ok=True)
    if path.parent.is_dir():
        sync_folder(path.parent)
    since = context.entry.data.pop("policies_off_at", None)
    if since is not None:
        context.record.network_policy_off_seconds += max(0.0, context.machine.now() - float(since))
    context.record.save()
    return True


class SafeMode(Rung):
    """Network policies off, wait for the address, on again."""

    name = "safe_mode"

    def unsuitable(self, context: Context) -> str:
        """Nothing to switch off where it is off for good."""
        if context.diagnosis.facts.get("network_policy_disabled") and not drop_in(context.machine).exists():
            return "network policies are switched off in the configuration already"
        return ""

    def apply(self, context: Context) -> str:
        """Without policies until the node is right, then restart with them."""
        left_behind = drop_in(context.machine).exists()
        if not (left_behind and not context.node().problem):
            enter(context)
            problem = context.wait_up(stable=SETTLE_SECONDS)
            if problem:
                raise RungError(f"Without network policies k3s did not come up with the new address either: {problem}.")
        leave(context)
        context.step("start with network policies")
        context.machine.start()
        return "k3s ran without network policies until its node had the new address, then was started with them again."

    def undo(self, context: Context) -> str:
        """Take the drop-in away."""
        return "The safe mode was ended." if leave(context) else ""
