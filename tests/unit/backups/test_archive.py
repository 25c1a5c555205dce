"""A backup's file: what comes out is what went in, and what was tampered with does not come out."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.module_utils.backups import age, archive
from ansible.module_utils.backups.archive import Member
from ansible.module_utils.backups.store import Backup, BackupError, load, sidecar
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "tls").mkdir(parents=True)
    (source / "tls").chmod(0o700)
    (source / "tls/ca.key").write_text("the key")
    (source / "tls/ca.key").chmod(0o400)
    os.utime(source / "tls/ca.key", (1_700_000_000, 1_700_000_000))
    (source / "token").write_text("the token")
    (source / "node-token").symlink_to("/var/lib/rancher/k3s/server/token")
    (source / "big").write_bytes(os.urandom(300_000))
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(source / "kine.sock"))
    os.mkfifo(source / "pipe")
    return source


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "backups"


def identity(tmp_path: Path, name: str = "identity") -> tuple[Path, str]:
    """A new identity of age: its file and its public key."""
    path = tmp_path / name
    done = subprocess.run(["age-keygen", "-o", str(path)], capture_output=True, text=True, check=True)
    return path, done.stderr.strip().rpartition(" ")[2]


def made(directory: Path, source: Path, *recipients: str) -> Backup:
    return archive.create(directory, "k3s", [Member("etc/x", source)], reason="test", recipients=recipients)


def content(folder: Path) -> dict[str, tuple[int, bytes | str, int]]:
    found: dict[str, tuple[int, bytes | str, int]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        if path.is_symlink():
            found[str(path.relative_to(folder))] = (0, os.readlink(path), 0)
        elif path.is_file():
            found[str(path.relative_to(folder))] = (status.st_mode, path.read_bytes(), int(status.st_mtime))
        elif path.is_dir():
            found[str(path.relative_to(folder))] = (status.st_mode, b"", int(status.st_mtime))
    return found


def test_what_went_in_comes_out_without_sockets(directory: Path, source: Path, tmp_path: Path) -> None:
    backup = made(directory, source)
    archive.extract(backup, tmp_path / "out", ["etc/x"])
    assert content(tmp_path / "out/etc/x") == content(source)
    assert not (tmp_path / "out/etc/x/kine.sock").exists()
    assert not (tmp_path / "out/etc/x/pipe").exists()


def test_each_name_of_a_file_comes_out(directory: Path, source: Path, tmp_path: Path) -> None:
    os.link(source / "token", source / "other")
    archive.extract(made(directory, source), tmp_path / "out", ["etc/x"])
    assert [(tmp_path / "out/etc/x" / name).read_text() for name in ("token", "other")] == ["the token"] * 2


def test_only_what_is_asked_for_comes_out(directory: Path, source: Path, tmp_path: Path) -> None:
    archive.extract(made(directory, source), tmp_path / "out", ["etc/x/tls", "etc/x/tok"])
    assert sorted(content(tmp_path / "out/etc/x")) == ["tls", "tls/ca.key"]


def test_the_file_and_its_manifest_are_root_s_and_hold_no_checksum_of_a_secret(directory: Path, source: Path) -> None:
    backup = made(directory, source)
    assert directory.stat().st_mode & 0o777 == 0o700
    for path in (backup.path, sidecar(backup.path)):
        assert path.stat().st_mode & 0o777 == 0o600
    assert hashlib.sha256(b"the token").hexdigest() not in sidecar(backup.path).read_text()
    assert sorted(path.name for path in directory.iterdir()) == [backup.path.name, sidecar(backup.path).name]
    assert backup.manifest["file"]["size"] == backup.path.stat().st_size


def test_two_backups_within_a_second_are_two(directory: Path, source: Path) -> None:
    paths = {made(directory, source).path for _ in range(3)}
    assert len(paths) == 3
    assert all(load(path) for path in paths)


def test_a_member_that_is_not_there_fails_and_leaves_nothing(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="No such file"):
        archive.create(directory, "k3s", [Member("a", tmp_path / "missing")], reason="test")
    assert list(directory.iterdir()) == []


def test_a_file_of_a_folder_that_goes_meanwhile_is_left_out(
    directory: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = tarfile.TarFile.gettarinfo

    def gettarinfo(self: tarfile.TarFile, name: str, arcname: str) -> tarfile.TarInfo:
        if name.endswith("token") and Path(name).is_file() and not Path(name).is_symlink():
            Path(name).unlink()
        return original(self, name, arcname)

    monkeypatch.setattr(tarfile.TarFile, "gettarinfo", gettarinfo)
    archive.extract(made(directory, source), tmp_path / "out", ["etc/x"])
    assert not (tmp_path / "out/etc/x/token").exists()
    assert (tmp_path / "out/etc/x/big").exists()


def test_a_disk_that_gets_full_leaves_nothing(directory: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(BackupError, match="No space left"):
        made(directory, source)
    assert list(directory.iterdir()) == []


def test_a_disk_that_writes_something_else_is_noticed(
    directory: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.fsync

    def fsync(descriptor: int) -> None:
        original(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.name.endswith(".partial"):
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 0xFF
            path.write_bytes(data)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(BackupError, match="does not hold what was put in"):
        made(directory, source)
    assert list(directory.iterdir()) == []


@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_flipped_bit_anywhere_is_found_when_it_is_read(
    tmp_path_factory: pytest.TempPathFactory, at: float, flip: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "flip"
    folder.mkdir(exist_ok=True)
    (folder / "a").write_bytes(b"content" * 100)
    if not list(folder.glob("k3s-*")):
        archive.create(folder, "k3s", [Member("a", folder / "a")], reason="test")
    path = next(folder.glob("k3s-*.tar.gz"))
    whole = path.read_bytes()
    data = bytearray(whole)
    data[int(at * len(data))] ^= flip
    try:
        path.write_bytes(data)
        with pytest.raises(BackupError, match="damaged"):
            load(path)
        with pytest.raises(BackupError, match="damaged"):
            archive.read_member(Backup(path, "k3s", "", "", True, False, {}), "a")
    finally:
        path.write_bytes(whole)


# somebody else's tar

Entry = tuple[str, bytes, bytes | str]


def forged(directory: Path, entries: list[Entry], sums: dict[str, str] | None = None) -> Backup:
    """A backup with these entries (name, type, content or where a link points), its checksums right."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "k3s-server1-20261124T000000Z.tar.gz"
    right: dict[str, str] = {}
    with tarfile.open(path, "w:gz") as tar:
        for name, kind, data in entries:
            info = tarfile.TarInfo(name)
            info.type, info.uid, info.gid = kind, os.getuid(), os.getgid()
            if isinstance(data, str):
                info.linkname = data
                tar.addfile(info)
            else:
                info.size = len(data)
                right[name] = hashlib.sha256(data).hexdigest()
                tar.addfile(info, io.BytesIO(data))
        text = json.dumps(right if sums is None else sums).encode()
        info = tarfile.TarInfo(archive.CHECKSUMS)
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest = {"format": 1, "kind": "k3s", "host": "x", "created": "2026", "reason": "", "verified": True,
                "encrypted": False, "file": {"sha256": digest, "size": 1}}  # fmt: skip
    sidecar(path).write_text(json.dumps(manifest))
    return load(path)


@pytest.mark.parametrize(
    "entries",
    [
        [("a/../../evil", tarfile.REGTYPE, b"x")],
        [("a/./evil", tarfile.REGTYPE, b"x")],
        [("a/link", tarfile.SYMTYPE, "/tmp"), ("a/link/evil", tarfile.REGTYPE, b"x")],
        [("a/link", tarfile.SYMTYPE, "../.."), ("a/link/b/evil", tarfile.REGTYPE, b"x")],
        [("a/link", tarfile.SYMTYPE, "/tmp"), ("a//link/evil", tarfile.REGTYPE, b"x")],
        [("a/evil", tarfile.SYMTYPE, "/etc/passwd"), ("a/evil", tarfile.REGTYPE, b"x")],
        [("a/evil", tarfile.LNKTYPE, "/etc/passwd")],
        [("a/evil", tarfile.CHRTYPE, b"")],
        [("a/evil", tarfile.FIFOTYPE, b"")],
    ],
)
def test_nothing_gets_outside_of_the_folder(tmp_path: Path, entries: list[Entry]) -> None:
    out = tmp_path / "deep/er/out"
    with pytest.raises(BackupError, match=r"would lead elsewhere|is no file"):
        archive.extract(forged(tmp_path / "b", entries), out, ["a"])
    assert [path for path in tmp_path.rglob("evil") if path.is_file() and not path.is_symlink()] == []
    assert not Path("/tmp/evil").exists()


def test_an_absolute_name_is_refused(tmp_path: Path) -> None:
    target = str(tmp_path / "evil")
    with pytest.raises(BackupError, match="would lead elsewhere"):
        archive.extract(forged(tmp_path / "b", [(target, tarfile.REGTYPE, b"x")]), tmp_path / "out", [target])
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("sums", [{"a/x": "00"}, {}, {"a/x": hashlib.sha256(b"x").hexdigest(), "a/missing": "00"}])
def test_members_must_be_those_that_were_put_in(tmp_path: Path, sums: dict[str, str]) -> None:
    with pytest.raises(BackupError, match="is damaged"):
        archive.extract(forged(tmp_path / "b", [("a/x", tarfile.REGTYPE, b"x")], sums), tmp_path / "out", ["a"])


def test_a_tar_that_ends_early_is_refused(tmp_path: Path, directory: Path, source: Path) -> None:
    backup = made(directory, source)
    os.truncate(backup.path, backup.path.stat().st_size // 2)
    with pytest.raises(BackupError, match=r"cannot be read|ends before"):
        archive.extract(backup, tmp_path / "out", ["etc"])


def test_a_single_file_is_read_without_a_copy_on_the_disk(directory: Path, source: Path) -> None:
    backup = made(directory, source)
    assert archive.read_member(backup, "etc/x/token") == b"the token"
    with pytest.raises(BackupError, match="holds no etc/x/none"):
        archive.read_member(backup, "etc/x/none")
    with pytest.raises(BackupError, match="holds no"):
        archive.read_member(backup, "etc/x/node-token")


# age


def test_encrypted_there_and_back(directory: Path, source: Path, tmp_path: Path) -> None:
    path, key = identity(tmp_path)
    _other, second = identity(tmp_path, "second")
    backup = made(directory, source, key, second)
    assert backup.path.name.endswith(".tar.gz.age")
    assert backup.path.read_bytes().startswith(age.HEADER)
    assert backup.manifest["recipients"] == [key, second]
    for number, given_identity in enumerate((str(path), path.read_text(), str(tmp_path / "second"))):
        archive.extract(backup, tmp_path / f"out{number}", ["etc/x"], identity=given_identity)
        assert content(tmp_path / f"out{number}/etc/x") == content(source)
    assert archive.read_member(backup, "etc/x/token", identity=path.read_text()) == b"the token"


def test_plain_text_is_never_on_the_disk(
    directory: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _path, key = identity(tmp_path)
    seen: list[bytes] = []
    original = os.fsync

    def fsync(descriptor: int) -> None:
        original(descriptor)
        seen.extend(path.read_bytes()[:2] for path in directory.iterdir() if path.suffix != ".json")

    monkeypatch.setattr(os, "fsync", fsync)
    made(directory, source, key)
    assert seen
    assert b"\x1f\x8b" not in seen, "a gzip"


def test_the_identity_is_on_no_command_line(
    directory: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, key = identity(tmp_path)
    backup = made(directory, source, key)
    commands: list[list[str]] = []
    original: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen

    def popen(command: list[str], **more: object) -> subprocess.Popen[bytes]:
        commands.append(command)
        return original(command, **more)

    monkeypatch.setattr(subprocess, "Popen", popen)
    assert archive.read_member(backup, "etc/x/token", identity=path.read_text()) == b"the token"
    assert commands
    assert not any("AGE-SECRET-KEY" in word for command in commands for word in command)


@pytest.mark.parametrize("wrong", ["other", "missing", "rubbish", ""])
def test_without_the_right_identity_it_is_refused_with_the_cure(
    directory: Path, source: Path, tmp_path: Path, wrong: str
) -> None:
    _path, key = identity(tmp_path)
    backup = made(directory, source, key)
    identity(tmp_path, "other")
    (tmp_path / "rubbish").write_text("rubbish\n")
    with pytest.raises(BackupError, match=r"cannot be decrypted|is encrypted\. Cure"):
        archive.extract(backup, tmp_path / "out", ["etc"], identity=str(tmp_path / wrong) if wrong else "")


def test_an_encrypted_file_that_ends_early_is_refused(directory: Path, source: Path, tmp_path: Path) -> None:
    path, key = identity(tmp_path)
    backup = made(directory, source, key)
    # age ends where a whole chunk is missing only at the end of what it has read
    os.truncate(backup.path, backup.path.stat().st_size - 20)
    with pytest.raises(BackupError):
        archive.extract(backup, tmp_path / "out", ["etc"], identity=str(path))


def test_an_incomplete_ciphertext_is_noticed_when_it_is_made(
    directory: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _path, key = identity(tmp_path)
    original = os.fsync

    def fsync(descriptor: int) -> None:
        original(descriptor)
        if "partial" in os.readlink(f"/proc/self/fd/{descriptor}"):
            os.truncate(descriptor, os.fstat(descriptor).st_size - 1)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(BackupError, match="should have written"):
        made(directory, source, key)
    assert list(directory.iterdir()) == []


def test_a_wrong_recipient_is_named_and_leaves_nothing(directory: Path, source: Path) -> None:
    with pytest.raises(BackupError, match=r"age failed: .*malformed recipient|age failed: .*unknown recipient"):
        made(directory, source, "age1nonsense")
    assert list(directory.iterdir()) == []


def test_without_age_it_says_how_to_get_it(
    directory: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _path, key = identity(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupError, match="apt install age"):
        made(directory, source, key)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 3 * 65536])
def test_the_size_of_what_age_writes_is_known(tmp_path: Path, size: int) -> None:
    _path, key = identity(tmp_path)
    with (tmp_path / "sealed").open("wb") as sink, age.encrypting(sink, [key]) as into:
        into.write(bytes(size))
    age.check_file(tmp_path / "sealed", size)
    with pytest.raises(BackupError):
        age.check_file(tmp_path / "sealed", size + 1)
