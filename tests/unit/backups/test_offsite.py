"""Copies on another machine: the command, its answers, and what fails loudly."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.backups.offsite import OffsiteError, Target, copy


def target(destination: str = "backups@vault.example.org:/srv/backups", port: int = 22) -> Target:
    return Target(destination, port, Path("/etc/key"), Path("/etc/known"))


@pytest.mark.parametrize(
    "destination",
    [
        "",
        "/srv",
        "host:/srv",
        "user@host:srv",
        "user@host:/a b",
        "user@-oProxy=x:/a",
        "user@host:/a;b",
        "-e x@y:/z",
        "u@h:/$(x)",
    ],
)
def test_refuses_what_is_no_destination(destination: str) -> None:
    with pytest.raises(OffsiteError, match="user@host:/absolute/path"):
        target(destination)


def test_ssh_trusts_the_pinned_key_alone() -> None:
    command = target(port=2222).ssh()
    for word in (
        "StrictHostKeyChecking=yes",
        "UserKnownHostsFile=/etc/known",
        "IdentitiesOnly=yes",
        "BatchMode=yes",
        "-p 2222",
    ):
        assert word in command
    assert command.startswith("ssh -F /dev/null ")


@pytest.fixture
def rsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program = tmp_path / "rsync"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/asked\n. {tmp_path}/script\n')
    program.chmod(0o755)
    return tmp_path / "script"


def test_copies_what_is_not_there_and_overwrites_nothing(rsync: Path, tmp_path: Path) -> None:
    rsync.write_text('echo "copied a.tar.gz"')
    assert copy([tmp_path / "a.tar.gz", tmp_path / "b.tar.gz"], target()) == ["a.tar.gz"]
    asked = (tmp_path / "asked").read_text().splitlines()
    assert "--ignore-existing" in asked
    assert asked[-3:] == [
        str(tmp_path / "a.tar.gz"),
        str(tmp_path / "b.tar.gz"),
        "backups@vault.example.org:/srv/backups/",
    ]


def test_nothing_to_copy_asks_nobody(rsync: Path, tmp_path: Path) -> None:
    assert copy([], target()) == []
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        ("Host key verification failed.", "not its host key"),
        ("backups@h: Permission denied (publickey).", "authorized_keys"),
        ('rsync: mkdir "/srv/x" failed: No such file or directory (2)', "make the folder"),
        ('rsync: [Receiver] mkdir "/srv/x" failed: Permission denied (13)', "make the folder"),
        ("something new", "see the message"),
    ],
)
def test_a_failure_names_cause_and_cure(rsync: Path, tmp_path: Path, said: str, cure: str) -> None:
    rsync.write_text(f"echo '{said}' >&2; exit 12")
    with pytest.raises(OffsiteError) as caught:
        copy([tmp_path / "a"], target())
    assert said.split(":", maxsplit=1)[0] in str(caught.value)
    assert cure in str(caught.value)


def test_a_copy_that_hangs_is_ended(rsync: Path, tmp_path: Path) -> None:
    rsync.write_text("exec sleep 60")
    with pytest.raises(OffsiteError, match="did not end within"):
        copy([tmp_path / "a"], target(), timeout=0.2)


def test_without_rsync_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OffsiteError, match="rsync is not installed"):
        copy([tmp_path / "a"], target())
