"""What outlives k3s: found by what it is, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible.module_utils.k3s_recovery.machine import Finished
from ansible.module_utils.k3s_recovery.rungs.leftovers import bridge_ports, clean, mounts_below, shims_with_children

from tests.unit.k3s_recovery_climb.fake_server import FakeServer

DATA = "/var/lib/rancher/k3s"
SHIM = f"{DATA}/data/0123abc/bin/containerd-shim-runc-v2 -namespace k8s.io -id x"
LINKS = """1: lo: <LOOPBACK,UP> mtu 65536 qdisc noqueue state UNKNOWN
2: eth0@if9: <BROADCAST> mtu 1500 qdisc noqueue state UP
7: cni0: <BROADCAST> mtu 1450 qdisc noqueue state UP
8: veth12ab@if2: <BROADCAST> mtu 1450 qdisc noqueue master cni0 state UP
9: veth34cd@if2: <BROADCAST> mtu 1500 qdisc noqueue master docker0 state UP
"""
MOUNTS = """proc /proc proc rw 0 0
tmpfs /run tmpfs rw 0 0
shm /run/k3s/containerd/x/shm tmpfs rw 0 0
overlay /run/k3s/containerd/x/rootfs overlay rw 0 0
tmpfs /var/lib/kubelet/pods/u/volumes/a\\040b tmpfs rw 0 0
tmpfs /var/lib/docker/containers/mounts/shm tmpfs rw 0 0
nsfs /run/netns/cni-1234 nsfs rw 0 0
"""


def test_only_k3s_own_shims_and_their_children() -> None:
    found = {
        1: (0, "/sbin/init"),
        10: (1, SHIM),
        11: (10, "/pause"),
        12: (11, "sleep 1000"),
        20: (1, "/usr/bin/containerd-shim-runc-v2 -namespace moby -id y"),
        21: (20, "mongod"),
        30: (1, f"vim {SHIM}"),
    }
    assert shims_with_children(found, DATA) == [10, 11, 12]


def test_mounts_the_deepest_first_and_no_others() -> None:
    places = ("/run/k3s", "/var/lib/kubelet/pods", "/run/netns/cni-")
    assert mounts_below(MOUNTS, places) == [
        "/var/lib/kubelet/pods/u/volumes/a b",
        "/run/netns/cni-1234",
        "/run/k3s/containerd/x/shm",
        "/run/k3s/containerd/x/rootfs",
    ]


def test_only_the_pods_bridge_ports() -> None:
    assert bridge_ports(LINKS) == ["veth12ab"]


def test_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeServer(tmp_path)
    server.path("/proc/self/mounts").write_text(MOUNTS)
    for pid, parent, command in ((10, 1, SHIM), (11, 10, "/pause"), (20, 1, "mongod")):
        folder = server.path(f"/proc/{pid}")
        folder.mkdir(parents=True)
        (folder / "stat").write_text(f"{pid} (a) b) S {parent} 0 0")
        (folder / "cmdline").write_bytes(command.replace(" ", "\0").encode())
    server.path("/run/netns/cni-1234").mkdir(parents=True)
    server.path("/var/lib/cni/networks").mkdir(parents=True)
    ran: list[str] = []

    def run(argv: Sequence[str], **_more: object) -> Finished:
        ran.append(" ".join(argv))
        return Finished(0, LINKS if argv[:2] == ["ip", "-o"] else "")

    monkeypatch.setattr(server, "run", run)
    assert clean(server, DATA) == []
    assert server.log == ["kill 10", "kill 11"]
    assert "umount -f /run/k3s/containerd/x/shm" in ran
    assert not any("docker" in line for line in ran)
    assert "ip link delete cni0" in ran
    assert "ip link delete veth12ab" in ran
    assert "ip link delete flannel.1" not in ran
    assert "ip netns delete cni-1234" in ran
    assert not server.path("/var/lib/cni").exists()


def test_what_stays_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeServer(tmp_path)
    server.path("/proc/self/mounts").write_text("shm /run/k3s/x tmpfs rw 0 0\n")
    monkeypatch.setattr(
        server, "run", lambda argv, **_more: Finished(1, err="busy") if argv[0] == "umount" else Finished(0)
    )
    assert clean(server, DATA) == ["/run/k3s/x is still mounted: busy"]
