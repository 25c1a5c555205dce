"""The Docker engine that the lab runs in: the machine's own, or one that the lab starts.

An engine of the lab's own keeps its data in ``LAB_HOME/engine``, its socket and pid file in ``/run/<LAB_NAME>``,
and outlives the command that started it. ``stop`` ends that one and no other.
"""

from __future__ import annotations

import grp
import json
import os
import platform
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import DockerException

from lab.settings import LABEL, LabError, Settings
from lab.shell import as_root, install, run, tail

START_SECONDS = 60
"""How long a new engine may take to answer; 2 s is usual."""

STOP_SECONDS = 60


@dataclass(frozen=True)
class Own:
    """Paths of the lab's own engine."""

    data: Path
    log: Path
    runtime: Path

    @classmethod
    def of(cls, settings: Settings) -> Own:
        """The one of this lab."""
        return cls(settings.engine / "data", settings.engine / "dockerd.log", Path("/run") / settings.name)

    @property
    def url(self) -> str:
        """Its address, as in ``DOCKER_HOST``."""
        return f"unix://{self.runtime / 'docker.sock'}"

    @property
    def pid_file(self) -> Path:
        """Where dockerd writes its process id."""
        return self.runtime / "docker.pid"

    def command(self, group: str = "") -> list[str]:
        """The command line of dockerd.

        Args:
            group: who may use the socket besides root; empty leaves dockerd's default.
        """
        words = ["dockerd", "--data-root", str(self.data), "--exec-root", str(self.runtime / "exec")]
        words += ["-H", self.url, "-p", str(self.pid_file)]
        return [*words, "-G", group] if group else words


def connect(url: str, timeout: float = 600) -> docker.DockerClient:
    """A client of the engine at ``url``.

    Args:
        url: as in ``DOCKER_HOST``.
        timeout: seconds that one request may take (a build step sends nothing while it runs).

    Raises:
        LabError: nothing answers there.
    """
    try:
        client = docker.DockerClient(base_url=url, timeout=int(timeout))
        client.ping()
    except (DockerException, OSError) as error:
        raise LabError(f"no Docker engine answers at {url}: {error}") from None
    return client


def answers(url: str) -> bool:
    """Whether an engine answers there within five seconds."""
    try:
        connect(url, 5).close()
    except LabError:
        return False
    return True


def _context_url() -> str:
    """Where the ``docker`` command of this machine would go (Docker Desktop and others set a context)."""
    default = "unix:///var/run/docker.sock"
    if not shutil.which("docker"):
        return default
    env = {key: value for key, value in os.environ.items() if key != "DOCKER_HOST"}
    command = ["docker", "context", "inspect", "--format", "{{json .Endpoints.docker.Host}}"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    try:
        return str(json.loads(done.stdout)) if done.returncode == 0 else default
    except ValueError:
        return default


def find(settings: Settings) -> str:
    """Address of an engine that answers: the named one, the lab's own, the machine's; empty if none does.

    Raises:
        LabError: ``DOCKER_HOST`` names one that does not answer.
    """
    own = Own.of(settings)
    if settings.docker_host and settings.docker_host != own.url:
        connect(settings.docker_host, 10).close()
        return settings.docker_host
    for url in (own.url, *([] if settings.docker_host else [_context_url()])):
        if answers(url):
            return url
    return ""


def ensure(settings: Settings) -> str:
    """Find an engine, or start one. Returns its address.

    Raises:
        LabError: there is none and none can be started here.
    """
    url = find(settings)
    if url:
        return url
    if platform.system() != "Linux":
        raise LabError("no Docker engine answers: start Docker Desktop, or set DOCKER_HOST")
    return start(settings)


def start(settings: Settings) -> str:
    """Start the lab's own engine, installing it first where it is missing. Returns its address.

    Raises:
        LabError: no root, or dockerd does not come up; with its last lines.
    """
    own = Own.of(settings)
    packages = {"dockerd": "docker.io", "containerd": "containerd", "iptables": "iptables", "ip": "iproute2"}
    install(packages, "the lab's Docker engine")
    settings.engine.mkdir(parents=True, exist_ok=True)
    # what `down` leaves as a note that there is nothing more to remove in it
    (settings.engine / "emptied").unlink(missing_ok=True)
    run(as_root(["mkdir", "-p", "-m", "0755", own.runtime]), f"making {own.runtime}")
    group = "" if os.geteuid() == 0 else grp.getgrgid(os.getegid()).gr_name
    env = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    env.pop("DOCKER_HOST", None)
    print(f"starting a Docker engine of the lab's own ({own.url})", flush=True)
    with own.log.open("ab") as log:
        process = subprocess.Popen(
            as_root(own.command(group)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
            cwd="/",
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS
    while not answers(own.url):
        if process.poll() is not None or time.monotonic() > deadline:
            why = tail(own.log.read_text("utf-8", "replace"))
            raise LabError(f"dockerd did not come up; the end of {own.log}:\n{why}")
        time.sleep(0.5)
    return own.url


def own_pid(settings: Settings) -> int:
    """Process id of the lab's own engine, 0 if it does not run.

    A pid file alone proves nothing (a machine restarts, numbers are used again): the process must be a dockerd
    with this lab's data directory on its command line.
    """
    own = Own.of(settings)
    try:
        pid = int(own.pid_file.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except (OSError, ValueError):
        return 0
    ours = Path(words[0]).name == "dockerd" and "--data-root" in words and str(own.data) in words
    return pid if ours else 0


def stop(settings: Settings) -> str:
    """Stop the lab's own engine if it runs and holds nothing of anybody else. Returns what was done.

    Raises:
        LabError: it does not end.
    """
    pid = own_pid(settings)
    if not pid:
        return "no engine of the lab's own was running"
    client = connect(Own.of(settings).url, 30)
    foreign = [str(one.name) for one in client.containers.list() if LABEL not in one.labels]
    client.close()
    if foreign:
        return f"the lab's engine was left running: it also runs {', '.join(sorted(foreign))}"
    run(as_root(["kill", "-TERM", str(pid)]), "stopping the lab's engine")
    deadline = time.monotonic() + STOP_SECONDS
    while own_pid(settings):
        if time.monotonic() > deadline:
            raise LabError(f"the lab's engine (process {pid}) does not end; look at {Own.of(settings).log}")
        time.sleep(0.2)
    _clear_remains(settings)
    return "stopped the lab's engine"


def _clear_remains(settings: Settings) -> None:
    """Remove what dockerd leaves behind: mounts below its data, its runtime folder, and its bridge.

    The bridge only where no other engine runs, which would use the same one. Its packet filter chains stay: other
    programs may have put rules into them.
    """
    own = Own.of(settings)
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted(mounts, reverse=True):
        if Path(mount).is_relative_to(own.data) or Path(mount).is_relative_to(own.runtime):
            run(as_root(["umount", mount]), f"unmounting {mount}")
    run(as_root(["rm", "-rf", "--one-file-system", own.runtime]), f"removing {own.runtime}")
    others = [path for path in Path("/proc").glob("[0-9]*/comm") if _text(path).strip() == "dockerd"]
    if not others and Path("/sys/class/net/docker0").exists():
        run(as_root(["ip", "link", "delete", "docker0"]), "removing docker0")


def _text(path: Path) -> str:
    """A file's text; empty if it went away meanwhile."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
