"""The token that the datastore was made with, put back where k3s reads it; proven to fit before it is written."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible.module_utils.backups.store import BackupError
from ansible.module_utils.k3s_common import CONFIG_FOLDER, token_secret
from ansible.module_utils.k3s_recovery.configuration import Setting, settings_with_places
from ansible.module_utils.k3s_recovery.rungs.base import Context, Rung, RungError, keep, put_back, replace, written
from ansible.module_utils.k3s_recovery.unit_words import read_text
from ansible.module_utils.kine_database import bootstrap_key, bootstrap_keys

# The characters that need no quotes in YAML, in a unit and in an environment file.
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._+/=-]*")


class Token(Rung):
    """Find the token that fits, write it, restart."""

    name = "token"

    def unsuitable(self, context: Context) -> str:
        """Only SQLite can be asked while k3s does not run."""
        kind = (context.diagnosis.facts.get("datastore") or {}).get("kind")
        return "" if kind == "sqlite" else f"the datastore is {kind}: which token fits cannot be proven"

    def apply(self, context: Context) -> str:
        """Where k3s reads its token: a token-file, a setting, or its own copy.

        The datastore keeps its copy of certificates and keys below a key made from the token: that is the proof.
        """
        context.step("stop")
        context.machine.stop()
        keys = bootstrap_keys(context.server("db/state.db"))
        fitting = (
            (source, secret) for source, secret in self._candidates(context) if secret and bootstrap_key(secret) in keys
        )
        source, secret = next(fitting, ("", ""))
        if not secret:
            raise RungError(
                "No token that fits the datastore was found, neither on this server nor in a backup. Put the right one "
                f"into {self._place(context)} (and into the inventory's vault: k3s_token), then run again."
            )
        place = self._write(context, secret)
        context.step("start")
        context.machine.start()
        return f"The token of {source}, which fits the datastore, was written to {place}."

    @staticmethod
    def _settings(context: Context) -> tuple[list[Setting], str]:
        """Where `token` is set outright, and the token-file."""
        found = settings_with_places(context.machine.path("/"))
        return list(found.items("token")), found.text("token-file")

    def _place(self, context: Context) -> str:
        settings, file = self._settings(context)
        return settings[-1].file if settings else file or f"{context.data}/server/token"

    def _candidates(self, context: Context) -> Iterator[tuple[str, str]]:
        """Tokens with where they are from: this server's own copies first, then the backups' from the newest on."""
        _settings, file = self._settings(context)
        paths = [f"{context.data}/server/token", file, f"{CONFIG_FOLDER}/token"]
        paths = list(dict.fromkeys(path for path in paths if path))
        for path in paths:
            real = context.machine.path(path)
            if real.is_file():
                yield path, token_secret(real.read_text(encoding="utf-8", errors="replace"))
        for backup in context.machine.backups():
            for path in paths:
                try:
                    content = context.machine.read_member(backup, path.lstrip("/"))
                except BackupError:
                    continue
                yield f"the backup {backup.path}", token_secret(content.decode(errors="replace"))

    def _write(self, context: Context, secret: str) -> str:
        """Write it to the place that counts; that place."""
        settings, file = self._settings(context)
        if not settings:
            path = file or f"{context.data}/server/token"
            keep(context, [path])
            context.step("write the token")
            replace(context.machine.path(path), f"{secret}\n".encode())
            if file:
                written(context)
            return path
        setting = settings[-1]
        if not (0 <= setting.start < setting.end and PLAIN.fullmatch(secret)):
            raise RungError(f"The token in {setting.place} cannot be replaced safely. Correct it there yourself.")
        text = read_text(context.machine.path(setting.file))
        keep(context, [setting.file])
        context.step("write the token")
        changed = text[: setting.start] + secret + text[setting.end :]
        replace(context.machine.path(setting.file), changed.encode("utf-8", "surrogateescape"))
        written(context)
        return setting.place

    def undo(self, context: Context) -> str:
        """The file as it was."""
        context.machine.stop()
        return put_back(context)
