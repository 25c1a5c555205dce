"""How a container becomes a server on machines of different kinds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from docker.errors import APIError

from lab import server
from lab.server import FORBIDDEN, Host, container_options, inspect_host
from lab.settings import LabError

ALL = (1 << 41) - 1
NUMBERS = {**FORBIDDEN, "SYS_RESOURCE": 24}


class Container:
    """A container whose capabilities are what its engine gave it."""

    def __init__(self, engine: Engine, cap_add: list[str], cap_drop: list[str]) -> None:
        self.engine, self.cap_add, self.cap_drop = engine, cap_add, set(cap_drop)

    def start(self) -> None:
        if not self.engine.newer and self.engine.lacks - self.cap_drop:
            raise APIError("500", explanation="unable to apply caps: operation not permitted")

    def wait(self, timeout: float) -> None:
        assert timeout > 0

    def logs(self, **_: object) -> bytes:
        assert self.cap_add == ["ALL"]
        missing = self.engine.lacks if self.engine.careless else self.engine.lacks | self.cap_drop
        mask = ALL & ~sum(1 << NUMBERS[name] for name in missing)
        return f"Name:\tcat\nCapPrm:\t0\nCapBnd:\t{mask:016x}\n".encode()

    def remove(self, **_: object) -> None:
        self.engine.left.remove(self)


class Engine:
    """An engine on a machine that lacks some capabilities, which behaves as older or newer ones do."""

    def __init__(self, lacks: set[str], newer: bool, version: str = "1", careless: bool = False) -> None:
        self.lacks, self.newer, self.version, self.careless = lacks, newer, version, careless
        self.containers = self
        self.left: list[Container] = []

    def info(self) -> dict[str, Any]:
        return {"CgroupVersion": self.version}

    def create(self, *_: object, cap_drop: list[str], cap_add: Sequence[str] = (), **__: object) -> Container:
        if self.newer and self.lacks & set(cap_drop):
            raise APIError("400", explanation=f'invalid CapDrop: capability not supported: "CAP_{cap_drop[0]}"')
        self.left.append(Container(self, list(cap_add), cap_drop))
        return self.left[-1]


@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize("lacks", [set(), {"SYS_RESOURCE"}, {"SYS_TIME"}, {"SYS_TIME", "SYS_RESOURCE"}])
def test_what_is_dropped_is_what_the_engine_takes_and_what_must_be(newer: bool, lacks: set[str]) -> None:
    engine = Engine(lacks, newer)
    host = inspect_host(engine, "image")  # type: ignore[arg-type]
    assert not engine.left, "a trial container stayed behind"
    expected = set(FORBIDDEN)
    if newer:
        expected -= lacks
    elif "SYS_RESOURCE" in lacks:
        expected.add("SYS_RESOURCE")
    assert set(host.dropped) == expected


def test_an_engine_that_leaves_the_clock_to_servers_is_refused() -> None:
    with pytest.raises(LabError, match="SYS_TIME"):
        inspect_host(Engine(set(), newer=True, careless=True), "image")  # type: ignore[arg-type]


def test_an_engine_that_starts_nothing_is_refused_with_its_words() -> None:
    with pytest.raises(LabError, match="operation not permitted"):
        inspect_host(Engine({"SYS_RESOURCE", "WAKE_ALARM", "SYS_PTRACE"}, newer=False), "image")  # type: ignore[arg-type]


@pytest.mark.parametrize(("said", "version"), [("1", 1), ("2", 2)])
def test_cgroup_version_is_the_engines(said: str, version: int) -> None:
    assert inspect_host(Engine(set(), True, said), "image").cgroup_version == version  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [1, 2])
def test_a_server_is_not_privileged_and_gets_nothing_of_the_machines_proc(version: int) -> None:
    options = container_options(Host(version, ("SYS_TIME",)))
    assert options["cap_drop"] == ["SYS_TIME"]
    assert "privileged" not in options
    assert not [volume for volume in options["volumes"] if volume.startswith("/proc")]


def test_cgroup_v1_shares_the_machines_hierarchies_and_tells_systemd_so() -> None:
    options = container_options(Host(1, ()))
    assert options["cgroupns_mode"] == "host"
    assert options["volumes"] == ["/sys/fs/cgroup:/sys/fs/cgroup:rw"]
    assert options["command"] == ["systemd.unified_cgroup_hierarchy=0", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"]


def test_cgroup_v2_gets_a_namespace_of_its_own() -> None:
    options = container_options(Host(2, ()))
    assert options["cgroupns_mode"] == "private"
    assert options["volumes"] == []
    assert options["command"] == []


@pytest.mark.parametrize("version", [1, 2])
def test_a_reboot_from_inside_starts_the_container_again(version: int) -> None:
    assert container_options(Host(version, ()))["restart_policy"] == "unless-stopped"


def test_the_image_is_the_catalogues() -> None:
    from lab import images

    assert images.load()["server"].local == server.IMAGE
