"""The load generator of the tests of releases: does it see what users would see?"""

from __future__ import annotations

import io
import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tests.lab.application import certificate
from tests.servers import release_load
from tests.servers.release_load import Record, Users


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    posts: ClassVar[list[str]] = []
    """Paths of the POSTs that have come in."""
    broken: ClassVar[set[int]] = set()
    """Which POSTs (by their order) get no answer."""

    def _answer(self, body: bytes, status: int = 200, name: str = "9.9.9") -> None:
        self.send_response(status)
        if name:
            self.send_header("X-Release", name)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/api/v1/events/load-test":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number in range(5):
                time.sleep(0.05)
                text = f"data: {number}\r\n\r\n".encode()
                self.wfile.write(f"{len(text):x}\r\n".encode() + text + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        elif "slow" in self.path:
            time.sleep(0.3)
            self._answer(b"{}")
        elif self.path == "/build/main.js":
            self._answer(b"// Integr8sCode 8.8.8\nrest", name="")
        else:
            self._answer(b"{}")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/login"):
            self._answer(b"{}")
            return
        self.posts.append(self.path)
        if len(self.posts) in self.broken:
            self.close_connection = True
            self.connection.close()
            return
        self._answer(b"no", 503) if len(self.posts) in {b + 1 for b in self.broken} else self._answer(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, ssl.SSLContext]]:
    folder = certificate(tmp_path, "localhost")
    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    served.socket = context.wrap_socket(served.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield served.server_port, ssl.create_default_context(cafile=str(folder / "server.crt"))
    served.shutdown()
    served.server_close()


def load(server: tuple[int, ssl.SSLContext], broken: set[int]) -> list[Record]:
    Handler.posts, Handler.broken = [], broken
    port, tls = server
    sink = io.StringIO()
    Users((port, port), tls, "try", {"username": "u", "password": "p"}, sink).work(2)
    return [Record(**json.loads(line)) for line in sink.getvalue().splitlines()]


def test_all_is_well(server: tuple[int, ssl.SSLContext]) -> None:
    records = load(server, set())
    assert release_load.failures(records) == [], release_load.describe(records)
    short = [record for record in records if record.kind in release_load.SHORT_NAMES]
    assert 80 <= len(short) <= 120
    assert {record.kind for record in records} >= {
        *release_load.SHORT_NAMES,
        *release_load.SLOW,
        *release_load.STREAMS,
        *(kind.name for kind in release_load.LOGINS),
    }
    # keep-alive: a client's first request alone needs a new connection
    assert sum(not record.reused for record in short) == 20
    assert set(release_load.releases(records)) == {"9.9.9", "8.8.8"}
    numbers = [record.number for record in records if record.number > 0]
    assert len(numbers) == len(set(numbers)) == len(Handler.posts)
    assert 0 < max(release_load.pauses(records, "stream")) < 1


def test_what_goes_wrong_is_seen_and_not_tried_again(server: tuple[int, ssl.SSLContext]) -> None:
    records = load(server, {9})
    failed = release_load.failures(records)
    assert sorted(record.status for record in failed) == [0, 503]
    assert all(record.kind.startswith("post") for record in failed)
    assert len(Handler.posts) == len(set(Handler.posts))
    assert "2 of" in release_load.describe(records)


def test_spans_and_pauses() -> None:
    lives = [Record("stream", at, 5, 200, first=0.1) for at in (0.0, 5.4, 10.5)]
    assert release_load.pauses(lives, "stream") == pytest.approx([0.5, 0.2])
    assert release_load.between(lives, 5.1, 5.3) == []
    assert release_load.between(lives, 4, 6) == lives[:2]
    assert release_load.outside(lives, [(0, 1), (15, 20)]) == lives[1:2]
    assert release_load.longest([Record("get", 0, 1), Record("login", 0, 9), Record("post", 0, 2)]) == 2
