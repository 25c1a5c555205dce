"""From facts to causes: each symptom alone, two at once, and a server that was healed."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

addresses = importlib.import_module("ansible.module_utils.k3s_recovery.addresses")
configuration = importlib.import_module("ansible.module_utils.k3s_recovery.configuration")
diagnosis = importlib.import_module("ansible.module_utils.k3s_recovery.diagnosis")
facts_module = importlib.import_module("ansible.module_utils.k3s_recovery.facts")
journal = importlib.import_module("ansible.module_utils.k3s_recovery.journal")
listeners = importlib.import_module("ansible.module_utils.k3s_recovery.listeners")
probes = importlib.import_module("ansible.module_utils.k3s_recovery.probes")

ladder = importlib.import_module("ansible.module_utils.k3s_recovery.ladder")
plan, Wishes = ladder.plan, ladder.Wishes

NOW = 1_795_000_000.0
CONFIG = "/etc/rancher/k3s/config.yaml"
UNIT_FILE = "/etc/systemd/system/k3s.service"
UNIT = "[Service]\nExecStart=/usr/local/bin/k3s server\n"
NETWORK = addresses.Network(
    interfaces=[
        addresses.Interface("lo", "loopback", ["127.0.0.1/8"], True),
        addresses.Interface("eth0", "physical", ["10.0.0.2/24", "fd00::2/64"], True),
        addresses.Interface("docker0", "container", ["172.17.0.1/16"], True),
    ],
    routes=[
        addresses.Route("0.0.0.0/0", "eth0", 100, "10.0.0.1"),
        addresses.Route("10.0.0.0/24", "eth0", 0),
        addresses.Route("172.17.0.0/16", "docker0", 0),
    ],
)
NODE = probes.Node("a", True, ["10.0.0.2"], True, reported=NOW - 5)
RUNNING = probes.Unit(
    loaded=True,
    enabled=True,
    active="active",
    sub="running",
    invocation="now",
    running_seconds=600,
    process_seconds=610,
)
CRASHING = probes.Unit(
    loaded=True, enabled=True, active="activating", sub="auto-restart", result="exit-code", restarts=7
)
NO_API = probes.ApiState(problem="the API server at https://127.0.0.1:6443 does not answer: Connection refused")
WELL = facts_module.Facts(
    hostname="a",
    node_name="a",
    now=NOW,
    binary_version="v1.34.4+k3s1",
    unit=RUNNING,
    network=NETWORK,
    datastore=probes.Datastore("sqlite", "/var/lib/rancher/k3s/server/db/state.db", token=True),
    api=probes.ApiState(version="v1.34.4+k3s1", nodes=[NODE]),
    disks=[facts_module.Disk("/", 10 << 30, 50.0, 50.0, False)],
    memory_available_bytes=1 << 30,
)
INTERFACE = (
    'level=fatal msg="Failed to start networking: unable to initialize network policy controller: error getting node '
    'subnet: failed to find interface with specified node ip"'
)

NOT_A_MEMBER = "this server is a not a member of the etcd cluster. Found [a=https://10.0.0.9:2380], expect: a=x"


def said(*lines: str, invocation: str = "before", clean: bool = False) -> Any:
    return journal.Journal([journal.Start(invocation, NOW - 10, list(lines), clean)])


def configured(tmp_path: Path, text: str = "", **files: str) -> Any:
    for name, content in {CONFIG: text, UNIT_FILE: UNIT, **files}.items():
        path = tmp_path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return configuration.settings_with_places(tmp_path)


def ill(**changes: Any) -> Any:
    """A crashing k3s."""
    return dataclasses.replace(WELL, **{"unit": CRASHING, "api": NO_API, **changes})


def causes(found: Any) -> list[tuple[str, str]]:
    return [(one.id, one.rung) for one in found.causes]


def test_nothing_is_wrong(tmp_path: Path) -> None:
    found = diagnosis.diagnose(dataclasses.replace(WELL, configuration=configured(tmp_path)))
    assert (found.healthy, found.causes, found.warnings, found.refusal) == (True, [], [], "")
    assert found.expected_ip == "10.0.0.2"
    assert "Nothing is wrong" in diagnosis.sentences(found)[1]
    json.dumps(dataclasses.asdict(found))


def test_a_healed_server_is_not_judged_by_the_lines_of_yesterday(tmp_path: Path) -> None:
    before = said(INTERFACE, 'level=fatal msg="bootstrap data already found and encrypted with different token"')
    facts = dataclasses.replace(WELL, configuration=configured(tmp_path), journal=before)
    assert diagnosis.diagnose(facts).healthy
    # systemd has restarted it after a crash, a moment ago: not healed yet
    unit = dataclasses.replace(RUNNING, restarts=3, running_seconds=5, process_seconds=8)
    between = dataclasses.replace(
        facts, unit=unit, journal=journal.Journal([*before.starts, journal.Start("now", NOW)])
    )
    assert causes(diagnosis.diagnose(between)) == [("node_object_stale", "safe_mode"), ("token_mismatch", "token")]
    assert diagnosis.diagnose(between, stable_seconds=4).healthy


def test_node_ip_names_an_address_that_is_gone(tmp_path: Path) -> None:
    drop_in = {"/etc/rancher/k3s/config.yaml.d/20-own.yaml": "node-ip: 10.0.0.8 # wins\n"}
    settings = configured(tmp_path, "node-ip: 10.0.0.9\n", **drop_in)
    lines = ['node IP: "10.0.0.8" not found in the host\'s network interfaces', INTERFACE]
    found = diagnosis.diagnose(ill(configuration=settings, journal=said(*lines)))
    assert causes(found) == [("node_ip_stale", "configuration")]
    cause = found.causes[0]
    assert "config.yaml.d/20-own.yaml:1 sets node-ip 10.0.0.8" in cause.sentence
    assert "10.0.0.2" in cause.sentence
    assert any("failed to find interface" in line for line in cause.evidence)
    assert found.expected_ip == "10.0.0.2"
    configuration.apply([configuration.Edit(**edit) for edit in cause.details["edits"]], tmp_path)
    assert (tmp_path / CONFIG.lstrip("/")).read_text() == "node-ip: 10.0.0.2\n"
    after = configuration.settings_with_places(tmp_path)
    assert after.values("node-ip") == ["10.0.0.2"]
    assert diagnosis.diagnose(dataclasses.replace(WELL, configuration=after)).healthy


@pytest.mark.parametrize(
    "datastore", [probes.Datastore("none"), probes.Datastore("sqlite", "/db/state.db", probes.EMPTY)]
)
def test_a_database_that_is_gone_is_told_from_one_that_is_damaged(tmp_path: Path, datastore: Any) -> None:
    settings = configured(tmp_path, "node-ip: 10.0.0.9\n")
    authority = listeners.Certificate("/tls/server-ca.crt", not_before=NOW - 9, not_after=NOW + 9e6)
    facts = ill(configuration=settings, datastore=datastore, certificates=[authority])
    found = diagnosis.diagnose(facts).causes
    assert [(one.id, one.details.get("missing")) for one in found] == [
        ("node_ip_stale", None),
        ("database_damaged", True),
    ]
    damaged = dataclasses.replace(facts, datastore=probes.Datastore("sqlite", "/db/state.db", "malformed"))
    assert not diagnosis.diagnose(damaged).causes[1].details


def test_it_is_a_cause_before_k3s_has_noticed(tmp_path: Path) -> None:
    gone = dataclasses.replace(NODE, internal_ips=["10.0.0.9"])
    facts = dataclasses.replace(
        WELL, configuration=configured(tmp_path, "node-ip: 10.0.0.9\n"), api=probes.ApiState(nodes=[gone])
    )
    found = diagnosis.diagnose(facts)
    assert (found.healthy, causes(found)) == (False, [("node_ip_stale", "configuration")])


def test_dual_stack_replaces_only_what_is_gone(tmp_path: Path) -> None:
    found = diagnosis.diagnose(ill(configuration=configured(tmp_path, "node-ip: 10.0.0.9,fd00::2\n")))
    assert [(edit["before"], edit["after"]) for edit in found.causes[0].details["edits"]] == [("10.0.0.9", "10.0.0.2")]
    assert found.expected_ip == "fd00::2,10.0.0.2"


PUBLIC = addresses.Interface("eth0", "physical", ["203.0.113.5/24"], True)
OUTSIDE = [addresses.Route("0.0.0.0/0", "eth0", 100, "203.0.113.1")]


def with_private(*found: str) -> Any:
    """A server with a public uplink and a private network on a second interface."""
    private = addresses.Interface("enp7s0", "physical", list(found), True)
    return addresses.Network([NETWORK.interfaces[0], PUBLIC, private], OUTSIDE)


@pytest.mark.parametrize("text", ["node-ip: 10.0.0.2\nflannel-iface: enp7s0\n", "node-ip: 10.0.0.2\n"])
def test_a_private_interface_that_is_late_moves_no_node_to_the_public_one(tmp_path: Path, text: str) -> None:
    facts = ill(network=with_private(), configuration=configured(tmp_path, text))
    found = diagnosis.diagnose(facts)
    assert {one.rung for one in found.causes} == {""}
    assert "recover_k3s_node_ip=ADDRESS" in found.causes[0].cure
    assert plan(found.causes, Wishes()) == []
    given = diagnosis.diagnose(facts, node_ip="203.0.113.5")
    after = {edit["after"] for one in given.causes for edit in one.details["edits"]}
    assert after == ({"203.0.113.5", "eth0"} if "enp7s0" in text else {"203.0.113.5"})


@pytest.mark.parametrize("text", ["node-ip: 10.0.0.2\nflannel-iface: enp7s0\n", "node-ip: 10.0.0.2\n"])
def test_a_private_interface_with_another_address_stays_the_nodes(tmp_path: Path, text: str) -> None:
    facts = ill(network=with_private("10.0.0.9/24"), configuration=configured(tmp_path, text))
    found = diagnosis.diagnose(facts)
    assert causes(found) == [("node_ip_stale", "configuration")]
    assert [edit["after"] for edit in found.causes[0].details["edits"]] == ["10.0.0.9"]
    assert found.expected_ip == "10.0.0.9"


@pytest.mark.parametrize("text", ["flannel-iface: enp7s0\n", "flannel-iface: eth9\n", "advertise-address: 10.0.0.2\n"])
def test_no_other_setting_moves_a_node_to_a_public_network(tmp_path: Path, text: str) -> None:
    facts = ill(network=with_private(), configuration=configured(tmp_path, text))
    (cause,) = diagnosis.diagnose(facts).causes
    assert (cause.rung, "recover_k3s_node_ip=ADDRESS" in cause.cure) == ("", True)
    (given,) = [one for one in diagnosis.diagnose(facts, node_ip="203.0.113.5").causes if one.id == cause.id]
    assert given.rung == "configuration"


def test_agents_are_known_from_the_database_while_the_api_is_silent(tmp_path: Path) -> None:
    store = probes.Datastore("sqlite", "/db/state.db", token=True, nodes=["a", "agent"])
    found = diagnosis.diagnose(ill(configuration=configured(tmp_path, "flannel-iface: eth9\n"), datastore=store))
    assert causes(found) == [("flannel_iface_missing", "")]
    assert "agents: agent" in found.causes[0].evidence


def gone_line(address: str) -> str:
    return f'err="failed to validate nodeIP: node IP: \\"{address}\\" not found in the host\'s network interfaces"'


@pytest.mark.parametrize(
    ("text", "starts", "where"),
    [
        ("kubelet-arg: [v=2, node-ip=10.0.0.9]\n", 1, f"kubelet-arg ({CONFIG}:1)"),
        ("kubelet-arg: [node-ip=10.0.0.9]\nnode-ip: 10.0.0.2\n", 2, f"kubelet-arg ({CONFIG}:1)"),
        # a kubelet's own file, for example
        ("debug: true\n", 1, "kubelet-arg or a place that is not read"),
        ("debug: true\n", 2, "kubelet-arg or a place that is not read"),
    ],
)
def test_an_address_that_the_kubelet_gets_past_k3s_is_for_a_person(
    tmp_path: Path, text: str, starts: int, where: str
) -> None:
    lines = [gone_line("10.0.0.9"), INTERFACE]
    said_of = journal.Journal([journal.Start(str(one), NOW - 99 + one, lines) for one in range(starts)])
    found = diagnosis.diagnose(ill(configuration=configured(tmp_path, text), journal=said_of))
    assert causes(found) == [("node_ip_elsewhere", "")]
    assert f"node-ip 10.0.0.9 comes from {where}: correct it there" in found.causes[0].cure
    assert plan(found.causes, Wishes()) == []


def test_an_address_that_went_away_while_k3s_ran_is_no_setting(tmp_path: Path) -> None:
    settings = configured(tmp_path, "debug: true\n")
    before = journal.Start("1", NOW - 99, [gone_line("10.0.0.9")])
    crashed = journal.Journal([before, journal.Start("2", NOW - 9, [INTERFACE])])
    assert causes(diagnosis.diagnose(ill(configuration=settings, journal=crashed))) == [
        ("node_object_stale", "safe_mode")
    ]
    running = dataclasses.replace(
        WELL,
        configuration=settings,
        api=probes.ApiState(nodes=[dataclasses.replace(NODE, internal_ips=["10.0.0.9"])]),
        journal=journal.Journal([dataclasses.replace(before, invocation="now")]),
    )
    assert causes(diagnosis.diagnose(running)) == [("waiting_for_address", "restart")]


def test_what_another_place_sets_right_goes_as_a_whole_and_once(tmp_path: Path) -> None:
    line = "[Service]\nExecStart=/usr/local/bin/k3s server --node-ip 10.0.0.2,fd00::2\n"
    settings = configured(tmp_path, "debug: true\nnode-ip: 10.0.0.9,fd00::9\n", **{UNIT_FILE: line})
    (cause,) = diagnosis.diagnose(ill(configuration=settings)).causes
    assert [(edit["before"], edit["after"]) for edit in cause.details["edits"]] == [("node-ip: 10.0.0.9,fd00::9\n", "")]
    assert "node-ip 10.0.0.9, fd00::9 is removed" in cause.details["edits"][0]["sentence"]
    configuration.apply([configuration.Edit(**edit) for edit in cause.details["edits"]], tmp_path)
    assert (tmp_path / CONFIG.lstrip("/")).read_text() == "debug: true\n"


def test_one_stale_value_of_a_list_goes_alone(tmp_path: Path) -> None:
    settings = configured(tmp_path, "node-ip:\n  - 10.0.0.2\n  - 10.0.0.9\n  - fd00::2\n")
    (cause,) = diagnosis.diagnose(ill(configuration=settings)).causes
    configuration.apply([configuration.Edit(**edit) for edit in cause.details["edits"]], tmp_path)
    assert (tmp_path / CONFIG.lstrip("/")).read_text() == "node-ip:\n  - 10.0.0.2\n  - fd00::2\n"


def test_no_guess_between_two_uplinks(tmp_path: Path) -> None:
    two = dataclasses.replace(
        NETWORK,
        routes=[],
        interfaces=[*NETWORK.interfaces, addresses.Interface("eth1", "physical", ["10.1.0.2/24"], True)],
    )
    facts = ill(network=two, configuration=configured(tmp_path, "node-ip: 10.9.0.9\n"))
    found = diagnosis.diagnose(facts)
    assert causes(found) == [("node_ip_stale", "")]
    assert "recover_k3s_node_ip=ADDRESS" in found.causes[0].cure
    assert "10.0.0.2, 10.1.0.2" in found.causes[0].cure
    given = diagnosis.diagnose(facts, node_ip="10.1.0.2")
    assert causes(given) == [("node_ip_stale", "configuration")]
    assert given.causes[0].details["edits"][0]["after"] == "10.1.0.2"
    assert "no address of this server" in diagnosis.diagnose(facts, node_ip="10.1.0.3").refusal


def test_a_vpn_is_never_guessed(tmp_path: Path) -> None:
    vpn = addresses.Interface("wg0", "wireguard", ["10.8.0.2/24"], True)
    only = dataclasses.replace(
        NETWORK,
        interfaces=[NETWORK.interfaces[0], vpn, NETWORK.interfaces[2]],
        routes=[addresses.Route("0.0.0.0/0", "wg0", 0)],
    )
    found = diagnosis.diagnose(ill(network=only, configuration=configured(tmp_path, "node-ip: 10.0.0.9\n")))
    assert causes(found) == [("node_ip_stale", "")]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("v1.34.1+k3s1", ("node_object_stale", "safe_mode")),
        ("v1.32.6+k3s1", ("node_object_stale", "safe_mode")),
        ("v1.34.4+k3s1", ("waiting_for_address", "restart")),
        ("v1.32.5+k3s1", ("waiting_for_address", "restart")),
    ],
)
def test_the_address_changed_without_node_ip(tmp_path: Path, version: str, expected: tuple[str, str]) -> None:
    gone = dataclasses.replace(NODE, internal_ips=["10.0.0.9"])
    facts = dataclasses.replace(
        WELL, configuration=configured(tmp_path), api=probes.ApiState(nodes=[gone]), binary_version=version
    )
    assert causes(diagnosis.diagnose(facts)) == [expected]


def test_the_crash_over_a_stale_node_object(tmp_path: Path) -> None:
    found = diagnosis.diagnose(
        ill(configuration=configured(tmp_path), journal=said(INTERFACE), binary_version="v1.34.1+k3s1")
    )
    assert causes(found) == [("node_object_stale", "safe_mode")]
    assert found.causes[0].details == {"node": "a", "old": "", "new": "10.0.0.2"}


def test_safe_mode_that_was_left_on(tmp_path: Path) -> None:
    found = diagnosis.diagnose(dataclasses.replace(WELL, configuration=configured(tmp_path), safe_mode=True))
    assert (found.healthy, causes(found)) == (False, [("safe_mode_left_on", "safe_mode")])


@pytest.mark.parametrize(
    ("text", "cause", "corrected"),
    [
        # removed: containers come in by docker0's address, which no single address hears
        ("bind-address: 10.0.0.9\n", "bind_address_stale", ""),
        ("advertise-address: 10.0.0.9\n", "advertise_address_stale", "advertise-address: 10.0.0.2\n"),
        ("flannel-iface: eth9\n", "flannel_iface_missing", "flannel-iface: eth0\n"),
    ],
)
def test_other_settings_that_name_what_is_gone(tmp_path: Path, text: str, cause: str, corrected: str) -> None:
    found = diagnosis.diagnose(ill(configuration=configured(tmp_path, text)))
    assert causes(found) == [(cause, "configuration")]
    configuration.apply([configuration.Edit(**edit) for edit in found.causes[0].details["edits"]], tmp_path)
    assert (tmp_path / CONFIG.lstrip("/")).read_text() == corrected


@pytest.mark.parametrize(
    "text", ["bind-address: 0.0.0.0\n", "bind-address: '::'\n", "bind-address: 127.0.0.1\n", "flannel-iface: eth0\n"]
)
def test_settings_that_are_right(tmp_path: Path, text: str) -> None:
    assert diagnosis.diagnose(dataclasses.replace(WELL, configuration=configured(tmp_path, text))).healthy


def test_an_advertised_address_behind_nat_is_only_noted(tmp_path: Path) -> None:
    found = diagnosis.diagnose(
        dataclasses.replace(WELL, configuration=configured(tmp_path, "advertise-address: 8.8.8.8\n"))
    )
    assert found.healthy
    assert any("8.8.8.8" in one for one in found.warnings)


def test_no_default_route(tmp_path: Path) -> None:
    facts = ill(
        network=dataclasses.replace(NETWORK, routes=[]),
        configuration=configured(tmp_path, "debug: true\n"),
        journal=said(
            'level=fatal msg="no default routes found in \\"/proc/net/route\\" or \\"/proc/net/ipv6_route\\""'
        ),
    )
    found = diagnosis.diagnose(facts)
    assert causes(found) == [("no_default_route", "")]
    assert "10.0.0.2" in found.causes[0].cure
    given = diagnosis.diagnose(facts, node_ip="10.0.0.2")
    assert causes(given) == [("no_default_route", "configuration")]
    configuration.apply([configuration.Edit(**edit) for edit in given.causes[0].details["edits"]], tmp_path)
    assert (tmp_path / CONFIG.lstrip("/")).read_text() == "debug: true\nnode-ip: 10.0.0.2\n"
    assert given.expected_ip == "10.0.0.2"


@pytest.mark.parametrize(
    ("changes", "lines", "expected"),
    [
        ({"datastore": probes.Datastore("sqlite", "/x", token=False)}, [], [("token_mismatch", "token")]),
        ({}, ['level=fatal msg="encrypted with different token"'], [("token_mismatch", "token")]),
        ({}, ['level=info msg="Waiting for /etc/rancher/k3s/token to be available"'], [("token_mismatch", "token")]),
        ({"datastore": probes.Datastore("sqlite", "/x", "malformed")}, [], [("database_damaged", "restore")]),
        ({}, ["building kine: file is not a database"], [("database_damaged", "restore")]),
        ({"datastore": probes.Datastore("none"), "gone": ["server/tls"]}, [], [("database_missing_all_gone", "")]),
        ({"datastore": probes.Datastore("etcd")}, [NOT_A_MEMBER], [("etcd_membership", "cluster_reset")]),
        ({"datastore": probes.Datastore("etcd")}, ["walpb: crc mismatch"], [("etcd_damaged", "")]),
        ({"datastore": probes.Datastore("etcd"), "known_servers": ["10.0.0.2"]}, ["walpb: crc mismatch"],
         [("etcd_damaged", "snapshot_restore")]),
        ({"datastore": probes.Datastore("etcd")}, ['"level":"fatal","msg":"failed to open database","error":"timeout"'],
         [("unknown", "restart")]),
        ({"datastore": probes.Datastore("etcd"), "known_servers": ["10.0.0.2"]},
         ["walpb: crc mismatch", "write /x: no space left on device"], [("disk_full", ""), ("etcd_damaged", "")]),
        ({"disks": [facts_module.Disk("/", 10 << 30, 50, 50, True)]}, ["unable to open database file"],
         [("read_only", ""), ("database_damaged", "")]),
        ({}, ["Node password rejected, duplicate hostname"], [("node_password_rejected", "node_password")]),
        ({"served": listeners.Certificate("port 6443", "foreign")}, [], [("certificate_mismatch", "certificates")]),
        ({"certificates": [listeners.Certificate("x", "expired")]}, [], [("certificate_mismatch", "certificates")]),
        ({"certificates": [listeners.Certificate("x", "early")]}, [], [("clock_wrong", "")]),
        ({}, ["x509: certificate signed by unknown authority"], [("certificate_mismatch", "certificates")]),
        ({}, ["x509: certificate signed by unknown authority", 'level=fatal msg="new"'], [("unknown", "restart")]),
        ({}, ['level=fatal msg="x509: certificate is valid for x"'], [("certificate_mismatch", "certificates")]),
        ({}, ['level=error msg="database or disk is full"'], [("disk_full", "")]),
        ({"disks": [facts_module.Disk("/", 1 << 20, 0.1, 50, False)]}, ["disk I/O error"], [("disk_full", "")]),
        ({"disks": [facts_module.Disk("/", 10 << 30, 50, 50, True)]}, [], [("read_only", "")]),
        ({"port_holder": "nginx (pid 7)"}, ["listen tcp :6443: bind: address already in use"], [("port_taken", "")]),
        ({}, ["kubelet is configured to not run on a host using cgroup v1"], [("cgroup_v1", "")]),
        ({}, ["F0601 kubelet.go:1] too many open files"], [("too_many_files", "")]),
        ({}, ["E0601 watch.go:1] too many open files", 'level=fatal msg="something else"'], [("unknown", "restart")]),
        ({}, ["A process of this unit has been killed by the OOM killer."], [("out_of_memory", "")]),
        ({"binary_problem": "/usr/local/bin/k3s is not there"}, [], [("binary_broken", "")]),
        ({}, ["flag provided but not defined: -foo"], [("unknown_option", "")]),
        ({}, ['level=fatal msg="something new"'], [("unknown", "restart")]),
    ],
)  # fmt: skip
def test_each_cause(tmp_path: Path, changes: dict[str, Any], lines: list[str], expected: list[tuple[str, str]]) -> None:
    found = diagnosis.diagnose(ill(configuration=configured(tmp_path), journal=said(*lines), **changes))
    assert causes(found) == expected
    assert not found.healthy
    for cause in found.causes:
        assert cause.rung or cause.cure
        assert cause.sentence[0].isupper() or cause.sentence.startswith(("k3s", "/", "node-ip"))
        assert cause.sentence.endswith(".")
        assert "\n" not in cause.sentence


def test_files_that_are_newer_than_their_copy(tmp_path: Path) -> None:
    line = 'level=fatal msg="/a/server-ca.crt, /a/server-ca.key newer than datastore and could cause a cluster outage."'
    found = diagnosis.diagnose(ill(configuration=configured(tmp_path), journal=said(line)))
    assert causes(found) == [("certificate_newer_than_datastore", "bootstrap_files")]
    assert found.causes[0].details["files"] == ["/a/server-ca.crt", "/a/server-ca.key"]


def test_two_at_once_in_the_ladders_order(tmp_path: Path) -> None:
    found = diagnosis.diagnose(
        ill(
            configuration=configured(tmp_path, "node-ip: 10.0.0.9\nbind-address: 10.0.0.9\n"),
            datastore=probes.Datastore("sqlite", "/x", token=False),
            journal=said('level=fatal msg="encrypted with different token"'),
        )
    )
    assert causes(found) == [
        ("node_ip_stale", "configuration"), ("bind_address_stale", "configuration"), ("token_mismatch", "token"),
    ]  # fmt: skip


def test_stopped_by_somebody(tmp_path: Path) -> None:
    unit = dataclasses.replace(CRASHING, active="inactive", sub="dead", restarts=0)
    facts = ill(configuration=configured(tmp_path), unit=unit, journal=said(INTERFACE, clean=True))
    assert causes(diagnosis.diagnose(facts)) == [("stopped", "restart")]


def test_a_node_that_says_what_it_said_before_the_start(tmp_path: Path) -> None:
    old = dataclasses.replace(NODE, reported=NOW - 5000)
    facts = dataclasses.replace(WELL, configuration=configured(tmp_path), api=probes.ApiState(nodes=[old]))
    found = diagnosis.diagnose(facts)
    assert (found.healthy, causes(found)) == (False, [("node_not_ready", "restart")])


def test_a_file_that_k3s_refuses(tmp_path: Path) -> None:
    found = diagnosis.diagnose(ill(configuration=configured(tmp_path, "node-ip 10.0.0.1\n")))
    assert causes(found) == [("configuration_unreadable", "")]
    assert f"{CONFIG}:1" in found.causes[0].cure


@pytest.mark.parametrize(
    ("changes", "text", "words"),
    [
        ({"unit": probes.Unit()}, "", "is not installed"),
        ({"unit": probes.Unit(problem="Connection timed out")}, "", "systemd does not answer here (Connection timed"),
        (
            {"datastore": probes.Datastore("etcd"), "known_servers": ["10.0.0.2", "10.0.0.3"]},
            "",
            "has 2 servers (10.0.0.2, 10.0.0.3)",
        ),
        ({"unit": probes.Unit(agent=True)}, "", "is an agent"),
        ({}, "server: https://10.0.0.9:6443\n", "joined another one"),
        (
            {
                "datastore": probes.Datastore("etcd"),
                "api": probes.ApiState(nodes=[NODE, dataclasses.replace(NODE, name="b")]),
            },
            "",
            "has 2 servers (a, b)",
        ),
        (
            {
                "datastore": probes.Datastore("etcd"),
                "journal": said(
                    "not a member of the etcd cluster. Found [a=https://10.0.0.9:2380 b=https://x:2380], expect: a=y"
                ),
            },
            "",
            "has 2 servers (a, b)",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, changes: dict[str, Any], text: str, words: str) -> None:
    found = diagnosis.diagnose(ill(configuration=configured(tmp_path, text), **changes))
    assert words in found.refusal
    assert "Nothing has been changed" in found.refusal
    assert not found.healthy
    assert any(line.startswith("Refused: ") for line in diagnosis.sentences(found))


def test_an_old_name_of_this_server_is_not_another_server(tmp_path: Path) -> None:
    old = dataclasses.replace(NODE, name="old", ready=False)
    facts = dataclasses.replace(WELL, configuration=configured(tmp_path), api=probes.ApiState(nodes=[NODE, old]))
    found = diagnosis.diagnose(facts)
    assert (found.healthy, found.refusal) == (True, "")
    assert any("earlier name" in one for one in found.warnings)


def test_an_address_that_is_wanted_besides(tmp_path: Path) -> None:
    facts = dataclasses.replace(WELL, configuration=configured(tmp_path))
    assert diagnosis.diagnose(facts, node_ip="10.0.0.2").healthy
    other = diagnosis.diagnose(facts, node_ip="172.17.0.1")
    assert causes(other) == [("node_ip_wanted", "configuration")]


@pytest.mark.parametrize(
    ("routes", "rules", "told"),
    [
        ([addresses.Route("0.0.0.0/0", "wg0", 0)], [], True),
        ([addresses.Route("0.0.0.0/1", "wg0", 0), addresses.Route("128.0.0.0/1", "wg0", 0)], [], True),
        ([addresses.Route("0.0.0.0/0", "wg0", 0, "", 51820)], [addresses.Rule(32765, 51820, False)], True),
        ([addresses.Route("0.0.0.0/0", "wg0", 0, "", 51820)], [addresses.Rule(32765, 51820, True)], False),
        ([addresses.Route("0.0.0.0/0", "wg0", 900)], [], False),
        ([addresses.Route("10.8.0.0/24", "wg0", 0)], [], False),
    ],
)
def test_a_vpn_took_the_default_route(tmp_path: Path, routes: list[Any], rules: list[Any], told: bool) -> None:
    vpn = addresses.Interface("wg0", "wireguard", ["10.8.0.2/24"], True)
    network = dataclasses.replace(
        NETWORK, interfaces=[*NETWORK.interfaces, vpn], routes=[*NETWORK.routes, *routes], rules=rules
    )
    found = diagnosis.diagnose(dataclasses.replace(WELL, network=network, configuration=configured(tmp_path)))
    assert any("WireGuard interface wg0 took the default route" in one for one in found.warnings) is told
    assert found.healthy


def test_networks_that_overlap(tmp_path: Path) -> None:
    vpn = addresses.Interface("wg0", "wireguard", ["172.17.9.2/24"], True)
    network = dataclasses.replace(
        NETWORK,
        interfaces=[*NETWORK.interfaces, vpn],
        routes=[*NETWORK.routes, addresses.Route("172.17.9.0/24", "wg0", 0), addresses.Route("10.43.0.0/24", "wg0", 0)],
    )
    found = diagnosis.diagnose(dataclasses.replace(WELL, network=network, configuration=configured(tmp_path))).warnings
    assert any("172.17.0.0/16 of docker0 overlaps 172.17.9.0/24 of wg0" in one for one in found)
    assert any("10.43.0.0/16 of k3s' service-cidr overlaps 10.43.0.0/24 of wg0" in one for one in found)
    assert len(found) == 2


def test_what_may_become_wrong(tmp_path: Path) -> None:
    facts = dataclasses.replace(
        WELL,
        configuration=configured(tmp_path),
        disks=[facts_module.Disk("/", 1 << 30, 5.0, 50.0, False)],
        certificates=[listeners.Certificate("/x.crt", not_before=NOW - 9, not_after=NOW + 86400 * 3.2)],
        lan_discovery="disabled",
        journal=journal.Journal(problem="the journal cannot be read"),
    )
    found = diagnosis.diagnose(facts)
    assert found.healthy
    assert len(found.warnings) == 4
    assert any("ends in 3 days" in one for one in found.warnings)


def test_addresses_that_are_not_known_are_not_judged(tmp_path: Path) -> None:
    facts = dataclasses.replace(
        WELL, configuration=configured(tmp_path, "node-ip: 10.0.0.9\n"), network=addresses.Network(problem="no netlink")
    )
    found = diagnosis.diagnose(facts)
    assert found.healthy
    assert any("could not be judged" in one for one in found.warnings)


def test_a_correction_follows_node_ip_where_that_is_right(tmp_path: Path) -> None:
    two = dataclasses.replace(
        NETWORK, interfaces=[*NETWORK.interfaces, addresses.Interface("eth1", "physical", ["10.1.0.2/24"], True)]
    )
    text = "node-ip: 10.1.0.2\nflannel-iface: eth9\nadvertise-address: 10.0.0.9\n"
    facts = dataclasses.replace(WELL, network=two, configuration=configured(tmp_path, text))
    found = diagnosis.diagnose(facts)
    assert {one.id for one in found.causes} == {"flannel_iface_missing", "advertise_address_stale"}
    assert {edit["after"] for one in found.causes for edit in one.details["edits"]} == {"eth1", "10.1.0.2"}


def test_node_ip_was_changed_and_k3s_not_restarted(tmp_path: Path) -> None:
    two = dataclasses.replace(
        NETWORK, interfaces=[*NETWORK.interfaces, addresses.Interface("eth1", "physical", ["10.1.0.2/24"], True)]
    )
    facts = dataclasses.replace(WELL, network=two, configuration=configured(tmp_path, "node-ip: 10.1.0.2\n"))
    assert causes(diagnosis.diagnose(facts)) == [("restart_due", "restart")]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (dataclasses.replace(CRASHING, sub="start", restarts=0), "starting"),
        (dataclasses.replace(CRASHING, sub="start", restarts=2), "unknown"),
        (dataclasses.replace(RUNNING, running_seconds=30, process_seconds=31), "starting"),
        (RUNNING, "unknown"),
    ],
)
def test_nothing_known_and_not_up(tmp_path: Path, unit: Any, expected: str) -> None:
    found = diagnosis.diagnose(
        ill(configuration=configured(tmp_path), unit=unit, journal=said("I info", invocation="now"))
    )
    assert causes(found) == [(expected, "restart")]


def test_what_heals_one_of_several_is_only_done_by_name(tmp_path: Path) -> None:
    facts = ill(
        configuration=configured(tmp_path), datastore=probes.Datastore("etcd"), journal=said("walpb: crc mismatch")
    )
    cure = diagnosis.diagnose(facts).causes[0].cure
    assert """-e '{"recover_k3s_only_rungs": ["snapshot_restore"]}'""" in cure
    assert "how many servers" in cure


KEPT = facts_module.Kept("/b/k3s-a.tar.gz", "2026-11-24T00:00:00+00:00", 9000, ["default", "mine"])


@pytest.mark.parametrize(
    ("revision", "namespaces", "kept", "replaced"),
    [
        (700, ["default"], KEPT, True),
        (700, ["default", "mine"], KEPT, False),
        (9001, ["default"], KEPT, False),
        (0, [], KEPT, False),
        (700, ["default"], None, False),
    ],
)
def test_an_empty_cluster_that_k3s_made(
    tmp_path: Path, revision: int, namespaces: list[str], kept: Any, replaced: bool
) -> None:
    store = dataclasses.replace(WELL.datastore, revision=revision, namespaces=namespaces)
    facts = dataclasses.replace(WELL, configuration=configured(tmp_path), datastore=store, kept=kept)
    found = diagnosis.diagnose(facts)
    assert causes(found) == ([("cluster_replaced", "")] if replaced else [])
    assert found.healthy is not replaced
    if replaced:
        assert "/b/k3s-a.tar.gz" in found.causes[0].cure
        assert "mine" in found.causes[0].sentence


def test_a_vpn_that_k3s_brings_up_itself_has_the_nodes_address(tmp_path: Path) -> None:
    settings = configured(tmp_path, "vpn-auth: name=tailscale,joinKey=secret-key\nnode-ip: 10.0.0.9\n")
    found = diagnosis.diagnose(ill(configuration=settings, network=dataclasses.replace(NETWORK, routes=[])))
    assert (causes(found), found.expected_ip) == ([("stopped", "restart")], "")
    assert diagnosis.diagnose(dataclasses.replace(WELL, configuration=settings)).healthy


@pytest.mark.parametrize(
    ("text", "changes", "expected"),
    [
        ("flannel-iface: wg0\n", {}, ("flannel_iface_missing", "")),
        ("node-ip: 10.8.0.1\n", {"wireguard": {"10.8.0.1": "wg0"}}, ("node_ip_stale", "")),
        ("node-ip: 100.70.1.2\n", {}, ("node_ip_stale", "")),
        ("node-ip: 10.8.0.1\n", {}, ("node_ip_stale", "configuration")),
        (
            "flannel-iface: eth9\n",
            {"api": probes.ApiState(nodes=[NODE, dataclasses.replace(NODE, name="agent", control_plane=False)])},
            ("flannel_iface_missing", ""),
        ),
    ],
)
def test_a_vpn_that_is_down_is_brought_up_and_not_left(
    tmp_path: Path, text: str, changes: dict[str, Any], expected: tuple[str, str]
) -> None:
    facts = ill(configuration=configured(tmp_path, text), **changes)
    found = diagnosis.diagnose(facts)
    assert causes(found) == [expected]
    if not expected[1]:
        assert " up (" in found.causes[0].cure
    given = diagnosis.diagnose(facts, node_ip="10.0.0.2")
    assert causes(given)[0] == (expected[0], "configuration")
