"""Which recovery is gone on with, whatever the clock was."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.k3s_recovery import record as records

NOW = 1_700_000_000.0


def test_an_open_recovery_is_found_after_one_of_a_wrong_clock(tmp_path: Path) -> None:
    healed = records.new(tmp_path, now=NOW + 2e8, by="tester")
    healed.state = "healed"
    healed.save()
    killed = records.new(tmp_path, now=NOW, by="tester")
    found = records.unfinished(tmp_path)
    assert found is not None
    assert found.id == killed.id
    killed.state = "healed"
    killed.save()
    assert records.unfinished(tmp_path) is None


def test_two_recoveries_of_the_same_moment_are_two(tmp_path: Path) -> None:
    first = records.new(tmp_path, now=NOW, by="tester")
    assert records.new(tmp_path, now=NOW, by="tester").id > first.id


def test_an_unreadable_record_stops_only_when_it_is_the_latest(tmp_path: Path) -> None:
    old = records.new(tmp_path, now=NOW, by="tester")
    latest = records.new(tmp_path, now=NOW + 60, by="tester")
    latest.state = "healed"
    latest.save()
    old.path.write_text("{")
    assert records.unfinished(tmp_path) is None
    latest.path.write_text("{")
    with pytest.raises(records.RecordError, match="move the folder away"):
        records.unfinished(tmp_path)
