"""A lab server is what a cloud hands out, comes back after a reboot, and cannot touch the machine it runs on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import engine
from lab.settings import ROOT, Settings

SETTINGS = Settings.from_environment()
INDEX = 90
NAME = "t-server"

Ssh = Callable[..., subprocess.CompletedProcess[str]]


def play(name: str, inventory: Path) -> dict[str, int]:
    """Run a playbook of the lab's; what it did on this machine."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), f"lab/{name}.yml"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    recap = re.search(r"^localhost\s+: (.+)$", done.stdout, re.MULTILINE)
    assert recap
    return {key: int(value) for key, value in (pair.split("=") for pair in recap[1].split())}


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("inventory")
    (folder / "group_vars").symlink_to(ROOT / "inventories" / "lab" / "group_vars")
    (folder / "hosts.yml").write_text(f"integr8scode: {{hosts: {{{NAME}: {{lab_index: {INDEX}}}}}}}\n")
    play("destroy", folder)
    yield folder
    play("destroy", folder)


@pytest.fixture(scope="module")
def ssh(inventory: Path) -> Ssh:
    """Run a command on the server as root, with the host key that was pinned before the server existed."""
    play("create", inventory)
    state = SETTINGS.state

    def run(command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        options = ["-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "IdentitiesOnly=yes"]
        options += ["-o", f"UserKnownHostsFile={state}/known_hosts", "-o", "StrictHostKeyChecking=yes"]
        where = ["-i", f"{state}/id_ed25519", "-p", str(SETTINGS.server_port(INDEX)), "root@127.0.0.1"]
        return subprocess.run(
            ["ssh", *options, *where, command], capture_output=True, text=True, check=check, timeout=120
        )

    return run


def test_it_comes_up_whole_under_its_name(ssh: Ssh) -> None:
    assert ssh("systemctl is-system-running --wait", check=False).stdout.strip() == "running"
    assert ssh("hostname").stdout.strip() == NAME
    assert 'VERSION_ID="13"' in ssh("cat /etc/os-release").stdout


def test_it_brings_nothing_that_a_role_should(ssh: Ssh) -> None:
    names = "python3 sudo docker dockerd k3s curl"
    assert ssh(f"for each in {names}; do command -v $each; done; true").stdout == ""


def test_creating_it_again_changes_nothing(ssh: Ssh, inventory: Path) -> None:
    assert play("create", inventory)["changed"] == 0


def test_a_password_opens_nothing(ssh: Ssh) -> None:
    assert ssh("passwd --status root").stdout.split()[1] in ("L", "NP")
    # which only asks what is allowed
    command = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "PreferredAuthentications=none"]
    command += ["-o", f"UserKnownHostsFile={SETTINGS.state}/known_hosts", "-p", str(SETTINGS.server_port(INDEX))]
    methods = subprocess.run(
        [*command, "root@127.0.0.1", "true"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert methods.returncode == 255
    assert "Permission denied" in methods.stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("date --set 2020-01-01", "Operation not permitted"),
        ("echo 1 > /proc/sys/vm/swappiness", "Read-only file system"),
        ("echo x > /proc/sys/kernel/domainname", "Read-only file system"),
    ],
)
def test_clock_and_kernel_are_the_machines(ssh: Ssh, command: str, words: str) -> None:
    before = time.time()
    answer = ssh(command, check=False)
    assert answer.returncode != 0
    assert words in answer.stderr
    assert abs(time.time() - before) < 100


def test_it_holds_no_capability_over_them(ssh: Ssh) -> None:
    found = re.search(r"CapBnd:\s*(\w+)", ssh("cat /proc/1/status").stdout)
    assert found
    mask = int(found[1], 16)
    assert not mask >> 16 & 1, "CAP_SYS_MODULE"
    assert not mask >> 25 & 1, "CAP_SYS_TIME"
    assert mask >> 21 & 1, "CAP_SYS_ADMIN, which a nested Docker needs"


def test_a_reboot_from_inside_brings_it_back_as_it_was(ssh: Ssh) -> None:
    address, before = ssh("ip -4 -o addr show eth0").stdout.split()[3], container()
    ssh("touch /root/kept; systemctl reboot", check=False)
    end = time.monotonic() + 60
    while container()["State"]["StartedAt"] == before["State"]["StartedAt"] and time.monotonic() < end:
        time.sleep(0.2)
    answer = ssh("true", check=False)
    while answer.returncode and time.monotonic() < end:
        time.sleep(0.5)
        answer = ssh("true", check=False)
    assert ssh("systemctl is-system-running --wait", check=False).stdout.strip() == "running"
    assert ssh("ls /root/kept").stdout.strip() == "/root/kept"
    assert ssh("ip -4 -o addr show eth0").stdout.split()[3] == address
    # a nested Docker could not start a container without
    assert ssh("test -w /proc/sys/net/ipv4/ip_forward && mount | grep 'on /proc/sys/net '").stdout.count("(rw,") == 1
    after = container()
    assert after["Id"] == before["Id"]
    assert after["NetworkSettings"]["Ports"] == before["NetworkSettings"]["Ports"]


def container() -> dict[str, dict[str, object]]:
    client = engine.connect(engine.find(SETTINGS), 30)
    try:
        found: dict[str, dict[str, object]] = json.loads(
            json.dumps(client.containers.get(f"{SETTINGS.name}-{NAME}").attrs)
        )
    finally:
        client.close()
    return found
