"""Each cause alone, with its cure, and all of them at once; a server that is well has none."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from ansible.module_utils.docker_daemon_common import VENDOR_ONLY
from ansible.module_utils.preflight import causes_machine as machine
from ansible.module_utils.preflight import causes_stack as stack

MIB = 2**20
NOW = 1_800_000_000.0
NEEDS: dict[str, Any] = {
    "memory_mb": 7000,
    "disk_mb": 6000,
    "reserve_mb": 1024,
    "clock_seconds": 60,
    "open_files": 65536,
    "names": ["ghcr.io", "github.com"],
    "ports": {"integr8scode_https_port": 443, "integr8scode_frontend_port": 5001, "k3s_api": 6443},
}
WELL: dict[str, Any] = {
    "system": {"id": "debian", "version": "13", "name": "Debian 13", "machine": "x86_64", "systemd": True},
    "memory": {"total_bytes": 8000 * MIB, "available_bytes": 7000 * MIB, "swap_bytes": 0},
    "disk": {
        name: {"path": path, "free_bytes": 9000 * MIB, "free_inodes": 10**6, "read_only": False, "device": 1}
        for name, path in {"base": "/opt", "docker": "/var/lib", "k3s": "/var/lib", "var": "/var"}.items()
    },
    "asked": (NOW - 1, NOW + 1),
    "time": NOW,
    "clock": {"container": False, "keeper": True, "synchronized": True},
    "names": {"ghcr.io": "", "github.com": ""},
    "servers": ["192.0.2.53"],
    "cgroup": {"version": 2, "missing": []},
    "kernel": {"release": "6.12.1", "missing": [], "folder": True},
    "open_files": {"possible": 524288},
    "packages": {"broken": [], "interrupted": False, "lock": None, "others": []},
    "k3s": {"problems": []},
    "own_name": {"name": "app1", "problem": ""},
    "container": False,
    "unknown": {},
}
SERVER: dict[str, Any] = {
    "foreign": {"containers": [], "volumes": []},
    "containers": {},
    "published": {},
    "listeners": {},
    "docker": {"available": True},
    "release": None,
}


def changed(fact: str, **changes: Any) -> dict[str, Any]:
    return {fact: {**WELL[fact], **changes}}


def room(**changes: Any) -> dict[str, Any]:
    return {"disk": {name: {**place, **changes} for name, place in WELL["disk"].items()}}


LOCK = {"pid": 812, "name": "apt-get", "seconds": 3000.0}
CAUSES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "another distribution": (
        changed("system", id="fedora", version="43", name="Fedora 43"),
        "system",
        "Fedora 43",
        "Debian 12 and 13, Ubuntu",
    ),
    "an old one": (changed("system", version="11", name="Debian 11"), "system", "Debian 11", "install one of these"),
    "processor": (changed("system", machine="riscv64"), "processor", "riscv64", "take a server"),
    "no systemd": (changed("system", systemd=False), "systemd", "not systemd", "systemd-sysv"),
    "memory": (
        changed("memory", total_bytes=4096 * MIB, swap_bytes=8192 * MIB),
        "memory",
        "4096 MiB of memory, and 8192 MiB of swap",
        "integr8scode_min_memory_mb",
    ),
    "disk": (room(free_bytes=500 * MIB), "disk", "/opt, /var/lib, /var has 500 MiB free", "du -xh --max-depth=2 /opt"),
    "inodes": (room(free_inodes=3), "inodes", "only 3 inodes free", "du -x --inodes"),
    "read-only": (room(read_only=True), "read_only", "/opt, /var/lib, /var is read-only", "mount -o remount,rw /opt"),
    "clock ahead": ({"time": NOW + 4000}, "clock", "3999 s ahead of this machine's", "timedatectl set-ntp true"),
    "clock behind": ({"time": NOW - 100}, "clock", "99 s behind this machine's", "timedatectl set-ntp true"),
    "dns": (
        {"names": {"ghcr.io": "Temporary failure", "github.com": ""}},
        "dns",
        "asked: 192.0.2.53): ghcr.io: Temporary failure.",
        "getent hosts ghcr.io",
    ),
    "cgroup": (
        {"cgroup": {"version": 2, "missing": ["memory"]}},
        "cgroup",
        "no control group for memory",
        "cgroup_enable",
    ),
    "kernel": ({"kernel": {"release": "6", "missing": ["overlay"], "folder": True}}, "kernel", "overlay", "own kernel"),
    "kernel upgraded": (
        {"kernel": {"release": "6", "missing": ["overlay"], "folder": False}},
        "kernel",
        "/lib/modules/6 is not there",
        "reboot",
    ),
    "open files": (
        {"open_files": {"possible": 20000}},
        "open_files",
        "20000 open files at most, and integr8scode_nofile_limit is 65536",
        "integr8scode_nofile_limit: 20000",
    ),
    "dpkg": (
        changed("packages", broken=["linux-image-amd64 (half-configured)"]),
        "dpkg",
        "linux-image-amd64 (half-configured)",
        "dpkg --configure -a",
    ),
    "dpkg's journal": (changed("packages", interrupted=True), "dpkg", "was interrupted.", "dpkg --configure -a"),
    "apt's lock": (changed("packages", lock=LOCK), "apt_lock", "apt-get (pid 812), which was started 50", "ps -fp 812"),
    "another Docker": (
        changed("packages", others=[["Docker as a snap", "snap remove docker"]]),
        "other_software",
        "Docker as a snap",
        "snap remove docker",
    ),
}


def test_a_server_that_is_well_has_no_cause() -> None:
    assert machine.causes(WELL, NEEDS) == []
    assert stack.causes(SERVER, NEEDS) == []
    assert machine.notes(WELL) == []


@pytest.mark.parametrize("name", CAUSES)
def test_each_cause_alone_with_its_cure(name: str) -> None:
    changes, check, says, cure = CAUSES[name]
    (found,) = machine.causes({**WELL, **changes}, NEEDS)
    assert found["check"] == check
    assert says in found["found"]
    assert found["why"].endswith(".")
    assert cure in found["cure"]


def test_all_causes_at_once() -> None:
    facts = {
        **WELL,
        "system": {"id": "x", "version": "1", "name": "X 1", "machine": "mips", "systemd": False},
        "memory": {"total_bytes": MIB},
        **room(free_bytes=0, free_inodes=0, read_only=True),
        "time": NOW + 999,
        "names": {"ghcr.io": "no answer", "github.com": "no answer"},
        "cgroup": {"version": 1, "missing": ["memory", "pids"]},
        "kernel": {"release": "6", "missing": ["br_netfilter"], "folder": True},
        "open_files": {"possible": 1024},
        "packages": {"broken": ["a (unpacked)"], "interrupted": True, "lock": None, "others": [["k0s", "k0s reset"]]},
        "k3s": {"problems": ["This server has no default route. Nothing has been changed."]},
    }
    found = machine.causes(facts, NEEDS)
    assert [one["check"] for one in found] == [
        "system", "processor", "systemd", "memory", "read_only", "disk", "inodes", "clock", "dns", "cgroup", "kernel",
        "open_files", "dpkg", "other_software", "k3s",
    ]  # fmt: skip
    assert found[-1]["found"] == "This server has no default route."


def test_a_partition_of_its_own_needs_less_than_where_the_images_go() -> None:
    small = {**WELL["disk"]["var"], "device": 2, "free_bytes": 2000 * MIB}
    assert machine.causes({**WELL, "disk": {**WELL["disk"], "var": small}}, NEEDS) == []
    (found,) = machine.causes({**WELL, "disk": {**WELL["disk"], "docker": small}}, NEEDS)
    assert "6000 MiB there (integr8scode_min_free_disk_mb)" in found["why"]
    (found,) = machine.causes({**WELL, "disk": {"var": {**small, "free_bytes": 100 * MIB}}}, NEEDS)
    assert "1024 MiB there (integr8scode_reserve_disk_mb)" in found["why"]


def test_file_systems_that_count_no_inodes_have_enough() -> None:
    assert machine.causes({**WELL, **room(free_inodes=None)}, NEEDS) == []


def test_the_time_that_a_question_takes_is_no_difference_of_clocks() -> None:
    assert machine.causes({**WELL, "asked": (NOW - 300, NOW + 1)}, NEEDS) == []
    assert machine.causes({**WELL, "time": NOW + 60}, NEEDS) == []
    assert machine.causes({**WELL, "time": NOW + 62}, NEEDS) != []
    assert machine.causes({**WELL, "time": NOW + 62}, {**NEEDS, "clock_seconds": 120}) == []


@pytest.mark.parametrize(
    ("clock", "says"),
    [
        ({"keeper": False, "synchronized": False}, "NTP is off."),
        ({"keeper": True, "synchronized": False}, "NTP is on and has not set it."),
        ({"keeper": True, "synchronized": True}, "look at this machine's clock first."),
        ({"keeper": None, "synchronized": None}, "one of them is wrong."),
    ],
)
def test_who_keeps_a_wrong_clock_is_told(clock: dict[str, Any], says: str) -> None:
    (found,) = machine.causes({**WELL, "time": NOW + 999, "clock": clock}, NEEDS)
    assert found["found"].endswith(says)


def test_names_that_this_run_does_not_need_may_be_dead() -> None:
    dead = {**WELL, "names": {"ghcr.io": "no answer", "github.com": "no answer"}}
    assert machine.causes(dead, {**NEEDS, "names": []}) == []
    (found,) = machine.causes({**dead, "servers": []}, {**NEEDS, "names": ["github.com"]})
    assert "/etc/resolv.conf names no server" in found["found"]
    assert "ghcr.io" not in found["found"]


def test_what_a_container_has_from_its_machine_is_no_cause() -> None:
    facts = {
        **WELL,
        "container": True,
        "cgroup": {"version": 1, "missing": ["pids"]},
        "kernel": {"release": "6", "missing": ["overlay", "br_netfilter"], "folder": False},
        "clock": {"container": True, "keeper": None, "synchronized": None},
    }
    assert machine.causes(facts, NEEDS) == []


def test_what_passes_by_itself_is_a_note() -> None:
    facts = {
        **WELL,
        **changed("packages", lock={**LOCK, "seconds": 30.0}, broken=["a (unpacked)"], interrupted=True),
        "own_name": {"name": "app1", "problem": "Name or service not known"},
        "unknown": {"kernel": "no answer within 20 s"},
    }
    assert machine.causes(facts, NEEDS) == []
    working, name, unknown = machine.notes(facts)
    assert "apt-get (pid 812) is at work with apt" in working
    assert "127.0.1.1 app1" in name
    assert unknown == "kernel could not be looked at: no answer within 20 s."


# -- what is on the server already


def holder(
    name: str = "nginx", pid: int | None = 71, unit: str = "nginx.service", container: str = ""
) -> dict[str, Any]:
    return {"name": name, "pid": pid, "unit": unit, "container": container}


@pytest.mark.parametrize(
    ("port", "who", "says", "cure"),
    [
        (
            "443",
            holder(),
            "taken by nginx (pid 71, unit nginx.service)",
            "disable --now nginx.service, or choose another",
        ),
        (
            "5001",
            holder("python3", 9, "session-3.scope"),
            "python3 (pid 9, session-3.scope)",
            "kill 9, or choose another",
        ),
        ("443", holder("systemd", 1, "cockpit.socket"), "cockpit.socket of systemd", "disable --now cockpit.socket"),
        ("443", holder("nginx", 5, "", "ab" * 32), "container abababababab", "docker stop abababababab"),
        ("443", holder("unknown", None, ""), "of a process that the server does not show", "ss -ltnp"),
        (
            "6443",
            holder("kube-apiserver", 8, "kubelet.service"),
            "kube-apiserver (pid 8",
            "disable --now kubelet.service",
        ),
    ],
)
def test_who_holds_a_port_is_named(port: str, who: dict[str, Any], says: str, cure: str) -> None:
    (found,) = stack.causes({**SERVER, "listeners": {port: who}}, NEEDS)
    assert says in found["found"]
    assert cure in found["cure"]
    assert ("another port" in found["cure"]) == (port != "6443")


def test_a_container_that_publishes_a_port_is_named() -> None:
    taken = {"listeners": {"443": holder("docker-proxy", 7, "docker.service")}}
    (found,) = stack.causes({**SERVER, **taken, "published": {"443": {"name": "web", "ours": False}}}, NEEDS)
    assert "docker-proxy (pid 7, container web)" in found["found"]
    assert "docker stop web" in found["cure"]


def test_what_this_project_runs_may_hold_its_ports() -> None:
    taken = {
        "443": holder("docker-proxy", 7, "docker.service"),
        "6443": holder("k3s-server", 8, "k3s.service"),
    }
    published = {"443": {"name": "integr8scode-edge-1", "ours": True}}
    assert stack.causes({**SERVER, "listeners": taken, "published": published}, NEEDS) == []
    # an engine that cannot be asked may still publish what was deployed
    unasked = {**SERVER, "listeners": taken, "docker": {"available": False}, "release": {"id": "1"}}
    assert stack.causes(unasked, NEEDS) == []
    assert len(stack.causes({**unasked, "release": None}, NEEDS)) == 1


@pytest.mark.parametrize("number", [0, -1, 65536])
def test_a_port_that_is_none_is_refused(number: int) -> None:
    """Docker would say so in the middle of a switch."""
    (found,) = stack.causes(SERVER, {**NEEDS, "ports": {"integr8scode_https_port": number}})
    assert (found["check"], found["found"]) == ("port", f"integr8scode_https_port is {number}.")
    assert "from 1 to 65535" in found["why"]


@pytest.mark.parametrize(
    ("other", "told", "says"),
    [
        ("integr8scode_frontend_port", "integr8scode_https_port", "integr8scode_frontend_port"),
        ("k3s_api", "integr8scode_https_port", "another service (k3s_api)"),
        ("27017", "integr8scode_https_port", "another service (27017)"),
    ],
)
def test_two_on_one_port_are_refused_once(other: str, told: str, says: str) -> None:
    (found,) = stack.causes(SERVER, {**NEEDS, "ports": {"integr8scode_https_port": 6000, other: 6000}})
    assert found["found"] == f"{told} is 6000."
    assert f"Port 6000 is that of {says}," in found["why"]


def test_the_guides_installation_is_refused() -> None:
    foreign = {"containers": [{"name": "mongo", "working_dir": "/opt/Integr8sCode"}], "volumes": []}
    taken = {"listeners": {"443": holder("docker-proxy")}, "published": {"443": {"name": "frontend", "ours": True}}}
    (found,) = stack.causes({**SERVER, **taken, "foreign": foreign}, NEEDS)
    assert "/opt/Integr8sCode" in found["found"]
    assert "mongo" in found["found"]
    volumes = {"containers": [], "volumes": ["integr8scode_mongo_data"]}
    (found,) = stack.causes({**SERVER, "foreign": volumes}, NEEDS)
    assert "integr8scode_mongo_data" in found["found"]


def test_a_current_that_is_no_link_is_refused_with_its_cure() -> None:
    assert stack.causes({**SERVER, "current_problem": ""}, NEEDS) == []
    (found,) = stack.causes({**SERVER, "current_problem": "it is no link. Cure: make one."}, NEEDS)
    assert (found["check"], found["found"]) == ("release", "it is no link. Cure: make one.")


def test_a_server_that_switches_is_refused_with_who_does_it() -> None:
    held = {"description": "deploy 2026.2.20 by ops@desk holds the lock.", "stale": ""}
    assert stack.causes({**SERVER, "lock": held, "switching": False}, NEEDS) == []
    (found,) = stack.causes({**SERVER, "lock": held, "switching": True}, NEEDS)
    assert "deploy 2026.2.20 by ops@desk" in found["found"]
    (found,) = stack.causes({**SERVER, "lock": held, "switching": None}, NEEDS)
    assert "nobody knows whether it switches" in found["found"]


def test_kubernetes_out_of_the_workers_reach_is_refused_where_it_is_needed() -> None:
    broken = {"k8s-worker": {"usable": False, "problem": "no answer"}, "pod-monitor": {"usable": True, "problem": ""}}
    (found,) = stack.causes({**SERVER, "kubernetes": broken}, {**NEEDS, "kubernetes": True})
    assert "k8s-worker: no answer" in found["found"]
    assert "recover-k3s.yml" in found["cure"]
    assert stack.causes({**SERVER, "kubernetes": broken}, {**NEEDS, "kubernetes": False}) == []


def test_a_release_that_is_gone_back_to_asks_for_no_open_files() -> None:
    few = {**WELL, "open_files": {"possible": 4096}}
    assert machine.causes(few, {**NEEDS, "open_files": 0}) == []
    assert machine.causes(few, {**NEEDS, "open_files": "4096"}) == []


UNITS = {name: {"active": "inactive", "enabled": "", "reload": False} for name in ("docker.service", "k3s.service")}
BARE: dict[str, Any] = {
    "docker": {"available": False},
    "units": UNITS,
    "releases": [],
    "kubernetes": {"k8s-worker": {"usable": False, "problem": "python3-yaml is missing"}},
}


def test_where_nothing_is_installed_a_deploy_is_told_to_install() -> None:
    needs = {**NEEDS, "kubernetes": True, "installed": True}
    (found,) = stack.causes({**SERVER, **BARE}, needs)
    assert found["check"] == "installed"
    assert "playbooks/site.yml" in found["cure"]
    assert "verify_kubernetes" not in found["cure"]
    assert stack.causes({**SERVER, **BARE}, {**NEEDS, "installed": False}) == []


@pytest.mark.parametrize(
    "there",
    [
        {"docker": {"available": True}},
        {"units": {**UNITS, "docker.service": {"active": "failed", "enabled": "enabled", "reload": False}}},
        {"units": {**UNITS, "k3s.service": {"active": "inactive", "enabled": "disabled", "reload": False}}},
        {"units": {}},
        {"release": {"id": "1"}},
        {"releases": [{"id": "1"}]},
    ],
)
def test_where_something_is_installed_it_is_kubernetes_that_is_told(there: dict[str, Any]) -> None:
    (found,) = stack.causes({**SERVER, **BARE, **there}, {**NEEDS, "kubernetes": True, "installed": True})
    assert found["check"] == "kubernetes"


def test_another_login_of_mongo_is_told_with_both_cures() -> None:
    assert stack.causes({**SERVER, "other_secrets": []}, NEEDS) == []
    (found,) = stack.causes({**SERVER, "other_secrets": ["mongo_root_password"]}, NEEDS)
    assert found["check"] == "secret"
    assert found["found"].startswith("integr8scode_mongo_root_password: ")
    assert "keeps that login" in found["why"]
    assert "vault_integr8scode_mongo_root_password" in found["cure"]
    assert "-e integr8scode_mongo_login_was_changed=true" in found["cure"]
    (found,) = stack.causes({**SERVER, "other_secrets": ["mongo_root_username"]}, NEEDS)
    assert "vault" not in found["cure"]


@pytest.mark.parametrize(("name", "unit"), [("sshd", "ssh.service"), ("systemd", "ssh.socket")])
def test_nobody_is_told_to_stop_the_way_in(name: str, unit: str) -> None:
    holder = {"name": name, "pid": 1, "unit": unit, "container": ""}
    (found,) = stack.causes({**SERVER, "listeners": {"443": holder}}, NEEDS)
    assert "sshd" in found["found"]
    assert "disable" not in found["cure"]
    assert "another port" in found["cure"]


@pytest.mark.parametrize("name", ["docker-proxy", "dockerd"])
def test_ports_of_the_stack_are_its_own_with_and_without_a_userland_proxy(name: str) -> None:
    holder = {"name": name, "pid": 700, "unit": "docker.service", "container": ""}
    state = {**SERVER, "listeners": {"443": holder}, "published": {"443": {"name": "edge-1", "ours": True}}}
    assert stack.causes(state, NEEDS) == []


def test_another_haproxy_is_another_program() -> None:
    holder = {"name": "haproxy", "pid": 700, "unit": "haproxy.service", "container": ""}
    state = {**SERVER, "listeners": {"443": holder}, "docker": {"available": False}, "release": {"id": "x"}}
    assert len(stack.causes(state, NEEDS)) == 1


@pytest.mark.parametrize(("source", "count"), [("distribution", 1), ("vendor", 0), ("", 0)])
def test_older_systems_need_dockers_own_packages(source: str, count: int) -> None:
    facts = {**WELL, **changed("system", version="12", name="Debian 12")}
    found = machine.causes(facts, {**NEEDS, "docker_source": source})
    assert len(found) == count
    assert all("docker_source: vendor" in one["cure"] for one in found)


def test_older_systems_are_those_of_the_role_docker() -> None:
    assert {(name, one) for name, all_of in machine.VENDOR_ONLY.items() for one in all_of} == VENDOR_ONLY


def test_memory_that_profiles_ask_for_is_told_as_theirs() -> None:
    facts = {**WELL, **changed("memory", total_bytes=7100 * MIB)}
    (found,) = machine.causes(facts, {**NEEDS, "memory_mb": 7330, "memory_setting": 7000})
    assert "integr8scode_profiles" in found["cure"]
    assert "lower" not in found["cure"]


def test_the_cure_for_a_control_group_is_that_group_s() -> None:
    for missing, cure in ((["memory"], "cgroup_enable=memory"), (["pids"], "unified_cgroup_hierarchy")):
        (found,) = machine.causes({**WELL, **changed("cgroup", missing=missing)}, NEEDS)
        assert cure in found["cure"]


def test_this_projects_own_installation_elsewhere_is_called_so() -> None:
    """Moved by the inventory alone: the cure is no removal."""
    containers = [
        {"name": "mongo", "working_dir": "/opt/integr8scode/releases/2026.2.20-0123456789ab"},
        {"name": "edge", "working_dir": "/opt/integr8scode/current"},
    ]
    foreign = {"containers": containers, "volumes": ["integr8scode_mongo_data"]}
    (found,) = stack.causes({**SERVER, "foreign": foreign}, {**NEEDS, "base": "/srv/app"})
    assert (
        found["found"]
        == "Integr8sCode is installed in /opt/integr8scode on this server, and integr8scode_base is /srv/app."
    )
    assert "put integr8scode_base back to /opt/integr8scode" in found["cure"]
    assert "down" not in found["cure"]
    # beside the guide's it is the guide's that has to go
    both = {"containers": [*containers, {"name": "redis", "working_dir": "/opt/Integr8sCode"}], "volumes": []}
    (found,) = stack.causes({**SERVER, "foreign": both}, {**NEEDS, "base": "/srv/app"})
    assert "/opt/Integr8sCode" in found["found"]
    assert "remove it" in found["cure"]


@pytest.mark.parametrize(
    ("base", "kubeconfigs", "says", "cure"),
    [
        ("opt/app", "opt/app/kubeconfig", "'opt/app'", "absolute path"),
        ("/opt/a:b", "/opt/a:b/kubeconfig", "'/opt/a:b'", "absolute path"),
        ("/opt/a b", "/opt/a b/kubeconfig", "'/opt/a b'", "absolute path"),
        ("/opt/app/", "/opt/app/kubeconfig", "'/opt/app/'", "absolute path"),
        (f"/{'a' * 87}", f"/{'a' * 87}/kubeconfig", "has 88 characters", "87 characters or less"),
        (
            "/srv/app",
            "/opt/integr8scode/kubeconfig",
            "is /opt/integr8scode/kubeconfig",
            "directory: /srv/app/kubeconfig",
        ),
    ],
)
def test_a_base_that_cannot_be_is_refused(base: str, kubeconfigs: str, says: str, cure: str) -> None:
    (found,) = stack.causes(SERVER, {**NEEDS, "base": base, "kubeconfigs": kubeconfigs})
    assert found["check"] == "base"
    assert says in found["found"]
    assert found["why"].endswith(".")
    assert cure in found["cure"]


def test_the_longest_base_has_a_socket_that_can_be_reached() -> None:
    """What the limit is for: one character more and nobody could ask the edge."""
    longest = stack.SOCKET_PATH_BYTES - len(stack.EDGE_SOCKET) - 1
    base = f"/{'a' * (longest - 1)}"
    assert stack.causes(SERVER, {**NEEDS, "base": base, "kubeconfigs": f"{base}/kubeconfig/"}) == []
    with socket.socket(socket.AF_UNIX) as probe:
        with pytest.raises(FileNotFoundError):
            probe.connect(f"{base}/{stack.EDGE_SOCKET}")
        with pytest.raises(OSError, match="too long"):
            probe.connect(f"{base}a/{stack.EDGE_SOCKET}")


NETWORKS = {
    "integr8scode_stack_subnet": {"network": "integr8scode", "part": "subnet", "value": "172.31.209.0/24"},
    "integr8scode_proxy_subnet": {"network": "integr8scode_proxy", "part": "subnet", "value": "172.31.210.0/24"},
    "integr8scode_proxy_ip_range": {"network": "integr8scode_proxy", "part": "ip_range", "value": "172.31.210.128/25"},
}
RUNNING = {
    "networks": {
        "integr8scode": {"subnet": "172.31.209.0/24", "ip_range": ""},
        "integr8scode_proxy": {"subnet": "172.31.210.0/24", "ip_range": "172.31.210.128/25"},
    }
}


def asked(**values: str) -> dict[str, Any]:
    """What the inventory asks for, with some of it otherwise."""
    settings = {f"integr8scode_{name}": value for name, value in values.items()}
    networks = {name: {**one, "value": settings.get(name, one["value"])} for name, one in NETWORKS.items()}
    address = values.get("edge_proxy_address", "172.31.210.2")
    return {**NEEDS, "base": "/opt/integr8scode", "networks": networks, "edge_address": address}


def test_networks_as_they_are_or_not_there_yet_are_no_cause() -> None:
    assert stack.causes({**SERVER, **RUNNING}, asked()) == []
    assert stack.causes({**SERVER, "networks": {}}, asked(stack_subnet="10.9.0.0/25")) == []
    # an engine that did not say
    assert stack.causes(SERVER, asked(stack_subnet="10.9.0.0/25")) == []


def test_another_network_than_the_running_one_is_refused_with_both_ways_out() -> None:
    (found,) = stack.causes({**SERVER, **RUNNING}, asked(stack_subnet="10.9.0.0/25"))
    assert found["check"] == "network"
    assert "integr8scode_stack_subnet is 10.9.0.0/25, and the stack's network integr8scode has" in found["found"]
    assert "172.31.209.0/24" in found["found"]
    assert "put integr8scode_stack_subnet back" in found["cure"]
    assert "cd /opt/integr8scode/current && docker compose down" in found["cure"]
    changes = {"proxy_subnet": "10.9.1.0/24", "proxy_ip_range": "10.9.1.128/25", "edge_proxy_address": "10.9.1.2"}
    found_both = stack.causes({**SERVER, **RUNNING}, asked(**changes))
    assert ["integr8scode_proxy_subnet" in found_both[0]["found"], "ip_range" in found_both[1]["found"]] == [True, True]
    assert len(found_both) == 2


@pytest.mark.parametrize(
    ("changes", "says", "cure"),
    [
        (
            {"stack_subnet": "172.31.209.1/24"},
            "integr8scode_stack_subnet: 172.31.209.1/24 has host bits set",
            "write it",
        ),
        ({"proxy_subnet": "net"}, "integr8scode_proxy_subnet: 'net' does not appear to be", "write it as"),
        ({"proxy_ip_range": "10.0.0.0/25"}, "10.0.0.0/25 is no part of", "a part of the subnet"),
        (
            {"edge_proxy_address": "172.31.210.200"},
            "integr8scode_edge_proxy_address 172.31.210.200",
            "outside 172.31.210.128",
        ),
        ({"edge_proxy_address": "10.0.0.1"}, "10.0.0.1 is not in 172.31.210.0/24", "an address of 172.31.210.0/24"),
        ({"edge_proxy_address": "edge"}, "integr8scode_edge_proxy_address: 'edge'", "an address of 172.31.210.0/24"),
    ],
)
def test_networks_that_cannot_be_are_refused(changes: dict[str, str], says: str, cure: str) -> None:
    (found,) = stack.causes({**SERVER, "networks": {}}, asked(**changes))
    assert found["check"] == "network"
    assert says in found["found"]
    assert found["why"].endswith(".")
    assert cure in found["cure"]
