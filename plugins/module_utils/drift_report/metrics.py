"""The report as metrics for the textfile collector of Prometheus' node_exporter.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ansible.module_utils.drift_report.document import SEVERITIES, STATUSES, Report, active, ignored, moment

Sample = tuple[Mapping[str, str], float]
PREFIX = "integr8scode_drift_"


def escape_label(value: str) -> str:
    """A label's value between the quotes of the text format, which escapes these three and nothing else."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@dataclass(frozen=True)
class Gauge:
    """One metric: a value that can go up and down."""

    name: str
    text: str
    samples: Iterable[Sample]

    def lines(self) -> list[str]:
        """It in the text format; nothing without samples."""
        lines = []
        for labels, value in self.samples:
            inner = ",".join(f'{key}="{escape_label(label)}"' for key, label in labels.items())
            lines.append(f"{PREFIX}{self.name}{f'{{{inner}}}' if inner else ''} {value:.15g}")
        return [f"# HELP {PREFIX}{self.name} {self.text}", f"# TYPE {PREFIX}{self.name} gauge", *lines] if lines else []


def gauges(report: Report, notified: bool | None) -> list[Gauge]:
    """All metrics of a report. Raises ValueError where its time is none."""
    hosts = report["hosts"]
    # a server that did not answer has no number of findings: none is not zero
    seen = [host for host in hosts if host["status"] in ("clean", "drift")]
    at = moment(report["at"]).timestamp()
    return [
        Gauge("last_run_timestamp_seconds", "When the servers were last compared, in Unix time.", [({}, at)]),
        Gauge("run_duration_seconds", "How long the comparison took.", [({}, report["seconds"])]),
        Gauge(
            "host_status",
            "1 for the status that a server has, 0 for the others.",
            [
                ({"host": host["name"], "status": status}, float(host["status"] == status))
                for host in hosts
                for status in STATUSES
            ],
        ),
        Gauge(
            "host_status_since_timestamp_seconds",
            "Since when a server has its status, in Unix time.",
            [({"host": host["name"]}, moment(host["status_since"]).timestamp()) for host in hosts],
        ),
        Gauge(
            "host_duration_seconds",
            "How long the look at a server took.",
            [({"host": host["name"]}, host["seconds"]) for host in seen],
        ),
        Gauge(
            "host_findings",
            "Differences between a server and what was deployed, without ignored ones.",
            [
                (
                    {"host": host["name"], "severity": severity},
                    float(sum(1 for finding in active(host) if finding["severity"] == severity)),
                )
                for host in seen
                for severity in SEVERITIES
            ],
        ),
        Gauge(
            "host_ignored_findings",
            "Differences that are ignored until a date.",
            [({"host": host["name"]}, float(len(ignored(host)))) for host in seen],
        ),
        Gauge(
            "host_unanswered_questions",
            "What could not be asked of a server.",
            [({"host": host["name"]}, float(len(host["could_not_ask"]))) for host in seen],
        ),
        Gauge(
            "notification_success",
            "1 where nothing had to be told or it was told, 0 where the webhook did not take it.",
            [] if notified is None else [({}, float(notified))],
        ),
    ]


def exposition(report: Report, notified: bool | None = None) -> str:
    """The text of the ``.prom`` file.

    Args:
        report: of the run.
        notified: whether the webhook took what was to be told; None where there is no webhook.

    Raises:
        ValueError: a time of the report is none.
    """
    return "".join(f"{line}\n" for gauge in gauges(report, notified) for line in gauge.lines())
