"""Executions of users' code that are not at their end: the coordinator keeps them in its memory only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from ansible.module_utils.history import read_history
from ansible.module_utils.releases.containers import patiently

UNFINISHED = ("queued", "scheduled", "running")
HELD_SECONDS = 3600
"""How long the coordinator keeps an execution in its queue. The database calls one that was lost queued for ever."""
# runs in the backend's container, which has the driver and the login: no password passes by here
PROGRAM = """
import json, sys
from datetime import datetime, timedelta, timezone
from app.settings import Settings
from pymongo import MongoClient
client = MongoClient(Settings().MONGODB_URL, serverSelectionTimeoutMS=5000)
since = datetime.now(timezone.utc) - timedelta(seconds=int(sys.argv[1]))
found = client.get_default_database("integr8scode").executions.find(
    {"status": {"$in": sys.argv[2:]}, "created_at": {"$gte": since}}, {"execution_id": 1, "status": 1}).limit(200)
print(json.dumps([[str(one.get("execution_id", one["_id"])), one["status"]] for one in found]))
"""


class ExecutionsError(Exception):
    """The executions cannot be counted; the text says why, without a secret."""


def unfinished(backend: Any, lost: Collection[str] = ()) -> list[str]:
    """Ids of the executions that the database calls queued, scheduled or running and that can still be so.

    200 at most, none of which is older than the coordinator keeps it.

    :param backend: a running container of the backend.
    :param lost: ids of those that an earlier switch has lost: no coordinator has them any more.
    :raises ExecutionsError: the database cannot be asked.
    """
    command = ["python", "-c", PROGRAM, str(HELD_SECONDS), *UNFINISHED]
    answer = patiently(lambda: backend.exec_run(command, demux=True))
    out, said = (part.decode("utf-8", "replace") if part else "" for part in answer.output)
    if answer.exit_code != 0:
        # the last line names the error; the address with the password stands in none of the driver's
        last = said.strip().splitlines()[-1:] or ["it said nothing"]
        shown = re.split(r"mongodb(?:\+srv)?://", last[0])[0][:300]
        raise ExecutionsError(f"the executions cannot be counted: {shown}")
    try:
        ids = [str(entry[0]) for entry in json.loads(out.strip().splitlines()[-1])]
    except (ValueError, IndexError, TypeError) as error:
        raise ExecutionsError(f"the executions cannot be counted: {error}") from error
    return [one for one in ids if one not in lost]


def lost_before(base: Path) -> set[str]:
    """Ids of the executions that earlier switches have lost: nothing ever ends them in the database."""
    try:
        history = read_history(base)
    except OSError:
        return set()
    return {str(one) for entry in history for one in entry.get("lost_executions") or []}


def wait_for_none(
    count: Callable[[], list[str]], seconds: float, sleep: Callable[[float], None], step: float = 2.0
) -> list[str]:
    """Wait until nothing is queued or running, up to a limit; what is left then and will be lost.

    :param count: gives the ids of what is unfinished.
    :param seconds: the limit.
    :param sleep: waits so many seconds.
    :raises ExecutionsError: they cannot be counted.
    """
    waited = 0.0
    while (left := count()) and waited < seconds:
        sleep(step)
        waited += step
    return left
