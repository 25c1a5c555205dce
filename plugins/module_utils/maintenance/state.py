"""What a maintenance job leaves behind for whoever asks later: one small JSON file for each subcommand.

Keys: `subcommand`, `result` ("ok" or "failed"), `at` (end of the last run, UTC), `seconds` (of the whole run; one that
waited for another run counts that as well), `message` (of a failure, no secret), `last_success` (UTC, "" when there has
been none), `facts` (what the subcommand itself wants to be known).
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.atomic_files import Access, ensure_folder, read_file, write_file

DIRECTORY = Path("/var/lib/integr8scode/maintenance")
# root's alone: it names what a server holds
FOLDER_ACCESS = Access(0, 0, 0o700)
FILE_ACCESS = Access(0, 0, 0o600)


class MaintenanceError(Exception):
    """A job could not be done; the text says what, why, and what cures it, without a secret."""


def now() -> str:
    """This moment, `2026-01-31T00:00:00+00:00`."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def read_state(subcommand: str) -> dict[str, Any]:
    """What the last run left; {} when there is nothing, or nothing that can be read."""
    try:
        found = json.loads(read_file(DIRECTORY / f"{subcommand}.json") or b"{}")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_state(subcommand: str, /, **changes: Any) -> None:
    """Changes some keys of a subcommand's state and keeps the others. Raises OSError."""
    ensure_folder(DIRECTORY, FOLDER_ACCESS)
    state = {**read_state(subcommand), **changes}
    write_file(DIRECTORY / f"{subcommand}.json", (json.dumps(state, indent=2) + "\n").encode(), FILE_ACCESS)
