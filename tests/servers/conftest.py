"""Servers under test: those of an Ansible inventory, reached by ssh as Ansible reaches them.

    pytest tests/servers/test_docker.py --inventory molecule/docker/inventory/hosts.yml

`host` is a testinfra host, root by sudo, for every server of the inventory's group integr8scode.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import testinfra

ROOT = Path(__file__).resolve().parents[2]
CONNECTION = ("ansible_host", "ansible_port", "ansible_user", "ansible_ssh_private_key_file", "ansible_ssh_common_args")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--inventory", default=str(ROOT / "inventories/lab"), help="Ansible inventory of the servers")


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the project's environment at the root of the checkout."""
    settings = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", **environment}
    path = f"{ROOT / '.venv/bin'}{os.pathsep}{settings['PATH']}"
    return subprocess.run(
        command, cwd=ROOT, env={**settings, "PATH": path}, capture_output=True, text=True, timeout=900, check=False
    )


@functools.cache
def connections(inventory: str) -> dict[str, dict[str, Any]]:
    """Return how each server is reached; ansible-inventory alone does not evaluate templates."""
    wanted = ", ".join(f"'{name}': {name} | default('')" for name in CONNECTION)
    answer = run(
        "ansible",
        "integr8scode",
        "-i",
        inventory,
        "-m",
        "ansible.builtin.debug",
        "-a",
        f"msg={{{{ {{{wanted}}} }}}}",
        ANSIBLE_STDOUT_CALLBACK="ansible.posix.json",
        ANSIBLE_LOAD_CALLBACK_PLUGINS="1",
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    hosts = json.loads(answer.stdout)["plays"][0]["tasks"][0]["hosts"]
    return {name: result["msg"] for name, result in hosts.items()}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "host" in metafunc.fixturenames:
        reached = connections(metafunc.config.getoption("--inventory"))
        metafunc.parametrize(
            "host", [pytest.param((n, c), id=n) for n, c in reached.items()], indirect=True, scope="session"
        )


def connect(name: str, connection: dict[str, Any], config: Path) -> Any:
    """Return a server as testinfra sees it, root by sudo; `config` becomes ssh's configuration for it."""
    lines = [
        f"Host {name}",
        f"  HostName {connection['ansible_host']}",
        f"  Port {connection['ansible_port']}",
        f"  User {connection['ansible_user']}",
        f"  IdentityFile {connection['ansible_ssh_private_key_file']}",
        f"  ControlMaster auto\n  ControlPersist 60\n  ControlPath {config.parent}/%C",
    ]
    words = shlex.split(connection["ansible_ssh_common_args"])
    lines += [
        f"  {' '.join(option.split('=', 1))}"
        for flag, option in zip(words[::2], words[1::2], strict=True)
        if flag == "-o"
    ]
    config.write_text("\n".join(lines) + "\n")
    server = testinfra.get_host(f"ssh://{name}", ssh_config=str(config), sudo=True)
    server.server_name = name
    server.connection = connection
    return server


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server, as testinfra sees it: root by sudo. `host.server_name` is its name in the inventory."""
    name, connection = request.param
    return connect(name, connection, tmp_path_factory.mktemp("ssh") / "config")


@pytest.fixture(scope="session")
def server_named(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give a server of the inventory by its name, for tests that choose their server themselves."""
    reached = connections(request.config.getoption("--inventory"))

    @functools.cache
    def get(name: str) -> Any:
        return connect(name, reached[name], tmp_path_factory.mktemp("ssh") / "config")

    return get


@pytest.fixture(scope="session")
def playbook(request: pytest.FixtureRequest) -> Any:
    """Run a playbook against the inventory under test; returns the finished process."""
    inventory = request.config.getoption("--inventory")

    def run_playbook(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run("ansible-playbook", "-i", inventory, name, *arguments)

    return run_playbook


@pytest.fixture(scope="session")
def reboot() -> Any:
    """Reboot a server and wait until it answers again. Returns the seconds until then."""
    # boot_id stays the same in a container; systemd's own start does not
    started = "systemctl show --property=UserspaceTimestampMonotonic --value"

    def reboot_server(host: Any, timeout: float = 300) -> float:
        began = time.monotonic()
        before = host.check_output(started)
        host.run("systemd-run --on-active=1 systemctl reboot")
        while True:
            # testinfra raises where ssh itself fails: the server is away
            with contextlib.suppress(RuntimeError):
                answer = host.run(started)
                if answer.rc == 0 and answer.stdout.strip() not in {"", before}:
                    return time.monotonic() - began
            assert time.monotonic() < began + timeout, "the server does not come back"
            time.sleep(2)

    return reboot_server


@pytest.fixture(scope="session")
def lab_home() -> Path:
    """The folder outside the checkout where the lab keeps its keys and caches."""
    return Path(os.environ.get("LAB_HOME") or Path.home() / ".cache/integr8scode-lab")


@pytest.fixture(scope="session")
def servers(
    request: pytest.FixtureRequest, server_named: Any, lab_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """Give a server with k3s and an uplink by its name (see k3s_server), its cluster filled with what must be kept."""
    from tests.servers.k3s_server import K3sServer  # imports this file
    from tests.servers.uplink import Uplink

    @functools.cache
    def get(name: str) -> Any:
        # two workers that break the same server would both be wrong
        lock = os.open(lab_home / "state" / f"{name}.test.lock", os.O_WRONLY | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        host = server_named(name)
        server = K3sServer(
            host, request.config.getoption("--inventory"), Uplink.of(host, lab_home), tmp_path_factory.mktemp("reports")
        )
        server.prepare()
        return server

    return get


@pytest.fixture(scope="session")
def trial(tmp_path_factory: pytest.TempPathFactory, server_named: Any) -> Any:
    """Give what the first runs on a bare server have done and said (see `tests.servers.first_run`)."""
    from tests.servers.first_run import make_trial  # imports this file

    yield from make_trial(tmp_path_factory.mktemp, server_named)


@pytest.fixture
def server(request: pytest.FixtureRequest, servers: Any) -> Any:
    """Give the server whose name is the test's (indirect) parameter; see `tests.servers.recover_k3s.on`."""
    return servers(request.param)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let tests of one server run one after the other, those of different servers side by side (`-n 3`).

    The server is what stands first in the brackets of a test's name. (xdist's own groups are marks that it adds to the
    names, which pytest 9.2 does not let it do any more: xdist 3.8 then spreads them over all workers without a word.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByServer(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            found = re.search(r"\[(\w+\d)[\]-]", nodeid)
            return found[1] if found else nodeid

    return ByServer(config, log)
