"""k3s' own certificate rotation, for x509 errors only; authorities and the service accounts' key stay."""

from __future__ import annotations

import shutil

from ansible.module_utils.k3s_common import BINARY
from ansible.module_utils.k3s_recovery.rungs.base import Context, Rung, RungError

SERVICES = "k3s-server,api-server,kubelet"
ROTATE_SECONDS = 120
COPY = "tls"


class Certificates(Rung):
    """Stop, rotate, start; the whole tls folder is copied before."""

    name = "certificates"

    def apply(self, context: Context) -> str:
        """Rotate with k3s stopped, as its manual says."""
        tls = context.server("tls")
        copy = context.record.folder / COPY
        context.step("stop")
        context.machine.stop()
        context.step("copy tls")
        if not (context.entry.data.get("copied") and copy.is_dir()):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(tls, copy, symlinks=True)
        context.step("rotate", copied=True)
        # this command reads no config.yaml, so it has to be told where the data are
        command = [BINARY, "certificate", "rotate", "--data-dir", context.data, "--service", SERVICES]
        done = context.machine.run(command, timeout=ROTATE_SECONDS)
        if done.code != 0:
            raise RungError(f"'k3s certificate rotate' failed: {done.words}.")
        context.step("start")
        context.machine.start()
        return f"k3s signed its certificates again ({SERVICES}); the old ones are kept in {copy}."

    def undo(self, context: Context) -> str:
        """The tls folder as it was. What the rotation made stays beside the record."""
        copy, tls = context.record.folder / COPY, context.server("tls")
        if not (context.entry.data.get("copied") and copy.is_dir()):
            return ""
        context.machine.stop()
        fresh, aside = tls.with_name("tls.recovery-new"), tls.with_name("tls.recovery-undone")
        for folder in (fresh, aside):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(copy, fresh, symlinks=True)
        if tls.exists():
            tls.rename(aside)
        fresh.rename(tls)
        shutil.rmtree(aside, ignore_errors=True)
        return f"{tls} put back as before."
