"""How the lab's `k3s` file is packed, and how it unpacks itself."""

import hashlib
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from lab.k3s import build
from lab.k3s.supervisor import bundle
from lab.k3s.supervisor.logs import FatalError

VERSION = "v1.34.4+k3s1"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Stand-ins for what Go and pip would make; returns the cache."""
    cache = tmp_path / "cache"

    def program(wanted: build.Program, target: build._Target) -> Path:
        path = target.cache / "bin" / f"{wanted.name}-{hashlib.sha256(wanted.name.encode()).hexdigest()[:16]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\necho {wanted.name}\n")
        return path

    def libraries(python: str, target: build._Target) -> Path:
        folder = target.cache / "lib" / python
        (folder / "yaml").mkdir(parents=True, exist_ok=True)
        (folder / "yaml" / "__init__.py").write_text("")
        (folder / "cryptography").mkdir(exist_ok=True)
        (folder / "cryptography" / "__init__.py").write_text("")
        return folder

    monkeypatch.setattr(build, "_build_program", program)
    monkeypatch.setattr(build, "_libraries", libraries)
    monkeypatch.setattr(build, "_go_version", lambda: "go1.26.8")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return cache


def test_the_same_inputs_give_the_same_bytes(offline: Path, tmp_path: Path) -> None:
    first = build.build(VERSION, tmp_path / "a", lambda _line: None, cache=offline)
    second = build.build(VERSION, tmp_path / "b", lambda _line: None, cache=offline)
    assert first.read_bytes() == second.read_bytes()
    assert os.access(first, os.X_OK)


def test_the_checksum_file_is_in_the_vendors_format(offline: Path, tmp_path: Path) -> None:
    built = build.build(VERSION, tmp_path, lambda _line: None, cache=offline)
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "sha256sum-amd64.txt"], cwd=tmp_path, capture_output=True, check=False
    )
    assert checked.returncode == 0
    assert (tmp_path / "sha256sum-amd64.txt").read_text().endswith(f"  {built.name}\n")


def test_nothing_is_packed_twice(offline: Path, tmp_path: Path) -> None:
    said: list[str] = []
    build.build(VERSION, tmp_path, said.append, cache=offline)
    assert any("packing" in line for line in said)
    said.clear()
    build.build(VERSION, tmp_path, said.append, cache=offline)
    assert said == []


def test_another_file_of_the_same_name_is_replaced(offline: Path, tmp_path: Path) -> None:
    (tmp_path / "k3s").write_text("the vendor's")
    (tmp_path / "sha256sum-amd64.txt").write_text("0  k3s\n")
    built = build.build(VERSION, tmp_path, lambda _line: None, cache=offline)
    assert zipfile.is_zipfile(built)


def test_what_is_no_version_is_refused(offline: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a k3s version"):
        build.build("1.34", tmp_path, cache=offline)


def test_another_minor_version_is_refused(offline: Path, tmp_path: Path) -> None:
    with pytest.raises(build.BuildError, match=r"its minor version only, not v1\.33\.4"):
        build.build("v1.33.4+k3s1", tmp_path, cache=offline)


def test_another_machine_is_refused(offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(build.BuildError, match="this machine is riscv64"):
        build.build(VERSION, tmp_path, cache=offline)


def test_a_missing_go_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.BuildError, match=r"install Go 1\.\d+(\.\d+)? or newer"):
        build._go_version()


def test_an_old_go_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho go1.21.0\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(build.BuildError, match=r"is go1\.21\.0, the lab's Kubernetes needs Go"):
        build._go_version()


def test_a_failed_step_shows_the_end_of_its_output(tmp_path: Path) -> None:
    with pytest.raises(build.BuildError, match="making x failed with exit code 3:\nthe cause"):
        build._run(["sh", "-c", "echo the cause; exit 3"], "making x", lambda _line: None, cwd=tmp_path, environment={})


class TestUnpacking:
    @pytest.fixture
    def packed(self, offline: Path, tmp_path: Path) -> Path:
        return build.build(VERSION, tmp_path / "out", lambda _line: None, cache=offline)

    def test_as_k3s_does(self, packed: Path, tmp_path: Path) -> None:
        manifest = bundle.read_manifest(packed)
        folder = bundle.unpack(packed, tmp_path / "k3s", manifest)
        assert folder == tmp_path / "k3s" / "data" / manifest.data_hash
        assert os.access(folder / "bin" / "kube-apiserver", os.X_OK)
        assert (folder.parent / "current").readlink() == folder
        stamp = (folder / "bin" / "kine").stat().st_mtime_ns
        assert bundle.unpack(packed, tmp_path / "k3s", manifest) == folder
        assert (folder / "bin" / "kine").stat().st_mtime_ns == stamp

    def test_the_version_before_is_remembered(self, packed: Path, tmp_path: Path) -> None:
        base = tmp_path / "k3s" / "data"
        base.mkdir(parents=True)
        (base / "current").symlink_to(base / "older")
        bundle.unpack(packed, tmp_path / "k3s", bundle.read_manifest(packed))
        assert (base / "previous").readlink() == base / "older"

    def test_a_path_outside_is_refused(self, tmp_path: Path) -> None:
        bad = tmp_path / "bad"
        with zipfile.ZipFile(bad, "w") as archive:
            archive.writestr("payload/../../evil", "x")
        manifest = bundle.Manifest(VERSION, "c", "go", "hash")
        with pytest.raises(FatalError, match="damaged"):
            bundle.unpack(bad, tmp_path / "k3s", manifest)
        assert not (tmp_path / "evil").exists()

    def test_a_folder_that_cannot_be_written_is_named(self, packed: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(FatalError, match="extracting data"):
            bundle.unpack(packed, tmp_path / "file", bundle.read_manifest(packed))

    def test_libraries_for_another_python_only(self, tmp_path: Path) -> None:
        (tmp_path / "lib" / "cp399").mkdir(parents=True)
        with pytest.raises(FatalError, match="cp399"):
            bundle.import_libraries(tmp_path)
