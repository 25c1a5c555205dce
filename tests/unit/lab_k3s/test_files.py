"""Which releases of k3s the lab's file server has."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import k3s_files
from lab.settings import LabError, Settings
from lab.sources import Sources

FOLDER = "cache/files/k3s-io/k3s/releases/download"


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The releases that were built, which are not really built here."""
    versions: list[str] = []

    def build(version: str, folder: Path, progress: object) -> None:
        versions.append(version)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "k3s").write_text(f"#! {version}")

    monkeypatch.setattr(k3s_files, "build", build)
    return versions


def test_the_roles_release_and_the_one_that_crashes(tmp_path: Path, built: list[str]) -> None:
    sources = Sources("stand-in", {})
    said = k3s_files.ensure(Settings(tmp_path), sources, "amd64", lambda _line: None)
    version, _checksums = k3s_files.pinned()
    assert sorted(built) == sorted([version, "v1.34.1+k3s1"])
    assert said.count("built") == 2
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == sorted(built)
    assert sources.used == {"k3s": "stand-in"}
    assert k3s_files.ensure(Settings(tmp_path), sources, "amd64", lambda _line: None).count("is there") == 2


def test_both_are_the_vendors_where_it_can_be_reached(
    tmp_path: Path, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, str] = {}

    def download(version: str, _machine: str, pin: str, _folder: Path) -> None:
        asked[version] = pin

    monkeypatch.setattr(k3s_files, "download", download)
    monkeypatch.setattr(k3s_files, "pinned", lambda: ("v1.34.4+k3s1", {"amd64": "a" * 64}))
    sources = Sources("auto", {"k3s": True})
    k3s_files.ensure(Settings(tmp_path), sources, "amd64", lambda _line: None)
    assert asked == {"v1.34.1+k3s1": "", "v1.34.4+k3s1": "a" * 64}, "the pin is of the role's release alone"
    assert built == []
    assert sources.used == {"k3s": "real"}


def test_only_the_real_one_is_refused_when_the_vendor_has_it_not(
    tmp_path: Path, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*_arguments: object) -> None:
        raise LabError("gone")

    monkeypatch.setattr(k3s_files, "download", download)
    with pytest.raises(LabError, match="gone"):
        k3s_files.ensure(Settings(tmp_path), Sources("real", {"k3s": True}), "amd64", lambda _line: None)
    assert built == []
