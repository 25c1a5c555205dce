"""The guide's cure for k3s after a change of address beside `playbooks/recover-k3s.yml`: seconds, and what survives.

    .venv/bin/python -m bench.guide_deletion

Makes two lab servers, gives each the same cause twice, cures it once by the playbook and once by the guide's commands
over plain ssh, and writes a table and the same as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import cluster
from bench.cluster import ClusterError, Kept, Shell
from bench.recipe import GUIDE_BACKUP, RECIPE
from bench.servers import Server, playbook, set_environment
from bench.table import markdown
from lab.settings import ROOT, LabError, Settings
from lab.state import write

INVENTORY = ROOT / "bench" / "inventory"
CONVERGE = "molecule/k3s/converge.yml"
GIVE_UP_SECONDS = 120
"""After so long without an answer that lasts, a cure has not cured."""


@dataclass(frozen=True)
class Cause:
    """A cause to be made on a server of its own.

    Attributes:
        name: for the table and the JSON.
        host, index: the server, as bench/inventory has it.
        addresses: last number of the address that it gets before the playbook's turn, and before the guide's.
        by_hand: what somebody has to do besides when the guide's commands do not cure it; with {address}.
    """

    name: str
    host: str
    index: int
    addresses: tuple[int, int]
    by_hand: str = ""


CAUSES = (
    Cause("no node-ip, release of mid-2025", "bench1", 29, (139, 140)),
    Cause(
        "node-ip names the old address",
        "bench2",
        30,
        (141, 142),
        "sudo sed -i 's/^node-ip:.*/node-ip: {address}/' /etc/rancher/k3s/config.yaml && sudo systemctl restart k3s",
    ),
)


@dataclass(frozen=True)
class Cure:
    """How one cure went.

    Attributes:
        seconds: from its start until k3s had stayed up for the window; None when it did not.
        kept: what the cluster still had.
        extra_seconds: what somebody had to do besides until k3s stayed up; None when nothing.
        repair_seconds: until the workers' access was there (again, if it had gone) and proven.
        note: what it said of itself.
    """

    seconds: float | None
    kept: Kept
    extra_seconds: float | None
    repair_seconds: float
    note: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "kept": self.kept.as_dict()}


def break_k3s(shell: Shell, last: int) -> cluster.Survey:
    """Note what is there, change the server's address and wait for the crash loop."""
    cluster.keep_kubeconfigs(shell)
    before = cluster.survey(shell)
    cluster.change_address(shell, last)
    cluster.wait_for_crash_loop(shell)
    return before


def prove_access(cause: Cause) -> float:
    """Have the workers' accounts, rights and kubeconfigs and try them from a container. Returns the seconds it took."""
    began = time.monotonic()
    playbook(INVENTORY, CONVERGE, f"--limit={cause.host}", "--tags=kubernetes_access,verify")
    return time.monotonic() - began


def by_playbook(server: Server, cause: Cause, stable: int, folder: Path) -> Cure:
    """Let the playbook cure it."""
    before = break_k3s(server.root, cause.addresses[0])
    began = time.monotonic()
    playbook(
        INVENTORY,
        "playbooks/recover-k3s.yml",
        f"--limit={cause.host}",
        f"-e recover_k3s_stable_seconds={stable}",
        f"-e recover_k3s_report={folder}",
    )
    seconds = time.monotonic() - began
    report = json.loads((folder / f"{cause.host}-recover-k3s.json").read_text("utf-8"))
    up = cluster.wait_until_stays_up(server.root, stable, stable)
    if up is None:
        raise ClusterError(f"{cause.host}: the playbook says {report['result']}, and k3s does not stay up")
    kept = cluster.compare(before, cluster.survey(server.root))
    return Cure(seconds, kept, None, prove_access(cause), f"rung {report['healed_by']}")


def by_guide(server: Server, cause: Cause, stable: int) -> Cure:
    """Do by hand what the guide says, word for word, and then what it leaves to be done."""
    shell = server.root
    before = break_k3s(shell, cause.addresses[1])
    backup = server.type(GUIDE_BACKUP)
    refused = f"`{GUIDE_BACKUP}` ends with {backup[0]}: {backup[1].strip().splitlines()[-1]}"
    began = time.monotonic()
    for command in RECIPE:
        code, output = server.type(command)
        if code:
            raise ClusterError(f"{cause.host}: {command}: {output.strip()}")
    seconds = cluster.wait_until_stays_up(shell, stable, GIVE_UP_SECONDS)
    seconds = None if seconds is None else time.monotonic() - began
    extra = None
    if seconds is None:
        if not cause.by_hand:
            raise ClusterError(f"{cause.host}: the guide's commands do not cure it, and what else would is not known")
        again = time.monotonic()
        code, output = server.type(cause.by_hand.format(address=f"10.215.0.{cause.addresses[1]}"))
        if code or cluster.wait_until_stays_up(shell, stable, GIVE_UP_SECONDS) is None:
            raise ClusterError(f"{cause.host}: {cause.by_hand} does not cure it either: {output.strip()}")
        extra = time.monotonic() - again
    kept = cluster.compare(before, cluster.survey(shell))
    return Cure(seconds, kept, extra, prove_access(cause), refused)


def measure(settings: Settings, cause: Cause, stable: int, folder: Path) -> dict[str, Cure]:
    """Measure one cause both ways on its server, which must be up."""
    server = Server(settings, cause.index, folder)
    cluster.fill(server.root)
    print(f"{cause.name}: by the playbook", flush=True)
    mine = by_playbook(server, cause, stable, folder)
    print(f"{cause.name}: by the guide's commands", flush=True)
    return {"playbook": mine, "guide": by_guide(server, cause, stable)}


@contextmanager
def servers(keep: bool) -> Iterator[None]:
    """Have the bench's servers for the time of the measurement, made afresh; `keep` leaves them there."""
    print("making two servers with k3s (two minutes)", flush=True)
    playbook(INVENTORY, "lab/destroy.yml")
    try:
        playbook(INVENTORY, "lab/create.yml")
        playbook(INVENTORY, "molecule/recover-k3s/prepare.yml")
        playbook(INVENTORY, CONVERGE)
        yield
    finally:
        if not keep:
            playbook(INVENTORY, "lab/destroy.yml")


def main() -> int:
    """Measure, print the table, write both files."""
    parser = argparse.ArgumentParser(prog="python -m bench.guide_deletion", description=__doc__)
    parser.add_argument("--stable-seconds", type=int, default=20, help="how long k3s must stay up to count as cured")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results", help="folder for table and JSON")
    parser.add_argument("--keep", action="store_true", help="leave the two servers running")
    options = parser.parse_args()
    try:
        settings = Settings.from_environment()
        set_environment(settings)
        folder = settings.state / "bench"
        folder.mkdir(parents=True, exist_ok=True)
        with servers(options.keep):
            cures = {cause.name: measure(settings, cause, options.stable_seconds, folder) for cause in CAUSES}
    except (ClusterError, LabError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    result = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processors": os.cpu_count(),
        "stable_seconds": options.stable_seconds,
        "give_up_seconds": GIVE_UP_SECONDS,
        "causes": {cause: {side: cure.as_dict() for side, cure in both.items()} for cause, both in cures.items()},
    }
    table = markdown(result)
    write(options.output / "guide_deletion.json", json.dumps(result, indent=2) + "\n")
    write(options.output / "guide_deletion.md", table)
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
