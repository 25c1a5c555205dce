"""`playbooks/drift.yml` beside the same questions by plain ssh in one session, and ten servers beside one: seconds.

    .venv/bin/python -m bench.drift

Makes the lab servers of bench/fleet: one with everything, and nine thin ones. Who asks first alternates.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from bench.cluster import ClusterError, ask
from bench.command import arguments, run
from bench.releases import FIRST, FIRST_INDEX, INVENTORY, VARIABLES, make
from bench.servers import Server
from bench.table import drift_markdown
from lab.settings import REGISTRY_HOST, REGISTRY_PASSWORD, REGISTRY_USER, ROOT, Settings

QUESTIONS = ROOT / "bench" / "questions.sh"
REPOSITORIES = ("hardmax71/integr8scode/backend", "hardmax71/integr8scode/frontend")
DRIFT = 2
"""Exit code for a server that is not as it should be: the thin ones lack k3s, which the report says."""


def registry_questions(tag: str) -> str:
    """Commands that ask the registry what drift.yml asks: is the login accepted, where do tags point, what is newer."""
    login = f"user = {REGISTRY_USER}:{REGISTRY_PASSWORD}"
    curl = f"curl -sS --cacert /etc/docker/certs.d/{REGISTRY_HOST}/ca.crt --config -"
    lines = []
    for repository in REPOSITORIES:
        url = f"https://{REGISTRY_HOST}/v2/{repository}"
        lines += [
            f"{curl} -I {url}/manifests/{tag} <<'END-OF-LOGIN'\n{login}\nEND-OF-LOGIN",
            f"{curl} {url}/tags/list <<'END-OF-LOGIN'\n{login}\nEND-OF-LOGIN",
        ]
    return "\n".join(lines) + "\n"


def by_ssh(server: Server, tag: str) -> tuple[float, int]:
    """Ask by plain ssh; seconds, and the size of what it said in bytes.

    Raises:
        ClusterError: the answer lacks a part.
    """
    began = time.monotonic()
    _, output = server.root(QUESTIONS.read_text("utf-8") + registry_questions(tag))
    seconds = time.monotonic() - began
    missing = [word for word in ('"RestartCount"', '"ClusterRole"', "notAfter=", '"tags"') if word not in output]
    if missing:
        raise ClusterError(f"plain ssh was not told {', '.join(missing)}: {output[-1500:]}")
    return seconds, len(output)


def by_playbook(reports: Path, *arguments: str, codes: tuple[int, ...] = (0,)) -> float:
    """Run drift.yml; seconds.

    Raises:
        ClusterError: it ended with another code than those expected.
    """
    program = Path(sys.executable).with_name("ansible-playbook")
    options = [VARIABLES, f"-edrift_report_dir={reports}", *arguments]
    began = time.monotonic()
    done = subprocess.run(
        [program, "-i", INVENTORY, "playbooks/drift.yml", *options],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    if done.returncode not in codes:
        raise ClusterError(f"drift.yml ended with {done.returncode}: {done.stdout[-3000:]}{done.stderr[-1000:]}")
    return seconds


def measure(settings: Settings, folder: Path, rounds: int) -> dict[str, Any]:
    """Measure on servers made afresh."""
    make([FIRST], "playbooks/site.yml")
    server = Server(settings, FIRST_INDEX, folder)
    tag = str(json.loads(server.root("cat /opt/integr8scode/current/release.json")[1])["tag"])
    # this project does not need it there
    ask(server.root, "apt-get -qq update && apt-get -qq -y install curl >/dev/null 2>&1")
    found: dict[str, list[float]] = {"playbook": [], "ssh": [], "ten": [], "one": []}
    size = 0
    with tempfile.TemporaryDirectory(prefix="drift-") as temporary:
        reports = Path(temporary)
        # both sides have seen the server once
        by_playbook(reports, f"--limit={FIRST}")
        by_ssh(server, tag)
        for number in range(rounds):
            for what in ("playbook", "ssh") if number % 2 == 0 else ("ssh", "playbook"):
                if what == "playbook":
                    found[what].append(by_playbook(reports, f"--limit={FIRST}"))
                else:
                    seconds, size = by_ssh(server, tag)
                    found[what].append(seconds)
                print(f"{what}: {found[what][-1]:.1f} s", flush=True)
        make([f"fleet{number:02}" for number in range(2, 11)], "bench/fleet.yml")
        by_playbook(reports, codes=(0, DRIFT))
        for number in range(rounds):
            for what in ("ten", "one") if number % 2 == 0 else ("one", "ten"):
                alone = (f"--limit={FIRST}",) if what == "one" else ()
                found[what].append(by_playbook(reports, *alone, codes=(0, DRIFT)))
                print(f"{what}: {found[what][-1]:.1f} s", flush=True)
    return {"bytes_by_ssh": size, "seconds": found}


def main() -> int:
    """Measure, print the table, write both files."""
    parser = arguments("drift", __doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured")
    options = parser.parse_args()
    return run("drift", options, INVENTORY, partial(measure, rounds=options.rounds), drift_markdown)


if __name__ == "__main__":
    sys.exit(main())
