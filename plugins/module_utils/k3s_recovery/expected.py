"""What the cluster has to hold in the end: as it was when the recovery began, or as in the backup that was put back."""

from __future__ import annotations

import json
from dataclasses import asdict

from ansible.module_utils.k3s_recovery.record import Record
from ansible.module_utils.k3s_recovery.verify import summary
from ansible.module_utils.kine_database import Inventory

FILE = "inventory.json"


def remember_inventory(record: Record, found: Inventory) -> None:
    """Keep what the cluster holds, to compare with later. Raises RecordError."""
    record.keep_file(FILE, json.dumps(asdict(found)).encode())
    record.before["inventory"] = {**summary(found), "namespaces": sorted(found.namespaces)}


def expected_inventory(record: Record) -> Inventory | None:
    """What was kept; None when the database could not be read then."""
    path = record.folder / FILE
    return Inventory(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
