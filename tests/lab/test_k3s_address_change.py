"""What k3s says and does when an address, a route or an interface is not what it was: each cause, and what heals it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.k3s_machine import CA, READY, STALE_NODE, WITH_FIX, WITHOUT_FIX, Machine, docker, machine

# the scenario `recover-k3s` meets these causes in every run
pytestmark = pytest.mark.long

DEAD = "10.214.1.99"
UP = "k3s is up and running"
FAULT = "/etc/lab-k3s/faults/stale-node-address"


@pytest.fixture(scope="module")
def fixed() -> Iterator[Machine]:
    with machine("t-k3s-addr-fixed", WITH_FIX, 1) as made:
        made.configure()
        made.start_ready()
        yield made


@pytest.fixture(scope="module")
def unfixed() -> Iterator[Machine]:
    with machine("t-k3s-addr-bug", WITHOUT_FIX, 2) as made:
        made.configure()
        made.start_ready()
        yield made


@pytest.fixture
def stopped(fixed: Machine) -> Iterator[Machine]:
    """The server with its cluster, stopped; its usual configuration is back afterwards."""
    fixed.stop()
    yield fixed
    fixed.stop()
    fixed.configure()


def heal_by_safe_mode(server: Machine, address: str) -> None:
    server.configure(disable_network_policy=True)
    server.start()
    server.wait_for(UP)
    server.eventually(lambda: server.internal_ip() == address)
    server.stop()
    server.configure()
    server.start_ready()


class TestAddressOfTheNode:
    def test_a_newer_release_comes_back_by_itself(self, stopped: Machine) -> None:
        stopped.move_to("10.214.1.11")
        stopped.start_ready()
        assert stopped.internal_ip() == "10.214.1.11"
        stopped.run(f"curl -sS --cacert {CA} https://10.214.1.11:6443/readyz")
        assert "built on" in stopped.log()

    def test_an_older_release_crashes_until_network_policy_is_off_once(self, unfixed: Machine) -> None:
        unfixed.kubectl("label node node1 kept=yes")
        unfixed.stop()
        unfixed.move_to("10.214.2.21")
        for _attempt in range(2):
            log = unfixed.fails()
            assert STALE_NODE in log
            assert UP in log, "the unit is running before it fails"
        heal_by_safe_mode(unfixed, "10.214.2.21")
        assert unfixed.kubectl("get node node1 -o jsonpath='{.metadata.labels.kept}'") == "yes"

    @pytest.mark.parametrize("file", ["config.yaml", "config.yaml.d/90-node.yaml"])
    def test_a_node_ip_that_is_gone_crashes_until_it_is_corrected(self, stopped: Machine, file: str) -> None:
        if file == "config.yaml":
            stopped.configure(node_ip=DEAD)
        else:
            stopped.write(f"/etc/rancher/k3s/{file}", f"node-ip: {DEAD}\n")
        try:
            log = stopped.fails()
            assert STALE_NODE in log
            assert f'node IP: \\"{DEAD}\\" not found in the host\'s network interfaces' in log
            assert UP in log
        finally:
            stopped.run("rm -rf /etc/rancher/k3s/config.yaml.d")
        stopped.configure(node_ip=stopped.address)
        stopped.start_ready()
        assert stopped.internal_ip() == stopped.address


class TestStaleNodeObject:
    def test_nothing_less_than_its_deletion_heals(self, unfixed: Machine) -> None:
        if not unfixed.processes():
            unfixed.start_ready()
        unfixed.stop()
        unfixed.write(FAULT, "")
        unfixed.move_to("10.214.2.31")
        assert STALE_NODE in unfixed.fails()
        unfixed.configure(disable_network_policy=True)
        for _attempt in range(2):
            unfixed.start()
            unfixed.wait_for(UP)
            unfixed.eventually(lambda: "True" in unfixed.kubectl(
                "get node node1 -o jsonpath='{.status.conditions[?(@.type==\"Ready\")].status}'"
            ))  # fmt: skip
            assert unfixed.internal_ip() == "10.214.2.21"
            unfixed.stop()
        unfixed.configure()
        assert STALE_NODE in unfixed.fails()
        unfixed.configure(disable_network_policy=True)
        unfixed.start()
        unfixed.wait_for(UP)
        unfixed.kubectl("delete node node1")
        unfixed.stop()
        unfixed.configure()
        unfixed.start_ready()
        assert unfixed.internal_ip() == "10.214.2.31"
        unfixed.run(f"rm {FAULT}")


class TestOtherSettings:
    def test_a_bind_address_that_is_gone(self, stopped: Machine) -> None:
        stopped.configure(bind_address=DEAD)
        log = stopped.fails()
        assert f"listen tcp {DEAD}:6443: bind: cannot assign requested address" in log
        assert UP not in log

    def test_an_advertise_address_that_is_gone_breaks_only_the_service(self, stopped: Machine) -> None:
        stopped.configure(advertise_address=DEAD)
        stopped.start_ready()
        find = "get endpointslices kubernetes -o jsonpath={.endpoints[*].addresses[*]}"
        stopped.eventually(lambda: stopped.kubectl(find) == DEAD)
        stopped.stop()
        stopped.configure()
        stopped.start_ready()
        stopped.eventually(lambda: stopped.kubectl(find) == stopped.address)

    def test_without_a_default_route_it_needs_a_node_ip(self, stopped: Machine) -> None:
        docker("network", "disconnect", stopped.name, stopped.name)
        try:
            log = stopped.fails()
        finally:
            docker("network", "connect", "--ip", stopped.address, stopped.name, stopped.name)
        assert 'no default routes found in \\"/proc/net/route\\" or \\"/proc/net/ipv6_route\\"' in log

    def test_flannels_interface_gives_the_address_and_must_exist(self, stopped: Machine) -> None:
        stopped.configure(flannel_iface="nosuch0")
        wrong = "interface nosuch0 does not have a correct global unicast ip: route ip+net: no such network interface"
        assert f'level=fatal msg="Error: {wrong}"' in stopped.fails()
        stopped.configure(flannel_iface="lo")
        stopped.start()
        stopped.wait_for(UP)
        stopped.eventually(lambda: stopped.internal_ip() == "127.0.0.1")

    def test_flannels_interface_is_waited_for_when_the_address_is_given(self, stopped: Machine) -> None:
        stopped.configure(flannel_iface="nosuch0", node_ip=stopped.address)
        stopped.start()
        log = stopped.wait_for("unable to find interface nosuch0: route ip+net: no such network interface")
        assert UP in log
        assert READY not in log
