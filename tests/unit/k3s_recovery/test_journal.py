"""Signatures, against lines that users of k3s have quoted in its issue tracker and that the releases write."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

journal = importlib.import_module("ansible.module_utils.k3s_recovery.journal")

# the number is an issue of k3s-io/k3s unless another repository is named
SAMPLES = yaml.safe_load((Path(__file__).parent / "journal_samples.yml").read_text())


@pytest.mark.parametrize("sample", SAMPLES, ids=[f"{one['signature']}-{number}" for number, one in enumerate(SAMPLES)])
def test_lines_that_people_have_seen(sample: dict[str, Any]) -> None:
    name = sample["signature"]
    found = {one.name: one for one in journal.matches([sample["line"]])}
    assert name in found
    assert found[name].values == sample.get("values", {})
    assert name in {one.name for one in journal.matches([sample["line"].upper()])}


@pytest.mark.parametrize(
    "line",
    [
        # 3559: noise while an agent looks for its server
        'level=error msg="Failed to connect to proxy" error="dial tcp 10.0.0.1:6443: connect: no route to host"',
        'level=info msg="Starting k3s v1.34.4+k3s1 (c6017918)"',
        'level=info msg="Reconciling bootstrap data between datastore and disk"',
        "I1124 00:14:04.891687    4059 cidrallocator.go:277] updated ClusterIP allocator for Service CIDR 10.43.0.0/16",
        'level=info msg="Slow SQL (started: 2023-06-30 09:55:55) (total time: 5.1s): SELECT * FROM kine"',
    ],
)
def test_noise_is_no_signature(line: str) -> None:
    assert journal.matches([line]) == []


def record(invocation: str, message: object, moment: int = 1, systemd: bool = False) -> str:
    key = "INVOCATION_ID" if systemd else "_SYSTEMD_INVOCATION_ID"
    return json.dumps({"MESSAGE": message, key: invocation, "__REALTIME_TIMESTAMP": str(moment * 10**6)})


def test_starts_are_told_apart_and_secrets_blotted_out() -> None:
    text = "\n".join(
        [
            record("a", "level=info token=0123456789abcdef", 5),
            "not json",
            record("a", list("caf\u00e9".encode()), 6),
            record("a", "k3s.service: Failed with result 'exit-code'.", 7, systemd=True),
            record("b", 'level=info msg="up"', 8),
            record("b", "k3s.service: Deactivated successfully.", 9, systemd=True),
            json.dumps({"MESSAGE": "of nobody"}),
        ]
    )
    first, second = journal.parse(text, ["0123456789abcdef", ""])
    assert (first.invocation, first.began, first.clean) == ("a", 5.0, False)
    assert first.lines == ["level=info token=********", "café", "k3s.service: Failed with result 'exit-code'."]
    assert (second.lines[0], second.clean) == ('level=info msg="up"', True)


def test_evidence_is_the_message() -> None:
    assert journal.quote('time="x" level=fatal msg="a \\"b\\" c"') == 'fatal: a "b" c'
    assert len(journal.quote("x" * 900)) == 401
    lines = ["I info", 'level=error msg="one"', 'level=fatal msg="two"', "k3s.service: Scheduled restart job"]
    assert journal.last_errors(lines) == ["fatal: two"]
    assert journal.last_errors(["only this"]) == ["only this"]


def test_a_journal_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "cannot be read" in journal.read().problem


def test_a_long_start_does_not_hide_the_crash_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = [("crashed", 'level=fatal msg="the reason"'), *(("now", f"line {number}") for number in range(1500))]
    lines = [
        json.dumps({"INVOCATION_ID": start, "__REALTIME_TIMESTAMP": "1", "MESSAGE": message}) for start, message in told
    ]
    (tmp_path / "journal").write_text("\n".join(lines) + "\n")
    stub = tmp_path / "journalctl"
    stub.write_text(f'#!/bin/sh\nwhile [ "$1" != -n ]; do shift; done\ntail -n "$2" {tmp_path / "journal"}\n')
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert [one.invocation for one in journal.read().starts] == ["crashed", "now"]
