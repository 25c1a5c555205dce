"""Module: tells people and machines what a drift report holds."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drift_present
author: integr8scode-ansible
short_description: Tell what a drift report holds
description:
  - Runs on the controller. Reads the report of a run, writes the HTML page and the metrics, sends a notification where
    something changed since the last one that was taken, and returns the report as a table.
  - A notification that fails does not fail the task. It is told in the table and in RV(notification_problem), and the
    next run sends the same changes, with what came since.
attributes:
  check_mode:
    support: full
    description: Nothing is written and nothing sent; the table is returned.
options:
  report:
    description: Path of the report, C(drift.json).
    type: path
    required: true
  html_file:
    description: Path of the HTML page; its folder must exist. None where it is empty.
    type: path
  html_mode:
    description: Octal mode of the HTML page.
    type: str
    default: "0600"
  metrics_file:
    description: >-
      Path of the metrics for the textfile collector of Prometheus' node_exporter, C(*.prom); its folder must exist.
      None where it is empty.
    type: path
  webhook_url:
    description: Where to send notifications; empty for none. Secret, since who has it can write there.
    type: str
  webhook_timeout:
    description: Seconds that one of the three attempts to send may take.
    type: float
    default: 10
  report_url:
    description: Where people can read the page, for the notification's text; empty for nowhere.
    type: str
  known_file:
    description: Path of the file with what was told already; made when it is not there. Its folder must exist.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Tell what the report holds
  drift_present:
    report: reports/drift.json
    html_file: reports/drift.html
    known_file: reports/told.json
    webhook_url: "{{ vault_drift_webhook_url }}"
  delegate_to: localhost
"""

RETURN = r"""
table:
  description: The report for a terminal.
  returned: always
  type: str
notified:
  description: Whether a notification was taken in this run.
  returned: always
  type: bool
changes:
  description: What was to be told, one sentence each.
  returned: always
  type: list
  elements: str
notification_problem:
  description: Why it could not be told; empty where it could.
  returned: always
  type: str
problems:
  description: What could not be written, with the cure, in sentences.
  returned: always
  type: list
  elements: str
"""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.atomic_files import Access, parse_mode, read_file, write_file
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.drift_report.changes import KNOWN_VERSION, Known, compare, nothing_known
from ansible.module_utils.drift_report.document import Report, load
from ansible.module_utils.drift_report.metrics import exposition
from ansible.module_utils.drift_report.page import page
from ansible.module_utils.drift_report.table import table
from ansible.module_utils.drift_report.webhook import WebhookError, payload, send


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
    ours = isinstance(known, dict) and known.get("schema_version") == KNOWN_VERSION
    if not ours or not isinstance(known.get("hosts"), dict):
        raise ValueError("it is not what this module writes")
    return dict(known)


def notify(module: AnsibleModule, report: Report, url: str) -> dict[str, Any]:
    """Tell what changed. Returns the results that are about it."""
    path = Path(module.params["known_file"])
    problem = ""
    try:
        known = read_known(path)
    except (OSError, ValueError) as error:
        # telling all of it once more is better than silence
        known = nothing_known()
        problem = f"{path} could not be read ({error}), so everything counts as new. It is written anew."
    changes, after = compare(known, report)
    told = {"notified": False, "changes": [change.sentence() for change in changes], "notification_problem": problem}
    if not url or module.check_mode:
        return told
    try:
        if changes:
            send(url, payload(report, changes, module.params["report_url"] or ""), module.params["webhook_timeout"])
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


def write(module: AnsibleModule, option: str, text: Callable[[], str], mode: int) -> list[str]:
    """Write the file that an option names, if any. Returns what went wrong, in sentences."""
    path = module.params[option]
    if not path or module.check_mode:
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


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "report": {"type": "path", "required": True},
            "html_file": {"type": "path"},
            "html_mode": {"type": "str", "default": "0600"},
            "metrics_file": {"type": "path"},
            "webhook_url": {"type": "str", "no_log": True},
            "webhook_timeout": {"type": "float", "default": 10},
            "report_url": {"type": "str"},
            "known_file": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        html_mode = parse_mode(module.params["html_mode"])
    except ValueError as error:
        module.fail_json(msg=f"drift_html_mode: {error}")
    path = module.params["report"]
    try:
        report = load(Path(path))
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"{path} is no drift report: {error}. Run playbooks/drift.yml again.")
    url = (module.params["webhook_url"] or "").strip()
    # before anybody is called to read it
    problems = write(module, "html_file", lambda: page(report), html_mode)
    told = notify(module, report, url)
    notified = not told["notification_problem"] if url else None
    problems += write(module, "metrics_file", lambda: exposition(report, notified), 0o644)
    sentences = [*([told["notification_problem"]] if told["notification_problem"] else []), *problems]
    text = table(report, module.params["html_file"] or "", sentences)
    module.exit_json(changed=False, table=text, problems=problems, **told)


if __name__ == "__main__":
    main()
