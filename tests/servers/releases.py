"""What the tests of releases share: what runs on a server, runs of playbooks that may be killed, and moved tags."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.registry import Registry
from lab.settings import Settings
from tests.servers.conftest import ROOT
from tests.servers.test_site import BASE, SECRETS, STACK

FIRST, SECOND = "2026.2.30", "2026.2.31"
"""Two good releases with what a load test needs (lab/README.md)."""
NEVER_HEALTHY, DYING, CRASHING, WRONG_KEY, NO_COORDINATOR = (
    "2026.2.32",
    "2026.2.33",
    "2026.2.34",
    "2026.2.35",
    "2026.2.21",
)

RUNS = "/var/lib/integr8scode/runs"
UNIT = "integr8scode-switch.service"
# these servers have no profile on
SERVICES = {name for name, service in STACK.items() if not service.get("profiles")}
INFRASTRUCTURE = {"mongo", "redis", "kafka", "edge"}
APPLICATION = SERVICES - INFRASTRUCTURE
LOGIN = {"username": "user", "password": SECRETS["vault_integr8scode_user_password"]}
REPOSITORIES = ("hardmax71/integr8scode/backend", "hardmax71/integr8scode/frontend")


@dataclass(frozen=True)
class Container:
    """One running or stopped container of the stack."""

    id: str
    image: str
    running: bool
    healthy: bool
    restarts: int
    started: str


def stack(host: Any) -> dict[str, list[Container]]:
    """The stack's containers by service; one-shots included while they exist."""
    ids = host.check_output("docker ps --all --quiet --filter label=com.docker.compose.project=integr8scode").split()
    found: dict[str, list[Container]] = {}
    for raw in json.loads(host.check_output("docker inspect " + " ".join(ids))) if ids else []:
        state = raw["State"]
        container = Container(
            raw["Id"],
            raw["Config"]["Image"].rpartition("@")[2],
            state["Running"],
            state.get("Health", {}).get("Status", "healthy") == "healthy",
            raw["RestartCount"],
            state["StartedAt"],
        )
        found.setdefault(raw["Config"]["Labels"]["com.docker.compose.service"], []).append(container)
    return found


def whole(host: Any) -> dict[str, Container]:
    """The stack, which has to be complete: one container a service, all of them running and healthy."""
    found = stack(host)
    wrong = {
        service: found.get(service, [])
        for service in {*SERVICES, *found}
        if service not in SERVICES
        or len(found.get(service, [])) != 1
        or not (found[service][0].running and found[service][0].healthy)
    }
    assert not wrong, wrong
    return {service: containers[0] for service, containers in found.items()}


def ids(host: Any) -> dict[str, str]:
    """Id of the one container of each service of a complete stack."""
    return {service: container.id for service, container in whole(host).items()}


def renewed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Services whose container is another one."""
    assert before.keys() == after.keys()
    return {service for service in after if after[service] != before[service]}


def current(host: Any) -> dict[str, Any]:
    """`release.json` of the release that `current` points to."""
    record: dict[str, Any] = json.loads(host.file(f"{BASE}/current/release.json").content_string)
    return record


def history(host: Any) -> list[dict[str, Any]]:
    """Everything that was done to the server, the oldest first."""
    return [json.loads(line) for line in host.file(f"{BASE}/history.jsonl").content_string.splitlines()]


def locked(host: Any) -> bool:
    """Whether somebody holds the server's lock."""
    return bool(host.run(f"test -e {BASE}/lock/owner.json").rc == 0)


def progress(host: Any) -> list[dict[str, Any]]:
    """What the newest switch has said so far; empty before the first one."""
    answer = host.run(f"cat $(ls -td {RUNS}/*/ | head -n 1)progress.jsonl")
    lines = answer.stdout.rpartition("\n")[0].splitlines() if answer.rc == 0 else []
    return [json.loads(line) for line in lines]


def switches(host: Any, since: float) -> list[tuple[float, float]]:
    """When switches began and ended (unix seconds) that have begun after a moment."""
    said = host.check_output(f"for said in {RUNS}/*/progress.jsonl; do head -n 1 $said; tail -n 1 $said; done")
    moments = [json.loads(line)["at"] for line in said.splitlines()]
    return [(began, ended) for began, ended in zip(moments[::2], moments[1::2], strict=True) if began > since]


def newest_run(host: Any) -> str:
    """Name of the newest switch; empty before the first one."""
    return str(host.run(f"ls -t {RUNS} | head -n 1").stdout.strip())


def wait(what: str, seconds: float, ask: Callable[[], Any], pause: float = 0.3) -> Any:
    """Ask until the answer is true; fail with `what` when it has not been for so many seconds."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(pause)
    return answer


def is_switching(host: Any) -> bool:
    """Whether a switch is at work on the server."""
    return bool(host.run(f"systemctl is-active --quiet {UNIT}").rc == 0)


def wait_until_switched(host: Any, seconds: float = 240) -> None:
    """Wait until no switch is at work on the server, controller or not."""
    wait("the end of the switch", seconds, lambda: not is_switching(host), 1)


@dataclass
class Playbook:
    """A run of ansible-playbook that can be watched and killed.

    Attributes:
        arguments: of ansible-playbook.
        inventory: whose servers.
        log: its output.
        before: newest switch of the watched server from before this run.
    """

    arguments: tuple[str, ...]
    inventory: str
    log: Path
    before: str = ""
    process: subprocess.Popen[bytes] = field(init=False)
    began: float = field(init=False)
    killed_at: float = 0

    def __post_init__(self) -> None:
        self.began = time.time()
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                ["ansible-playbook", "-i", self.inventory, *self.arguments],
                cwd=ROOT,
                env={
                    **os.environ,
                    "PATH": f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
                    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                    "ANSIBLE_NOCOLOR": "1",
                    "PYTHONUNBUFFERED": "1",
                    # else a task is named when it is over
                    "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it has said so far."""
        return self.log.read_text("utf-8", "replace")

    def wait(self, seconds: float = 600) -> int:
        """Wait for its end; its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill(everything=True)
            raise AssertionError(f"{' '.join(self.arguments)} has not ended in {seconds} s:\n{self.output}") from None

    def kill(self, everything: bool) -> None:
        """Kill -9: the program alone, whose workers live on as orphans, or with everything that it has started."""
        self.killed_at = time.time()
        if everything:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait(30)

    def clean_up(self) -> None:
        """End what is left of it."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.wait(30)

    def last_task(self) -> str:
        """Name of the task that it had come to."""
        found = re.findall(r"^(?:TASK|RUNNING HANDLER) \[(.*?)\] \**$", self.output, re.MULTILINE)
        return found[-1] if found else ""


@dataclass(frozen=True)
class Stage:
    """A moment of a deploy at which something is killed.

    Attributes:
        name: for people.
        task: regular expression for the name of the task at which the controller is; empty for a step of the switch.
        step: of the switch on the server, as its progress names it.
    """

    name: str
    task: str = ""
    step: str = ""

    def reached(self, run: Playbook, host: Any) -> bool:
        """Whether a deploy is there."""
        if self.task:
            return re.search(rf"^TASK \[.*{self.task}.*\]", run.output, re.MULTILINE) is not None
        if newest_run(host) == run.before:
            return False
        said = progress(host)
        return bool(said) and said[-1]["step"] == self.step and said[-1]["state"] in ("started", "running")

    def await_in(self, run: Playbook, host: Any, seconds: float = 180) -> None:
        """Wait until a deploy is there; fail when it ends without having been."""
        deadline = time.monotonic() + seconds
        while not self.reached(run, host):
            # the switch may have begun and ended a step between two looks
            said = progress(host) if self.step and newest_run(host) != run.before else []
            passed = any(one["step"] == self.step and one["state"] == "done" for one in said)
            assert not passed, f"{self.name} was over before it could be hit"
            assert run.process.poll() is None, f"ended before {self.name}:\n{run.output}"
            assert time.monotonic() < deadline, f"{self.name} was not reached in {seconds} s:\n{run.output}"
            time.sleep(0.1)


def forget_images(host: Any, tag: str) -> None:
    """Remove the images of a release that does not run from the server, so that a deploy has something to pull."""
    for repository, digest in digests(tag).items():
        image = f"registry.lab.test/{repository}"
        host.run(f"docker rmi --force {image}@{digest}; docker rmi --force {image}:{tag}")


def digests(tag: str) -> dict[str, str]:
    """Digest of a tag in the lab's registry, by repository."""
    registry = Registry.of(Settings.from_environment())
    return {repository: registry.digest(repository, tag) for repository in REPOSITORIES}


@contextmanager
def moved_tag(tag: str, to: str) -> Iterator[None]:
    """For the time of the block, a tag names what another one does, as if somebody had pushed it again."""
    registry = Registry.of(Settings.from_environment())
    before = digests(tag)
    try:
        for repository, digest in digests(to).items():
            registry.move(repository, tag, digest)
        yield
    finally:
        for repository, digest in before.items():
            registry.move(repository, tag, digest)


@contextmanager
def registry_down(host: Any) -> Iterator[None]:
    """For the time of the block, the server reaches nobody at the registry's name."""
    # an address of the lab's network that nobody has
    host.check_output("cp /etc/hosts /etc/hosts.kept && echo 10.213.0.250 registry.lab.test >> /etc/hosts")
    try:
        yield
    finally:
        host.check_output("cat /etc/hosts.kept > /etc/hosts && rm /etc/hosts.kept")


def changed(output: str) -> int:
    """The changes that ansible-playbook's recap counts, all hosts together."""
    return sum(int(number) for number in re.findall(r"\bchanged=(\d+)", output))
