"""What every measurement's command does besides measuring: the lab made ready, servers removed, both files written."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.cluster import ClusterError
from bench.servers import playbook, set_environment
from lab.prepare import prepare
from lab.settings import ROOT, LabError, Settings
from lab.state import write

RESULTS = ROOT / "bench" / "results"


def arguments(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that all measurements have."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=description)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for table and JSON")
    parser.add_argument("--keep", action="store_true", help="leave the servers running")
    return parser


def run(
    name: str,
    options: argparse.Namespace,
    inventory: Path,
    measure: Callable[[Settings, Path], dict[str, Any]],
    table: Callable[[dict[str, Any]], str],
) -> int:
    """Measure, print the table, write `<name>.json` and `<name>.md`; returns an exit code.

    Args:
        name: of both files.
        options: what `arguments()` has parsed.
        inventory: whose servers are removed before and, without --keep, afterwards.
        measure: gets the lab's settings and a folder for what it needs; returns what goes into the JSON.
        table: makes the Markdown of it.
    """
    try:
        settings = Settings.from_environment()
        set_environment(settings)
        prepare(settings)
        folder = settings.state / "bench"
        folder.mkdir(parents=True, exist_ok=True)
        playbook(inventory, "lab/destroy.yml")
        try:
            found = measure(settings, folder)
        finally:
            if not options.keep:
                playbook(inventory, "lab/destroy.yml")
    except (ClusterError, LabError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    measured_at = datetime.now(UTC).isoformat(timespec="seconds")
    result = {"measured_at": measured_at, "processors": os.cpu_count(), **found}
    text = table(result)
    write(options.output / f"{name}.json", json.dumps(result, indent=2) + "\n")
    write(options.output / f"{name}.md", text)
    print(text)
    return 0
