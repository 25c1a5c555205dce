"""Certificates and keys that differ from the datastore's copy are put aside: k3s writes the copy back at its start."""

from __future__ import annotations

from ansible.module_utils.atomic_files import sync_folder
from ansible.module_utils.k3s_recovery.rungs.base import Context, Rung, RungError, keep, put_back


def files_of(context: Context) -> list[str]:
    """The files that the causes of this rung name."""
    causes = [cause for cause in context.diagnosis.causes if cause.rung == BootstrapFiles.name]
    return sorted({str(path) for cause in causes for path in cause.details.get("files", [])})


class BootstrapFiles(Rung):
    """Put aside, restart."""

    name = "bootstrap_files"

    def unsuitable(self, context: Context) -> str:
        """Nothing to put aside, or nothing that would write it again."""
        if not files_of(context):
            return "no certificate or key is named as newer than the datastore's"
        if (context.diagnosis.facts.get("datastore") or {}).get("kind") == "none":
            return "there is no datastore that holds a copy of them"
        return ""

    def apply(self, context: Context) -> str:
        """Only files below the server's own tls and cred folders, and only what was named."""
        files = files_of(context)
        foreign = [path for path in files if not path.startswith(f"{context.data}/server/") or ".." in path]
        if foreign:
            raise RungError(f"{', '.join(foreign)}: not a file of k3s' own. Nothing was put aside.")
        context.step("stop")
        context.machine.stop()
        keep(context, files)
        context.step("put aside")
        for path in files:
            real = context.machine.path(path)
            real.unlink(missing_ok=True)
            sync_folder(real.parent)
        context.step("start")
        context.machine.start()
        return f"{', '.join(files)} put aside (kept in {context.record.folder}); k3s wrote the datastore's copy again."

    def undo(self, context: Context) -> str:
        """The files as they were."""
        context.machine.stop()
        return put_back(context)
