"""The server's address changes, k3s crash-loops and is recovered: whoever needs no Kubernetes does not notice.

Needs a server with the whole stack and a second network (`lab_uplink: true`), whose address can change under the load.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.k3s_server import CONFIG, DROP_INS, until
from tests.servers.load import Load
from tests.servers.test_deploys import containers
from tests.servers.uplink import Uplink

HAND = f"{DROP_INS}/50-hand.yaml"
STABLE_SECONDS = 12
AFTER_SECONDS = 10
"""The load goes on for so long after the recovery."""


def internal_ip(host: Any) -> str:
    """The node's InternalIP, empty while the API does not answer."""
    path = '{.items[0].status.addresses[?(@.type=="InternalIP")].address}'
    return str(host.run(f"k3s kubectl --request-timeout=10s get node -o jsonpath='{path}'").stdout)


def restart_k3s(host: Any) -> None:
    host.check_output("systemctl reset-failed k3s; systemctl restart --no-block k3s")


def restarts(host: Any) -> int:
    return int(host.check_output("systemctl show k3s --property=NRestarts --value"))


@pytest.fixture
def uplink(host: Any, lab_home: Path) -> Iterator[Uplink]:
    """k3s has its address from the second network, and its configuration names it; all of it undone afterwards."""
    route = host.check_output("ip -4 route show default").splitlines()[0]
    before, config = internal_ip(host), host.check_output(f"sha256sum {CONFIG}")
    link = Uplink.of(host, lab_home)
    try:
        link.restore()
        host.check_output(f"mkdir -p {DROP_INS} && echo 'node-ip: {link.first}' > {HAND}")
        restart_k3s(host)
        until("the address of the second network", 90, lambda: internal_ip(host) == link.first)
        yield link
    finally:
        host.check_output(f"rm -f {HAND} && rmdir --ignore-fail-on-non-empty {DROP_INS}")
        link.restore()
        host.check_output(f"ip -4 route replace {route}")
        restart_k3s(host)
        until("the address from before", 120, lambda: internal_ip(host) == before)
    assert host.check_output(f"sha256sum {CONFIG}") == config


def test_no_request_fails_while_k3s_is_recovered(host: Any, playbook: Any, uplink: Uplink, tmp_path: Path) -> None:
    load = Load(host)
    load.wait_until_answered()
    before = containers(host)

    with load.running() as tally:
        uplink.change(uplink.second)
        restart_k3s(host)
        until("a crash of k3s", 90, lambda: restarts(host) >= 1)
        began = time.monotonic()
        settings = {"recover_k3s_stable_seconds": STABLE_SECONDS, "recover_k3s_report": str(tmp_path)}
        done = playbook("playbooks/recover-k3s.yml", "-e", json.dumps(settings))
        seconds = time.monotonic() - began
        time.sleep(AFTER_SECONDS)

    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / f"{host.server_name}-recover-k3s.json").read_text("utf-8"))
    assert report["result"] == "healed", report
    assert internal_ip(host) == uplink.second
    # the tokens are as good as before, so nobody who reads them was restarted, and nobody else anyway
    assert report["verified_from_compose_network"] is True
    assert containers(host) == before
    assert tally.failed == [], f"{len(tally.failed)} failed, {tally.answered} answered"
    for name, answered in tally.answered.items():
        # so few only where an answer took seconds
        assert answered >= seconds / 10, f"{name}: {answered} in {seconds:.0f} s"
    print(f"{sum(tally.answered.values())} answered, 0 failed in {seconds:.0f} s, slowest {tally.slowest:.1f} s")
