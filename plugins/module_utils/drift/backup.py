"""Backups and the jobs that the server does by itself: are there new and good ones, and how did the last runs end."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.backups import store
from ansible.module_utils.drift.findings import Comparison
from ansible.module_utils.drift.reading import text

HOUR = 3600.0
KINDS = ("k3s", "application")
STATES = "/var/lib/integr8scode/maintenance"


def moment(value: str) -> float:
    """Seconds since 1970 of an ISO time; 0 for what is none."""
    try:
        at = datetime.fromisoformat(re.sub("Z$", "+00:00", value))
    except ValueError:
        return 0.0
    return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()


def collect_backups(expected: Mapping[str, Any]) -> dict[str, Any]:
    """The newest verified backup of each kind, the states of the jobs, and since when the timer is there."""
    directory = Path(expected["directory"])
    newest: dict[str, dict[str, Any] | None] = {}
    for kind in KINDS:
        good = [one for one in store.backups(directory, kind) if one.verified and one.path.is_file()]
        newest[kind] = {"created": moment(good[-1].created), "encrypted": good[-1].encrypted} if good else None
    states: dict[str, dict[str, Any]] = {}
    for job in ("backup", "renew-kubeconfig"):
        try:
            state = json.loads(text(f"{STATES}/{job}.json") or "{}")
        except ValueError:
            state = {}
        states[job] = {name: str(state.get(name) or "") for name in ("result", "at", "last_success")}
    try:
        since = os.stat("/etc/systemd/system/integr8scode-backup.timer").st_mtime
    except OSError:
        since = 0.0
    return {"newest": newest, "states": states, "timer_since": since}


def compare_backups(result: Comparison, expected: Mapping[str, Any], facts: Mapping[str, Any], now: float) -> None:
    """Compare the age of backups with `max_age_hours`, `encrypted` (whether they must be), and how jobs ended."""
    limit = float(expected["max_age_hours"])
    cure = result.playbook("backup")
    for kind, found in facts["newest"].items():
        result.count("backup")
        if found is None:
            # a server that is younger than a backup's age has not had its time yet
            if now - facts["timer_since"] > limit * HOUR:
                result.add(
                    "backup",
                    kind,
                    "missing",
                    expected=f"a good one, not older than {limit:g} h",
                    found="none",
                    cure=cure,
                    severity="critical",
                )
            else:
                result.notes.append(f"There is no backup of {kind} yet; the timer will make one.")
            continue
        age = (now - found["created"]) / HOUR
        if age > limit:
            result.add(
                "backup",
                kind,
                "age",
                expected=f"not older than {limit:g} h",
                found=f"{age:.0f} h old",
                cure=cure,
                severity="critical" if age > 3 * limit else "warning",
            )
        if expected["encrypted"] and not found["encrypted"]:
            result.add(
                "backup", kind, "encryption", expected="encrypted", found="readable by whoever has the file", cure=cure
            )
    cures = {"backup": cure, "renew-kubeconfig": result.playbook("renew-kubeconfig")}
    for job, state in facts["states"].items():
        result.count("backup")
        if state["result"] == "failed":
            success = state["last_success"] or "never"
            result.add(
                "backup",
                f"job {job}",
                "result",
                expected="ok",
                found=f"failed at {state['at']}; the last success: {success}",
                cure=cures[job],
                severity="critical",
            )
