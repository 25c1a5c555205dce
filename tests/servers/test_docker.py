"""A server that the role docker has made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CONVERGE = "molecule/docker/converge.yml"


def daemon_pid(host: Any) -> str:
    pid: str = host.check_output("systemctl show docker --property=MainPID --value")
    assert pid != "0"
    return pid


def life(host: Any, name: str) -> str:
    """What changes when a container is restarted or made anew."""
    answer: str = host.check_output("docker inspect %s --format '{{.Id}} {{.State.StartedAt}} {{.State.Pid}}'", name)
    return answer


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


@pytest.fixture(scope="module")
def container(host: Any) -> Iterator[str]:
    """A container that runs, from an image made of this server's own files."""
    host.check_output(
        "cd / && tar -ch usr/bin/sleep $(ldd /usr/bin/sleep | grep -o '/[^ ]*' | cut -c2-) | docker import - t-sleep:1"
    )
    host.check_output("docker run --detach --name t-sleep t-sleep:1 /usr/bin/sleep 1000000")
    yield "t-sleep"
    host.check_output("docker rm --force t-sleep")
    host.check_output("docker image rm t-sleep:1")


def test_runs_and_is_enabled(host: Any) -> None:
    service = host.service("docker")
    assert service.is_running
    assert service.is_enabled


def test_versions(host: Any) -> None:
    engine = host.check_output("docker version --format '{{.Server.Version}}'")
    compose = host.check_output("docker compose version --short")
    assert int(engine.split(".")[0]) >= 25
    assert tuple(int(part) for part in re.findall(r"\d+", compose)[:2]) >= (2, 26)


def test_daemon_has_its_settings(host: Any) -> None:
    info = json.loads(host.check_output("docker info --format '{{json .}}'"))
    assert info["LiveRestoreEnabled"] is True
    assert info["LoggingDriver"] == "json-file"
    assert info["DefaultAddressPools"] == [{"Base": "172.24.0.0/14", "Size": 24}]


def test_configuration_is_for_root_only(host: Any) -> None:
    file = host.file("/etc/docker/daemon.json")
    assert (file.user, file.group, file.mode) == ("root", "root", 0o600)


def test_bridge_keeps_its_address_at_the_next_boot(host: Any) -> None:
    written = json.loads(host.file("/etc/docker/daemon.json").content_string)["bip"]
    assert written in host.check_output("ip -brief address show docker0")


def test_registry_certificate(host: Any, lab_home: Any) -> None:
    installed = host.file("/etc/docker/certs.d/registry.lab.test/ca.crt").content_string
    assert (lab_home / "state/ca.crt").read_text().strip() in installed


def test_private_registry_is_trusted(host: Any) -> None:
    """Without its CA the answer would be about an unknown authority, with it the registry asks for a login."""
    answer = host.run("docker pull registry.lab.test/library/absent:1")
    assert answer.rc != 0
    assert "x509" not in answer.stderr
    assert re.search(r"no basic auth credentials|unauthorized|authentication required", answer.stderr), answer.stderr


def test_logs_are_rotated(host: Any, container: str) -> None:
    log = json.loads(host.check_output("docker inspect %s --format '{{json .HostConfig.LogConfig}}'", container))
    assert log == {"Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}}


def test_container_survives_a_change_that_needs_a_restart(host: Any, playbook: Any, container: str) -> None:
    before, daemon = life(host, container), daemon_pid(host)
    run_ok(playbook, "-e", "docker_log_max_size=11m")
    assert daemon_pid(host) != daemon  # or the test proves nothing
    assert life(host, container) == before
    run_ok(playbook)
    assert life(host, container) == before


def test_container_survives_live_restore_itself(host: Any, playbook: Any, container: str) -> None:
    """Back from live-restore off, together with a change that needs a restart: the reload before it must count."""
    before = life(host, container)
    run_ok(playbook, "-e", "docker_live_restore=false")
    assert host.check_output("docker info --format '{{.LiveRestoreEnabled}}'") == "false"
    run_ok(playbook, "-e", "docker_log_max_size=12m")
    run_ok(playbook)
    assert life(host, container) == before


def test_restart_that_stops_containers_is_refused(host: Any, playbook: Any, container: str) -> None:
    run_ok(playbook, "-e", "docker_live_restore=false")
    before, daemon, file = life(host, container), daemon_pid(host), host.file("/etc/docker/daemon.json").content_string
    output = refused(playbook, "-e", "docker_live_restore=false", "-e", "docker_log_max_size=13m")
    assert "would stop 1 running containers (t-sleep)" in output
    assert life(host, container) == before
    assert daemon_pid(host) == daemon
    assert host.file("/etc/docker/daemon.json").content_string == file
    run_ok(playbook)
    assert life(host, container) == before


def test_reloadable_change_restarts_nothing(host: Any, playbook: Any, container: str) -> None:
    before, daemon = life(host, container), daemon_pid(host)
    run_ok(playbook, "-e", '{"docker_registry_mirrors": ["https://mirror.lab.test"]}')
    assert "mirror.lab.test" in host.check_output("docker info --format '{{.RegistryConfig.Mirrors}}'")
    run_ok(playbook)
    assert "mirror.lab.test" not in host.check_output("docker info --format '{{.RegistryConfig.Mirrors}}'")
    assert daemon_pid(host) == daemon
    assert life(host, container) == before


def test_certificate_leaves_with_its_registry(host: Any, playbook: Any) -> None:
    foreign = "/etc/docker/certs.d/other.lab.test/ca.crt"
    host.check_output(f"mkdir -p /etc/docker/certs.d/other.lab.test && echo by-hand > {foreign}")
    run_ok(playbook, "-e", '{"docker_registry_ca_certificates": {}}')
    assert not host.file("/etc/docker/certs.d/registry.lab.test").exists
    assert host.file(foreign).content_string == "by-hand\n"
    host.check_output("rm -r /etc/docker/certs.d/other.lab.test")
    run_ok(playbook)
    assert host.file("/etc/docker/certs.d/registry.lab.test/ca.crt").exists


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('{"docker_daemon_options": {"storage-drivr": "x"}}', "directives don't match any configuration option"),
        ('{"docker_daemon_options": {"hosts": ["tcp://127.0.0.1:1"]}}', "specified both as a flag"),
        ('{"docker_engine_min_version": "99.0"}', "older than 99.0"),
        ('{"docker_compose_min_version": "99.0"}', "older than 99.0"),
        ('{"docker_registry_ca_certificates": {"a.test": "x"}}', "holds no certificate in PEM form"),
        ('{"docker_bridge_address": "10.213.0.1/24"}', "overlaps 10.213.0.0/24"),
        ('{"docker_default_ulimits": {"nofile": {"soft": 1}}}', "needs both soft and hard"),
        ('{"docker_source": "vendor"}', "apt-get remove --allow-change-held-packages docker.io docker-cli"),
        ('{"docker_https_proxy": "http://me:fake/password@proxy.test"}', "docker_https_proxy is no proxy's address"),
    ],
)
def test_refusal_changes_nothing(host: Any, playbook: Any, container: str, arguments: str, message: str) -> None:
    before, daemon, file = life(host, container), daemon_pid(host), host.file("/etc/docker/daemon.json").content_string
    assert message in refused(playbook, "-e", arguments).replace("''", "'")
    assert host.file("/etc/docker/daemon.json").content_string == file
    assert (daemon_pid(host), life(host, container)) == (daemon, before)
    assert not host.file("/run/docker-daemon.pending").exists


def test_proxy_is_used_and_its_password_is_in_no_output(
    host: Any, playbook: Any, container: str, tmp_path: Path
) -> None:
    before = life(host, container)
    outputs = []
    for word in ("password1", "password2"):
        variables = tmp_path / f"{word}.json"
        # a server that answers, and is no proxy
        proxy = f"http://me:fake%40{word}@files.lab.test"
        variables.write_text(json.dumps({"docker_https_proxy": proxy, "docker_no_proxy": ["registry.lab.test"]}))
        outputs.append(run_ok(playbook, "--diff", "-vvv", "-e", f"@{variables}"))
        assert "fake%40" not in outputs[-1]
    assert "proxies" in outputs[1]
    file = host.file("/etc/docker/daemon.json")
    assert json.loads(file.content_string)["proxies"] == {
        "https-proxy": "http://me:fake%40password2@files.lab.test",
        "no-proxy": "registry.lab.test",
    }
    assert file.mode == 0o600
    answer = host.run("docker pull elsewhere.lab.test/absent:1")
    # its answer; without a proxy there would be no such host
    assert "Bad Request" in answer.stderr, answer.stderr
    assert "password2" not in answer.stderr
    # what is in no_proxy is reached as before
    test_private_registry_is_trusted(host)
    run_ok(playbook)
    assert "proxies" not in json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert life(host, container) == before


def test_interrupted_change_is_made_up_for(host: Any, playbook: Any, container: str) -> None:
    """A run that was killed between the new file and the daemon's restart: the next run restarts it."""
    before, daemon = life(host, container), daemon_pid(host)
    host.check_output("echo restart > /run/docker-daemon.pending")
    assert "changed=1" in run_ok(playbook)
    assert daemon_pid(host) != daemon
    assert life(host, container) == before
    assert "changed=0" in run_ok(playbook)


def test_only_the_ops_user_gets_in(host: Any) -> None:
    settings = host.check_output("/usr/sbin/sshd -T -C user=root,host=localhost,addr=127.0.0.1").splitlines()
    assert {"permitrootlogin no", "passwordauthentication no", "kbdinteractiveauthentication no"} <= set(settings)
    assert host.file("/etc/sudoers.d/ops").mode == 0o440
    assert host.check_output("getent shadow ops").split(":")[1] == "*"
