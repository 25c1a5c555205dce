"""The real server's API: where its kubeconfig is, and answers that are cut off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import IncompleteRead
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from ansible.module_utils.k3s_node import UnitState
from ansible.module_utils.k3s_recovery import machine
from ansible.module_utils.k3s_recovery.configuration import Configuration

DB = "/var/lib/rancher/k3s/server/db"


class CutOff:
    """An answer in whose middle k3s ended."""

    status = 200

    def read(self, *_size: int) -> bytes:
        raise IncompleteRead(b"{")

    def close(self) -> None:
        """Nothing to close."""


class FakeApi:
    seen: list[str]
    error: bool

    def __init__(self, kubeconfig: str) -> None:
        self.seen.append(kubeconfig)
        self.server = "https://127.0.0.1:6443"
        self.opener = self

    @contextmanager
    def open(self, request: Any, timeout: float) -> Iterator[CutOff]:  # noqa: ARG002
        if self.error:
            raise HTTPError(request.full_url, 500, "broken", None, CutOff())  # type: ignore[arg-type]
        yield CutOff()


class Below(machine.Server):
    """The real thing with its files below a folder, and no systemd."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.called: list[str] = []

    def path(self, text: str) -> Path:
        return self.root / text.lstrip("/")

    def unit(self) -> UnitState:
        return UnitState(True, True, "inactive", "dead", 0, "", False, 0.0)

    def _systemctl(self, *arguments: str, timeout: float = 60) -> None:  # noqa: ARG002
        self.called.append(arguments[0])


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> type[FakeApi]:
    FakeApi.seen, FakeApi.error = [], False
    monkeypatch.setattr(machine, "Api", FakeApi)
    monkeypatch.setattr(machine, "settings_with_places", lambda: Configuration(effective={}))
    return FakeApi


def test_an_answer_that_is_cut_off_is_none(api: type[FakeApi]) -> None:
    with pytest.raises(machine.MachineError, match="does not answer"):
        machine.Server().request("GET", "/api/v1/nodes")
    assert api.seen == ["/etc/rancher/k3s/k3s.yaml"]


def test_an_error_that_is_cut_off_keeps_its_status(api: type[FakeApi]) -> None:
    api.error = True
    assert machine.Server().request("GET", "/api/v1/nodes").status == 500


@pytest.mark.parametrize(
    ("files", "config", "started"),
    [
        ({}, "", False),
        # SQLite takes a file without content for a new database
        ({"state.db": ""}, "", False),
        ({"state.db": "x"}, "", True),
        ({"etcd/member": "x"}, "", True),
        ({}, "datastore-endpoint: postgres://u:p@db/k3s\n", True),
    ],
)
def test_k3s_is_not_started_without_its_datastore(
    tmp_path: Path, files: dict[str, str], config: str, started: bool
) -> None:
    server = Below(tmp_path)
    for name, text in {f"{DB}/{name}": text for name, text in files.items()}.items():
        server.path(name).parent.mkdir(parents=True, exist_ok=True)
        server.path(name).write_text(text)
    server.path("/etc/rancher/k3s").mkdir(parents=True)
    server.path("/etc/rancher/k3s/config.yaml").write_text(config)
    if started:
        server.start()
    else:
        with pytest.raises(machine.NoDatastoreError, match=r"new, empty cluster.*findmnt -T /var/lib/rancher/k3s"):
            server.start()
    assert server.called == (["--no-block"] if started else [])
    server.called = []
    server.start(new_cluster=True)
    assert server.called == ["--no-block"]


def test_the_kubeconfig_may_be_elsewhere(api: type[FakeApi], monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(Configuration):
        def text(self, key: str, default: str = "") -> str:
            return "/root/.kube/config" if key == "write-kubeconfig" else default

    monkeypatch.setattr(machine, "settings_with_places", Elsewhere)
    with pytest.raises(machine.MachineError):
        machine.Server().request("GET", "/readyz")
    assert api.seen == ["/root/.kube/config"]
