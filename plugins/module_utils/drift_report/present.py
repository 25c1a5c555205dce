"""Telling what a drift report holds: the page, the metrics, the table, and one notification for each change."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.atomic_files import Access, parse_mode, read_file, write_file
from ansible.module_utils.drift_report.changes import Known, compare, is_known, nothing_known
from ansible.module_utils.drift_report.document import Report, load
from ansible.module_utils.drift_report.metrics import exposition
from ansible.module_utils.drift_report.page import page
from ansible.module_utils.drift_report.table import table
from ansible.module_utils.drift_report.webhook import WebhookError, payload, send


class PresentError(Exception):
    """The report cannot be told at all; the text says why, and the cure."""


@dataclass(frozen=True)
class Wanted:
    """What is written and sent, and where to; empty paths and addresses are left out.

    report: drift.json. html_mode: octal. metrics_file: for the textfile collector of Prometheus' node_exporter.
    webhook_url: a secret, since who has it can write there. webhook_timeout: seconds for each of three attempts.
    report_url: where people read the page, for the notification's text. known_file: what was told already; made when
    it is not there. check: nothing is written and nothing sent. The folders have to exist.
    """

    report: str
    known_file: str
    html_file: str = ""
    html_mode: str = "0600"
    metrics_file: str = ""
    webhook_url: str = ""
    webhook_timeout: float = 10
    report_url: str = ""
    check: bool = False


def save(path: Path, text: str, mode: int) -> None:
    """Make or replace a file at once. Its group is its folder's where that hands it on (setgid). Raises OSError."""
    folder = path.parent.stat()
    group = folder.st_gid if folder.st_mode & stat.S_ISGID else os.getegid()
    write_file(path, text.encode("utf-8", "replace"), Access(os.geteuid(), group, mode))


def read_known(path: Path) -> Known:
    """What people were told. Raises OSError; ValueError where the file is none of ours."""
    content = read_file(path)
    if content is None:
        return nothing_known()
    known = json.loads(content)
    if not is_known(known):
        raise ValueError("it is not what this project writes")
    return dict(known)


def notify(wanted: Wanted, report: Report, url: str) -> dict[str, Any]:
    """Tell what changed. Returns the results that are about it."""
    path = Path(wanted.known_file)
    problem = ""
    try:
        known = read_known(path)
    except (OSError, ValueError) as error:
        # telling all of it once more is better than silence
        known = nothing_known()
        problem = f"{path} could not be read ({error}), so everything counts as new. It is written anew."
    changes, after = compare(known, report)
    told = {"notified": False, "changes": [change.sentence() for change in changes], "notification_problem": problem}
    if not url or wanted.check:
        return told
    try:
        if changes:
            send(url, payload(report, changes, wanted.report_url), wanted.webhook_timeout)
            told["notified"] = True
        if after != known or problem:
            save(path, json.dumps(after, indent=1, sort_keys=True) + "\n", 0o600)
    except WebhookError as error:
        told["notification_problem"] = (
            f"The notification was not taken: {error}. The next run tries again. Check drift_webhook_url in the vault, "
            "and that this machine reaches it."
        )
    except OSError as error:
        told["notification_problem"] = (
            f"{path} could not be written ({error}), so the next run tells the same once more. Free or mend its folder."
        )
    return told


def write(wanted: Wanted, option: str, text: Callable[[], str], mode: int) -> list[str]:
    """Write the file that an option names, if any. Returns what went wrong, in sentences."""
    path = str(getattr(wanted, option))
    if not path or wanted.check:
        return []
    try:
        save(Path(path), text(), mode)
    except OSError as error:
        sentence = (
            f"{path} could not be written: {error.strerror or error}. Make its folder, writable for the user who runs "
            f"ansible-playbook, or set drift_{option} to another path or to nothing."
        )
        return [sentence]
    return []


def present(wanted: Wanted) -> dict[str, Any]:
    """Write, send, and return what to say.

    A notification that is not taken is told in the table; the next run sends the same changes, with what came since.

    Returns:
        `table` for a terminal, `notified` (one was taken in this run), `changes` (what was to be told, in sentences),
        `notification_problem` and `problems` (what could not be told or written, with the cure).

    Raises:
        PresentError: there is no report, or html_mode is no mode.
    """
    try:
        html_mode = parse_mode(wanted.html_mode)
    except ValueError as error:
        raise PresentError(f"drift_html_mode: {error}") from error
    try:
        report = load(Path(wanted.report))
    except (OSError, ValueError) as error:
        raise PresentError(f"{wanted.report} is no drift report: {error}. Run playbooks/drift.yml again.") from error
    url = wanted.webhook_url.strip()
    # before anybody is called to read it
    problems = write(wanted, "html_file", lambda: page(report), html_mode)
    told = notify(wanted, report, url)
    notified = not told["notification_problem"] if url else None
    problems += write(wanted, "metrics_file", lambda: exposition(report, notified), 0o644)
    sentences = [*([told["notification_problem"]] if told["notification_problem"] else []), *problems]
    return {"table": table(report, wanted.html_file, sentences), "problems": problems, **told}
