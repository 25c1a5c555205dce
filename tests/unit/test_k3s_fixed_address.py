"""k3s_fixed_node_address: refused where it cannot work, and made by k3s' own unit before each start."""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
import yaml
from ansible.module_utils import k3s_common as common

ROOT = Path(__file__).resolve().parents[2]
FIXED = "192.0.2.1"
FREE: dict[str, Any] = {"node_ip": "", "settings": {}, "others": ["10.0.0.5"], "config": {}}
PREFLIGHT = {"version": "v1.34.4+k3s1", "token": "0123456789abcdef"}


@pytest.mark.parametrize(
    ("fixed", "changes"),
    [
        ("", {"node_ip": "10.0.0.5", "settings": {"k3s_config": "10.0.0.5"}}),
        (FIXED, {}),
        (FIXED, {"node_ip": FIXED, "settings": {"k3s_config": "", "50.yaml": FIXED}}),
        ("10.43.0.9", {"config": {"service-cidr": "10.96.0.0/16"}}),
    ],
)
def test_an_address_that_can_be(fixed: str, changes: dict[str, Any]) -> None:
    common.refuse_fixed_address(fixed, **{**FREE, **changes})


@pytest.mark.parametrize(
    ("fixed", "changes", "message"),
    [
        ("nonsense", {}, "k3s_fixed_node_address: .*one IPv4 address"),
        ("fd00::1", {}, "one IPv4 address"),
        ("192.0.2.0/24", {}, "one IPv4 address"),
        ("127.0.0.2", {}, "which the kubelet refuses"),
        ("169.254.1.1", {}, "which the kubelet refuses"),
        ("224.0.0.1", {}, "which the kubelet refuses"),
        ("0.0.0.0", {}, "which the kubelet refuses"),
        ("10.0.0.5", {}, "address of another interface"),
        ("10.42.1.1", {}, "is in cluster-cidr 10.42.0.0/16"),
        ("10.43.1.1", {}, "is in service-cidr 10.43.0.0/16"),
        (FIXED, {"config": {"cluster-cidr": "10.42.0.0/16,192.0.2.0/24"}}, "is in cluster-cidr 192.0.2.0/24"),
        (FIXED, {"node_ip": "10.0.0.5"}, "k3s_node_ip sets node-ip 10.0.0.5"),
        (FIXED, {"settings": {"/etc/x.yaml": "10.0.0.5"}}, "/etc/x.yaml sets node-ip 10.0.0.5"),
    ],
)
def test_an_address_that_cannot(fixed: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(common.K3sError, match=message) as caught:
        common.refuse_fixed_address(fixed, **{**FREE, **changes})
    assert "Nothing has been changed." in str(caught.value)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str] | None]:
    """A server without k3s for k3s_preflight; `interface` has the addresses of the fixed address' interface."""
    preflight = importlib.import_module("ansible.module_utils.k3s_look")
    found: dict[str, list[str] | None] = {"interface": None}
    for name in ("BINARY", "CONFIG_FOLDER", "DATA_FOLDER"):
        monkeypatch.setattr(preflight, name, str(tmp_path / name))
    monkeypatch.setattr(preflight, "interface_addresses", lambda *_: found["interface"])
    monkeypatch.setattr(
        preflight,
        "addresses_from_kernel",
        lambda *_texts: ["10.0.0.5", *(found["interface"] or [])],
    )
    monkeypatch.setattr(preflight, "has_default_route", lambda *_texts: False)
    return found


def test_the_address_that_this_run_will_make_is_accepted(server: dict[str, list[str] | None], run_module: Any) -> None:
    """On a fresh server, in check mode, without a default route, too."""
    wanted = {**PREFLIGHT, "fixed_node_address": FIXED}
    assert run_module("k3s_preflight", PREFLIGHT)["failed"]
    fresh = run_module("k3s_preflight", wanted, check=True)
    assert (fresh.get("failed"), fresh["node_interface"], fresh["fixed_node_addresses"]) == (None, False, [])
    # a run that was cut short while it changed the address has left both
    for present in ([], [FIXED], ["192.0.2.7", FIXED]):
        server["interface"] = present
        found = run_module("k3s_preflight", wanted)
        assert (found["node_interface"], found["fixed_node_addresses"]) == (True, present)


def test_another_node_ip_in_a_drop_in_is_named(
    server: dict[str, list[str] | None], run_module: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "CONFIG_FOLDER/config.yaml.d"
    folder.mkdir(parents=True)
    (folder / "50.yaml").write_text("node-ip: 10.0.0.5\n")
    message = run_module("k3s_preflight", {**PREFLIGHT, "fixed_node_address": FIXED})["msg"]
    assert "50.yaml sets node-ip 10.0.0.5" in message


def test_addresses_of_an_interface() -> None:
    preflight = importlib.import_module("ansible.module_utils.k3s_look")
    shown = (
        "9: lo    inet 192.0.2.1/32 scope global lo\\ valid_lft forever\n9: lo    inet 192.0.2.9/32 scope global lo\n"
    )
    module = SimpleNamespace(run_command=lambda _command: (0, shown, ""))
    assert preflight.interface_addresses(module, "k3s-none") is None
    assert preflight.interface_addresses(module, "lo") == ["192.0.2.1", "192.0.2.9"]


def unit(address: str) -> list[str]:
    text = (ROOT / "roles/k3s/templates/k3s.service.j2").read_text(encoding="utf-8")
    variables = {"k3s_fixed_node_address": address, "k3s_limit_nofile": "1", "__k3s_node_interface": "k3s-node"}
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701
    return environment.from_string(text).render(variables).splitlines()


def test_the_interface_is_made_before_each_start_and_only_when_asked_for() -> None:
    lines = unit(FIXED)
    making = [number for number, line in enumerate(lines) if "k3s-node" in line]
    assert making
    assert max(making) < lines.index("ExecStart=/usr/local/bin/k3s server")
    # a failure to make it must stop the start: no dash before the command
    for number in making:
        command = shlex.split(lines[number].removeprefix("ExecStartPre="))
        assert command[:2] == ["/bin/sh", "-ec"]
    assert not any("k3s-node" in line for line in unit(""))


def test_role_and_module_know_the_interface_by_one_name() -> None:
    variables = yaml.safe_load((ROOT / "roles/k3s/vars/main.yml").read_text(encoding="utf-8"))
    assert variables["__k3s_node_interface"] == common.NODE_INTERFACE
