"""Names, paths and ports, and the refusal of what cannot be meant."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from lab import settings
from lab.settings import LabError, Settings


def test_defaults() -> None:
    found = Settings.from_environment({"HOME": "/home/somebody"})
    assert found.home == Path("/home/somebody/.cache/integr8scode-lab")
    assert (found.name, found.port_base, found.sources) == ("integr8scode-lab", 22100, "auto")
    assert found.labels == {"integr8scode.lab": "integr8scode-lab"}
    assert found.state == found.home / "state"


def test_empty_variables_are_as_good_as_none() -> None:
    env = {"HOME": "/h", "LAB_HOME": "", "LAB_NAME": "", "LAB_PORT_BASE": "", "LAB_SOURCES": "", "DOCKER_HOST": ""}
    assert Settings.from_environment(env) == Settings.from_environment({"HOME": "/h"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LAB_HOME", "relative/path"),
        ("LAB_NAME", "Upper"),
        ("LAB_NAME", "with space"),
        ("LAB_NAME", "-dash"),
        ("LAB_NAME", "a/b"),
        ("LAB_PORT_BASE", "abc"),
        ("LAB_PORT_BASE", "80"),
        ("LAB_PORT_BASE", "65000"),
        ("LAB_SOURCES", "fake"),
    ],
)
def test_nonsense_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(LabError, match=name):
        Settings.from_environment({"HOME": "/h", name: value})


def test_ports_of_servers_do_not_meet() -> None:
    lab = Settings(Path("/lab"))
    assert [lab.server_port(1, service) for service in range(3)] == [22110, 22111, 22112]
    assert lab.server_port(5) == 22150
    numbers = [lab.server_port(index, service) for index in range(1, settings.MAX_INDEX + 1) for service in range(10)]
    assert len(set(numbers)) == len(numbers)
    assert not {lab.registry_port, lab.files_port} & set(numbers)
    assert max(numbers) <= 65535


@pytest.mark.parametrize(("index", "service"), [(0, 0), (settings.MAX_INDEX + 1, 0), (-1, 0), (1, 10)])
def test_ports_out_of_range_are_refused(index: int, service: int) -> None:
    with pytest.raises(LabError):
        Settings(Path("/lab")).server_port(index, service)


def test_highest_port_base_still_has_room_for_every_server() -> None:
    highest = 65535 - 10 * (settings.MAX_INDEX + 1)
    lab = Settings.from_environment({"HOME": "/h", "LAB_PORT_BASE": str(highest)})
    assert lab.server_port(settings.MAX_INDEX, 9) <= 65535


def test_fixed_addresses_are_outside_what_docker_hands_out() -> None:
    network, dynamic = ipaddress.ip_network(settings.SUBNET), ipaddress.ip_network(settings.DYNAMIC_RANGE)
    fixed = [settings.GATEWAY, settings.REGISTRY_ADDRESS, settings.FILES_ADDRESS]
    fixed += [str(network[10 + index]) for index in (1, settings.MAX_INDEX)]
    assert dynamic.subnet_of(network)  # type: ignore[arg-type]
    for address in fixed:
        assert ipaddress.ip_address(address) in network
        assert ipaddress.ip_address(address) not in dynamic
    assert len(set(fixed)) == len(fixed)


def test_uplink_takes_neither_addresses_nor_the_ports_of_the_first_network() -> None:
    network, uplink = ipaddress.ip_network(settings.SUBNET), ipaddress.ip_network(settings.UPLINK_SUBNET)
    assert not network.overlaps(uplink)
    assert ipaddress.ip_address(settings.UPLINK_GATEWAY) in uplink
    found = Settings.from_environment({"HOME": "/h"})
    # Docker publishes ports and routes by the alphabetically first network of a container
    assert found.name < found.uplink
