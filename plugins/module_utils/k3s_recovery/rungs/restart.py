"""A plain restart: all that a server needs whose cause went away by itself."""

from __future__ import annotations

from ansible.module_utils.k3s_recovery.rungs.base import Context, Rung


class Restart(Rung):
    """Stop and start."""

    name = "restart"

    def apply(self, context: Context) -> str:
        """Stop and start."""
        context.step("restart")
        context.restart()
        return "k3s was stopped and started."
