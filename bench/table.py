"""The comparisons' tables, from the numbers that were measured."""

from __future__ import annotations

from statistics import median
from typing import Any


def _count(pair: list[int] | tuple[int, int]) -> str:
    return f"{pair[0]} of {pair[1]}"


def _yes(value: bool) -> str:
    return "kept" if value else "**lost**"


def _healed(cure: dict[str, Any]) -> str:
    if cure["seconds"] is not None:
        return f"{cure['seconds']:.0f} s"
    return f"**not cured**; {cure['extra_seconds']:.0f} s more after correcting node-ip by hand"


ROWS = (
    ("k3s stays up after", _healed),
    ("then the workers' access, proven after", lambda cure: f"{cure['repair_seconds']:.0f} s more"),
    ("namespaces", lambda cure: _count(cure["kept"]["namespaces"])),
    ("accounts, roles, bindings", lambda cure: _count(cure["kept"]["rbac"])),
    ("config maps, secrets, policies, services, volumes", lambda cure: _count(cure["kept"]["objects"])),
    ("the config map made before, with its data", lambda cure: _yes(cure["kept"]["configmap"])),
    ("node label set by hand", lambda cure: _yes(cure["kept"]["node_label"])),
    ("key that signs service accounts' tokens", lambda cure: _yes(cure["kept"]["service_account_key"])),
    ("certificate authority", lambda cure: _yes(cure["kept"]["authority"])),
    ("the workers' kubeconfigs of before are accepted", lambda cure: _count(cure["kept"]["tokens"])),
)


def markdown(result: dict[str, Any]) -> str:
    """The table as Markdown, a column for each cure.

    Args:
        result: what guide_deletion.json holds.
    """
    window = f"up means that k3s stayed up for {result['stable_seconds']} s; not cured, that it did not within "
    window += f"{result['give_up_seconds']} s"
    lines = [
        f"Measured {result['measured_at']} on {result['processors']} processors; {window}.",
        "Kept means the same object (UID), not one made anew under its name.",
    ]
    for cause, cures in result["causes"].items():
        lines += ["", f"### {cause}", "", f"| | playbooks/recover-k3s.yml ({cures['playbook']['note']}) | the guide |"]
        lines += ["|---|---|---|"]
        lines += [f"| {name} | {show(cures['playbook'])} | {show(cures['guide'])} |" for name, show in ROWS]
        lines += ["", f"The guide's own backup: {cures['guide']['note']}"]
    return "\n".join(lines) + "\n"


def _serving(timing: dict[str, Any]) -> float:
    """Seconds until the release answers; where that is not told apart, until the command's end."""
    return float(timing["seconds"] if timing["serving"] is None else timing["serving"])


def _done(timing: dict[str, Any]) -> float:
    """Seconds until all of it is done and proven, without the stability window."""
    return float(timing["seconds"] - timing["window"])


def releases_markdown(result: dict[str, Any]) -> str:
    """The table of deploys as Markdown.

    Args:
        result: what releases.json holds.
    """
    lines = [f"Measured {result['measured_at']} on {result['processors']} processors; medians, in brackets the range."]
    if "guide" in result:
        lines += ["", "| | this project | the guide's commands over ssh | ratio |", "|---|---|---|---|"]
        for what, sides in result["guide"].items():
            switched = any(one["serving"] is not None for one in sides["mine"])
            guide = [_done(one) for one in sides["guide"]]
            for name, seconds in (
                *((("until the release answers every new request", _serving),) if switched else ()),
                ("until all is replaced and proven" if switched else "until the end", _done),
            ):
                mine = [seconds(one) for one in sides["mine"]]
                ratio = median(mine) / median(guide)
                lines.append(f"| {what}, {name} | {_range(mine)} | {_range(guide)} | {ratio:.2f} |")
        window = max((one["window"] for sides in result["guide"].values() for one in sides["mine"]), default=0.0)
        lines += [
            "",
            f"Not counted: the watching after that, up to {window:.1f} s here (a setting). The guide's command",
        ]
        lines[-1] += " replaces everything at once and is done when it is healthy."
        lines += ["", f"A release that never gets healthy is given up {result['decision']:.1f} s after the limit of "]
        lines[-1] += f"{result['health_limit']} s."
    if "fleet" in result:
        ten, one = median(result["fleet"]["ten"]), median(result["fleet"]["one"])
        lines += ["", "| | seconds | ratio |", "|---|---|---|", f"| one server | {one:.1f} | |"]
        lines.append(f"| ten servers (one whole, nine thin) | {ten:.1f} | {ten / one:.2f} |")
    return "\n".join(lines) + "\n"


def _range(seconds: list[float]) -> str:
    return f"{median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})"


def drift_markdown(result: dict[str, Any]) -> str:
    """The table of drift reports as Markdown.

    Args:
        result: what drift.json holds.
    """
    seconds = result["seconds"]
    rows = (
        ("one server, the same questions by plain ssh in one session", "ssh", "ssh"),
        ("one server, playbooks/drift.yml", "playbook", "ssh"),
        ("one server, beside ten", "one", "one"),
        ("ten servers (one whole, nine thin)", "ten", "one"),
    )
    lines = [f"Measured {result['measured_at']} on {result['processors']} processors; medians, in brackets the range."]
    lines += ["", "| | seconds | ratio |", "|---|---|---|"]
    for name, what, beside in rows:
        ratio = "" if what == beside else f"{median(seconds[what]) / median(seconds[beside]):.2f}"
        lines.append(f"| {name} | {_range(seconds[what])} | {ratio} |")
    return "\n".join(lines) + "\n"
