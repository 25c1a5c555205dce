"""Integr8sCode's stand-ins among the lab's Mongo, Redis and Kafka, in a network of their own."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import docker
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from docker.errors import ImageNotFound, NotFound
from docker.models.containers import Container

from lab import engine, images
from lab.settings import INPUTS_LABEL, REGISTRY_HOST, Settings
from tests.lab.containers import until

PREFIX = "t-app"
# every character that is awkward in a URL
MONGO_PASSWORD = "p@ss:w/o?r%d"
USER_PASSWORD = "lab-user-password"
ADMIN_PASSWORD = "lab-admin-password"
MONGO_URL = f"mongodb://root:{quote(MONGO_PASSWORD, safe='')}@mongo:27017/integr8scode?authSource=admin"
SECRETS = {"SECRET_KEY": "lab-secret-key-that-is-not-a-secret", "MONGODB_URL": MONGO_URL}
KAFKA = {
    "CLUSTER_ID": "MkU3OEVBNTcwNTJENDM2Qk",
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@kafka:29093",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_LISTENERS": "PLAINTEXT://kafka:29092,CONTROLLER://kafka:29093",
    "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://kafka:29092",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "500",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "true",
    "KAFKA_NUM_PARTITIONS": "3",
    "KAFKA_HEAP_OPTS": "-Xms256m -Xmx512m",
}
WORKERS = (
    "coordinator",
    "k8s-worker",
    "pod-monitor",
    "result-processor",
    "saga-orchestrator",
    "event-replay",
    "dlq-processor",
)


def certificate(folder: Path, *names: str) -> Path:
    """Write server.crt and server.key for 127.0.0.1 and some names; return the folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = dt.datetime.now(dt.UTC)
    alternatives = [x509.DNSName(name) for name in names] + [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder


def toml(values: dict[str, Any]) -> str:
    """Write flat TOML: JSON's strings, numbers and booleans are TOML's."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


@dataclass
class Stack:
    """A network, and what runs in it."""

    client: docker.DockerClient
    network: str
    folder: Path
    containers: dict[str, Container] = field(default_factory=dict)
    starts: int = 0

    def image(self, name: str, tag: str = "") -> str:
        """Name the stand-in image in the engine; without one the test has no subject."""
        entry = images.load()[name]
        reference = f"{REGISTRY_HOST}/{entry.repository}:{tag or entry.builds[0].tags[0]}"
        try:
            found = self.client.images.get(reference)
        except ImageNotFound:
            pytest.fail(f"{reference} is not in the engine: run `python -m lab prepare`")
        if not (found.labels or {}).get(INPUTS_LABEL):
            pytest.skip(f"{reference} is the real image, these tests are about its stand-in")
        return reference

    def run(
        self,
        name: str,
        image: str,
        command: list[str] | None = None,
        *,
        environment: dict[str, str] | None = None,
        files: dict[str, str | Path | None] | None = None,
        port: int = 0,
        memory: str = "768m",
    ) -> Container:
        """Start a container that is found by its name, in place of an earlier one.

        `files` maps paths in the container to a text, to a folder of the host, or to None for a path that Docker makes
        a folder of because nothing is there.
        """
        self.remove(name)
        self.starts += 1
        volumes = {}
        for number, (path, content) in enumerate((files or {}).items()):
            source = content if isinstance(content, Path) else self.folder / f"{name}-{self.starts}-{number}"
            if isinstance(content, str):
                source.write_text(content, encoding="utf-8")
            volumes[str(source)] = {"bind": path, "mode": "ro"}
        container = self.client.containers.create(
            image,
            command,
            name=f"{PREFIX}-{name}",
            environment=environment or {},
            volumes=volumes,
            mem_limit=memory,
            network=self.network,
            networking_config={self.network: self.client.api.create_endpoint_config(aliases=[name])},
            ports={f"{port}/tcp": ("127.0.0.1", None)} if port else {},
        )
        self.containers[name] = container
        container.start()
        return container

    def application(
        self, name: str, command: list[str] | None = None, *, tag: str = "2026.2.20", **changes: Any
    ) -> Container:
        """Start a program of the backend image.

        `config` and `secrets` are merged into settings that work; `secrets=None` leaves the file out.
        """
        files: dict[str, str | Path | None] = {"/app/certs": certificates(self)}
        config = {"LOG_LEVEL": "INFO", "KUBERNETES_CONFIG_PATH": "/app/kubeconfig.yaml"}
        files["/app/config.toml"] = toml({**config, **changes.get("config", {})})
        if changes.get("secrets", {}) is not None:
            files["/app/secrets.toml"] = toml({**SECRETS, **changes.get("secrets", {})})
        files.update(changes.get("files", {}))
        return self.run(
            name,
            self.image("backend", tag),
            command,
            environment={"LAB_START_SECONDS": "0", "WEB_CONCURRENCY": "1", **changes.get("environment", {})},
            files=files,
            port=0 if command else 443,
            memory="160m" if command else "768m",
        )

    def worker(self, worker: str, name: str = "", **changes: Any) -> Container:
        """Start a worker with its own settings; `override=None` leaves them out."""
        files = dict(changes.pop("files", {}))
        override = changes.pop("override", {"TRACING_SERVICE_NAME": worker})
        if override is not None:
            files[f"/app/config.{worker}.toml"] = toml(override)
        replaced = self.containers.get(name or worker)
        if replaced is not None:
            # one that is killed holds its group's partitions for 45 s
            replaced.stop(timeout=20)
        script = f"workers/run_{worker.replace('-', '_')}.py"
        return self.application(name or worker, ["python", script], files=files, **changes)

    def remove(self, name: str) -> None:
        """Remove a container, running or not."""
        container = self.containers.pop(name, None)
        if container is not None:
            container.remove(force=True, v=True)

    def url(self, container: Container, port: int = 443) -> str:
        """Return where a container's published port is."""
        container.reload()
        return f"https://127.0.0.1:{container.ports[f'{port}/tcp'][0]['HostPort']}"


def certificates(stack: Stack) -> Path:
    """Return the folder of the certificate that every stand-in shows."""
    return stack.folder / "certs"


def output(container: Container) -> str:
    """Return everything a container has printed."""
    return str(container.logs().decode(errors="replace"))


def ended(container: Container, seconds: float = 30) -> int:
    """Wait for a container's end; return its exit code."""
    try:
        return int(container.wait(timeout=seconds)["StatusCode"])
    except requests.exceptions.RequestException:
        pytest.fail(f"{container.name} still runs after {seconds} s: {output(container)[-2000:]}")


def stopped(container: Container, signal: str = "SIGTERM", seconds: float = 20) -> tuple[int, float]:
    """Send a signal; return the exit code and how many seconds the end took."""
    start = time.monotonic()
    container.kill(signal)
    return ended(container, seconds), time.monotonic() - start


def said(container: Container, text: str, seconds: float = 30) -> str:
    """Wait until a container has printed a text; return all it has printed."""

    def look() -> str:
        printed = output(container)
        if text in printed:
            return printed
        container.reload()
        if container.status == "exited":
            pytest.fail(f"{container.name} ended without saying {text!r}: {printed[-2000:]}")
        return ""

    return str(until(f"{container.name} says {text!r}", seconds, look))


def in_container(container: Container, *command: str) -> str:
    """Run a command in a container; return its output, fail when it fails."""
    code, printed = container.exec_run(list(command))
    text = str(printed.decode(errors="replace"))
    assert code == 0, f"{command} ended with {code}: {text}"
    return text


@contextlib.contextmanager
def neighbours(folder: Path) -> Iterator[Stack]:
    """Provide Mongo (with a root user and seeded users), Redis and Kafka, all answering; remove them at the end."""
    client = docker.DockerClient(base_url=engine.find(Settings.from_environment()))
    name = f"{PREFIX}-application"
    for container in client.containers.list(all=True, filters={"name": f"^/{PREFIX}-"}):
        with contextlib.suppress(NotFound):
            container.remove(force=True, v=True)
    for network in client.networks.list(names=[f"^{name}$"]):
        network.remove()
    network = client.networks.create(name, labels={"integr8scode.test": PREFIX})
    made = Stack(client, name, folder)
    # readable by whoever the container's user is
    made.folder.chmod(0o755)
    certificate(certificates(made), "backend", "frontend", "kubernetes")
    try:
        kafka = made.run("kafka", made.image("kafka"), environment=KAFKA, memory="1280m")
        redis = made.run("redis", made.image("redis"))
        root = {"MONGO_INITDB_ROOT_USERNAME": "root", "MONGO_INITDB_ROOT_PASSWORD": MONGO_PASSWORD}
        made.run("mongo", made.image("mongo"), environment=root, memory="1024m")
        said(redis, "Ready to accept connections")
        said(kafka, "Kafka Server started", 60)
        seed = made.application("user-seed", ["python", "-m", "scripts.seed_users"], environment=passwords())
        assert ended(seed, 60) == 0, output(seed)
        yield made
    finally:
        for container_name in list(made.containers):
            made.remove(container_name)
        network.remove()
        client.close()


def passwords() -> dict[str, str]:
    """Return what user-seed is told."""
    return {"DEFAULT_USER_PASSWORD": USER_PASSWORD, "ADMIN_USER_PASSWORD": ADMIN_PASSWORD}


class Browser(requests.Session):
    """A client of the backend or the frontend, with an address of its own as the rate limiter sees it."""

    _addresses = 0

    def __init__(self, stack: Stack, base: str) -> None:
        super().__init__()
        self.base = base
        self._certificate = str(certificates(stack) / "server.crt")
        Browser._addresses += 1
        self.headers["X-Forwarded-For"] = f"198.18.{Browser._addresses // 256}.{Browser._addresses % 256}"

    def request(self, method: str, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """Ask for a path."""
        kwargs.setdefault("timeout", 15)
        # for each request: REQUESTS_CA_BUNDLE in the environment wins over the session's own `verify`
        kwargs.setdefault("verify", self._certificate)
        return super().request(method, f"{self.base}{url!s}", *args, **kwargs)

    def login(self, user: str = "user", password: str = USER_PASSWORD) -> requests.Response:
        """Log in by the form, and keep the CSRF token for what follows."""
        answer = self.post("/api/v1/auth/login", data={"username": user, "password": password})
        if answer.ok:
            self.headers["X-CSRF-Token"] = answer.json()["csrf_token"]
        return answer


def serving(stack: Stack, container: Container, port: int = 443, path: str = "/api/v1/health/live") -> Browser:
    """Wait until a container answers by https; return a client for it."""
    base = stack.url(container, port)

    def ask() -> bool:
        container.reload()
        if container.status == "exited":
            pytest.fail(f"{container.name} ended: {output(container)[-3000:]}")
        try:
            return Browser(stack, base).get(path, timeout=2).ok
        except requests.exceptions.RequestException as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise
            return False

    until(f"{container.name} answers", 120, ask)
    return Browser(stack, base)
