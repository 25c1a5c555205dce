"""A bare server with many things in the way: one run names all of them, and leaves the server as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

# what a container can have wrong for real, and how it is taken away again
BREAK = """
systemd-run --quiet --unit=preflight-occupant python3 -m http.server --bind 0.0.0.0 443
mkdir -p /var/lib/rancher /opt/integr8scode /etc/kubernetes
mount -t tmpfs -o size=32m,nr_inodes=500 tmpfs /var/lib/rancher
mount -t tmpfs -o ro,size=32m tmpfs /opt/integr8scode
touch /etc/kubernetes/kubelet.conf /var/lib/dpkg/updates/0000
cp /etc/resolv.conf /run/resolv.conf.kept
printf 'nameserver 192.0.2.53\\noptions timeout:1 attempts:1\\n' > /etc/resolv.conf
for second in 1 2 3 4 5 6 7 8 9 10; do python3 -c '
import socket; socket.create_connection(("127.0.0.1", 443), 1)' 2>/dev/null && break; sleep 1; done
"""
MEND = """
systemctl stop preflight-occupant
umount /var/lib/rancher /opt/integr8scode
rmdir /var/lib/rancher /opt/integr8scode
rm -r /etc/kubernetes /var/lib/dpkg/updates/0000
cat /run/resolv.conf.kept > /etc/resolv.conf
rm /run/resolv.conf.kept
"""
ARGUMENTS = (
    "-e", "integr8scode_min_memory_mb=9999999",
    "-e", "integr8scode_user_password=short",
    "-e", "k3s_node_ip=192.0.2.77",
)  # fmt: skip
SAYS = (
    "secret: integr8scode_user_password has 5 characters",
    "port: Port 443 is taken by python3 (pid ",
    "unit preflight-occupant.service)",
    "systemctl disable --now preflight-occupant.service",
    "choose another port (integr8scode_https_port)",
    "MiB of swap, which does not count. The stack with k3s needs 9999999 MiB",
    "disk: /var/lib/rancher has ",
    "inodes: /var/lib/rancher has only ",
    "read_only: The file system of /opt/integr8scode is read-only.",
    "dns: Not resolved (asked: 192.0.2.53): registry.lab.test: ",
    "files.lab.test: ",
    "dpkg: dpkg was interrupted.",
    "other_software: Kubernetes by kubeadm is installed.",
    "k3s: k3s_node_ip 192.0.2.77 is no address of this server",
    "Nothing was changed.",
)


@pytest.fixture(scope="module")
def broken(host: Any) -> Iterator[None]:
    assert not host.file("/opt/integr8scode").exists, "this test needs a bare server"
    host.check_output("sh -ec %s", BREAK)
    yield
    host.check_output("sh -ec %s", MEND)


def snapshot(host: Any) -> list[str]:
    """Every file that a run could change, but what systemd and the login write themselves."""
    passed = ["/proc", "/sys", "/run", "/tmp", "/var/tmp", "/var/log", "/var/lib/systemd"]
    prune = " -o ".join(f"-path {path}" for path in passed)
    found: list[str] = host.check_output(
        f"find / -xdev \\( {prune} -o -path '/home/*/.ansible' \\) -prune -o ! -type d -printf '%p %s %m %U %T@\\n'"
    ).splitlines()
    assert len(found) > 1000
    return sorted(found)


@pytest.mark.parametrize("check", [[], ["--check"]], ids=["run", "check"])
def test_every_cause_is_named_in_one_run(host: Any, playbook: Any, broken: None, check: list[str]) -> None:
    before = snapshot(host)
    run = playbook("playbooks/site.yml", *ARGUMENTS, *check)
    said = " ".join((run.stdout + run.stderr).split())
    assert run.returncode == 2, said
    assert [one for one in SAYS if one not in said] == [], said
    assert "Traceback" not in said
    assert snapshot(host) == before
    assert "changed=0" in run.stdout
