"""The real server's API: where its kubeconfig is, and answers that are cut off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import IncompleteRead
from typing import Any
from urllib.error import HTTPError

import pytest
from ansible.module_utils.k3s_recovery import machine
from ansible.module_utils.k3s_recovery.configuration import Configuration


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


def test_the_kubeconfig_may_be_elsewhere(api: type[FakeApi], monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(Configuration):
        def text(self, key: str, default: str = "") -> str:
            return "/root/.kube/config" if key == "write-kubeconfig" else default

    monkeypatch.setattr(machine, "settings_with_places", Elsewhere)
    with pytest.raises(machine.MachineError):
        machine.Server().request("GET", "/readyz")
    assert api.seen == ["/root/.kube/config"]
