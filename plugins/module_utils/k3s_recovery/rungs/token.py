"""The token that the datastore was made with, put back where k3s reads it; proven to fit before it is written."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ansible.module_utils.backups.store import BackupError
from ansible.module_utils.k3s_common import CONFIG_FOLDER, token_secret
from ansible.module_utils.k3s_recovery.configuration import Setting, settings_with_places
from ansible.module_utils.k3s_recovery.rungs.base import Context, Rung, RungError, keep, put_back, replace

# The characters that need no quotes in YAML, in a unit and in an environment file.
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._+/=-]*")


def fits(database: Path, secret: str) -> bool:
    """Whether the datastore's copy of certificates and keys was made with this token: its key is made from it.

    Raises RungError when the database cannot be asked.
    """
    name = f"/bootstrap/{hashlib.sha256(secret.encode()).hexdigest()[:12]}"
    try:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)
        try:
            row = connection.execute("SELECT 1 FROM kine WHERE name = ? AND deleted = 0", (name,)).fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise RungError(f"{database} cannot be asked which token fits: {error}.") from error
    return row is not None


class Token(Rung):
    """Find the token that fits, write it, restart."""

    name = "token"

    def unsuitable(self, context: Context) -> str:
        """Only SQLite can be asked while k3s does not run."""
        kind = (context.diagnosis.facts.get("datastore") or {}).get("kind")
        return "" if kind == "sqlite" else f"the datastore is {kind}: which token fits cannot be proven"

    def apply(self, context: Context) -> str:
        """Where k3s reads its token: a token-file, a setting, or its own copy."""
        context.step("stop")
        context.machine.stop()
        database = context.server("db/state.db")
        fitting = (
            (source, secret) for source, secret in self._candidates(context) if secret and fits(database, secret)
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
            return path
        if not PLAIN.fullmatch(secret):
            raise RungError(
                f"The right token holds characters that need quotes in {settings[-1].place}. Write it there yourself."
            )
        setting = settings[-1]
        keep(context, [setting.file])
        context.step("write the token")
        real = context.machine.path(setting.file)
        text = real.read_text(encoding="utf-8")
        replace(real, (text[: setting.start] + secret + text[setting.end :]).encode())
        return setting.place

    def undo(self, context: Context) -> str:
        """The file as it was."""
        context.machine.stop()
        files = put_back(context)
        return f"{', '.join(files)} put back as before." if files else ""
