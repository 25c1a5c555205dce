"""Asks a server what a run needs of it: system, clock, names, control groups, kernel, packages, k3s. Read only."""

from __future__ import annotations

import fcntl
import os
import platform
import re
import resource
import socket
import struct
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ansible.module_utils.docker_daemon_common import parse_os_release
from ansible.module_utils.doctor import probes_machine as doctor
from ansible.module_utils.doctor.runner import Probe, run
from ansible.module_utils.k3s_look import in_container
from ansible.module_utils.k3s_look import look as look_at_k3s

LIMIT_SECONDS = 20.0  # a name server that is silent costs 5 s, and the next one answers then
CONTROLLERS = ("cpu", "memory", "pids")
APT_LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock")
OTHERS = {
    "Docker as a snap": ("/snap/docker/current", "snap remove docker"),
    "MicroK8s": ("/snap/microk8s/current", "snap remove microk8s"),
    "k0s": ("/etc/systemd/system/k0scontroller.service", "k0s stop; k0s reset"),
    "RKE2": ("/etc/rancher/rke2/rke2.yaml", "rke2-uninstall.sh"),
    "Kubernetes by kubeadm": ("/etc/kubernetes/kubelet.conf", "kubeadm reset; apt-get remove kubelet"),
}
"""What brings a Docker or a Kubernetes of its own: a file that tells it, and what removes it."""
PODMAN = ("podman-docker", "apt-get remove podman-docker")


class _Runs:
    """Runs programs as AnsibleModule does, outside of one and with a limit."""

    def run_command(self, args: list[str]) -> tuple[int, str, str]:
        try:
            done = subprocess.run(args, capture_output=True, text=True, timeout=LIMIT_SECONDS / 2, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return 127, "", str(error)
        return done.returncode, done.stdout, done.stderr


def system(root: Path = Path("/")) -> dict[str, Any]:
    """The distribution, the processor and what process 1 is."""
    text = _text(root / "etc/os-release")
    told = parse_os_release(text)
    return {
        "id": told.id,
        "version": told.version,
        "name": told.name,
        "machine": platform.machine(),
        "systemd": (root / "run/systemd/system").is_dir(),
    }


def control_groups(root: Path = Path("/")) -> dict[str, Any]:
    """The version of control groups, and which of the controllers that Docker and k3s need are missing."""
    unified = _text(root / "sys/fs/cgroup/cgroup.controllers")
    there: list[str]
    if (root / "sys/fs/cgroup/cgroup.controllers").exists():
        version, there = 2, unified.split()
    else:
        rows = [line.split() for line in _text(root / "proc/cgroups").splitlines() if not line.startswith("#")]
        version, there = 1, [row[0] for row in rows if len(row) == 4 and row[3] == "1"]
    return {"version": version, "missing": [name for name in CONTROLLERS if name not in there]}


def kernel(wanted: Sequence[str], release: str, root: Path = Path("/")) -> dict[str, Any]:
    """Which kernel modules are neither loaded nor there to be loaded; `folder` is whether this kernel's are there."""
    folder = root / "lib/modules" / release
    listed = _text(folder / "modules.dep") + _text(folder / "modules.builtin")
    # what is built in may show by what it does alone
    filesystems = _text(root / "proc/filesystems").split()
    bridge = ["br_netfilter"] if (root / "proc/sys/net/bridge").exists() else []
    missing = [
        name
        for name in wanted
        if name not in [*filesystems, *bridge]
        and not (root / "sys/module" / name).exists()
        and not re.search(rf"(?m)(?:^|/){re.escape(name).replace('_', '[_-]')}\.ko", listed)
    ]
    return {"release": release, "missing": missing, "folder": folder.is_dir()}


def _holder(path: Path) -> int:
    """The process that has locked a file, as apt locks; 0 for none."""
    # struct flock: type, whence, start, length, process
    layout = "hhqqi"
    try:
        with path.open("rb") as file:
            asked = struct.pack(layout, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _whence, _start, _length, pid = struct.unpack(layout, fcntl.fcntl(file, fcntl.F_GETLK, asked))
    except OSError:
        return 0
    return 0 if kind == fcntl.F_UNLCK else int(pid)


def _age(pid: int) -> float:
    """Seconds since a process was started; 0 where that is not known."""
    fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    uptime = _text(Path("/proc/uptime")).split()
    if len(fields) < 20 or not uptime:
        return 0.0
    return max(0.0, float(uptime[0]) - int(fields[19]) / os.sysconf("SC_CLK_TCK"))


def packages(root: Path = Path("/")) -> dict[str, Any]:
    """Packages that are half installed, who holds apt's locks, and what brings another Docker or Kubernetes."""
    broken, installed = [], set()
    for block in _text(root / "var/lib/dpkg/status").split("\n\n"):
        name = re.search(r"(?m)^Package: (\S+)$", block)
        status = re.search(r"(?m)^Status: (\S+) (\S+) (\S+)$", block)
        if name is None or status is None:
            continue
        if status[3] == "installed":
            installed.add(name[1])
        if status[2] != "ok" or status[3] not in {"installed", "config-files", "not-installed"}:
            broken.append(f"{name[1]} ({status[3]})")
    updates = root / "var/lib/dpkg/updates"
    pid = next(filter(None, (_holder(root / lock.lstrip("/")) for lock in APT_LOCKS)), 0)
    held = {"pid": pid, "name": _text(Path(f"/proc/{pid}/comm")).strip(), "seconds": _age(pid)} if pid else None
    others = [[name, remove] for name, (path, remove) in OTHERS.items() if (root / path.lstrip("/")).exists()]
    if PODMAN[0] in installed:
        others.append(list(PODMAN))
    return {
        "broken": broken,
        # while apt is at work that is how it looks
        "interrupted": updates.is_dir() and any(updates.iterdir()),
        "lock": held,
        "others": others,
    }


def open_files(root: Path = Path("/")) -> dict[str, int]:
    """How many open files a container may be allowed: what the kernel has for one process, or less.

    Who may not raise a hard limit, root without the right to (CAP_SYS_RESOURCE), can give a container what services
    inherit of process 1 alone. The kernel itself is asked, since a machine around this one may withhold that right.
    """
    most = int(_text(root / "proc/sys/fs/nr_open") or 0)
    inherited = re.search(r"(?m)^Max open files +\S+ +(\d+|unlimited) ", _text(root / "proc/1/limits"))
    if not most or inherited is None:
        raise OSError("/proc does not tell it")
    if inherited[1] == "unlimited" or int(inherited[1]) >= most or _may_raise(most):
        return {"possible": most}
    return {"possible": int(inherited[1])}


def _may_raise(limit: int) -> bool:
    """Whether the kernel lets this process have so high a hard limit of open files; its own stays as it is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= limit:
        return True
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, limit))
    except (OSError, ValueError):
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return True


def own_name() -> dict[str, Any]:
    """This server's name, and why it has no address."""
    name = socket.gethostname()
    told = doctor.names([name])["names"][name]
    return {"name": name, "problem": told["problem"]}


def _k3s(parameters: Mapping[str, Any], token: str | None) -> dict[str, Any]:
    facts, problems = look_at_k3s(_Runs(), {**parameters, "token": token})
    return {**facts, "problems": problems}


def look(wanted: Mapping[str, Any], token: str | None = None) -> dict[str, Any]:
    """Everything that `wanted` asks for. What did not answer in time is in `unknown`, by its name.

    `names` are resolved. With `whole` the rest is looked at too: `kernel_modules` and `k3s`, what k3s shall be.
    """

    def probe(name: str, ask: Any, *arguments: Any) -> Probe:
        question = partial(ask, *arguments)
        return Probe(name, lambda _earlier: question(), limit=LIMIT_SECONDS)

    probes = [probe(f"name:{name}", doctor.names, [name]) for name in dict.fromkeys(wanted["names"])]
    probes += [probe("clock", doctor.clock), probe("open_files", open_files)]
    if wanted["whole"]:
        probes += [
            probe("system", system),
            probe("cgroup", control_groups),
            probe("kernel", kernel, wanted["kernel_modules"], platform.release()),
            probe("packages", packages),
            probe("own_name", own_name),
        ]
        if wanted["k3s"]:
            probes.append(probe("k3s", _k3s, wanted["k3s"], token))
    answers = run(probes, jobs=len(probes))
    found: dict[str, Any] = {"container": in_container(), "names": {}, "servers": [], "unknown": {}}
    for name, answer in answers.items():
        kind, _, asked = name.partition(":")
        if kind == "name":
            told = answer.value or {"names": {asked: {"addresses": [], "problem": answer.problem}}, "servers": None}
            found["names"][asked] = told["names"][asked]["problem"]
            found["servers"] = told["servers"] if told["servers"] is not None else found["servers"]
        elif answer.problem:
            found["unknown"][name] = answer.problem
        else:
            found[name] = answer.value
    # the clock changes while one asks: taken last, so that it is within what the controller has measured
    return {**found, "time": time.time()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
