"""The questions that a server is asked, with files as they are there."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.preflight import look
from ansible.module_utils.server_state import listeners

INIT = "/docker/" + "a" * 64 + "/init.scope"


def write(root: Path, **texts: str) -> Path:
    for name, text in texts.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_system_is_read(tmp_path: Path) -> None:
    write(tmp_path, **{"etc__os-release": 'ID=ubuntu\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04.3 LTS"\n'})
    told = look.system(tmp_path)
    assert (told["id"], told["version"], told["name"]) == ("ubuntu", "24.04", "Ubuntu 24.04.3 LTS")
    assert told["systemd"] is False
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert look.system(tmp_path)["systemd"] is True


def test_control_groups_of_both_versions(tmp_path: Path) -> None:
    write(tmp_path, proc__cgroups="#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t3\t9\t1\nmemory\t0\t9\t0\n")
    assert look.control_groups(tmp_path) == {"version": 1, "missing": ["memory", "pids"]}
    write(tmp_path, sys__fs__cgroup__cgroup_dot_controllers="cpuset cpu io memory pids\n")
    assert look.control_groups(tmp_path) == {"version": 2, "missing": []}


def test_kernel_modules_are_loaded_there_or_missing(tmp_path: Path) -> None:
    wanted = ["br_netfilter", "overlay", "xt_none"]
    assert look.kernel(wanted, "6.1", tmp_path) == {"release": "6.1", "missing": wanted, "folder": False}
    write(tmp_path, **{"lib__modules__6.1__modules.builtin": "kernel/fs/overlayfs/overlay.ko\n"})
    (tmp_path / "sys/module/br_netfilter").mkdir(parents=True)
    assert look.kernel(wanted, "6.1", tmp_path) == {"release": "6.1", "missing": ["xt_none"], "folder": True}
    write(tmp_path, **{"lib__modules__6.1__modules.dep": "kernel/net/xt-none.ko.xz: kernel/net/x.ko.xz\n"})
    assert look.kernel(wanted, "6.1", tmp_path)["missing"] == []


def test_what_is_built_into_the_kernel_is_there(tmp_path: Path) -> None:
    write(tmp_path, proc__filesystems="nodev\tsysfs\nnodev\toverlay\n")
    (tmp_path / "proc/sys/net/bridge").mkdir(parents=True)
    assert look.kernel(["br_netfilter", "overlay", "xt_none"], "6.1", tmp_path)["missing"] == ["xt_none"]


LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max processes             unlimited            unlimited            processes
Max open files            1024                 {hard:<20} files
"""


def limits(root: Path, most: int, hard: Any) -> Path:
    return write(root, proc__sys__fs__nr_open=f"{most}\n", proc__1__limits=LIMITS.format(hard=hard))


@pytest.mark.parametrize(
    ("most", "hard", "may_raise", "possible"),
    [
        # a Debian as it is: root raises what it likes
        (1048576, 524288, True, 1048576),
        (1073741816, 1073741816, False, 1073741816),
        (1048576, "unlimited", False, 1048576),
        # a hoster's container
        (1048576, 20000, False, 20000),
        (1048576, 20000, True, 1048576),
        # what the kernel has for one process is the end for everybody
        (16384, 65536, True, 16384),
    ],
)
def test_how_many_open_files_a_container_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, hard: Any, may_raise: bool, possible: int
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(look, "_may_raise", lambda limit: asked.append(limit) or may_raise)
    assert look.open_files(limits(tmp_path, most, hard)) == {"possible": possible}
    assert set(asked) <= {most}


def test_open_files_that_nobody_tells_are_unknown(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="does not tell"):
        look.open_files(tmp_path)


@pytest.mark.parametrize("allowed", [True, False])
def test_the_kernel_says_who_may_raise_a_limit_and_none_is_left_raised(
    monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    now = [1024, 20000]

    def put(_kind: int, limits: tuple[int, int]) -> None:
        if limits[1] > now[1] and not allowed:
            raise ValueError("not allowed to raise maximum limit")
        now[:] = limits

    monkeypatch.setattr(look.resource, "getrlimit", lambda _kind: (now[0], now[1]))
    monkeypatch.setattr(look.resource, "setrlimit", put)
    assert look._may_raise(1048576) is allowed
    assert look._may_raise(20000) is True
    assert now == [1024, 20000]


STATUS = """Package: good
Status: install ok installed

Package: removed
Status: deinstall ok config-files

Package: podman-docker
Status: install ok installed

Package: half
Status: install ok half-configured

Package: reinstall
Status: install reinstreq installed
"""


def test_half_installed_packages_and_other_software_are_found(tmp_path: Path) -> None:
    assert look.packages(tmp_path) == {"broken": [], "interrupted": False, "lock": None, "others": []}
    write(tmp_path, var__lib__dpkg__status=STATUS, var__lib__dpkg__updates__0001="")
    write(tmp_path, snap__microk8s__current="")
    told = look.packages(tmp_path)
    assert told["broken"] == ["half (half-configured)", "reinstall (installed)"]
    assert told["interrupted"] is True
    assert [name for name, _remove in told["others"]] == ["MicroK8s", "podman-docker"]


def test_who_holds_apts_lock_is_named(tmp_path: Path) -> None:
    write(tmp_path, **{"var__lib__dpkg__lock-frontend": ""})
    path = tmp_path / "var/lib/dpkg/lock-frontend"
    assert look.packages(tmp_path)["lock"] is None
    holds = (
        "import fcntl, sys, time\nfile = open(sys.argv[1], 'w')\nfcntl.lockf(file, fcntl.LOCK_EX)\nprint(flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", f"{holds}time.sleep(60)", str(path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        lock = look.packages(tmp_path)["lock"]
        process.kill()
    assert lock["pid"] == process.pid
    assert lock["name"].startswith("python")
    assert 0 <= lock["seconds"] < 60
    with path.open("w") as file:
        # one that this process could take is nobody's
        fcntl.lockf(file, fcntl.LOCK_EX)
        assert look.packages(tmp_path)["lock"] is None


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Any:
    def resolve(names: list[str]) -> dict[str, Any]:
        told = {name: {"addresses": [], "problem": "" if name == "good.example" else "not known"} for name in names}
        return {"names": told, "servers": ["192.0.2.53"]}

    def broken() -> None:
        raise OSError("timedatectl is away")

    monkeypatch.setattr(look.doctor, "names", resolve)
    monkeypatch.setattr(look.doctor, "clock", broken)
    return lambda **wanted: look.look({"names": [], "whole": False, "kernel_modules": [], "k3s": None, **wanted})


def test_only_what_is_wanted_is_asked(asked: Any) -> None:
    told = asked(names=["good.example", "bad.example", "bad.example"])
    assert told["open_files"]["possible"] > 0
    assert told["names"] == {"good.example": "", "bad.example": "not known"}
    assert told["servers"] == ["192.0.2.53"]
    assert told["unknown"] == {"clock": "timedatectl is away"}
    assert not {"system", "packages", "k3s"} & told.keys()


def test_the_whole_server_is_asked_with_all_that_k3s_minds(asked: Any) -> None:
    wanted = {
        "version": "v1.34.4",
        "node_ip": "no address",
        "fixed_node_address": "",
        "config": {"bind-address": "192.0.2.9"},
    }
    told = asked(whole=True, kernel_modules=["no_such_module"], k3s=wanted)
    assert {"system", "cgroup", "kernel", "packages", "own_name", "k3s"} <= told.keys()
    said = " ".join(told["k3s"]["problems"])
    assert all(words in said for words in ("holds no k3s release", "k3s_config sets bind-address", "k3s_node_ip: "))
    assert "k3s_token" not in said


def test_a_name_that_is_not_resolved_in_time_is_one_that_is_dead(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "LIMIT_SECONDS", 0.2)
    monkeypatch.setattr(look.doctor, "names", lambda names: time.sleep(20))
    told = asked(names=["slow.example"])
    assert told["names"] == {"slow.example": "no answer within 0.2 s"}


# -- who listens


@pytest.mark.parametrize(
    ("group", "init", "unit", "container"),
    [
        ("/system.slice/nginx.service", "/init.scope", "nginx.service", ""),
        ("/system.slice/docker.service", "/", "docker.service", ""),
        ("/user.slice/user-0.slice/session-3.scope", "/init.scope", "session-3.scope", ""),
        (f"/system.slice/docker-{'b' * 64}.scope", "/init.scope", "", "b" * 64),
        (f"/docker/{'b' * 64}", "/init.scope", "", "b" * 64),
        # a server that is a container itself
        (f"/docker/{'a' * 64}/system.slice/nginx.service", INIT, "nginx.service", ""),
        (f"/docker/{'a' * 64}/docker/{'b' * 64}", INIT, "", "b" * 64),
        (f"/docker/{'a' * 64}", INIT, "", ""),
        ("/", "/init.scope", "", ""),
    ],
)
def test_the_owner_is_told_by_the_control_group(group: str, init: str, unit: str, container: str) -> None:
    assert listeners.owner(group, init) == (unit, container)


def test_control_groups_are_read_of_every_layout() -> None:
    assert listeners.control_group("0::/system.slice/a.service\n") == "/system.slice/a.service"
    assert (
        listeners.control_group("4:memory:/x\n1:name=systemd:/system.slice/a.service\n0::/\n")
        == "/system.slice/a.service"
    )
    assert listeners.control_group("") == "/"


def test_this_process_is_found_by_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = listeners.read_listeners({port, 1})[str(port)]
    assert found["pid"] == os.getpid()
    assert listeners.read_listeners({1}) == {}
