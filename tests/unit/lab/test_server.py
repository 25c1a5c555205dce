"""How a container becomes a server on machines of different kinds."""

from __future__ import annotations

import pytest

from lab.server import Host, container_options

KINDS = [Host(version, has) for version in (1, 2) for has in (True, False)]


@pytest.mark.parametrize("host", KINDS)
def test_the_clock_and_the_kernel_stay_the_machines_own(host: Host) -> None:
    options = container_options(host)
    assert {"SYS_TIME", "SYS_MODULE"} <= set(options["cap_drop"])
    assert "privileged" not in options
    assert not [volume for volume in options["volumes"] if volume.startswith("/proc")]


@pytest.mark.parametrize("host", KINDS)
def test_sys_resource_goes_only_where_the_machine_has_it_not(host: Host) -> None:
    assert ("SYS_RESOURCE" in container_options(host)["cap_drop"]) == (not host.has_sys_resource)


def test_cgroup_v1_shares_the_machines_hierarchies_and_tells_systemd_so() -> None:
    options = container_options(Host(1, True))
    assert options["cgroupns_mode"] == "host"
    assert options["volumes"] == ["/sys/fs/cgroup:/sys/fs/cgroup:rw"]
    assert options["command"] == ["systemd.unified_cgroup_hierarchy=0", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"]


def test_cgroup_v2_gets_a_namespace_of_its_own() -> None:
    options = container_options(Host(2, True))
    assert options["cgroupns_mode"] == "private"
    assert options["volumes"] == []
    assert options["command"] == []


@pytest.mark.parametrize("host", KINDS)
def test_a_reboot_from_inside_starts_the_container_again(host: Host) -> None:
    assert container_options(host)["restart_policy"] == "unless-stopped"
