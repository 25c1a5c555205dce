"""The users of a data directory. Kept beside the data, since the wire protocol server has none."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .scram import MECHANISMS, Credentials, make_credentials

ROOT_ROLE = {"role": "root", "db": "admin"}


class UserError(Exception):
    """A command about users is refused, in mongod's words and with its code."""

    def __init__(self, code: int, name: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.name = name


class Users:
    """Users by database and name. There are no roles but root@admin, so none other can be created."""

    def __init__(self, path: Path) -> None:
        """Read what is there.

        Args:
            path: JSON file, made at the first change.
        """
        self._path = path
        self._users: dict[str, dict[str, Any]] = {}
        if path.exists():
            self._users = json.loads(path.read_text(encoding="utf-8"))

    @staticmethod
    def _key(database: str, user: str) -> str:
        return f"{database}.{user}"

    def _save(self) -> None:
        temporary = self._path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(self._users, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)

    def _set(self, database: str, user: str, password: Any) -> None:
        if not isinstance(password, str) or not password:
            raise UserError(2, "BadValue", "Password cannot be empty")
        try:
            credentials = {name: asdict(make_credentials(name, user, password)) for name in MECHANISMS}
        except ValueError as error:
            raise UserError(2, "BadValue", f"Error preflighting UTF-8 conversion: {error}") from None
        self._users[self._key(database, user)] = {"user": user, "db": database, "credentials": credentials}
        self._save()

    def find(self, database: str, user: str, mechanism: str) -> Credentials | None:
        """Credentials for a login, or None."""
        record = self._users.get(self._key(database, user))
        return Credentials(**record["credentials"][mechanism]) if record else None

    def exists(self, database: str, user: str) -> bool:
        """Is there such a user?"""
        return self._key(database, user) in self._users

    def create(self, database: str, user: Any, command: dict[str, Any]) -> None:
        """The command createUser.

        Raises:
            UserError: the user exists, no password, or other roles than root@admin.
        """
        if not isinstance(user, str) or not user:
            raise UserError(2, "BadValue", "User document needs 'user' field to be non-empty")
        roles = [{"role": role, "db": database} if isinstance(role, str) else role for role in command.get("roles", [])]
        if database != "admin" or roles != [ROOT_ROLE]:
            raise UserError(
                115,
                "CommandNotSupported",
                "The lab's stand-in for mongo knows only users of database admin with the one role root",
            )
        if self.exists(database, user):
            raise UserError(51003, "Location51003", f'User "{user}@{database}" already exists')
        self._set(database, user, command.get("pwd"))

    def update(self, database: str, user: Any, command: dict[str, Any]) -> None:
        """The command updateUser, of which only the password can change.

        Raises:
            UserError: no such user, no password, or something else is to change.
        """
        if not self.exists(database, str(user)):
            raise UserError(11, "UserNotFound", f'Could not find user "{user}" for db "{database}"')
        if not {"roles", "customData", "mechanisms", "authenticationRestrictions"}.isdisjoint(command):
            raise UserError(115, "CommandNotSupported", "The lab's stand-in for mongo can only change a password")
        self._set(database, str(user), command.get("pwd"))

    def drop(self, database: str, user: Any) -> None:
        """The command dropUser.

        Raises:
            UserError: no such user.
        """
        if self._users.pop(self._key(database, str(user)), None) is None:
            raise UserError(11, "UserNotFound", f"User '{user}@{database}' not found")
        self._save()

    def info(self, database: str, what: Any, *, credentials: bool = False) -> list[dict[str, Any]]:
        """The command usersInfo: all of a database (1) or of all (``{forAllDBs: true}``), or one by name or by
        ``{user:, db:}``.

        Args:
            database: that the command is for.
            what: the command's own argument.
            credentials: showCredentials.
        """
        everything = isinstance(what, dict) and what.get("forAllDBs") is True
        if isinstance(what, dict):
            database, what = what.get("db", database), what.get("user", "")
        records = (self._users[key] for key in sorted(self._users))
        return [
            {
                "_id": f"{record['db']}.{record['user']}",
                "user": record["user"],
                "db": record["db"],
                "roles": [dict(ROOT_ROLE)],
                "mechanisms": list(MECHANISMS),
                **({"credentials": record["credentials"]} if credentials else {}),
            }
            for record in records
            if everything or (record["db"] == database and (what == 1 or record["user"] == what))
        ]
