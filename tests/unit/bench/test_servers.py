"""What the measurements say of a playbook that failed."""

from __future__ import annotations

from bench.servers import FAILURE

OUTPUT = """TASK [One] ****
ok: [fleet01]
fatal: [fleet05]: FAILED! =>
    msg: no room
    why: the disk is full

TASK [Two] ****
failed: [localhost] (item=fleet02) =>
    msg: refused
changed: [fleet03]
PLAY RECAP ****
fleet05 : ok=1 failed=1
"""


def test_only_what_failed_is_taken_from_its_output() -> None:
    assert FAILURE.findall(OUTPUT) == [
        "fatal: [fleet05]: FAILED! =>\n    msg: no room\n    why: the disk is full",
        "failed: [localhost] (item=fleet02) =>\n    msg: refused",
    ]
