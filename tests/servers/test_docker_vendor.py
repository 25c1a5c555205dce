"""A server whose Docker comes from its makers' repository: one that the scenario makes, signs and serves."""

from __future__ import annotations

import re
from typing import Any

import pytest

CONVERGE = "molecule/docker-vendor/converge.yml"
KEY, SOURCE = "/etc/apt/keyrings/docker.asc", "/etc/apt/sources.list.d/docker.sources"
PACKAGES = {
    "docker-ce": "5:26.1.4-1~debian.13~trixie",
    "docker-ce-cli": "5:26.1.4-1~debian.13~trixie",
    "containerd.io": "1.7.24-1~debian.13~trixie",
    "docker-compose-plugin": "2.26.1-1~debian.13~trixie",
}
NEWER = "5:26.1.5-1~debian.13~trixie"


def installed(host: Any) -> dict[str, tuple[str, str]]:
    """Package -> version and want (install, hold)."""
    form = "${Package} ${Version} ${db:Status-Want}\\n"
    rows = host.check_output(f"dpkg-query --show --showformat='{form}' {' '.join(PACKAGES)}")
    return {name: (version, want) for name, version, want in (row.split() for row in rows.splitlines())}


def engine(host: Any) -> str:
    version: str = host.check_output("docker version --format '{{.Server.Version}}'")
    return version


def state(host: Any) -> list[Any]:
    """What a refusal must leave as it is."""
    files = [host.file(path).content_string if host.file(path).exists else None for path in (KEY, SOURCE)]
    pid = host.check_output("systemctl show docker --property=MainPID --value")
    return [*files, installed(host), pid]


def run_ok(playbook: Any, *arguments: str) -> str:
    finished = playbook(CONVERGE, *arguments)
    assert finished.returncode == 0, finished.stdout
    output: str = finished.stdout
    return output


def refused(playbook: Any, *arguments: str) -> str:
    """Run the role, expecting a refusal; its text without line breaks."""
    finished = playbook(CONVERGE, *arguments)
    assert finished.returncode == 2, finished.stdout
    return re.sub(r"\s+", " ", finished.stdout)


def test_the_pinned_versions_run(host: Any) -> None:
    assert installed(host) == {name: (version, "hold") for name, version in PACKAGES.items()}
    assert engine(host).startswith("26.1.4")
    assert host.service("docker").is_enabled
    assert host.check_output("docker compose version --short").startswith("2.26.1")


def test_the_key_counts_for_this_repository_alone(host: Any) -> None:
    assert f"Signed-By: {KEY}" in host.file(SOURCE).content_string
    for path in (KEY, SOURCE):
        assert (host.file(path).user, host.file(path).mode) == ("root", 0o644)
    assert host.run("ls /etc/apt/trusted.gpg.d/docker*").rc != 0


def test_an_upgrade_of_everything_leaves_docker_alone(host: Any) -> None:
    host.check_output("apt-get -qq update")
    would = host.check_output("apt-get --simulate --ignore-hold dist-upgrade")
    assert "Inst docker-ce " in would  # or the hold proves nothing
    for command in ("upgrade", "dist-upgrade"):
        assert "Inst docker-ce" not in host.check_output(f"apt-get --simulate {command}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('{"docker_vendor_key_fingerprint": "%s"}' % ("0" * 40), f"docker_vendor_key_fingerprint is {'0' * 40}"),
        ('{"docker_vendor_key": "no key"}', "The key of Docker's repository from docker_vendor_key cannot be used"),
        ('{"docker_vendor_url": "http://vendor2:8000/absent"}', "http://vendor2:8000/absent/debian"),
        # the pinned key, and a repository that was changed after it was signed
        ('{"docker_vendor_url": "http://vendor2:8000/forged"}', "or they are not signed by the key"),
        ('{"docker_vendor_engine_version": "27.0.0"}', "offers no docker-ce 27.0.0. It has 26.1.5, 26.1.4"),
        ('{"docker_vendor_engine_version": "26.1.3"}', "Newer than pinned is installed: docker-ce 26.1.4"),
        ('{"docker_source": "distribution"}', "apt-get remove --allow-change-held-packages docker-ce docker-ce-cli"),
    ],
)
def test_refusal_changes_nothing(host: Any, playbook: Any, arguments: str, message: str) -> None:
    before = state(host)
    assert message in refused(playbook, "-e", arguments).replace("''", "'")
    assert state(host) == before


def test_another_entry_for_the_repository_is_refused(host: Any, playbook: Any) -> None:
    path = "/etc/apt/sources.list.d/by-hand.list"
    host.check_output(f"echo 'deb [trusted=yes] http://vendor2:8000/linux/debian trixie stable' > {path}")
    try:
        assert f"rm {path}" in refused(playbook)
    finally:
        host.check_output(f"rm {path}")


def test_a_lost_hold_and_a_spoiled_key_come_back(host: Any, playbook: Any) -> None:
    key = host.file(KEY).content_string
    host.check_output(f"apt-mark unhold docker-ce && echo spoiled >> {KEY}")
    assert "changed=1" in run_ok(playbook)
    assert installed(host)["docker-ce"][1] == "hold"
    assert host.file(KEY).content_string == key
    assert "changed=0" in run_ok(playbook)


def test_a_changed_pin_upgrades_and_containers_live_on(host: Any, playbook: Any) -> None:
    host.check_output(
        "cd / && tar -ch usr/bin/sleep $(ldd /usr/bin/sleep | grep -o '/[^ ]*' | cut -c2-) | docker import - t-sleep:1"
    )
    host.check_output("docker run --detach --name t-sleep t-sleep:1 /usr/bin/sleep 1000000")
    life = "docker inspect t-sleep --format '{{.Id}} {{.State.StartedAt}} {{.State.Pid}}'"
    before, unchanged = host.check_output(life), state(host)
    pin = ("-e", "docker_vendor_engine_version=26.1.5")
    assert "changed=1" in run_ok(playbook, "--check", *pin)
    assert state(host) == unchanged
    assert "changed=1" in run_ok(playbook, *pin)
    assert installed(host)["docker-ce"] == installed(host)["docker-ce-cli"] == (NEWER, "hold")
    assert engine(host).startswith("26.1.5")
    assert host.check_output(life) == before
    assert "changed=0" in run_ok(playbook, *pin)
    host.check_output("docker rm --force t-sleep")
