"""A server that the role k3s has made. Last: it survives a reboot."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

CONVERGE = "molecule/k3s/converge.yml"
RELEASE = "cache/files/k3s-io/k3s/releases/download/v1.34.4+k3s1/sha256sum-amd64.txt"


def life(host: Any) -> str:
    """What changes when k3s is started anew, or another binary is installed."""
    unit = host.check_output("systemctl show k3s --property=InvocationID,NRestarts,MainPID")
    return f"{unit} {host.file('/usr/local/bin/k3s').sha256sum}"


def node(host: Any) -> dict[str, Any]:
    items: list[dict[str, Any]] = json.loads(host.check_output("k3s kubectl get node --output json"))["items"]
    assert len(items) == 1
    return items[0]


def is_ready(host: Any) -> bool:
    return {"type": "Ready", "status": "True"}.items() <= {
        key: value
        for condition in node(host)["status"]["conditions"]
        if condition["type"] == "Ready"
        for key, value in condition.items()
    }.items()


def run_ok(playbook: Any, *arguments: str) -> str:
    finished = playbook(CONVERGE, "--tags", "k3s", *arguments)
    assert finished.returncode == 0, finished.stdout
    output: str = finished.stdout
    return output


def test_runs_and_is_enabled(host: Any) -> None:
    service = host.service("k3s")
    assert service.is_running
    assert service.is_enabled


def test_binary_is_the_released_one(host: Any, lab_home: Any) -> None:
    wanted = (lab_home / RELEASE).read_text().split()[0]
    assert host.file("/usr/local/bin/k3s").sha256sum == wanted
    assert host.file("/usr/local/bin/k3s").mode == 0o755
    assert host.file("/usr/local/bin/kubectl").linked_to == "/usr/local/bin/k3s"


def test_node_is_ready_with_the_version_that_runs(host: Any) -> None:
    assert is_ready(host)
    version = json.loads(host.check_output("k3s kubectl get --raw /version"))
    assert version["gitVersion"] == "v1.34.4+k3s1"


def test_secrets_are_for_root_only(host: Any) -> None:
    for name in ("token", "config.yaml", "k3s.yaml"):
        file = host.file(f"/etc/rancher/k3s/{name}")
        assert (file.user, file.mode) == ("root", 0o600), name


def test_token_is_in_its_file_alone(host: Any) -> None:
    """The pattern is read from the token's file: in an argument grep, sudo and the journal would hold it."""
    pattern = "grep -F -f /etc/rancher/k3s/token"
    assert len(host.file("/etc/rancher/k3s/token").content_string.strip()) >= 16
    assert host.check_output(f"{pattern} -c /var/lib/rancher/k3s/server/token") == "1"  # it does find
    assert host.run(f"{pattern} -rl /etc/systemd /etc/rancher/k3s/config.yaml").stdout == ""
    assert host.run(f"{pattern} -l /proc/[0-9]*/cmdline /proc/[0-9]*/environ").stdout == ""
    assert (
        host.run("journalctl --quiet | grep -c ansible-k3s_files").stdout.strip() != "0"
    )  # its calls are logged there
    assert host.run(f"journalctl --quiet | {pattern} -c").stdout.strip() == "0"


def test_certificate_has_the_name_that_containers_use(host: Any) -> None:
    answer = host.run("k3s kubectl --tls-server-name host.docker.internal get --raw /version")
    assert answer.rc == 0, answer.stderr
    assert host.run("k3s kubectl --tls-server-name unknown.lab.test get --raw /version").rc != 0


def test_what_would_take_the_edges_ports_is_off(host: Any) -> None:
    config = host.file("/etc/rancher/k3s/config.yaml").content_string
    assert re.search(r"disable:\n- traefik\n- servicelb\n", config)


def test_kernel_settings_are_laid_down_and_not_applied(host: Any) -> None:
    """A lab server's kernel is this machine's."""
    assert "br_netfilter" in host.file("/etc/modules-load.d/k3s.conf").content_string
    laid_down = dict(
        re.findall(r"^(\S+) = (\S+)$", host.file("/etc/sysctl.d/90-k3s.conf").content_string, re.MULTILINE)
    )
    assert laid_down["fs.inotify.max_user_instances"] == "1024"
    assert host.run("touch /proc/sys/fs/inotify/max_user_instances && test -w /proc/sys/fs/inotify").rc != 0


def test_second_run_touches_nothing(host: Any, playbook: Any) -> None:
    before = life(host)
    assert "changed=0" in run_ok(playbook)
    assert life(host) == before


def test_check_mode_tells_of_a_change_and_makes_none(host: Any, playbook: Any) -> None:
    before, config = life(host), host.file("/etc/rancher/k3s/config.yaml").content_string
    change = ("-e", '{"k3s_config": {"node-label": ["t=1"]}}')
    output = run_ok(playbook, "--check", "--diff", *change)
    assert "+- t=1" in output
    # the file, and the restart that a run would make for it
    assert "changed=2" in output
    assert life(host) == before
    assert host.file("/etc/rancher/k3s/config.yaml").content_string == config


def test_changed_configuration_restarts_once(host: Any, playbook: Any) -> None:
    before = life(host)
    change = ("-e", '{"k3s_tls_sans": ["host.docker.internal", "more.lab.test"]}')
    assert "changed=2" in run_ok(playbook, *change)
    changed = life(host)
    assert changed != before
    assert host.run("k3s kubectl --tls-server-name more.lab.test get --raw /version").rc == 0
    assert "changed=0" in run_ok(playbook, *change)
    assert life(host) == changed
    run_ok(playbook)
    assert is_ready(host)


def test_interrupted_run_is_made_up_for(host: Any, playbook: Any) -> None:
    before = life(host)
    host.check_output("touch /run/k3s-restart.pending")
    assert "changed=1" in run_ok(playbook)
    assert life(host) != before
    assert "changed=0" in run_ok(playbook)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('{"k3s_checksums": {"amd64": "%s"}}' % ("0" * 64), "refused, nothing has been installed"),
        ('{"k3s_checksums": {"amd64": "short"}}', "is no sha256"),
        ('{"k3s_checksums": {}}', "over plain http"),
        ('{"k3s_version": "v1.33.9+k3s1"}', "k3s cannot go back"),
        ('{"k3s_version": "v1.36.0+k3s1"}', "more than one minor version newer"),
        ('{"k3s_version": "stable"}', "holds no k3s release"),
        ('{"k3s_config": {"bind-address": "127.0.0.1"}}', "sets bind-address 127.0.0.1"),
        ('{"k3s_config": {"token": "in-the-wrong-place"}}', "k3s_config must not hold token"),
        ('{"k3s_node_ip": "192.0.2.1"}', "is no address of this server"),
        ('{"k3s_token": "another-token-than-that-of-the-datastore"}', "was made with another token"),
        ('{"k3s_token": "short"}', "16 characters or more"),
    ],
)
def test_refusal_changes_nothing(host: Any, playbook: Any, arguments: str, message: str) -> None:
    before = life(host)
    finished = playbook(CONVERGE, "--tags", "k3s", "-e", arguments)
    assert finished.returncode == 2, finished.stdout
    assert message in re.sub(r"\s+", " ", finished.stdout)
    assert life(host) == before
    assert host.check_output("ls -A /usr/local/bin").split() == ["k3s", "kubectl"]
    assert not host.file("/run/k3s-restart.pending").exists


def test_bind_address_in_a_drop_in_is_found(host: Any, playbook: Any) -> None:
    host.check_output("mkdir -p /etc/rancher/k3s/config.yaml.d")
    host.check_output("echo 'bind-address: 127.0.0.1' > /etc/rancher/k3s/config.yaml.d/50-hand.yaml")
    try:
        finished = playbook(CONVERGE, "--tags", "k3s")
    finally:
        host.check_output("rm -r /etc/rancher/k3s/config.yaml.d")
    assert finished.returncode == 2
    assert "config.yaml.d/50-hand.yaml sets bind-address" in re.sub(r"\s+", " ", finished.stdout)


def test_server_without_a_default_route_needs_a_node_ip(host: Any, playbook: Any) -> None:
    before, route = life(host), host.check_output("ip route show default")
    host.check_output("ip route del default")
    try:
        finished = playbook(CONVERGE, "--tags", "k3s")
    finally:
        host.check_output(f"ip route add {route}")
    assert finished.returncode == 2
    output = re.sub(r"\s+", " ", finished.stdout)
    assert "has no default route" in output
    assert "Set k3s_node_ip to one of its addresses (10.213.0." in output
    assert life(host) == before


def test_survives_a_reboot(host: Any, playbook: Any, reboot: Any) -> None:
    reboot(host)
    deadline = time.monotonic() + 180
    while not host.run("k3s kubectl get node").stdout.count(" Ready"):
        assert time.monotonic() < deadline, host.run("journalctl -u k3s -n 30 --no-pager").stdout
        time.sleep(2)
    assert "changed=0" in run_ok(playbook)
