"""An examination as a result that may be shown: without secrets, the worst first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.diagnostics.masking import Masker
from ansible.module_utils.diagnostics.secrets import collect
from ansible.module_utils.doctor import examination
from ansible.module_utils.doctor.finding import STATUSES, Finding, in_order, worst
from ansible.module_utils.doctor.runner import Probe, run

WITHHELD = "(log lines are not shown: this server's secrets could not be read to take them out)"


def known_secrets(base: str, limit: float, gather: Callable[..., Iterable[str]] = collect) -> list[str] | None:
    """The server's secrets, read with a limit of time (seconds); None where that failed."""
    answer = run([Probe("secrets", lambda _: sorted(gather(Path(base))), limit=limit)])["secrets"]
    return None if answer.problem else list(answer.value)


def shown(findings: list[Finding], secrets: list[str] | None) -> list[dict[str, Any]]:
    """Findings as they may leave the server."""
    masker = Masker(secrets or [])
    result = []
    for one in in_order(findings):
        entry = one.as_dict()
        if secrets is None and entry["lines"]:
            entry["lines"] = [WITHHELD]
        # the words of the checks themselves hold names of files and settings, and what a program has said
        result.append({**entry, **{key: masker.text(entry[key]) for key in ("found", "item")}})
        result[-1]["lines"] = [masker.text(line) for line in entry["lines"]]
    return result


def examine_server(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Look at this server. Never raises for what is wrong with it.

    `parameters` are those of the module `doctor`.
    """
    began = time.monotonic()
    settings = {**parameters, "limit": parameters["limit_seconds"]}
    answers = examination.ask(settings)
    findings = examination.judge(parameters["host"], answers, settings, parameters["checks"])
    secrets = known_secrets(parameters["base"], float(parameters["limit_seconds"]))
    return {
        "findings": shown(findings, secrets),
        "status": worst(findings),
        "counts": {status: sum(one.status == status for one in findings) for status in STATUSES},
        "seconds": round(time.monotonic() - began, 2),
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
