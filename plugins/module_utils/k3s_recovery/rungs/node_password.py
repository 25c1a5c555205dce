"""The node's password as the cluster knows it, from the last good backup; else the cluster forgets the one it knows."""

from __future__ import annotations

from ansible.module_utils.backups.store import BackupError
from ansible.module_utils.k3s_recovery.machine import NODE_PASSWORD
from ansible.module_utils.k3s_recovery.rungs.base import Context, Rung, RungError, keep, put_back, replace, written


class NodePassword(Rung):
    """Put the backup's password back and see whether it is taken; else delete the cluster's record of it."""

    name = "node_password"

    def apply(self, context: Context) -> str:
        """The gentler way first; each is judged by what k3s does with it."""
        keep(context, [NODE_PASSWORD])
        password = self._from_backups(context)
        if password:
            context.step("write the backup's password")
            context.machine.stop()
            replace(context.machine.path(NODE_PASSWORD), password)
            written(context)
            context.step("try the backup's password")
            context.machine.start()
            if not context.wait_up():
                return f"{NODE_PASSWORD} was put back from the backup."
            context.step("put the password back")
            context.machine.stop()
            put_back(context)
        return self._forget(context)

    @staticmethod
    def _from_backups(context: Context) -> bytes:
        """Another password than the present one, from the newest backup that has one; empty when there is none."""
        present = context.machine.path(NODE_PASSWORD)
        now = present.read_bytes().strip() if present.exists() else b""
        for backup in context.machine.backups():
            try:
                password = context.machine.read_member(backup, NODE_PASSWORD.lstrip("/"))
            except BackupError:
                continue
            if password.strip() and password.strip() != now:
                return password
        return b""

    @staticmethod
    def _forget(context: Context) -> str:
        """Delete the Secret with the hash; k3s stores that of the present password at its next start."""
        context.step("start for its API")
        if not context.machine.unit().running:
            context.machine.start()
        deadline = context.machine.uptime() + context.settings.timeout_seconds
        while not context.machine.answers():
            if context.machine.uptime() > deadline:
                raise RungError("The API does not come up, so the stored node password cannot be reached.")
            context.machine.sleep(1)
        name = f"{context.node_name}.node-password.k3s"
        context.step("delete the stored node password")
        answer = context.machine.request("DELETE", f"/api/v1/namespaces/kube-system/secrets/{name}")
        if answer.status not in (200, 202, 404):
            raise RungError(f"Secret kube-system/{name} could not be deleted: {answer.message}.")
        context.step("restart")
        context.restart()
        return f"Secret kube-system/{name} was deleted, and k3s stored the present password of {NODE_PASSWORD} anew."

    def undo(self, context: Context) -> str:
        """The file as it was. The Secret comes back by itself."""
        context.machine.stop()
        return put_back(context)
