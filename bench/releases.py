"""Deploys by this project beside the guide's own commands over plain ssh, and ten servers beside one: seconds.

    .venv/bin/python -m bench.releases

Makes a lab server that runs both: this project's stack, and the guide's own compose file with its health checks under
another project name. Then a new tag, the same tag again and the way back, each by both in turn. After that nine thin
servers come along (bench/fleet), and a deploy to all ten is set beside one to the first alone.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench.cluster import ClusterError, ask
from bench.command import arguments, run
from bench.servers import Server, playbook
from bench.table import releases_markdown
from lab.registry import Registry
from lab.settings import REGISTRY_HOST, REGISTRY_PASSWORD, REGISTRY_USER, ROOT, Settings

INVENTORY = ROOT / "bench" / "fleet"
VARIABLES = f"-e@{ROOT / 'bench' / 'fleet-vars.yml'}"
FIRST, FIRST_INDEX = "fleet01", 31
STACK = "hardmax71/integr8scode"

MINE = ("2026.2.30", "2026.2.31")
GUIDE = ("2026.2.19", "2026.2.20")
"""Two releases for each side, so that none finds what the other has pulled. They start and stop alike."""
NEVER_HEALTHY = "2026.2.32"
HEALTH_LIMIT = 30
SETTLE_LIMIT = 60
SETTLED_SHARE = 0.25
"""Of all processors: two whole stacks that nobody uses take some 0.1."""

WORKERS = (
    "coordinator",
    "k8s-worker",
    "pod-monitor",
    "result-processor",
    "saga-orchestrator",
    "event-replay",
    "dlq-processor",
)
UP = "IMAGE_TAG={tag} docker compose pull --quiet && IMAGE_TAG={tag} docker compose up -d --wait --quiet-pull"
"""What the guide's way does, in the folder of its compose file."""

COPY_SETTINGS = """set -e
mkdir -p /opt/guide/certs /opt/guide/kubeconfig
cd /opt/guide
cp /opt/integr8scode/kubeconfig/*.yaml kubeconfig/
cp /opt/integr8scode/tls/internal/backend/server.* certs/
of() { docker ps -q -f label=com.docker.compose.project=integr8scode -f label=com.docker.compose.service=$1; }
docker exec $(of backend) cat /app/config.toml > config.toml
"""


@dataclass(frozen=True)
class Timing:
    """How long one thing took.

    Attributes:
        seconds: from the command's start to its end.
        window: of these, the stability window's, in which nothing is done but watching.
        serving: from the command's start until every new request is answered by the release; None where that is the
            end, as for the guide's command, which waits for health, or where nothing was switched.
        steps: seconds by step of the switch; empty for the guide's side.
    """

    seconds: float
    window: float = 0
    serving: float | None = None
    steps: dict[str, float] = field(default_factory=dict)


def steps_of(progress: str) -> dict[str, float]:
    """Seconds of each step in a switch's record (progress.jsonl)."""
    began: dict[str, float] = {}
    took: dict[str, float] = {}
    for line in progress.splitlines():
        one = json.loads(line)
        if one["state"] == "started":
            began[one["step"]] = one["at"]
        elif one["state"] in ("done", "failed") and one["step"] in began:
            took[one["step"]] = round(took.get(one["step"], 0) + one["at"] - began.pop(one["step"]), 1)
    return took


def serving_at(progress: str) -> float | None:
    """When (Unix time) a switch's record says that all new requests go to the release; None where it does not."""
    lines = (json.loads(line) for line in progress.splitlines())
    return next((line["at"] for line in lines if line["step"] == "serving"), None)


def busy_share(before: str, after: str) -> float:
    """Share of the processors' time that was worked in, between two readings of the first line of /proc/stat."""
    first, last = ([int(word) for word in line.split()[1:9]] for line in (before, after))
    spent = [late - early for early, late in zip(first, last, strict=True)]
    # idle, and waiting for a disk
    return 1 - (spent[3] + spent[4]) / max(1, sum(spent))


def settle() -> None:
    """Wait until what was started before has loaded: Compose calls workers started that still take a processor each."""
    deadline = time.monotonic() + SETTLE_LIMIT
    while time.monotonic() < deadline:
        before = Path("/proc/stat").read_text("utf-8").splitlines()[0]
        time.sleep(2)
        if busy_share(before, Path("/proc/stat").read_text("utf-8").splitlines()[0]) < SETTLED_SHARE:
            return


class Comparison:
    """One lab server with both stacks on it."""

    def __init__(self, settings: Settings, server: Server) -> None:
        self._server = server
        self._registry = Registry.of(settings)
        self.timings: dict[str, dict[str, list[Timing]]] = {}

    def prepare(self) -> None:
        """Put the guide's stack on the server, beside this project's.

        Raises:
            ClusterError: it does not come up.
        """
        script = COPY_SETTINGS
        for worker in WORKERS:
            script += f"docker exec $(of {worker}) cat /app/config.{worker}.toml > config.{worker}.toml\n"
        compose = (ROOT / "bench/guide/docker-compose.yaml").read_text("utf-8")
        password = secrets.token_hex(16)
        url = f"mongodb://root:{password}@mongo:27017/integr8scode?authSource=admin"
        environment = f"APP_REGISTRY={REGISTRY_HOST}/{STACK}\nHUB_REGISTRY={REGISTRY_HOST}\nMONGO_PASSWORD={password}\n"
        for name, text in (
            ("docker-compose.yaml", compose),
            (".env", environment),
            ("secrets.toml", f'SECRET_KEY = "{secrets.token_hex(32)}"\nMONGODB_URL = "{url}"\n'),
        ):
            script += f"cat > {name} <<'END-OF-FILE'\n{text}END-OF-FILE\n"
        login = f"docker login --username {REGISTRY_USER} --password-stdin {REGISTRY_HOST}"
        script += f"{login} <<'END-OF-FILE'\n{REGISTRY_PASSWORD}\nEND-OF-FILE\n"
        ask(self._server.root, script)
        self.guide(GUIDE[0])

    def forget(self, tag: str) -> None:
        """Remove a tag's images from the server, so that the next deploy has something to pull."""
        for name in ("backend", "frontend"):
            repository = f"{STACK}/{name}"
            digest = self._registry.digest(repository, tag)
            image = f"{REGISTRY_HOST}/{repository}"
            self._server.root(f"docker rmi -f {image}:{tag} {image}@{digest}")

    def guide(self, tag: str) -> Timing:
        """The guide's commands, typed."""
        began = time.monotonic()
        code, output = self._server.type(f"sudo sh -c 'cd /opt/guide && {UP.format(tag=tag)}'")
        seconds = time.monotonic() - began
        if code:
            raise ClusterError(f"the guide's way to {tag} ended with {code}: {output[-1500:]}")
        return Timing(seconds)

    def mine(self, name: str, *arguments: str) -> Timing:
        """This project's playbook."""
        before = ask(self._server.root, "ls -t /var/lib/integr8scode/runs | head -n 1")
        # by the clock: the server's is this machine's
        began = time.time()
        playbook(INVENTORY, name, f"--limit={FIRST}", VARIABLES, *arguments)
        seconds = time.time() - began
        newest = ask(self._server.root, "ls -t /var/lib/integr8scode/runs | head -n 1")
        if newest == before:
            return Timing(seconds)
        progress = ask(self._server.root, f"cat /var/lib/integr8scode/runs/{newest.strip()}/progress.jsonl")
        steps, at = steps_of(progress), serving_at(progress)
        return Timing(seconds, steps.get("stable", 0), None if at is None else at - began, steps)

    def _both(self, what: str, mine: Callable[[], Timing], guide: Callable[[], Timing], mine_first: bool) -> None:
        sides = [("mine", mine), ("guide", guide)]
        for side, measure in sides if mine_first else reversed(sides):
            settle()
            timing = measure()
            serving = f", serving after {timing.serving:.1f} s" if timing.serving else ""
            print(f"{what}, {side}: {timing.seconds:.1f} s{serving} {timing.steps or ''}", flush=True)
            self.timings.setdefault(what, {}).setdefault(side, []).append(timing)

    def round(self, number: int) -> None:
        """A new tag, the same again, and back, by both in turn; who goes first alternates."""
        first = number % 2 == 0
        for tag in (MINE[1], GUIDE[1]):
            self.forget(tag)
        new = ("deploy.yml", f"-etag={MINE[1]}")
        self._both("a new tag", lambda: self.mine(*new), lambda: self.guide(GUIDE[1]), first)
        self._both("the same tag again", lambda: self.mine(*new), lambda: self.guide(GUIDE[1]), first)
        self._both("back", lambda: self.mine("playbooks/rollback.yml"), lambda: self.guide(GUIDE[0]), first)

    def decision(self) -> float:
        """Seconds from the health limit to the decision to go back, for a release that never gets healthy."""
        limit = f"-eintegr8scode_healthy_timeout_seconds={HEALTH_LIMIT}"
        try:
            self.mine("deploy.yml", f"-etag={NEVER_HEALTHY}", limit)
        except ClusterError:
            newest = ask(self._server.root, "cat $(ls -td /var/lib/integr8scode/runs/*/ | head -n 1)progress.jsonl")
            return steps_of(newest)["backend"] - HEALTH_LIMIT
        raise ClusterError(f"{NEVER_HEALTHY} was not taken back")

    def remove_guide(self) -> None:
        """End the guide's stack."""
        ask(self._server.root, "cd /opt/guide && IMAGE_TAG=none docker compose down --volumes --timeout 5 2>&1")


def deploy(tag: str, *arguments: str) -> float:
    """Deploy to the fleet, or to a part of it; seconds."""
    began = time.monotonic()
    playbook(INVENTORY, "deploy.yml", f"-etag={tag}", VARIABLES, *arguments)
    return time.monotonic() - began


def fleet(rounds: int) -> dict[str, list[float]]:
    """Seconds of deploys to all ten servers and to the first one alone, in turn."""
    found: dict[str, list[float]] = {"ten": [], "one": []}
    tag = MINE[0]
    for _ in range(rounds):
        # the first server ends where the others are
        for what in ("ten", "one", "one"):
            tag = MINE[1] if tag == MINE[0] else MINE[0]
            found[what].append(deploy(tag, *(() if what == "ten" else (f"--limit={FIRST}",))))
            print(f"{what}: {found[what][-1]:.1f} s", flush=True)
    return found


def make(hosts: list[str], *playbooks: str) -> None:
    """Make lab servers and provision them."""
    playbook(INVENTORY, "lab/create.yml", "-e", json.dumps({"lab_hosts": hosts}))
    for name in ("playbooks/bootstrap.yml", *playbooks):
        playbook(INVENTORY, name, f"--limit={','.join(hosts)}", VARIABLES)


def measure(settings: Settings, folder: Path, rounds: int, parts: list[str]) -> dict[str, Any]:
    """Measure what is asked for, on servers made afresh."""
    result: dict[str, Any] = {"health_limit": HEALTH_LIMIT}
    print("making the first server", flush=True)
    make([FIRST], "playbooks/site.yml")
    if "guide" in parts:
        comparison = Comparison(settings, Server(settings, FIRST_INDEX, folder))
        comparison.prepare()
        for number in range(rounds):
            comparison.round(number)
        result["decision"] = comparison.decision()
        comparison.remove_guide()
        result["guide"] = {
            what: {side: [asdict(one) for one in timings] for side, timings in sides.items()}
            for what, sides in comparison.timings.items()
        }
    if "fleet" in parts:
        print("making nine thin servers", flush=True)
        make([f"fleet{number:02}" for number in range(2, 11)], "bench/fleet.yml")
        result["fleet"] = fleet(max(1, rounds - 1))
    return result


def main() -> int:
    """Measure, print the table, write both files."""
    parser = arguments("releases", __doc__)
    parser.add_argument("--rounds", type=int, default=4, help="how often everything is measured")
    parser.add_argument("--part", choices=["guide", "fleet"], action="append", help="only this")
    options = parser.parse_args()
    parts = options.part or ["guide", "fleet"]
    name = "releases" if len(parts) > 1 else f"releases-{parts[0]}"
    return run(name, options, INVENTORY, partial(measure, rounds=options.rounds, parts=parts), releases_markdown)


if __name__ == "__main__":
    sys.exit(main())
