"""The report as one HTML page that is read on a phone: no script, nothing from elsewhere, dark or light."""

from __future__ import annotations

import base64
import hashlib

from ansible.module_utils.drift_report.document import AREAS, SEVERITIES, Report, active, clock, order, span, verdict
from ansible.module_utils.drift_report.page_template import STYLE, TEMPLATE
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup


def _tone(report: Report) -> str:
    """The colour of the whole: that of the worst that is in it."""
    statuses = {host["status"] for host in report["hosts"]}
    if not statuses or "failed" in statuses:
        return "failed"
    if "unreachable" in statuses:
        return "unreachable"
    severities = {finding["severity"] for host in report["hosts"] for finding in active(host)}
    return next((severity for severity in SEVERITIES if severity in severities), "clean")


def page(report: Report) -> str:
    """The HTML document. Whatever the report holds is text in it, never markup."""
    # the browser applies this style and no other, and loads nothing
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"clock": clock, "span": span}
    return environment.from_string(TEMPLATE).render(
        report=report,
        hosts=sorted(report["hosts"], key=order),
        verdict=verdict(report),
        tone=_tone(report),
        areas=AREAS,
        severities=SEVERITIES,
        style=Markup(STYLE),  # noqa: S704 (ours, and holds no "<")
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'",
    )
