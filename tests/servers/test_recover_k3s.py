"""k3s is broken in every way of the table, and the playbook heals it by the rung that should, with all it held.

    molecule create/prepare/converge --scenario-name recover-k3s, then
    pytest -n 3 tests/servers/test_recover_k3s.py --inventory molecule/recover-k3s/inventory

Rows of one server run one after the other, those of different servers side by side: they mostly wait.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.conftest import LONG
from tests.servers.k3s_faults import ROWS, Row
from tests.servers.k3s_server import K3sServer
from tests.servers.recover_k3s import LOWER_TIMEOUT, STABLE_SECONDS, assert_held, kubeconfig_works, on_rows


@on_rows(ROWS)
def test_row(server: K3sServer, row: Row, record_property: Callable[[str, object], None]) -> None:
    server.reset(backup=row.backup, running=row.running)
    if row.loses:
        server.make_object("made-after-the-backup")

    # the symptom, as the table has it
    cursor = row.make(server)
    for symptom in row.symptoms:
        server.wait_journal(symptom, cursor)
    if row.crash_loops:
        server.wait_crashes(1)
    variables = row.variables(server)

    if LONG:
        # every rung below, a plain restart first, is not enough
        below = server.recover(
            only_rungs=row.lower, stable_seconds=STABLE_SECONDS, timeout_seconds=LOWER_TIMEOUT, **variables
        )
        record_property("below", below.states())
        assert below.code == 2, below.output
        assert set(below.states()) == set(row.lower), below.report
        assert below.states()["restart"] != "skipped"
        assert not {"healed", "kept"} & set(below.states().values()), below.report

    healed = server.recover(stable_seconds=STABLE_SECONDS, **variables)

    assert healed.code == 0, healed.output
    # for the JUnit report
    record_property("rungs", {rung["name"]: [rung["state"], rung["seconds"]] for rung in healed.report["rungs"]})
    record_property("seconds", healed.report["seconds"])
    assert healed.report["result"] == "healed"
    assert healed.report["healed_by"] == row.rungs[-1], healed.report["rungs"]
    assert [name for name, state in healed.states().items() if state in {"healed", "kept"}] == list(row.rungs)
    assert set(row.causes) <= {cause["id"] for cause in healed.report["causes"]}
    assert server.internal_ip() in server.uplink.addresses
    assert_held(server.kept, server.held())
    assert kubeconfig_works(server)
    restarts = server.restarts()

    again = server.recover(stable_seconds=STABLE_SECONDS, **variables)

    assert (again.code, again.changed) == (0, 0), again.output
    assert again.report["result"] == "healthy"
    assert server.restarts() == restarts
