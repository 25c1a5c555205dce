"""A container of Debian and Python alone, in which the lab's k3s is started and stopped as by its unit."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab import engine
from lab.k3s.build import build
from lab.settings import Settings

WITH_FIX = "v1.34.4+k3s1"
WITHOUT_FIX = "v1.34.1+k3s1"
IMAGE = "integr8scode-lab/python:3.13"
STALE_NODE = (
    'level=fatal msg="Failed to start networking: unable to initialize network policy controller: '
    'error getting node subnet: failed to find interface with specified node ip"'
)
READY = "Starting network policy controller"
READY_SECONDS = 120
SERVER = "/var/lib/rancher/k3s/server"
CA = f"{SERVER}/tls/server-ca.crt"
# the kernel keeps 15 characters of a name
PROCESSES = {"k3s-server", "kine", "kube-apiserver", "kube-controller"}
SETTINGS = Settings.from_environment()


def docker(*arguments: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DOCKER_HOST": engine.find(SETTINGS)}
    return subprocess.run(
        ["docker", *arguments], check=check, input=stdin, capture_output=True, text=True, env=environment, timeout=120
    )


@dataclasses.dataclass
class Machine:
    """A container in which k3s is started and stopped as its unit would."""

    name: str
    address: str = ""

    def run(self, script: str, *, check: bool = True) -> str:
        done = docker("exec", "-i", self.name, "sh", "-c", script, check=False)
        if check and done.returncode != 0:
            pytest.fail(f"{script!r} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def write(self, path: str, text: str) -> None:
        docker("exec", "-i", self.name, "sh", "-c", f"mkdir -p $(dirname {path}) && cat > {path}", stdin=text)

    def configure(self, **values: Any) -> None:
        settings = {
            "tls-san": ["host.docker.internal"],
            **{key.replace("_", "-"): value for key, value in values.items()},
        }
        self.write("/etc/rancher/k3s/config.yaml", json.dumps(settings))

    def start(self) -> None:
        """Start k3s in the background; its output goes to /log, its exit code to /code."""
        self.run("rm -f /log /code")
        docker("exec", "-d", self.name, "sh", "-c", "k3s server >/log 2>&1; echo $? >/code")

    def log(self) -> str:
        return self.run("cat /log", check=False)

    def wait_for(self, text: str, seconds: float = READY_SECONDS) -> str:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            log = self.log()
            if text in log:
                return log
            if "level=fatal" in log:
                break
            time.sleep(0.3)
        pytest.fail(f"{text!r} did not appear in {seconds} s:\n{self.log()[-3000:]}")

    def start_ready(self) -> float:
        """Start k3s; return the seconds until its node is Ready with a heartbeat of this start."""
        began = time.monotonic()
        self.start()
        self.wait_for(READY)
        return time.monotonic() - began

    def fails(self) -> str:
        """Start k3s and return its log; it must end with exit code 1."""
        self.start()
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            code = self.run("cat /code", check=False).strip()
            if code.isdigit():
                assert code == "1"
                return self.log()
            time.sleep(0.3)
        pytest.fail(f"k3s still runs:\n{self.log()[-3000:]}")

    def processes(self) -> set[str]:
        return set(self.run("cat /proc/[0-9]*/comm", check=False).split()) & PROCESSES

    def signal(self, name: str) -> None:
        self.run(
            'for p in /proc/[0-9]*; do if [ "$(cat $p/comm 2>/dev/null)" = k3s-server ]; then '
            f"kill -{name} ${{p#/proc/}}; fi; done"
        )

    def stop(self) -> None:
        self.signal("TERM")
        deadline = time.monotonic() + 20
        while self.processes():
            assert time.monotonic() < deadline, f"still running: {self.processes()}"
            time.sleep(0.2)

    def kubectl(self, arguments: str, *, check: bool = True) -> str:
        return self.run(f"k3s kubectl {arguments}", check=check)

    def internal_ip(self) -> str:
        return self.kubectl("get nodes -o jsonpath='{.items[0].status.addresses[?(@.type==\"InternalIP\")].address}'")

    def move_to(self, address: str) -> None:
        """Change the address under the running container."""
        docker("network", "disconnect", self.name, self.name)
        docker("network", "connect", "--ip", address, self.name, self.name)
        self.address = address

    def eventually(self, what: Callable[[], bool], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, self.log()[-2000:]
            time.sleep(0.5)

    def http(self, path: str, token: str = "") -> tuple[int, dict[str, Any]]:
        header = f"-H 'Authorization: Bearer {token}'" if token else ""
        out = self.run(f"curl -s -w '\\n%{{http_code}}' --cacert {CA} {header} https://127.0.0.1:6443{path}")
        body, _newline, code = out.rpartition("\n")
        return int(code), json.loads(body)


@contextlib.contextmanager
def machine(name: str, version: str, subnet: int) -> Iterator[Machine]:
    """A server with k3s, not started yet, at .10 of a network of its own, 10.214.SUBNET.0/24."""
    assert docker("image", "ls", "-q", IMAGE).stdout.strip(), f"no image {IMAGE}: run `python -m lab prepare` first"
    folder = SETTINGS.cache / "k3s" / "tests" / version
    build(version, folder)
    labels = [f"--label={key}={value}" for key, value in SETTINGS.labels.items()]
    docker("rm", "-f", "-v", name, check=False)
    docker("network", "rm", name, check=False)
    docker("network", "create", "--subnet", f"10.214.{subnet}.0/24", *labels, name)
    address = f"10.214.{subnet}.10"
    try:
        docker(
            "run", "-d", "--init", "--name", name, "--hostname", "node1", "--network", name, "--ip", address, *labels,
            IMAGE, "sleep", "3600",
        )  # fmt: skip
        docker("cp", str(folder / "k3s"), f"{name}:/usr/local/bin/k3s")
        yield Machine(name, address)
    finally:
        docker("rm", "-f", "-v", name, check=False)
        docker("network", "rm", name)
