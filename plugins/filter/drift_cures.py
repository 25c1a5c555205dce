"""Filters that read a drift report: which playbooks cure it, and how a host's part of it is said in a sentence."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

# Playbooks that put something right and destroy nothing, in the order in which they help each other.
CURES = ("recover-k3s", "bootstrap", "site", "renew-kubeconfig", "deploy", "backup")
STATES = ("new", "lasting")


def _parts(cure: str) -> tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]] | None:
    """File, inventories, tags and other words of a cure; None for what is no playbook of `CURES`."""
    words = shlex.split(cure)
    if words[:1] != ["ansible-playbook"]:
        return None
    inventory: list[str] = []
    while words[1:2] == ["-i"]:
        inventory += words[2:3]
        del words[1:3]
    name = words[1].rpartition("/")[2].removesuffix(".yml") if len(words) > 1 else ""
    if name not in CURES:
        return None
    tags, others = [], []
    rest = iter(words[2:])
    for word in rest:
        if word == "--limit":
            next(rest, "")  # the host is known from where the finding stands
        elif word == "--tags":
            tags += next(rest, "").split(",")
        else:
            others.append(word)
    return words[1], tuple(inventory), tuple(tags), tuple(others)


def drift_cures(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The playbook runs that cure a report, each with `argv`, `hosts` and the `findings` (ids) that it is for.

    `inventory` has the words that name the inventory for a person; they are not in `argv`, since whoever runs that
    hands on the inventory of its own run.

    One run of a playbook is for all hosts that need the same of it; a run of site.yml for everything takes the place of
    those for single roles. What is ignored, not seen now, or to be done by hand is left out.
    """
    wanted: dict[tuple[str, str, tuple[str, ...], tuple[str, ...]], dict[str, Any]] = {}
    for host in report["hosts"]:
        for one in host["findings"]:
            parts = _parts(one["cure"]) if one["cure_kind"] == "playbook" and one["state"] in STATES else None
            if parts is None:
                continue
            file, inventory, tags, others = parts
            run = wanted.setdefault(
                (host["name"], file, inventory, others), {"tags": set(), "all": False, "findings": []}
            )
            run["tags"].update(tags)
            run["all"] |= not tags
            run["findings"].append(f"{host['name']}: {one['id']}")
    runs: dict[tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]], dict[str, Any]] = {}
    for (name, file, inventory, others), run in wanted.items():
        tags = () if run["all"] else tuple(sorted(run["tags"]))
        same = runs.setdefault((file, inventory, tags, others), {"hosts": [], "findings": []})
        same["hosts"].append(name)
        same["findings"] += run["findings"]
    result = []
    for (file, inventory, tags, others), run in runs.items():
        hosts = sorted(run["hosts"])
        argv = [file, "--limit", ",".join(hosts), *(["--tags", ",".join(tags)] if tags else []), *others]
        sources = [word for one in inventory for word in ("-i", one)]
        result.append({"argv": argv, "inventory": sources, "hosts": hosts, "findings": sorted(run["findings"])})
    order = {name: number for number, name in enumerate(CURES)}
    return sorted(result, key=lambda run: (order[run["argv"][0].rpartition("/")[2].removesuffix(".yml")], run["argv"]))


def drift_plan(report: Mapping[str, Any]) -> list[str]:
    """What a run with fix=true is going to do, and what is left to people, as lines."""
    lines = []
    for run in drift_cures(report):
        lines.append(f"Will run: {shlex.join(['ansible-playbook', *run['inventory'], *run['argv']])}")
        lines += [f"    for {finding}" for finding in run["findings"]]
    for host in report["hosts"]:
        lines += [
            f"Left to you: {host['name']}: {one['id']}: {one['cure']}"
            for one in host["findings"]
            if one["cure_kind"] == "manual" and one["state"] in STATES
        ]
        if host["status"] in {"unreachable", "failed"}:
            lines.append(f"Left to you: {host['name']} is {host['status']}: {host['message']}")
    return lines or ["Nothing to do."]


def drift_sentence(host: Mapping[str, Any], directory: str) -> str:
    """Why a host is not clean, in a sentence or two.

    :param host: its part of the report.
    :param directory: where the report is kept.
    """
    name, status = host["name"], host["status"]
    if status in {"unreachable", "failed"}:
        word = "cannot be reached" if status == "unreachable" else "could not be compared"
        return f"{name} {word}: {host['message']} Nothing was changed. Report: {directory}/drift.json"
    counted = [one for one in host["findings"] if one["state"] != "ignored"]
    numbers = [
        f"{number} {severity}"
        for severity in ("critical", "warning", "info")
        if (number := sum(one["severity"] == severity for one in counted))
    ]
    first = counted[0]
    return (
        f"{name} is not what was deployed: {', '.join(numbers)}. First: {first['item']} ({first['aspect']}): expected "
        f"{first['expected'] or 'nothing'}, found {first['found'] or 'nothing'}. Cure: {first['cure']}. "
        f"Nothing was changed. Report: {directory}/drift.json"
    )


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"drift_cures": drift_cures, "drift_plan": drift_plan, "drift_sentence": drift_sentence}
