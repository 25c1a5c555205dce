"""The k3s_* modules: refusals, checksums, files, and when a node counts as ready."""

from __future__ import annotations

import base64
import hashlib
import importlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

common = importlib.import_module("ansible.module_utils.k3s_common")
node = importlib.import_module("ansible.module_utils.k3s_node")
binary_module = importlib.import_module("ansible.modules.k3s_binary")
files_module = importlib.import_module("ansible.modules.k3s_files")
ready_module = importlib.import_module("ansible.modules.k3s_node_ready")

TOKEN = "0123456789abcdef0123"


def version(text: str) -> Any:
    return common.parse_version(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v1.34.4+k3s1", "v1.34.4+k3s1"),
        ("k3s version v1.34.4+k3s1 (c6017918)\ngo version go1.24.12\n", "v1.34.4+k3s1"),
        ("v1.34.10+k3s12", "v1.34.10+k3s12"),
    ],
)
def test_version(text: str, expected: str) -> None:
    assert str(version(text)) == expected


@pytest.mark.parametrize("text", ["latest", "stable", "1.34.4", "v1.34.4", "v1.34.4-rc1+k3s1", "v1.34.4+k3s1-rc1", ""])
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(common.K3sError, match="holds no k3s release"):
        version(text)


@given(st.tuples(*[st.integers(0, 99)] * 4), st.tuples(*[st.integers(0, 99)] * 4))
def test_versions_are_ordered_as_numbers(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    texts = ["v{}.{}.{}+k3s{}".format(*numbers) for numbers in (left, right)]
    assert (version(texts[0]) < version(texts[1])) == (left < right)


@pytest.mark.parametrize(
    ("installed", "wanted"),
    [
        (None, "v1.34.4+k3s1"),
        ("v1.34.4+k3s1", "v1.34.4+k3s1"),
        ("v1.34.4+k3s1", "v1.34.10+k3s1"),
        ("v1.33.9+k3s1", "v1.34.0+k3s2"),
    ],
)
def test_allowed_steps(installed: str | None, wanted: str) -> None:
    common.refuse_jump(version(installed) if installed else None, version(wanted))


@pytest.mark.parametrize(
    ("installed", "wanted", "message"),
    [
        ("v1.34.4+k3s2", "v1.34.4+k3s1", "cannot go back"),
        ("v1.35.0+k3s1", "v1.34.9+k3s1", "cannot go back"),
        ("v1.32.9+k3s1", "v1.34.4+k3s1", r"set k3s_version to a release of v1\.33 first"),
        ("v1.34.4+k3s1", "v2.0.0+k3s1", "more than one minor version"),
    ],
)
def test_refused_steps(installed: str, wanted: str, message: str) -> None:
    with pytest.raises(common.K3sError, match=message):
        common.refuse_jump(version(installed), version(wanted))


@pytest.mark.parametrize("address", ["", "0.0.0.0", "::", "[::]"])
def test_bind_addresses_that_hear_everybody(address: str) -> None:
    common.refuse_bind_address({"k3s_config": address})


@pytest.mark.parametrize("address", ["127.0.0.1", "192.168.1.4", "::1"])
def test_other_bind_addresses_are_refused(address: str) -> None:
    with pytest.raises(common.K3sError, match=r"a\.yaml sets bind-address .*host\.docker\.internal"):
        common.refuse_bind_address({"k3s_config": "", "a.yaml": address})


@pytest.mark.parametrize(
    ("release", "cgroup_v1", "arguments", "refused"),
    [
        ("v1.34.4+k3s1", True, [], False),
        ("v1.35.0+k3s1", False, [], False),
        ("v1.35.0+k3s1", True, [], True),
        ("v1.36.4+k3s1", True, ["max-pods=10"], True),
        ("v1.36.4+k3s1", True, ["fail-cgroupv1=false"], False),
    ],
)
def test_cgroup_v1(release: str, cgroup_v1: bool, arguments: list[str], refused: bool) -> None:
    def look() -> None:
        common.refuse_cgroup_v1(version(release), cgroup_v1=cgroup_v1, kubelet_arguments=arguments)

    if refused:
        with pytest.raises(common.K3sError, match="fail-cgroupv1=false"):
            look()
    else:
        look()


@pytest.mark.parametrize(
    ("node_ip", "addresses", "route", "message"),
    [
        ("", ["10.0.0.5"], True, None),
        ("10.0.0.5", ["10.0.0.5"], False, None),
        ("10.0.0.5,fd00::5", ["10.0.0.5", "fd00::5"], False, None),
        ("", ["10.0.0.5"], False, r"no default route.*one of its addresses \(10\.0\.0\.5\)"),
        ("", [], False, "it has none yet"),
        ("10.0.0.6", ["10.0.0.5"], True, r"10\.0\.0\.6 is no address of this server, which has 10\.0\.0\.5"),
        ("nonsense", ["10.0.0.5"], True, "k3s_node_ip: "),
    ],
)
def test_addresses(node_ip: str, addresses: list[str], route: bool, message: str | None) -> None:
    def look() -> None:
        common.refuse_addresses(node_ip, addresses=addresses, has_default_route=route)

    if message is None:
        look()
    else:
        with pytest.raises(common.K3sError, match=message):
            look()


def test_tokens_that_fit() -> None:
    common.refuse_token(TOKEN, None)
    common.refuse_token(TOKEN, f"K10{'a' * 64}::server:{TOKEN}\n")
    common.refuse_token(f"K10{'a' * 64}::server:{TOKEN}", TOKEN)


@pytest.mark.parametrize(
    ("token", "present", "message"),
    [
        ("", None, "16 characters or more"),
        ("short", None, "16 characters or more"),
        ("white space in a token", None, "no white space"),
        (TOKEN + "x", f"K10{'a' * 64}::server:{TOKEN}", "made with another token"),
    ],
)
def test_tokens_that_do_not(token: str, present: str | None, message: str) -> None:
    with pytest.raises(common.K3sError, match=message) as caught:
        common.refuse_token(token, present)
    assert TOKEN not in str(caught.value)


def test_urls() -> None:
    base = "https://host/releases/download/v1.34.4%2Bk3s1"
    for architecture, suffix in (("amd64", ""), ("arm64", "-arm64")):
        assert common.asset_urls("https://host/releases/download/", version("v1.34.4+k3s1"), architecture) == (
            f"{base}/k3s{suffix}",
            f"{base}/sha256sum-{architecture}.txt",
        )


def test_checksum_list() -> None:
    text = f"{'a' * 64}  k3s-airgap-images-amd64.tar.zst\n{'B' * 64}  k3s\n{'c' * 64} *k3s-arm64\n"
    assert common.checksum_from_list(text, "k3s") == "b" * 64
    assert common.checksum_from_list(text, "k3s-arm64") == "c" * 64
    with pytest.raises(common.K3sError, match="names no k3s-armhf"):
        common.checksum_from_list(text, "k3s-armhf")
    with pytest.raises(common.K3sError, match="names no k3s"):
        common.checksum_from_list("<html>Not Found</html>", "k3s")


@pytest.mark.parametrize("text", ["", "abc", "g" * 64, "a" * 63, "a" * 65])
def test_what_is_no_checksum(text: str) -> None:
    with pytest.raises(common.K3sError, match="is no sha256"):
        common.check_checksum(text)


FIB = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.213.0.0/24 2 0 2
        |-- 10.213.0.13
           /32 host LOCAL
        |-- 10.213.0.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
"""
IF6 = "00000000000000000000000000000001 01 80 10 80       lo\nfe800000000000004200f1fffe000001 02 40 20 80     eth0\n"


def test_addresses_from_the_kernel() -> None:
    assert common.addresses_from_kernel(FIB, IF6) == ["10.213.0.13", "fe80::4200:f1ff:fe00:1"]
    assert common.addresses_from_kernel("", "") == []


HEAD = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
DEFAULT = "eth0 00000000 0100D50A 0003 0 0 0 00000000 0 0 0\n"
ZEROS = "0" * 32


@pytest.mark.parametrize(
    ("route", "route6", "expected"),
    [
        (HEAD + DEFAULT, "", True),
        (HEAD + "eth0 0000D50A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n", "", False),
        (HEAD + DEFAULT.replace("0003", "0002"), "", False),
        ("", f"{ZEROS} 00 {ZEROS} 00 {ZEROS} 00000400 1 0 00000003     eth0\n", True),
        ("", f"{ZEROS} 00 {ZEROS} 00 {ZEROS} ffffffff 1 0 00200200       lo\n", False),
        ("", "", False),
    ],
)
def test_default_route(route: str, route6: str, expected: bool) -> None:
    assert common.has_default_route(route, route6) is expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("bind-address: 10.0.0.1\n", "10.0.0.1"),
        ("a: 1\n'bind-address' : \"10.0.0.1\"  # why\n", "10.0.0.1"),
        ("bind-address: 1.1.1.1\nbind-address: 2.2.2.2\n", "2.2.2.2"),
        ("# bind-address: 10.0.0.1\nnested:\n  bind-address: 10.0.0.1\n", None),
        ("bind-address:\n", ""),
    ],
)
def test_scalar_of_a_drop_in(text: str, value: str | None) -> None:
    assert common.yaml_scalar(text, "bind-address") == value


class Binary:
    """An offline folder with one release, and where it is installed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.content = b"a k3s binary"
        self.release = root / "releases" / "v1.34.4+k3s1"
        self.release.mkdir(parents=True)
        (self.release / "k3s").write_bytes(self.content)
        self.sha256 = hashlib.sha256(self.content).hexdigest()
        (self.release / "sha256sum-amd64.txt").write_text(f"{self.sha256}  k3s\n")
        self.bin = root / "bin"
        self.bin.mkdir()
        self.args = {
            "version": "v1.34.4+k3s1",
            "architecture": "amd64",
            "release_url": f"file://{root}/releases",
            "checksum": self.sha256,
        }

    @property
    def left(self) -> list[str]:
        return sorted(os.listdir(self.bin))


@pytest.fixture
def binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Binary:
    made = Binary(tmp_path)
    monkeypatch.setattr(binary_module, "BINARY", str(made.bin / "k3s"))
    monkeypatch.setattr(binary_module, "KUBECTL", str(made.bin / "kubectl"))
    monkeypatch.setattr(binary_module, "PENDING", str(tmp_path / "pending"))
    return made


def test_binary_is_installed_once(binary: Binary, run_module: Any) -> None:
    assert run_module("k3s_binary", binary.args, check=True)["changed"]
    assert binary.left == []
    assert run_module("k3s_binary", binary.args)["changed"]
    assert (binary.bin / "k3s").read_bytes() == binary.content
    assert (binary.bin / "k3s").stat().st_mode & 0o777 == 0o755
    assert (binary.bin / "kubectl").readlink() == Path("k3s")
    assert (binary.root / "pending").exists()
    # the pinned checksum is there already: the folder is not even looked at
    (binary.release / "k3s").unlink()
    assert run_module("k3s_binary", binary.args)["changed"] is False


@pytest.mark.parametrize("present", [None, b"the k3s that runs"])
def test_wrong_checksum_installs_nothing(binary: Binary, run_module: Any, present: bytes | None) -> None:
    if present is not None:
        (binary.bin / "k3s").write_bytes(present)
    result = run_module("k3s_binary", {**binary.args, "checksum": "0" * 64})
    assert result["failed"]
    assert f"has the sha256 {binary.sha256}, expected was {'0' * 64}" in result["msg"]
    assert binary.left == ([] if present is None else ["k3s"])
    assert present is None or (binary.bin / "k3s").read_bytes() == present
    assert not (binary.root / "pending").exists()


def test_download_that_is_not_there(binary: Binary, run_module: Any) -> None:
    (binary.release / "k3s").unlink()
    result = run_module("k3s_binary", binary.args)
    assert result["failed"]
    assert "cannot be downloaded" in result["msg"]
    assert binary.left == []


def test_vendor_list_decides_without_a_pinned_checksum(binary: Binary, run_module: Any) -> None:
    args = {**binary.args, "checksum": ""}
    assert run_module("k3s_binary", args)["sha256"] == binary.sha256
    assert run_module("k3s_binary", args)["changed"] is False
    (binary.release / "sha256sum-amd64.txt").write_text(f"{'1' * 64}  k3s\n")
    assert "refused" in run_module("k3s_binary", args)["msg"]
    assert (binary.bin / "k3s").read_bytes() == binary.content


def test_vendor_list_over_http_is_refused(binary: Binary, run_module: Any) -> None:
    result = run_module("k3s_binary", {**binary.args, "checksum": "", "release_url": "http://127.0.0.1:9"})
    assert "over plain http" in result["msg"]
    assert binary.left == []


def test_another_kubectl_is_left_alone(binary: Binary, run_module: Any) -> None:
    (binary.bin / "kubectl").write_text("another")
    result = run_module("k3s_binary", binary.args)
    assert (binary.bin / "kubectl").read_text() == "another"
    assert any("is another program" in warning for warning in result["warnings"])


@pytest.fixture
def pending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "pending"
    monkeypatch.setattr(files_module, "PENDING", str(path))
    # the tests need not run as root
    monkeypatch.setattr(files_module.os, "fchown", lambda *_arguments: None)
    own = (os.getuid(), os.getgid())
    original = files_module.state
    monkeypatch.setattr(
        files_module, "state", lambda p: (*original(p)[:2], (0, 0) if original(p)[2] == own else original(p)[2])
    )
    return path


def elsewhere(folder: Path) -> dict[str, str]:
    """Paths of the optional files that are none of this machine's."""
    return {"registries_path": str(folder / "registries.yaml"), "environment_path": str(folder / "k3s.service.env")}


def test_files_are_written_once(tmp_path: Path, pending: Path, run_module: Any) -> None:
    path = tmp_path / "rancher" / "config.yaml"
    token = tmp_path / "rancher" / "token"
    args = {
        "apply_kernel": False,
        "files": [{"path": str(path), "content": "a: 1\n", "mode": "0600"}],
        "token": TOKEN,
        "token_path": str(token),
        **elsewhere(tmp_path),
    }
    predicted = run_module("k3s_files", args, check=True)
    assert (predicted["written"], predicted["restart"]) == ([str(path), str(token)], True)
    assert not path.exists()
    assert not pending.exists()
    assert run_module("k3s_files", args)["changed"]
    assert path.read_text() == "a: 1\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert pending.exists()
    pending.unlink()
    assert run_module("k3s_files", args)["changed"] is False
    path.chmod(0o644)
    assert run_module("k3s_files", args)["changed"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_files_for_the_kernel_need_no_restart(tmp_path: Path, pending: Path, run_module: Any) -> None:
    token = tmp_path / "token"
    args = {"apply_kernel": False, "files": [], "token": TOKEN, "token_path": str(token), **elsewhere(tmp_path)}
    run_module("k3s_files", args)
    pending.unlink()
    entry = {"path": str(tmp_path / "k3s.conf"), "content": "x.y = 1\n", "mode": "0644", "role": "sysctl"}
    result = run_module("k3s_files", {**args, "files": [entry]})
    assert (result["written"], result["kernel"], result["restart"]) == ([entry["path"]], [], False)
    assert not pending.exists()


def test_token_stays_out_of_the_diff(tmp_path: Path, pending: Path, run_module: Any) -> None:
    path = tmp_path / "token"
    args = {"apply_kernel": False, "files": [], "token": TOKEN, "token_path": str(path), **elsewhere(tmp_path)}
    result = run_module("k3s_files", args, diff=True)
    assert path.read_text() == TOKEN + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert result["diff"][0]["after"] == "(another secret)\n"
    path.write_text("the-former-one")
    again = run_module("k3s_files", args, diff=True, check=True)
    assert again["diff"][0]["before"] == "(a secret)\n"
    assert "the-former-one" not in str(again)
    assert TOKEN not in str([result, again])


def test_settings_that_differ() -> None:
    with open("/proc/sys/kernel/pid_max", encoding="utf-8") as file:
        present = file.read().strip()
    assert files_module.different_settings(f"# a comment\nkernel.pid_max = {present}\n") == []
    assert files_module.different_settings("kernel.pid_max = 1\n-absent.setting = 1\n") == [
        "kernel.pid_max",
        "absent.setting",
    ]


SHOWN = """LoadState=loaded
UnitFileState=enabled
ActiveState=active
SubState=running
NRestarts=2
InvocationID=abc
NeedDaemonReload=no
ActiveEnterTimestampMonotonic=12500000
"""


def test_unit_state() -> None:
    unit = node.parse_unit(SHOWN)
    assert unit == node.UnitState(True, True, "active", "running", 2, "abc", False, 12.5)
    assert unit.running
    assert not node.parse_unit(SHOWN.replace("=running", "=auto-restart")).running
    assert not node.parse_unit("").loaded


def kubernetes_node(ready: str | None = "True", ip: str = "10.0.0.5") -> dict[str, Any]:
    conditions = [{"type": "MemoryPressure", "status": "False"}]
    if ready is not None:
        conditions.append({"type": "Ready", "status": ready, "message": "container runtime is down"})
    addresses = [{"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": "server"}]
    return {"items": [{"metadata": {"name": "server"}, "status": {"addresses": addresses, "conditions": conditions}}]}


@pytest.mark.parametrize(
    ("nodes", "node_ip", "problem"),
    [
        (kubernetes_node(), "", ""),
        (kubernetes_node(), "10.0.0.5", ""),
        (kubernetes_node(), "10.0.0.6", "has InternalIP 10.0.0.5 and not 10.0.0.6"),
        (kubernetes_node("False"), "", "not Ready: container runtime is down"),
        (kubernetes_node("Unknown"), "", "not Ready"),
        (kubernetes_node(None), "", "the kubelet has not reported yet"),
        ({"items": []}, "", "there is no node server (there is: none)"),
    ],
)
def test_node(nodes: dict[str, Any], node_ip: str, problem: str) -> None:
    state = node.judge_node({"gitVersion": "v1.34.4+k3s1"}, nodes, name="server", node_ip=node_ip)
    assert state.version == "v1.34.4+k3s1"
    assert problem in state.problem
    assert bool(problem) == bool(state.problem)


def test_api_without_its_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(common.K3sError, match="is not there yet"):
        node.Api(str(tmp_path / "k3s.yaml"))
    half = tmp_path / "half.yaml"
    half.write_text(f"server: https://127.0.0.1:6443\nx: {base64.b64encode(b'x').decode()}\n")
    with pytest.raises(common.K3sError, match="has no certificate-authority-data"):
        node.Api(str(half))


class Clock:
    """A server whose clock moves when somebody sleeps, and whose unit goes through given states."""

    def __init__(self, states: list[tuple[float, Any]], ready_at: float) -> None:
        self.now, self.states, self.ready_at = 1000.0, states, ready_at

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def unit(self) -> Any:
        return [state for start, state in self.states if self.now >= 1000 + start][-1]

    def node(self, **_arguments: str) -> Any:
        return node.NodeState(problem="" if self.now >= 1000 + self.ready_at else "not Ready", version="v1.34.4+k3s1")


def unit(invocation: str, since: float, active: str = "active", restarts: int = 0) -> Any:
    sub = "running" if active == "active" else "auto-restart"
    return node.UnitState(True, True, active, sub, restarts, invocation, False, 1000 + since)


class FakeModule:
    """As much of AnsibleModule as `wait` uses."""

    def __init__(self, **parameters: Any) -> None:
        defaults = {"timeout_seconds": 300, "stable_seconds": 60, "node_name": "server", "node_ip": ""}
        self.params = {**defaults, **parameters}

    def run_command(self, _command: list[str]) -> tuple[int, str, str]:
        return 0, 'level=info msg="x"\nlevel=fatal msg="no default routes found"\n', ""


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    def use(clock: Clock) -> Clock:
        monkeypatch.setattr(ready_module, "monotonic", clock.monotonic)
        monkeypatch.setattr(ready_module.time, "sleep", clock.sleep)
        monkeypatch.setattr(ready_module, "unit_state", clock.unit)
        monkeypatch.setattr(ready_module, "node_state", clock.node)
        monkeypatch.setattr(ready_module, "PENDING", str(tmp_path / "pending"))
        return clock

    (tmp_path / "pending").touch()
    return use


def test_one_that_has_run_long_is_not_waited_for(clocked: Any) -> None:
    old = unit("old", -100)
    clock = clocked(Clock([(0, old)], ready_at=0))
    ready_module.wait(FakeModule(), old, "none")
    assert clock.now == 1000


def test_the_old_one_does_not_count_after_a_restart(clocked: Any, tmp_path: Path) -> None:
    old = unit("old", -100)
    clock = clocked(Clock([(0, old), (3, unit("new", 3))], ready_at=0))
    found, _node = ready_module.wait(FakeModule(), old, "restart")
    assert found.invocation == "new"
    assert clock.now >= 1063
    assert not (tmp_path / "pending").exists()


def test_it_must_stay_up(clocked: Any) -> None:
    states = [(0, unit("a", 0)), (30, unit("a", 0, "activating", 1)), (35, unit("b", 35, restarts=1))]
    clock = clocked(Clock(states, ready_at=0))
    found, _node = ready_module.wait(FakeModule(), unit("", 0, "inactive"), "start")
    assert found.invocation == "b"
    assert clock.now >= 1095


def test_it_must_be_ready(clocked: Any) -> None:
    clock = clocked(Clock([(0, unit("a", 0))], ready_at=100))
    ready_module.wait(FakeModule(), unit("", 0, "inactive"), "start")
    assert clock.now >= 1100


def test_a_crash_loop_is_told_before_the_time_is_up(clocked: Any) -> None:
    states = [(10 * turn, unit(f"run{turn}", 10 * turn, restarts=turn)) for turn in range(20)]
    clock = clocked(Clock(states, ready_at=0))
    with pytest.raises(common.K3sError, match=r"crashed each time(?s:.*)no default routes found"):
        ready_module.wait(FakeModule(), unit("", 0, "inactive"), "start")
    assert clock.now < 1100


def test_time_is_up(clocked: Any) -> None:
    clocked(Clock([(0, unit("a", 0))], ready_at=9999))
    with pytest.raises(common.K3sError, match=r"not up and stable \(60 s\) after 300 s: not Ready"):
        ready_module.wait(FakeModule(), unit("", 0, "inactive"), "start")


@pytest.mark.parametrize(("to_come", "action"), [(True, "restart"), (False, "none")])
def test_a_check_knows_of_files_that_were_not_written(
    clocked: Any, tmp_path: Path, run_module: Any, to_come: bool, action: str
) -> None:
    (tmp_path / "pending").unlink()
    clocked(Clock([(0, unit("a", -100))], ready_at=0))
    args = {"version": "v1.34.4+k3s1", "node_name": "server", "restart": to_come}
    predicted = run_module("k3s_node_ready", args, check=True)
    assert (predicted["action"], predicted["changed"]) == (action, to_come)
    # what was written left its mark, which another run may have acted on
    done = run_module("k3s_node_ready", args)
    assert (done["action"], done["changed"]) == ("none", False)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """A server for k3s_preflight: the texts of its files by path."""
    preflight = importlib.import_module("ansible.module_utils.k3s_look")
    texts = {
        "/proc/net/fib_trie": FIB,
        "/proc/net/route": HEAD + DEFAULT,
    }
    monkeypatch.setattr(preflight, "read", lambda path: texts.get(path, ""))
    for name in ("BINARY", "CONFIG_FOLDER", "DATA_FOLDER"):
        monkeypatch.setattr(preflight, name, str(tmp_path / name))
    return texts


PREFLIGHT = {"version": "v1.34.4+k3s1", "token": TOKEN}


def test_preflight_of_a_bare_server(server: dict[str, str], run_module: Any) -> None:
    result = run_module("k3s_preflight", PREFLIGHT)
    assert result["changed"] is False
    assert result["installed_version"] == ""
    assert result["architecture"] in {"amd64", "arm64"}


@pytest.mark.parametrize(
    ("installed", "message"),
    [
        ("echo k3s version v1.35.1+k3s1", "k3s cannot go back"),
        ("echo k3s version v1.32.1+k3s1", "more than one minor version"),
        ("exit 3", None),
    ],
)
def test_preflight_of_a_server_with_a_binary(
    server: dict[str, str], run_module: Any, tmp_path: Path, installed: str, message: str | None
) -> None:
    binary = tmp_path / "BINARY"
    binary.write_text(f"#!/bin/sh\n{installed}\n")
    binary.chmod(0o755)
    result = run_module("k3s_preflight", PREFLIGHT)
    assert bool(result.get("failed")) is (message is not None)
    assert (message or "") in result.get("msg", "")


def test_preflight_does_not_guess_the_version_of_a_datastore(
    server: dict[str, str], run_module: Any, tmp_path: Path
) -> None:
    (tmp_path / "BINARY").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "BINARY").chmod(0o755)
    (tmp_path / "DATA_FOLDER/server/db").mkdir(parents=True)
    assert "what version it has cannot be told" in run_module("k3s_preflight", PREFLIGHT)["msg"]


def test_preflight_reads_drop_ins(server: dict[str, str], run_module: Any, tmp_path: Path) -> None:
    drop_in = tmp_path / "CONFIG_FOLDER/config.yaml.d/9.yaml"
    drop_in.parent.mkdir(parents=True)
    drop_in.touch()
    server[str(drop_in)] = "bind-address: 10.213.0.13\n"
    assert "9.yaml sets bind-address 10.213.0.13" in run_module("k3s_preflight", PREFLIGHT)["msg"]


def test_preflight_ties_the_token_to_a_datastore_only(server: dict[str, str], run_module: Any, tmp_path: Path) -> None:
    server[str(tmp_path / "DATA_FOLDER/server/token")] = f"K10{'a' * 64}::server:another-token-0123"
    assert not run_module("k3s_preflight", PREFLIGHT).get("failed")
    (tmp_path / "DATA_FOLDER/server/db").mkdir(parents=True)
    assert "made with another token" in run_module("k3s_preflight", PREFLIGHT)["msg"]


def test_preflight_needs_an_address(server: dict[str, str], run_module: Any) -> None:
    server["/proc/net/route"] = HEAD
    assert "has no default route" in run_module("k3s_preflight", PREFLIGHT)["msg"]
    assert not run_module("k3s_preflight", {**PREFLIGHT, "node_ip": "10.213.0.13"}).get("failed")
