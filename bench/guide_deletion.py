"""The guide's cure for k3s after a change of address beside `playbooks/recover-k3s.yml`: seconds, and what survives.

    .venv/bin/python -m bench.guide_deletion

Makes two lab servers, gives each the same cause twice, cures it once by the playbook and once by the guide's commands
over plain ssh, and writes a table and the same as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench import cluster
from bench.cluster import ClusterError, Kept, Shell
from bench.command import arguments, run
from bench.recipe import GUIDE_BACKUP, RECIPE
from bench.servers import Server, playbook
from bench.table import markdown
from lab.settings import ROOT, Settings

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


def measure_all(settings: Settings, folder: Path, stable: int) -> dict[str, Any]:
    """Measure every cause both ways, on servers made afresh."""
    print("making two servers with k3s (two minutes)", flush=True)
    playbook(INVENTORY, "lab/create.yml")
    playbook(INVENTORY, "molecule/recover-k3s/prepare.yml")
    playbook(INVENTORY, CONVERGE)
    causes = {}
    for cause in CAUSES:
        causes[cause.name] = {side: cure.as_dict() for side, cure in measure(settings, cause, stable, folder).items()}
    return {"stable_seconds": stable, "give_up_seconds": GIVE_UP_SECONDS, "causes": causes}


def main() -> int:
    """Measure, print the table, write both files."""
    parser = arguments("guide_deletion", __doc__)
    parser.add_argument("--stable-seconds", type=int, default=20, help="how long k3s must stay up to count as cured")
    options = parser.parse_args()
    measurement = partial(measure_all, stable=options.stable_seconds)
    return run("guide_deletion", options, INVENTORY, measurement, markdown)


if __name__ == "__main__":
    sys.exit(main())
