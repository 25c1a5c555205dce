"""What is told in the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.k3s_recovery import report
from ansible.module_utils.k3s_recovery.record import Record, RungEntry
from ansible.plugins.filter.status_table import describe

CAUSE = {"id": "node_ip_stale", "sentence": "node-ip is old.", "evidence": ["config.yaml:3"], "rung": "configuration"}


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(
        folder=tmp_path,
        id="20261124T000000Z",
        started_at=1_700_000_000.0,
        by="me@here",
        backup={"path": "/var/backups/b.tar.gz", "database": "verified", "reused": False, "created": "x"},
        before={"addresses": ["10.0.0.1"], "addresses_now": ["10.0.0.2"]},
        causes=[CAUSE],
        rungs=[RungEntry("configuration", "node_ip_stale", state="healed", seconds=20.0, sentence="Edited.")],
        kept={"namespaces": 5, "rbac": 90, "objects": 200, "service_account_key": True},
        network_policy_off_seconds=12.4,
    )


def told(record: Record, *, healed: bool = True, **reconnect: Any) -> dict[str, Any]:
    return report.report(record, healed=healed, host="server1", now=1_700_000_060.0, reconnect=reconnect)


def test_a_healed_server(record: Record) -> None:
    result = told(record, renewed=["k8s-worker"], restarted=["k8s-worker"], verified=True)
    assert (result["result"], result["healed_by"], result["seconds"]) == ("healed", "configuration", 60.0)
    assert result["address"] == {"before": "10.0.0.1", "now": "10.0.0.2"}
    text = "\n".join(report.sentences(result))
    assert "server1 is well again after 60 s by the rung configuration, at 10.0.0.2" in text
    assert "Kept: 5 namespaces, 90 roles" in text
    assert "key is the same" in text
    assert "Lost: Network policies were not enforced for 12 s." in text
    assert "/var/backups/b.tar.gz" in text
    assert "kubeconfigs renewed: k8s-worker; restarted: k8s-worker; the API answers from inside" in text
    # site.yml would write the old address again
    assert "k3s_node_ip" in text
    json.dumps(result)


def test_nothing_lost_is_said(record: Record) -> None:
    record.network_policy_off_seconds = 0
    assert "Lost: nothing." in report.sentences(told(record))


def test_a_server_that_is_not_well_names_what_was_tried_and_what_comes_next(record: Record) -> None:
    record.rungs[0].state = "undone"
    record.problem = "No rung is left that makes sense."
    result = told(record, healed=False)
    assert (result["result"], result["healed_by"], result["kept"]) == ("failed", "", {})
    text = "\n".join(report.sentences(result))
    assert "server1 is NOT well after 60 s" in text
    assert "configuration (undone, 20 s): Edited." in text
    assert "journalctl -u k3s" in text
    assert "/var/backups/b.tar.gz (playbooks/restore.yml)" in text
    assert "recover_k3s_delete_cluster" not in text


def test_only_where_the_data_are_lost_the_deletion_is_named(record: Record) -> None:
    record.causes = [{**CAUSE, "id": "database_damaged"}]
    assert "-e recover_k3s_delete_cluster=server1" in "\n".join(report.sentences(told(record, healed=False)))
    record.restored_from = "/var/backups/b.tar.gz"
    assert "recover_k3s_delete_cluster" not in "\n".join(report.sentences(told(record, healed=False)))


def test_an_application_that_is_not_reconnected_is_a_failure(record: Record) -> None:
    result = told(record, problem="the API refused the token")
    assert result["result"] == "failed"
    text = "\n".join(report.sentences(result))
    assert "not all that depends on it" in text
    assert "the API refused the token" in text
    assert "playbooks/site.yml" in text


def test_the_history_line(record: Record) -> None:
    entry = report.history_entry(told(record), now=1_700_000_060.0)
    assert (entry["action"], entry["result"], entry["rung"]) == ("recover-k3s", "ok", "configuration")
    assert entry["causes"] == ["node_ip_stale"]
    record.problem = "Nothing helped."
    entry = report.history_entry(told(record, healed=False), now=1_700_000_060.0)
    assert (entry["result"], entry["message"]) == ("failed", "Nothing helped.")


def test_the_report_is_written_for_root_alone(record: Record) -> None:
    report.write(record, told(record))
    path = record.folder / "report.json"
    assert json.loads(path.read_text())["result"] == "healed"
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_status_shows_a_recovery_in_the_history(record: Record) -> None:
    entry = report.history_entry(told(record), now=1_700_000_060.0)
    state = {
        "release": {"id": "r1", "created_at": "x", "author": "", "images": {}},
        "docker": {"available": True},
        "containers": {},
        "history": [entry],
    }
    line = describe("server1", state)[-1]
    assert "recover-k3s configuration: ok by me@here, 60.0 s" in line
