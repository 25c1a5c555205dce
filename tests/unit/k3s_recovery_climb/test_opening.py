"""How an old, killed recovery is gone on with."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.k3s_recovery.record import RungEntry

from tests.unit.k3s_recovery_climb.fake_server import CONFIG, FakeServer
from tests.unit.k3s_recovery_climb.test_climb import begin, climb, states

WEEKS = 6 * 7 * 86400


def killed(server: FakeServer, state: str) -> None:
    record = begin(server)
    record.rungs.append(
        RungEntry("configuration", "node_ip_stale", 1, state, started_at=server.now(), sentence="Done.")
    )
    record.save()


def test_a_rung_of_long_ago_that_was_done_stays_and_a_new_backup_is_made(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_ip_stale"})
    killed(server, "verifying")
    server.clock += WEEKS
    record = begin(server)
    assert (record.runs, record.backup["reused"], record.started_at) == (2, False, server.now())
    assert states(record) == [("configuration", "interrupted")]
    # it counts as not tried: the address may have changed again
    assert climb(server, record)[-1].healed
    assert "10.0.0.2" in server.path(CONFIG).read_text()


def test_a_rung_of_long_ago_that_is_half_done_keeps_its_backup(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_ip_stale"})
    killed(server, "applying")
    server.clock += WEEKS
    record = begin(server)
    assert (record.backup["reused"], states(record)) == (True, [("configuration", "applying")])


def test_a_run_killed_a_minute_ago_is_gone_on_with(tmp_path: Path) -> None:
    server = FakeServer(tmp_path, {"node_ip_stale"})
    killed(server, "verifying")
    server.clock += 60
    record = begin(server)
    assert (record.backup["reused"], states(record)) == (True, [("configuration", "verifying")])
