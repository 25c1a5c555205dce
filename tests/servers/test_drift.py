"""What drift.yml says of a server: nothing of a clean one, and of each change by hand its name and a cure."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from plugins.filter.drift_cures import drift_cures
from tests.servers import drift_tag
from tests.servers.drift_changes import APPLICATION, BASE, SYSTEM, Change, expected, run
from tests.servers.snapshot import differences, snapshot
from tests.servers.test_site import SECRETS

BOUND_SECONDS = 180
"""For a whole run against a server that is in a bad way, on a busy machine; the module's own limit is 45 s."""


@dataclass
class Run:
    """One run of drift.yml: how it ended, what it printed, and the report."""

    code: int
    output: str
    report: dict[str, Any]
    seconds: float

    def of(self, name: str) -> dict[str, Any]:
        """What the report says of a server."""
        found: dict[str, Any] = next(one for one in self.report["hosts"] if one["name"] == name)
        return found

    def ids(self, name: str) -> set[str]:
        """The findings of a server."""
        return {one["id"] for one in self.of(name)["findings"]}


Drift = Callable[..., Run]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reports of these tests are."""
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module")
def drift(playbook: Any, reports: Path) -> Drift:
    """Run drift.yml; it must end without a traceback."""

    def look(*arguments: str) -> Run:
        began = time.monotonic()
        done: subprocess.CompletedProcess[str] = playbook(
            "playbooks/drift.yml", "-e", f"drift_report_dir={reports}", *arguments
        )
        output = done.stdout + done.stderr
        assert "Traceback" not in output, output
        return Run(done.returncode, output, json.loads((reports / "drift.json").read_text()), time.monotonic() - began)

    return look


def secrets_of(host: Any) -> set[str]:
    """Everything on the server and in the inventory that must not be told."""
    keys = host.check_output(
        f"base64 -w 0 {BASE}/secrets/.key; echo; cd {BASE}/tls; "
        f"grep -hv -e ----- */server.key */*/server.key ca/ca.key; sed -n 's/.*token: *//p' {BASE}/kubeconfig/*.yaml; "
        "sed -n 's/.*client-key-data: *//p' /etc/rancher/k3s/k3s.yaml; grep -ho 'eyJ[A-Za-z0-9._-]*' "
        f"{BASE}/kubeconfig/*.yaml; cat /var/lib/rancher/k3s/server/token"
    )
    found = {value for name, value in SECRETS.items() if name.startswith("vault_")} | set(keys.split())
    return {one for one in found if len(one) >= 8}


def assert_found(look: Run, name: str, changes: tuple[Change, ...], *more: str) -> None:
    """Each change is in the report, named rightly, with a cure of its kind; and nothing else is."""
    wanted = expected(changes, name) | dict.fromkeys(more, True)
    found = {one["id"]: one for one in look.of(name)["findings"]}
    assert found.keys() == wanted.keys(), {
        "not found": sorted(wanted.keys() - found.keys()),
        "not asked for": {one: found[one] for one in found.keys() - wanted.keys()},
    }
    assert look.code == 2, look.output
    for one in found.values():
        assert one["expected"], one
        assert one["found"], one
        assert one["state"] == "new", one
        kind = "manual" if wanted[one["id"]] else "playbook"
        assert one["cure_kind"] == kind, one
        assert one["cure"].startswith("By hand: " if kind == "manual" else "ansible-playbook "), one
        # it is told to people, too
        assert f"({one['aspect']})" in " ".join(look.output.split()), one


def do(host: Any, changes: tuple[Change, ...]) -> None:
    """Make changes, in their order."""
    run(host, [(one.name, one.do) for one in changes if one.do], host.server_name)


def undo_by_hand(host: Any, changes: tuple[Change, ...]) -> None:
    """Do what the report leaves to people, the newest change first."""
    run(host, [(f"undo {one.name}", one.by_hand) for one in reversed(changes) if one.by_hand], host.server_name)


def test_a_clean_server_is_clean_and_stays_what_it_is(host: Any, drift: Drift, reports: Path) -> None:
    since = host.check_output("date '+%Y-%m-%d %H:%M:%S'")
    before = snapshot(host)
    assert all(before.values()), [name for name, text in before.items() if not text]
    # as talkative as Ansible gets: it must not tell a secret even so
    look = drift("-vvv")
    assert look.code == 0, look.output
    assert look.of(host.server_name)["findings"] == []
    assert look.of(host.server_name)["status"] == "clean"
    assert re.search(r"changed=0 .*failed=0", look.output)
    assert differences(before, snapshot(host)) == {}

    journal = host.check_output("journalctl --no-pager --output cat --since %s", since)
    texts = [
        look.output,
        journal,
        *(path.read_text("utf-8", "replace") for path in reports.rglob("*") if path.is_file()),
    ]
    for secret in secrets_of(host):
        assert not any(secret in text for text in texts), f"a secret of {len(secret)} characters is told"


def test_changes_of_the_system_are_found_and_cured(host: Any, drift: Drift, playbook: Any) -> None:
    name = host.server_name
    do(host, SYSTEM)
    look = drift("-e", "integr8scode_registry_password=wrong-password")
    assert_found(look, name, SYSTEM, "registry:registry.lab.test#login")
    undo_by_hand(host, SYSTEM)
    for cure in drift_cures(look.report):
        done = playbook(*cure["argv"])
        assert done.returncode == 0, done.stdout + done.stderr


def test_changes_of_the_application_are_found_and_cured(host: Any, drift: Drift) -> None:
    """The look also proves that nothing is left of the changes before."""
    name = host.server_name
    do(host, APPLICATION)
    tag = f"registry:registry.lab.test/{drift_tag.REPOSITORIES[0]}:{drift_tag.TAG}#digest"
    with drift_tag.moved():
        look = drift()
    found = {one["id"]: one for one in look.of(name)["findings"]}
    assert found[tag]["cure"].endswith(f"-e tag={drift_tag.TAG}"), found[tag]
    look.of(name)["findings"].remove(found[tag])
    assert_found(look, name, APPLICATION)
    assert "registry:registry.lab.test#login" in {one["id"] for one in look.of(name)["gone"]}

    undo_by_hand(host, APPLICATION)
    fixed = drift("-e", "fix=true")
    assert fixed.code == 0, fixed.output
    assert fixed.of(name)["status"] == "clean", fixed.of(name)
    host.check_output(f"rm -rf {BASE}/releases/stranger; docker rmi stranger:1")


@pytest.fixture
def broken(host: Any) -> Iterator[Callable[[str, str], None]]:
    """Break something; it is mended afterwards."""
    mends: list[str] = []

    def break_it(how: str, mend: str) -> None:
        mends.append(mend)
        run(host, [(how, how)], host.server_name)

    yield break_it
    run(host, [(mend, mend) for mend in reversed(mends)], host.server_name)


def test_an_engine_that_hangs_and_a_dead_k3s(host: Any, drift: Drift, broken: Any) -> None:
    broken("systemctl kill --kill-who=main --signal=STOP docker.service", "systemctl kill --signal=CONT docker.service")
    broken("systemctl stop k3s.service", "systemctl start k3s.service")
    look = drift()
    assert look.code == 2, look.output
    assert look.seconds < BOUND_SECONDS
    one = look.of(host.server_name)
    assert one["status"] == "drift"
    assert one["seconds"] < 50
    assert look.ids(host.server_name) == {
        "docker:the Docker Engine#asked",
        "containers:containers#asked",
        "networks:networks#asked",
        "volumes:volumes#asked",
        "units:k3s.service#active",
        "kubernetes:the Kubernetes API#asked",
    }
    assert {what["area"] for what in one["could_not_ask"]} == {
        "docker",
        "containers",
        "networks",
        "volumes",
        "kubernetes",
    }
    # everything else was compared all the same
    assert one["checked"]["files"] > 30
    cures = {found["id"]: found["cure"] for found in one["findings"]}
    assert "recover-k3s" in cures["units:k3s.service#active"]
    assert "systemctl restart docker" in cures["docker:the Docker Engine#asked"]


def test_a_hung_container_a_full_disk_and_a_server_that_is_down(
    host: Any, drift: Drift, broken: Any, tmp_path: Path
) -> None:
    broken("docker pause $(c redis)", "docker unpause $(c redis); wait_for redis healthy")
    for folder in ("/var/log", "/tmp", "/var/tmp"):
        fill = f"mount -t tmpfs -o size=16k tmpfs {folder}; ! head -c 1M /dev/zero > {folder}/full"
        broken(fill, f"umount --lazy {folder}")
    down = tmp_path / "hosts.yml"
    # nobody listens at the port of discard
    down.write_text("integr8scode: {hosts: {down1: {lab_index: 0, ansible_port: 9, ansible_ssh_retries: 0}}}\n")
    look = drift("-i", str(down))
    assert look.code != 0, look.output
    assert look.seconds < BOUND_SECONDS
    assert look.ids(host.server_name) == {"containers:redis#state", "disk:/var/log#room"}
    assert look.of("down1")["status"] == "unreachable"
    assert look.of("down1")["message"]
    assert (look.report["summary"]["unreachable"], look.report["summary"]["exit_code"]) == (1, 2)
