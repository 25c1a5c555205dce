"""A server with Docker, Compose, the stack and its edge, whose clock moves when somebody waits; it may be killed.

The edge is a real unix socket that answers as HAProxy does. What users would notice is written down as it happens:
`outages` (nobody takes a service's requests), `cut` (a copy was stopped with something open or while it was sent more),
`to_nobody` (the edge was told to send requests where nobody is), `early` (a copy got requests before it was healthy).
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import requests
from ansible.module_utils.integr8scode_docker import EngineUnavailableError, docker_errors
from ansible.module_utils.release_secrets import LIST, own_list
from ansible.module_utils.releases import late, lock
from ansible.module_utils.releases.compose import ComposeError, EngineLostError
from ansible.module_utils.releases.job import Job, Outcome
from ansible.module_utils.releases.journal import Journal, finish, prepare
from ansible.module_utils.releases.switch import Switch

WORKERS = ["coordinator", "k8s-worker", "pod-monitor", "result-processor"]
INFRASTRUCTURE = ["mongo", "kafka"]
SERVING = ("backend", "frontend")
NEED_INFRASTRUCTURE = ("backend", *WORKERS)
SERVICES = [*INFRASTRUCTURE, "edge", *SERVING, *WORKERS]
SEED = "user-seed"
READERS = ("mongo", *NEED_INFRASTRUCTURE, SEED)
"""Services that get secrets."""
COLUMNS = (
    "be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state "
    "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr "
    "srv_agent_addr srv_agent_port"
)
STEP = 0.25


def image_of(service: str, definition: str) -> str:
    """The pinned image of a service in a release."""
    return f"registry.example:5000/{service}:{definition}@sha256:{definition}-{service}"


class Killed(BaseException):
    """The program was killed here; nothing of its own catches that."""


class Clock:
    """Stands in for the module time: real time, and what was waited on top."""

    def __init__(self, server: FakeServer) -> None:
        self.server, self.waited = server, 0.0

    def time(self) -> float:
        return time.time() + self.waited

    def monotonic(self) -> float:
        return time.monotonic() + self.waited

    def sleep(self, seconds: float) -> None:
        self.server.call("sleep")
        self.pass_by(seconds)

    def pass_by(self, seconds: float) -> None:
        while seconds > 0:
            self.waited += min(STEP, seconds)
            seconds -= STEP
            self.server.tick()


@dataclass
class Live:
    """A container as it is; the engine's clients see snapshots of it."""

    service: str
    number: int
    spec: dict[str, Any]
    started: float
    status: str = "running"
    exit_code: int = 0
    restarts: int = 0
    sick: bool = False
    """Unhealthy for good."""

    @property
    def id(self) -> str:
        return f"{self.number:064x}"

    @property
    def name(self) -> str:
        return f"integr8scode-{self.service}-{self.number}"

    @property
    def address(self) -> str:
        return f"172.31.209.{self.number}"

    def healthy(self, now: float) -> bool:
        return self.health(now) == "healthy"

    def health(self, now: float) -> str:
        """In the engine's words; ``""`` of one that does not run."""
        if self.status != "running":
            return ""
        fails = self.spec.get("unhealthy_after")
        if self.sick or (fails is not None and now - self.started >= fails):
            return "unhealthy"
        after = self.spec.get("healthy_after", 1.0)
        return "healthy" if after is not None and now - self.started >= after else "starting"


class Container:
    """What docker-py's container offers and the engine uses."""

    def __init__(self, server: FakeServer, live: Live) -> None:
        self.server, self.live = server, live
        self.id, self.short_id, self.name = live.id, live.id[-12:], live.name
        now = server.clock.time()
        started = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(live.started))
        self.attrs: dict[str, Any] = {
            "Created": f"{live.number:09d}",
            "RestartCount": live.restarts,
            "Config": {"StopTimeout": 20, "Image": image_of(live.service, live.spec["hash"])},
            "HostConfig": {"Memory": live.spec.get("memory", 100) * 1024 * 1024},
            "NetworkSettings": {"Networks": {"integr8scode": {"IPAddress": live.address}, "other": {"IPAddress": ""}}},
            "State": {
                "Status": live.status,
                "Running": live.status == "running",
                "ExitCode": live.exit_code,
                "OOMKilled": False,
                "StartedAt": f"{started}.{int(live.started % 1 * 1e9):09d}Z",
                "Health": {"Status": live.health(now) or "unhealthy"},
            },
        }
        self.labels = {
            "com.docker.compose.project": "integr8scode",
            "com.docker.compose.service": live.service,
            "com.docker.compose.oneoff": "False",
            "com.docker.compose.config-hash": live.spec["hash"],
        }

    def _here(self, what: str) -> None:
        self.server.engine(f"{what} {self.live.service}")
        if self.live not in self.server.containers_now:
            raise docker_errors.NotFound(f"No such container: {self.id}")

    def stop(self, timeout: int) -> None:
        self._here("stop")
        assert timeout == 20
        self.server.stop(self.live)
        self.server.call("stopped")

    def remove(self, v: bool, force: bool) -> None:
        assert v
        assert force
        self._here("remove")
        self.server.remove(self.live)
        self.server.call("removed")

    def restart(self, timeout: int) -> None:
        assert timeout == 20
        self._here("restart")
        self.server.log.append(f"restart {self.live.service}")
        # by hand: Docker counts from the beginning again
        self.live.started, self.live.restarts = self.server.clock.time(), 0

    def kill(self, signal: str) -> None:
        self._here("kill")
        self.server.log.append(f"{signal} {self.live.service}")
        if self.live.service == "edge":
            assert signal == "SIGUSR2"
            self.server.edge.reload()

    def logs(self, tail: int, timestamps: bool = False) -> bytes:
        self.server.engine("logs")
        if timestamps:
            return f"1970-01-01T00:00:00.5Z why {self.name} ended\n9999-12-31T00:00:00Z well again\n".encode()
        return f"the last {tail} lines of {self.name}".encode()

    def exec_run(self, command: list[str], **_: Any) -> Any:
        self._here("exec")
        if self.live.service == "kafka":
            running = [one.service for one in self.server.containers_now if one.status == "running"]
            groups = [name for name in running if name not in self.server.missing_groups]
            return SimpleNamespace(exit_code=0, output=("GROUP STATE\n" + "\n".join(groups)).encode())
        assert command[:2] == ["python", "-c"]
        assert command[3:] == ["3600", "queued", "scheduled", "running"]
        if self.server.executions is None:
            return SimpleNamespace(
                exit_code=1, output=(None, b"Traceback\npymongo.errors: mongodb://root:secret@mongo")
            )
        now = self.server.clock.time()
        left = [[name, "running"] for name, end in self.server.executions.items() if end > now]
        return SimpleNamespace(exit_code=0, output=(json.dumps(left).encode(), None))


@dataclass
class Slot:
    """A place of the fake edge."""

    backend: str
    name: str
    address: str = ""
    since: float = 0.0
    gone_since: float = 0.0
    drained: float = 0.0
    up: bool = False


class FakeEdge:
    """HAProxy: finds copies a second after they are there, forgets them a second after they are gone."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.path = server.base / "edge/run/admin.sock"
        self.pid = 10
        self.loaded = ""
        self.loads_after = 0.0
        self.silent = False
        self.listener: socket.socket | None = None
        self.slots = [
            Slot(backend, f"{service}{number}")
            for service in SERVING
            for backend in (service, f"{service}_streams")
            for number in (1, 2, 3, 4)
        ]

    # -- its process

    def start(self) -> None:
        self.loaded = (self.server.base / "edge/haproxy.cfg").read_text()
        self.pid += 1
        self.forget_all()
        self.path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.path))
        self.listener.listen(8)
        threading.Thread(target=self._serve, args=(self.listener,), daemon=True).start()

    def stop(self) -> None:
        if self.listener:
            listener, self.listener = self.listener, None
            # wakes the thread that waits in accept
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def forget_all(self) -> None:
        for slot in self.slots:
            slot.address, slot.drained, slot.up, slot.gone_since = "", 0.0, False, 0.0

    def reload(self) -> None:
        text = (self.server.base / "edge/haproxy.cfg").read_text()
        if "WILL NOT LOAD" in text:
            return
        self.loaded, self.pid = text, self.pid + 1
        if not (self.server.base / "edge/run/servers.state").exists():
            # as a new process without a state file: it has to ask for every name first
            self.forget_all()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                command = connection.makefile().readline().strip()
                if not self.silent:
                    connection.sendall(self.answer(command).encode() + b"\n")

    # -- what it knows

    def tick(self, now: float) -> None:
        if not self.listener:
            return
        for slot in self.slots:
            service = slot.backend.removesuffix("_streams")
            found = {one.address: one for one in self.server.running(service)}
            if slot.address and slot.address not in found:
                slot.up = False
                slot.gone_since = slot.gone_since or now
                if now - slot.gone_since >= 1:
                    slot.address, slot.gone_since = "", 0.0
            taken = {one.address for one in self.slots if one.backend == slot.backend}
            fresh = [one for address, one in found.items() if address not in taken and now - one.started >= 0.5]
            if not slot.address and fresh:
                slot.address, slot.since = fresh[0].address, now
                # until its first check a new address counts as healthy
                if not slot.drained and not fresh[0].healthy(now) and self.takes(service):
                    self.server.early.append(f"{slot.backend} {fresh[0].spec['hash']}")
            if slot.address in found:
                slot.up = found[slot.address].healthy(now) and now - slot.since >= 0.5

    def sessions(self, slot: Slot) -> int:
        """Requests that were under way when the place was drained end some time after that."""
        end = slot.drained + self.server.busy.get(slot.backend, 0.0)
        return int(bool(slot.drained) and self.server.clock.time() < end)

    def takes(self, service: str) -> list[Slot]:
        """Places that get a service's new requests."""
        return [slot for slot in self.slots if slot.backend == service and slot.up and not slot.drained]

    def answer(self, command: str) -> str:
        if command == "show stat":
            rows = [f"{one.backend},{one.name},0,0,{self.sessions(one)},0," for one in self.slots]
            return "\n".join(["# pxname,svname,qcur,qmax,scur,smax,", *rows, "api,FRONTEND,,,,0,"]) + "\n"
        if command.startswith("show servers state"):
            name = command.removeprefix("show servers state").strip()
            rows = [self._row(slot) for slot in self.slots if name in ("", slot.backend)]
            return "\n".join(["1", f"# {COLUMNS}", *rows]) + "\n" if rows else "Can't find backend.\n"
        if command == "show info":
            return f"Name: HAProxy\nVersion: 3.0.21\nPid: {self.pid}\nUptime: 0d\n"
        words = command.split()
        if words[:3] == ["shutdown", "sessions", "server"]:
            self.server.log.append(f"end {words[3]}")
            self.server.busy[words[3].split("/")[0]] = 0.0
            return ""
        assert words[:2] + words[3:4] == ["set", "server", "state"], command
        return self._set(words[2], words[4])

    def _row(self, slot: Slot) -> str:
        admin = (0x08 if slot.drained else 0) | (0 if slot.address else 0x20)
        state = 2 if slot.up else 0
        tail = "1 1 7 1 0 0 14 0 0 0 backend 443 - 0 0 - - 0"
        return f"2 {slot.backend} 1 {slot.name} {slot.address or '-'} {state} {admin} {tail}"

    def _set(self, name: str, state: str) -> str:
        slot = next((one for one in self.slots if f"{one.backend}/{one.name}" == name), None)
        if slot is None:
            return "No such server.\n"
        self.server.log.append(f"{state} {slot.backend} {slot.address}")
        if (
            state == "ready"
            and slot.address
            and not any(
                one.address == slot.address for one in self.server.running(slot.backend.removesuffix("_streams"))
            )
        ):
            self.server.to_nobody.append(name)
        slot.drained = self.server.clock.time() if state == "drain" else 0.0
        return ""


@dataclass
class FakeServer:
    """See the module. `base` is where Integr8sCode is installed, `runs` where runs are written down."""

    base: Path
    runs: Path
    kill_at: int = -1
    calls: int = 0
    log: list[str] = field(default_factory=list)
    outages: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    to_nobody: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    containers_now: list[Live] = field(default_factory=list)
    busy: dict[str, float] = field(default_factory=dict)
    executions: dict[str, float] | None = field(default_factory=dict)
    missing_groups: set[str] = field(default_factory=set)
    answers: dict[str, int] = field(default_factory=dict)
    retry_after: float | None = None
    failing: dict[str, str] = field(default_factory=dict)
    free_mb: int = 10_000
    engine_back_at: float = 0.0
    in_use: set[str] = field(default_factory=set)
    images_removed: list[str] = field(default_factory=list)
    backups: list[str] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    networks_now: dict[str, dict[str, str]] = field(default_factory=dict)
    published: dict[int, str] = field(default_factory=dict)
    """Containers of others, by the port that they publish."""
    listeners: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.made = 1
        self.runs_made = 0
        self.dead = False
        self.served: set[str] = set()
        self.before_call: Any = None
        self.clock = Clock(self)
        for folder in ("edge/run", "tls/public", "tls/internal/edge", "tls/internal/backend", "tls/internal/frontend",
                       "secrets", "releases", "files"):  # fmt: skip
            (self.base / folder).mkdir(parents=True)
        self.edge = FakeEdge(self)
        self.containers = self
        self.api = SimpleNamespace(
            remove_image=self.remove_image, networks=self.list_networks, containers=self.list_published
        )
        self.secrets(READERS)

    # -- what a test prepares

    def release(
        self,
        name: str,
        *,
        edge: str = "the edge\n",
        without: Iterable[str] = (),
        environment: dict[str, str] | None = None,
        lists: bool = True,
        **specs: Any,
    ) -> str:
        """Write a release: each service's definition is the name of its own unless `specs` says more of it.

        A service that no release has by itself is behind a profile, unless its spec says of which.
        `lists` is whether it has a list of its own of the services that read secrets.
        """
        path = self.base / "releases" / name
        path.mkdir(parents=True)
        infra = [*INFRASTRUCTURE, "edge"]
        services = {
            one: {"hash": "first" if one in infra else name, **specs.get(one.replace("-", "_"), {})}
            for one in SERVICES
            if one not in without
        } | {
            one: {"hash": name, "profiles": ["some"], **spec}
            for one, spec in specs.items()
            if one.replace("_", "-") not in SERVICES
        }
        defined = {"services": {**services, SEED: {"hash": name, "profiles": ["seed"]}}}
        (path / "docker-compose.yaml").write_text(json.dumps(defined))
        (path / "haproxy.cfg").write_text(edge)
        newest = self.base / "secrets/current.yaml"
        has = set(json.loads(newest.read_text())["services"])
        (path / LIST).write_text(own_list(has & set(defined["services"]), newest))
        files = [path / "docker-compose.yaml", path / LIST if lists else newest]
        variables = {"COMPOSE_FILE": ":".join(map(str, files)), "HTTPS_PORT": "8443", **(environment or {})}
        (path / ".env").write_text("".join(f"{one}={value}\n" for one, value in variables.items()))
        config = self.base / "files" / name / "config.toml"
        config.parent.mkdir()
        config.write_text(name)
        record = {
            "tag": name,
            "created_at": f"2026-01-01T00:00:{len(list(self.base.glob('releases/*'))):02d}",
            "images": {one: image_of(one, name) for one in services},
            "files": {"config.toml": str(config), "config.k8s-worker.toml": str(config.parent / "k8s.toml")},
        }
        (path / "release.json").write_text(json.dumps(record))
        return name

    def passwords(self, name: str) -> None:
        """New secrets with the users' passwords, as they are mounted from now on."""
        folder = self.base / "secrets" / name
        folder.mkdir()
        (folder / "user_passwords.json").write_text(json.dumps({"DEFAULT_USER_PASSWORD": f"password-{name}"}))
        self.secrets(READERS, passwords=str(folder / "user_passwords.json"))

    def secrets(self, readers: Iterable[str], *, passwords: str = "") -> None:
        """Which services get secrets from now on."""
        services: dict[str, Any] = {one: {"volumes": [{"source": "s", "target": "/run/s"}]} for one in readers}
        if passwords:
            services[SEED]["volumes"] = [{"source": passwords, "target": "/run/secrets/user_passwords.json"}]
        (self.base / "secrets/current.yaml").write_text(json.dumps({"services": services}))

    def renew(self, path: str) -> None:
        """Replace a file that programs load."""
        (self.base / path).write_text("new")
        os.utime(self.base / path, (self.clock.time(), self.clock.time()))

    def switch(self, release: str, action: str = "deploy", *, kill_at: int = -1, **settings: Any) -> Outcome:
        """Do a whole switch, as the unit does, with the lock that the playbook takes."""
        self.runs_made += 1
        run = f"run{self.runs_made:02d}"
        self.calls, self.kill_at, self.dead = 0, kill_at, False
        owner = lock.Owner(run=run, action=action, what=release)
        lock.take(self.base, owner, lease_seconds=1800, unit_active=lambda: False)
        late.complete_history(self.base, self.runs, run)
        job = Job.from_dict(
            {
                "run": run, "action": action, "release": release, "started_at": self.clock.time(), "by": "ops@desk",
                "controller": "desk", "base": str(self.base),
                "settings": {
                    "workers": WORKERS, "infrastructure": INFRASTRUCTURE, "healthy_timeout_seconds": 60,
                    "stable_seconds": 30, "drain_seconds": 30, "stream_seconds": 5, "executions_wait_seconds": 20,
                    "consumer_groups": ["k8s-worker"], **settings,
                },
            }
        )  # fmt: skip
        folder = prepare(self.runs, run, job.to_dict())
        outcome = Switch(job, Journal(folder), sleep=self.clock.sleep).run()
        finish(folder, {"result": outcome.result})
        return outcome

    def deployed(self, name: str, **release: Any) -> str:
        """Write a release, deploy it, and forget how that went."""
        self.release(name, **release)
        outcome = self.switch(name)
        assert outcome.result == "ok", outcome
        self.log.clear()
        return name

    # -- what a test looks at

    @property
    def current(self) -> str:
        link = self.base / "current"
        return link.resolve().name if link.is_symlink() else ""

    def history(self) -> list[dict[str, Any]]:
        path = self.base / "history.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def hashes(self) -> dict[str, list[str]]:
        """The definition of each service's containers."""
        found: dict[str, list[str]] = {}
        for one in self.containers_now:
            found.setdefault(one.service, []).append(one.spec["hash"])
        return found

    def ids(self, *services: str) -> set[int]:
        return {one.number for one in self.containers_now if not services or one.service in services}

    def running(self, service: str) -> list[Live]:
        return [one for one in self.containers_now if one.service == service and one.status == "running"]

    def told(self) -> str:
        """All that the last run has said."""
        path = self.runs / f"run{self.runs_made:02d}" / "progress.jsonl"
        return path.read_text() if path.exists() else ""

    def unharmed(self) -> bool:
        """Whether no user has noticed anything."""
        return not (self.outages or self.cut or self.to_nobody or self.early)

    # -- time, and being killed

    def call(self, what: str) -> None:
        """Something outside the program happens now."""
        if self.dead:
            raise Killed(what)
        if self.before_call:
            self.before_call(what)
        self.calls += 1
        if self.calls == self.kill_at:
            self.dead = True
            raise Killed(what)

    def tick(self) -> None:
        now = self.clock.time()
        for one in self.containers_now:
            dies = one.spec.get("dies_after")
            if one.status == "running" and dies is not None and now - one.started >= dies:
                # Docker starts it again
                one.restarts, one.started = one.restarts + 1, now
        self.edge.tick(now)
        for service in SERVING:
            if self.edge.takes(service):
                self.served.add(service)
            elif service in self.served:
                self.served.discard(service)
                self.outages.append(service)

    # -- the engine

    def engine(self, what: str) -> None:
        self.call(what)
        if self.clock.time() < self.engine_back_at:
            raise requests.exceptions.ConnectionError("Connection aborted")

    def connect(self) -> Any:
        if self.clock.time() < self.engine_back_at:
            raise EngineUnavailableError("the Docker Engine does not answer")
        return self

    def list(self, filters: dict[str, list[str]], ignore_removed: bool, all: bool = False) -> list[Container]:  # noqa: A002
        self.engine("list")
        assert ignore_removed
        labels = filters["label"]
        assert "com.docker.compose.project=integr8scode" in labels
        found = [Container(self, one) for one in self.containers_now if all or one.status == "running"]
        return [one for one in found if all_of(one.labels, labels)]

    def remove_image(self, reference: str, noprune: bool) -> None:
        assert not noprune
        self.engine("remove_image")
        if reference in self.in_use:
            raise docker_errors.APIError("conflict", SimpleNamespace(status_code=409), "a container uses it")
        self.images_removed.append(reference)

    def list_networks(self, filters: dict[str, str]) -> list[dict[str, Any]]:
        self.engine("networks")
        assert filters == {"label": "com.docker.compose.project=integr8scode"}
        return [{"Name": name, "IPAM": {"Config": [config]}} for name, config in self.networks_now.items()]

    def list_published(self) -> list[dict[str, Any]]:
        self.engine("published")
        ours = {"com.docker.compose.project": "integr8scode"}
        edge = [({"PublicPort": 8443, "Type": "tcp"}, "edge", ours)] if self.running("edge") else []
        others = [({"PublicPort": port, "Type": "tcp"}, name, {}) for port, name in self.published.items()]
        return [{"Names": [f"/{name}"], "Labels": labels, "Ports": [port]} for port, name, labels in edge + others]

    def create(self, service: str, spec: dict[str, Any]) -> None:
        self.made += 1
        self.log.append(f"create {service} {spec['hash']}")
        if service in NEED_INFRASTRUCTURE and not spec.get("volumes", True):
            # without its secrets the program ends at once
            spec = {**spec, "dies_after": 0.5}
        self.containers_now.append(Live(service, self.made, spec, self.clock.time()))
        if service == "edge":
            self.edge.start()

    def stop(self, live: Live) -> None:
        self.log.append(f"stop {live.service} {live.spec['hash']}")
        if live.service == "edge":
            self.edge.stop()
        for slot in self.edge.slots:
            sent = slot.up and not slot.drained
            if slot.address == live.address and self.edge.listener and (sent or self.edge.sessions(slot)):
                self.cut.append(f"{slot.backend} {live.spec['hash']}")
        live.status, live.exit_code = "exited", 0
        self.clock.pass_by(0.3)

    def remove(self, live: Live) -> None:
        self.containers_now.remove(live)

    # -- docker's command line

    def docker(self, *arguments: str, timeout: float = 120, name: str = "") -> str:
        """In place of `releases.compose.docker`."""
        assert timeout > 0
        what = " ".join(arguments[5:] if arguments[0] == "compose" else arguments)
        self.call(what)
        if self.clock.time() < self.engine_back_at:
            raise EngineLostError("Cannot connect to the Docker daemon. Is the docker daemon running?")
        for pattern, said in self.failing.items():
            if pattern in what:
                raise ComposeError(f"`docker {name}` failed with exit code 1: {said}", said)
        if arguments[0] == "run":
            mounted = next(one.split(":")[0] for one in arguments if one.endswith(":/etc/edge/haproxy.cfg:ro"))
            if "BROKEN" in Path(mounted).read_text():
                raise ComposeError("`docker run` failed with exit code 1: unknown keyword BROKEN")
            return ""
        assert arguments[:4] == ("compose", "--ansi", "never", "--project-directory"), arguments
        path, command, options = Path(arguments[4]), arguments[5], arguments[6:]
        services = self.project(path)
        answer: str = getattr(self, f"compose_{command}")(services, list(options))
        self.call(f"{command} done")
        return answer

    def project(self, path: Path) -> dict[str, Any]:
        """The services of a release as Compose puts them together from the files that `.env` names."""
        (names,) = [line for line in (path / ".env").read_text().splitlines() if line.startswith("COMPOSE_FILE=")]
        merged: dict[str, Any] = {}
        for file in names.partition("=")[2].split(":"):
            for name, spec in json.loads(Path(file).read_text())["services"].items():
                extends = spec.pop("extends", None)
                if extends:
                    found = json.loads(Path(extends["file"]).read_text())["services"]
                    if extends["service"] not in found:
                        raise ComposeError(f'cannot extend service "{name}" in {file}: service not found')
                    spec.update(found[extends["service"]])
                merged[name] = {"volumes": [], **merged.get(name, {}), **spec}
        for name, spec in merged.items():
            if "hash" not in spec:
                said = f'service "{name}" has neither an image nor a build context specified: invalid compose project'
                raise ComposeError(said)
        return merged

    def compose_config(self, services: dict[str, Any], options: list[str]) -> str:
        assert options == ["--hash", "*"]
        return "".join(f"{name} {spec['hash']}\n" for name, spec in services.items() if name != SEED)

    def compose_up(self, services: dict[str, Any], options: list[str]) -> str:
        assert options[:4] == ["--detach", "--no-build", "--pull", "never"]
        rest, scale, recreate = options[4:], {}, True
        if "--no-recreate" in rest:
            rest.remove("--no-recreate")
            recreate = False
        while "--scale" in rest:
            place = rest.index("--scale")
            name, _, number = rest[place + 1].partition("=")
            scale[name] = int(number)
            del rest[place : place + 2]
        assert not [one for one in rest if one.startswith("-")], rest
        # as Compose: what a service depends on comes first, and is made anew where it is another one
        needed = [*(INFRASTRUCTURE if set(rest) & set(NEED_INFRASTRUCTURE) else []), *rest]
        for service in dict.fromkeys(needed):
            self._up(service, services[service], scale.get(service, 1), recreate=recreate)
        return ""

    def _up(self, service: str, spec: dict[str, Any], scale: int, *, recreate: bool) -> None:
        ours = [one for one in self.containers_now if one.service == service]
        # as Compose: what is of another definition goes first
        ours.sort(key=lambda one: (one.spec["hash"] == spec["hash"], one.number))
        while len(ours) > scale:
            self._recreated(ours.pop(0))
        for one in ours:
            if recreate and one.spec["hash"] != spec["hash"]:
                self._recreated(one)
                self.create(service, spec)
            elif one.status != "running":
                one.status, one.started, one.restarts = "running", self.clock.time(), 0
        for _ in range(scale - len(ours)):
            self.create(service, spec)
        self.clock.pass_by(0.2)

    def _recreated(self, live: Live) -> None:
        self.stop(live)
        self.remove(live)

    def compose_run(self, _services: dict[str, Any], options: list[str]) -> str:
        assert options[:3] == ["--rm", "--no-deps", "--no-TTY"]
        self.log.append(
            "seed" if options[3:] == ["user-seed"] else f"trial {' '.join(options[options.index('-c') + 2 :])}"
        )
        return ""

    def compose_down(self, _services: dict[str, Any], options: list[str]) -> str:
        assert options == ["--remove-orphans"]
        self.log.append("down")
        for live in list(self.containers_now):
            self._recreated(live)
        return ""

    # -- from outside, and from inside

    def probed(self, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        """In place of `kubernetes_access_probing.probe_all`."""
        self.call("kubernetes")
        assert parameters["image"].startswith("registry.example:5000/backend:")
        return self.reports

    def answer(self, request: Any, outside: Any) -> int:
        """In place of `releases.verify.Request.send`."""
        self.call("http")
        assert (outside.https_port, outside.frontend_port) == (8443, 5001)
        what = "login" if request.method == "POST" else request.path
        if what in self.answers:
            return self.answers[what]
        needed = SERVING if request.port == outside.frontend_port else ("backend",)
        return 200 if all(self.edge.takes(one) for one in needed) else 503


def all_of(labels: dict[str, str], wanted: list[str]) -> bool:
    return all(labels.get(one.partition("=")[0]) == one.partition("=")[2] for one in wanted)
