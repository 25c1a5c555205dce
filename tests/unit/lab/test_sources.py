"""What is taken from where, and that nothing wrong is taken."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import k3s_files, sources
from lab.settings import LabError, Settings
from lab.sources import Sources

VERSION = "v1.2.3+k3s1"
CONTENT = b"\x7fELF" + b"#" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LISTED = f"{'1' * 64}  k3s-airgap-images-amd64.tar\n{SHA256}  k3s\n"


class Handler(http.server.BaseHTTPRequestHandler):
    answers: dict[str, tuple[int, dict[str, str], bytes]]

    def do_GET(self) -> None:
        status, headers, body = self.answers.get(self.path, (404, {}, b""))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def vendor() -> Iterator[str]:
    Handler.answers = {
        "/v2/": (401, {"WWW-Authenticate": 'Bearer realm="x"'}, b""),
        "/blocked": (403, {}, b"by the proxy"),
        "/login-page": (401, {}, b""),
        "/releases": (200, {}, b"ok"),
        "/download/v1.2.3%2Bk3s1/k3s": (200, {}, CONTENT),
        "/download/v1.2.3%2Bk3s1/sha256sum-amd64.txt": (200, {}, LISTED.encode()),
    }
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "answers"),
    [("/v2/", True), ("/releases", True), ("/blocked", False), ("/login-page", False), ("/x", False)],
)
def test_only_the_vendors_own_answer_counts(vendor: str, path: str, answers: bool) -> None:
    assert sources.reachable(vendor + path, 5) == answers


def test_nobody_there() -> None:
    assert not sources.reachable("http://127.0.0.1:1/", 1)


def test_stand_in_asks_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sources, "reachable", lambda *_: pytest.fail("somebody was asked"))
    found = Sources.probe(Settings(tmp_path, sources="stand-in"))
    assert not found.wants_real("docker.io/library/mongo")


@pytest.mark.parametrize("mode", ["auto", "real"])
def test_real_needs_all_of_them_auto_takes_what_there_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str
) -> None:
    monkeypatch.setattr(sources, "reachable", lambda url, *_: "ghcr" not in url)
    settings = Settings(tmp_path, sources=mode)
    if mode == "real":
        with pytest.raises(LabError, match=r"https://ghcr\.io/v2/"):
            Sources.probe(settings)
        return
    found = Sources.probe(settings)
    assert found.wants_real("docker.io/library/mongo")
    assert not found.wants_real("ghcr.io/hardmax71/integr8scode/backend")
    assert found.wants_real("k3s")


def test_what_was_used_is_recorded(tmp_path: Path) -> None:
    found = Sources("auto", {"docker.io": False}, {"library/mongo:8": "stand-in", "k3s": "real"}, ["a note"])
    found.save(Settings(tmp_path))
    saved = json.loads((tmp_path / "state" / "sources.json").read_text())
    assert saved["used"] == {"k3s": "real", "library/mongo:8": "stand-in"}
    assert "1 real, 1 stand-in" in found.describe()


@pytest.mark.parametrize("pin", [SHA256, ""])
def test_download_with_the_checksum_that_is_pinned_or_listed(vendor: str, tmp_path: Path, pin: str) -> None:
    k3s_files.download(VERSION, "amd64", pin, tmp_path, f"{vendor}/download")
    assert (tmp_path / "k3s").read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["k3s", "sha256sum-amd64.txt"]


def test_download_with_another_checksum_leaves_what_was_there(vendor: str, tmp_path: Path) -> None:
    (tmp_path / "k3s").write_text("before")
    with pytest.raises(LabError, match="roles/k3s pins " + "0" * 64):
        k3s_files.download(VERSION, "amd64", "0" * 64, tmp_path, f"{vendor}/download")
    assert (tmp_path / "k3s").read_text() == "before"


def test_download_of_something_else_than_the_vendor_lists(vendor: str, tmp_path: Path) -> None:
    Handler.answers["/download/v1.2.3%2Bk3s1/k3s"] = (200, {}, CONTENT[:50])
    with pytest.raises(LabError, match=f"the vendor lists {SHA256}"):
        k3s_files.download(VERSION, "amd64", "", tmp_path, f"{vendor}/download")
    assert not (tmp_path / "k3s").exists()


def test_a_list_without_the_file_is_not_enough(vendor: str, tmp_path: Path) -> None:
    Handler.answers["/download/v1.2.3%2Bk3s1/sha256sum-amd64.txt"] = (200, {}, LISTED.splitlines()[0].encode())
    with pytest.raises(LabError, match="lists no checksum"):
        k3s_files.download(VERSION, "amd64", "", tmp_path, f"{vendor}/download")


def test_the_vendors_program_is_known_from_the_labs(tmp_path: Path) -> None:
    path = tmp_path / "k3s"
    assert not k3s_files.is_vendors(path)
    path.write_bytes(b"#!/usr/bin/python3\nPK")
    assert not k3s_files.is_vendors(path)
    path.write_bytes(CONTENT)
    assert k3s_files.is_vendors(path)


def test_a_release_that_does_not_exist(vendor: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot be downloaded"):
        k3s_files.download("v9.9.9+k3s1", "amd64", "0" * 64, tmp_path, f"{vendor}/download")


def test_pinned_version_is_the_roles() -> None:
    version, checksums = k3s_files.pinned()
    assert version.startswith("v1.")
    assert set(checksums) <= {"amd64", "arm64"}


def test_defaults_without_a_checksum_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "main.yml"
    path.write_text("k3s_version: v1.2.3+k3s1\n")
    with pytest.raises(LabError, match="k3s_checksums"):
        k3s_files.pinned(path)
