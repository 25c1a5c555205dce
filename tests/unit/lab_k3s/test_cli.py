"""The command line: which error ends it how."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from lab.k3s.supervisor import bundle, cli
from lab.k3s.supervisor.logs import FatalError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FatalError("the cause"), 'level=fatal msg="the cause"'),
        (
            OSError(errno.ENOSPC, "No space left on device", "/x/y"),
            'level=fatal msg="Error: preparing server: open /x/y: no space left on device"',
        ),
        (OSError(errno.EROFS, "Read-only file system"), 'level=fatal msg="read-only file system"'),
    ],
)
def test_what_ends_it_is_the_last_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, line: str
) -> None:
    def fail(*_arguments: object) -> int:
        raise error

    monkeypatch.setattr(bundle, "archive", lambda: Path("/usr/local/bin/k3s"))
    monkeypatch.setattr(bundle, "read_manifest", lambda _path: None)
    monkeypatch.setitem(cli._COMMANDS, "server", fail)
    assert cli.main(["k3s", "server"]) == 1
    assert line in capsys.readouterr().err
