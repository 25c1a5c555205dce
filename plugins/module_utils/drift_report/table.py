"""The report for a terminal: some lines, one of them for each server that is as it should be."""

from __future__ import annotations

import textwrap

from ansible.module_utils.drift_report.document import (
    SEVERITIES,
    Finding,
    Host,
    Report,
    active,
    clock,
    counted,
    ignored,
    one_line,
    order,
    span,
    subject,
    verdict,
)

WIDTH = 72
"""Columns; ansible-playbook indents by eight of a terminal's 80."""

CLEAN_BY_NAME = 12
"""So many clean servers get a line each; more are named in a paragraph."""


def _wrapped(label: str, text: str) -> list[str]:
    """A labelled text below a finding, broken at spaces where it is longer than a line."""
    head = f"      {label:<9}"
    lines = textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False)
    return lines or [head + "-"]


def _command(text: str) -> list[str]:
    """A cure. A command stays in one line, however long, so that it can be copied."""
    if text.startswith("By hand: "):
        return _wrapped("cure", text)
    return [f"      cure     {text}"]


def _finding(finding: Finding, at: str) -> list[str]:
    age = span(finding["since"], at)
    since = f"{clock(finding['since'])}{f' ({age})' if age else ''}"
    state = {"new": "NEW", "unverified": "not seen now"}.get(finding["state"], "")
    head = f"  {finding['severity'].upper():<8}  {finding['area']}: {subject(finding)}"
    # the state stands at the right where there is room
    lines = textwrap.wrap(head, WIDTH, subsequent_indent=" " * 12, break_on_hyphens=False)
    if state:
        room = WIDTH - len(lines[-1]) - len(state)
        lines = [*lines[:-1], lines[-1] + " " * room + state] if room >= 2 else [*lines, " " * 12 + state]
    if finding["expected"]:
        lines += _wrapped("expected", one_line(finding["expected"]))
    if finding["found"]:
        lines += _wrapped("found", one_line(finding["found"]))
    if finding.get("note"):
        lines += _wrapped("note", one_line(finding["note"]))
    return [*lines, *_wrapped("since", since), *_command(one_line(finding["cure"]))]


def _clean_line(host: Host) -> str:
    release = host["release"] or {}
    extras = [f"release {one_line(release['tag'])}"] if release.get("tag") else []
    if ignored(host):
        extras.append(f"{len(ignored(host))} ignored")
    if host["gone"]:
        extras.append(f"{len(host['gone'])} gone")
    return f"{host['name']}: clean" + (f" ({', '.join(extras)})" if extras else "")


def _head(host: Host, at: str) -> str:
    if host["status"] == "clean":
        return _clean_line(host)
    if host["status"] != "drift":
        age = span(host["status_since"], at)
        return f"{host['name']}: {host['status'].upper()}{f' for {age}' if age else ''}"
    findings = active(host)
    parts = []
    for severity in SEVERITIES:
        number = sum(1 for finding in findings if finding["severity"] == severity)
        parts += [f"{number} {severity}"] if number else []
    new = sum(1 for finding in findings if finding["state"] == "new")
    extras = [f"{new} new"] if new else []
    extras += [f"{len(host['gone'])} gone"] if host["gone"] else []
    extras += [f"{len(ignored(host))} ignored"] if ignored(host) else []
    tail = f" ({', '.join(extras)})" if extras else ""
    return f"{host['name']}: DRIFT: {counted(len(findings), 'finding')}: {', '.join(parts)}{tail}"


def _host(host: Host, at: str) -> list[str]:
    lines = textwrap.wrap(_head(host, at), WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    if host["message"]:
        lines += textwrap.wrap(one_line(host["message"]), WIDTH, initial_indent="  ", subsequent_indent="  ")
    for finding in active(host):
        lines += _finding(finding, at)
    for note in host["notes"]:
        lines += textwrap.wrap(one_line(note), WIDTH, initial_indent="  note: ", subsequent_indent="        ")
    for finding in host["gone"]:
        lines += textwrap.wrap(
            f"{finding['area']}: {subject(finding)}", WIDTH, initial_indent="  gone: ", subsequent_indent="        "
        )
    return lines


def _unfit_rules(report: Report) -> list[str]:
    """Rules of drift_ignore that do not act, in sentences."""
    return [
        one_line(rule["message"])
        for rule in report["summary"].get("ignores", [])
        if rule.get("state") in ("ended", "refused") and rule.get("message")
    ]


def table(report: Report, page: str = "", problems: list[str] | None = None) -> str:
    """The report as text, lines of at most 72 columns except commands to copy.

    Args:
        report: of the run.
        page: where the HTML page lies, to be named; empty for nowhere.
        problems: what else went wrong while it was told, in sentences.
    """
    at = report["at"]
    lines = textwrap.wrap(f"{verdict(report)} ({clock(at)}, {report['seconds']:.0f} s).", WIDTH)
    hosts = sorted(report["hosts"], key=order)
    # a note or something gone is worth a line of its own
    plain = [host for host in hosts if host["status"] == "clean" and not host["notes"] and not host["gone"]]
    several = len(plain) < len(hosts)
    for host in hosts:
        if host not in plain:
            lines += ["", *_host(host, at)]
    lines += [""] if several and plain else []
    if len(plain) <= CLEAN_BY_NAME:
        lines += [line for host in plain for line in _host(host, at)]
    if len(plain) > CLEAN_BY_NAME:
        names = ", ".join(host["name"] for host in plain)
        lines += [*textwrap.wrap(f"Clean: {names}", WIDTH, subsequent_indent="  ", break_on_hyphens=False)]
    for sentence in [*_unfit_rules(report), *(problems or [])]:
        lines += ["", *textwrap.wrap(one_line(sentence), WIDTH, break_on_hyphens=False)]
    if page and any(host["status"] != "clean" for host in hosts):
        lines += ["", f"Report: {page}"]
    # a space at a line's end would make Ansible print the text in one quoted line
    return "\n".join(line.rstrip() for line in lines)
