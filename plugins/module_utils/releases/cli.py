"""Command line of integr8scode-release, which the unit integr8scode-switch runs: `integr8scode-release switch RUN`.

It does what ``/var/lib/integr8scode/runs/RUN/job.json`` says and writes how it ended beside it.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ansible.module_utils.releases import journal, lock
from ansible.module_utils.releases.job import Job
from ansible.module_utils.releases.journal import Journal
from ansible.module_utils.releases.layout import RUNS
from ansible.module_utils.releases.switch import Switch


def switch(run: str, runs: Path = RUNS) -> int:
    """Do a run's job; 0 when the release that it asked for serves."""
    folder = runs / run
    try:
        job = Job.from_dict(json.loads((folder / "job.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        print(f"the job of run {run} cannot be read: {error}", file=sys.stderr)
        return 2
    try:
        outcome = Switch(job, Journal(folder)).run()
        journal.finish(folder, asdict(outcome))
    except OSError as error:
        print(f"how run {run} ended cannot be written: {error}", file=sys.stderr)
        lock.release(Path(job.base), run)
        return 1
    for sentence in outcome.sentences:
        print(sentence, flush=True)
    return 0 if outcome.good else 1


def main(arguments: Sequence[str]) -> int:
    """Entry point of the program; its exit code (2: wrong usage)."""
    parser = argparse.ArgumentParser(prog="integr8scode-release", description="Switch this server to a release.")
    parser.add_argument("command", choices=["switch"], help="what to do")
    parser.add_argument("run", help="name of the run, a folder below /var/lib/integr8scode/runs")
    for stream in (sys.stdout, sys.stderr):
        # a container's last lines may hold what the server's locale has no character for
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    return switch(parser.parse_args(arguments).run)
