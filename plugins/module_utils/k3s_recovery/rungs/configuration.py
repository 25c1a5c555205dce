"""Corrected addresses in k3s' configuration: each setting where it stands, the originals kept."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.k3s_recovery import configuration as config
from ansible.module_utils.k3s_recovery.rungs.base import Context, Rung, RungError, keep, put_back, written


def edits_of(context: Context) -> list[config.Edit]:
    """The edits that all causes of this rung ask for, each once: two stale settings are corrected together."""
    found: list[dict[str, Any]] = []
    for cause in context.diagnosis.causes:
        if cause.rung == Configuration.name:
            found += [edit for edit in cause.details.get("edits", []) if edit not in found]
    return [config.Edit(**edit) for edit in found]


class Configuration(Rung):
    """Edit, then restart."""

    name = "configuration"

    def unsuitable(self, context: Context) -> str:
        """Nothing to correct."""
        return "" if edits_of(context) else "no setting names an address or interface that this server lacks"

    def apply(self, context: Context) -> str:
        """Correct every place at once, so that no drop-in wins with the old address."""
        edits = edits_of(context)
        keep(context, sorted({edit.file for edit in edits}))
        context.step("stop")
        context.machine.stop()
        context.step("edit")
        try:
            config.apply(edits, context.machine.path("/"))
        except config.ConfigurationError as error:
            raise RungError(str(error)) from error
        written(context)
        context.step("start")
        context.machine.start()
        return f"{'; '.join(edit.sentence.rstrip('.') for edit in edits)}."

    def undo(self, context: Context) -> str:
        """The original files."""
        context.machine.stop()
        return put_back(context)
