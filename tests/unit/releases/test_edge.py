"""The edge by its runtime API: a fake one for what is rare, and HAProxy itself, with the role's configuration."""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.releases import edge
from ansible.module_utils.releases.compose import ComposeError
from ansible.module_utils.releases.edge import Edge, EdgeError, Slot
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from tests.unit.conftest import RunModule
from tests.unit.releases.fake_server import FakeServer

# -- the fake one


@pytest.fixture
def running(server: FakeServer) -> Edge:
    """The edge of a deployed release."""
    server.deployed("one")
    return Edge(server.base / "edge")


def test_places_are_read_with_address_state_and_sessions(server: FakeServer, running: Edge) -> None:
    server.busy = {"backend": 5}
    address = server.running("backend")[0].address
    slots = running.slots("backend")
    assert len(slots) == 8
    taken = [slot for slot in slots if slot.address]
    assert taken == [
        Slot("backend", "backend1", address, up=True, draining=False, sessions=0),
        Slot("backend_streams", "backend1", address, up=True, draining=False, sessions=0),
    ]
    assert running.serving("backend") == {address}
    running.set_state(taken[0], "drain")
    assert running.slots("backend")[0] == Slot("backend", "backend1", address, up=True, draining=True, sessions=1)
    assert running.serving("backend") == set()


@pytest.mark.parametrize(
    ("state", "admin", "up", "draining"),
    [(2, 0, True, False), (0, 0, False, False), (2, 0x20, False, False), (2, 0x01, False, False), (2, 0x08, True, True),
     (0, 0x28, False, True), (1, 0, False, False), (3, 0, False, False)],
)  # fmt: skip
def test_states_are_haproxys(
    running: Edge, monkeypatch: pytest.MonkeyPatch, state: int, admin: int, up: bool, draining: bool
) -> None:
    def answer(_: Edge, command: str) -> str:
        if command == "show stat":
            return "# pxname,svname,scur,\nbackend,FRONTEND,,\nbackend,b1,3,"
        name = command.rpartition(" ")[2]
        header = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state"
        return f"1\n{header}\n2 {name} 1 b1 10.0.0.1 {state} {admin}"

    monkeypatch.setattr(Edge, "ask", answer)
    first = running.slots("backend")[0]
    assert (first.up, first.draining, first.sessions) == (up, draining, 3)


def test_an_edge_that_is_not_there_is_told_with_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match=r"does not answer on .*admin\.sock .*docker compose logs edge") as told:
        Edge(tmp_path / "edge").slots("backend")
    assert f"{tmp_path}/current" in str(told.value)


def test_an_edge_without_the_backends_is_told(running: Edge) -> None:
    with pytest.raises(EdgeError, match="the edge has no backend mongo"):
        running.slots("mongo")


def test_an_edge_that_says_nothing_is_an_error(server: FakeServer, running: Edge) -> None:
    server.edge.silent = True
    with pytest.raises(EdgeError, match="does not say who it is"):
        running.worker()
    with pytest.raises(EdgeError, match="the edge has no backend backend"):
        running.slots("backend")


def test_a_refused_state_is_an_error(running: Edge) -> None:
    with pytest.raises(EdgeError, match="does not set backend/nix to drain: No such server"):
        running.set_state(Slot("backend", "nix", "", up=False, draining=False, sessions=0), "drain")


def test_a_copy_that_the_edge_does_not_find_is_told(server: FakeServer, running: Edge) -> None:
    with pytest.raises(EdgeError, match=r"sends nothing to the new backend at 10\.0\.0\.9"):
        running.wait_for("backend", {"10.0.0.9"}, server.clock.monotonic() + 3)


def test_a_copy_takes_requests_only_when_its_streams_have_a_place_too(server: FakeServer, running: Edge) -> None:
    address = server.running("backend")[0].address
    for slot in server.edge.slots:
        if slot.backend == "backend_streams":
            slot.address, slot.up = "", False
    server.edge.tick = lambda _: None  # type: ignore[method-assign]
    with pytest.raises(EdgeError, match="sends nothing to the new backend"):
        running.wait_for("backend", {address}, server.clock.monotonic() + 3)


def test_a_place_whose_address_stays_is_not_freed(server: FakeServer, running: Edge) -> None:
    address = server.running("backend")[0].address
    running.drain("backend", {address})
    running.forget("backend", {address}, seconds=3)
    assert [slot.draining for slot in running.slots("backend") if slot.address] == [True, True]
    assert server.to_nobody == []
    running.undrain("backend", {address})
    assert running.serving("backend") == {address}


def test_what_is_open_when_the_time_is_over_is_counted(server: FakeServer, running: Edge) -> None:
    server.busy = {"backend": 100, "backend_streams": 100}
    address = server.running("backend")[0].address
    began = server.clock.monotonic()
    running.drain("backend", {address})
    assert running.wait_drained("backend", {address}, began, requests=4, streams=2) == 2
    # a stream's client comes back by itself; a request is left to the program's own grace
    assert [line for line in server.log if line.startswith("end ")] == ["end backend_streams/backend1"]
    assert 4 <= server.clock.monotonic() - began < 6


def test_a_configuration_that_haproxy_refuses_leaves_the_old_one(server: FakeServer, running: Edge) -> None:
    with pytest.raises(EdgeError, match=r"HAProxy refuses the edge's configuration: .*unknown keyword"):
        running.install(b"BROKEN", "haproxy:3", server.base / "tls")
    assert not running.differs(b"the edge\n")
    assert sorted(path.name for path in running.folder.iterdir()) == ["haproxy.cfg", "run"]


def test_a_configuration_is_tried_without_network_and_with_the_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def docker(*arguments: str) -> str:
        said.extend(arguments)
        return ""

    monkeypatch.setattr(os, "fchown", lambda *_: None)
    monkeypatch.setattr(edge, "docker", docker)
    (tmp_path / "edge").mkdir()
    Edge(tmp_path / "edge").install(b"new", "haproxy:3", tmp_path / "tls")
    assert (tmp_path / "edge/haproxy.cfg").read_bytes() == b"new"
    assert (tmp_path / "edge/run").stat().st_mode & 0o777 == 0o700
    assert said[:5] == ["run", "--rm", "--network", "none", "--user"]
    assert "never" in said
    assert said[-4:] == ["haproxy:3", "-c", "-f", "/etc/edge/haproxy.cfg"]
    assert f"{tmp_path}/tls/public:/etc/edge-tls/public:ro" in said

    def fails(*_: str) -> str:
        raise ComposeError("no such image")

    monkeypatch.setattr(edge, "docker", fails)
    with pytest.raises(EdgeError, match="no such image"):
        Edge(tmp_path / "edge").install(b"newer", "haproxy:3", tmp_path / "tls")
    assert (tmp_path / "edge/haproxy.cfg").read_bytes() == b"new"


# -- HAProxy itself


@dataclass
class Real:
    """HAProxy with the role's configuration, two web servers behind it."""

    edge: Edge
    process: subprocess.Popen[bytes]
    slow: threading.Event


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def certificates(run_part: RunModule, folder: Path) -> None:
    """Public and internal certificates, as the role lays them down."""
    names = ["edge", "backend", "frontend", "localhost"]
    made = run_part(
        "certificates",
        {
            "ca": {"certificate": str(folder / "ca.crt"), "key": str(folder / "ca.key"), "common_name": "CA"},
            "certificates": [
                {
                    "name": name,
                    "with_ca": True,
                    "common_name": "edge",
                    "dns_names": names,
                    "directory": str(folder / name),
                }
                for name in ("public", "internal")
            ],
        },
    )
    assert not made.get("failed"), made


@pytest.fixture
def haproxy(tmp_path: Path, run_part: RunModule, project_root: Path, request: pytest.FixtureRequest) -> Iterator[Real]:
    """The edge's own configuration in a real HAProxy; its parameter is the name that the frontend is looked for by."""
    if not shutil.which("haproxy"):
        pytest.skip("there is no haproxy")
    certificates(run_part, tmp_path / "tls")
    slow = threading.Event()

    class Web(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/slow":
                slow.wait(20)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls/internal/server.crt", tmp_path / "tls/internal/server.key")
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    web.daemon_threads = True
    web.socket = context.wrap_socket(web.socket, server_side=True)
    threading.Thread(target=web.serve_forever, daemon=True).start()

    role = project_root / "roles/integr8scode"
    known: dict[str, Any] = {"inventory_hostname": "app1", "role_path": str(role), "ansible_managed": "managed"}
    for source in ("defaults/main.yml", "vars/main.yml"):
        known |= DataLoader().load_from_file(str(role / source), trusted_as_template=True)
    known["integr8scode_edge_max_connections"] = 100
    text = str(
        Templar(loader=DataLoader(), variables=known).template(
            trust_as_template((role / "templates/haproxy.cfg.j2").read_text())
        )
    )
    for old, new in {
        "/etc/edge-run": str(tmp_path / "edge/run"),
        "/etc/edge-tls": str(tmp_path / "tls"),
        "bind :443 ": f"bind 127.0.0.1:{free_port()} ",
        "bind :5001 ": f"bind 127.0.0.1:{free_port()} ",
        "bind :8404": f"bind 127.0.0.1:{free_port()}",
        f"bind {known['integr8scode_edge_proxy_address']}:8443": f"bind 127.0.0.1:{free_port()}",
        # in place of Docker's DNS: this machine's own name
        "init-addr last,none resolvers docker": "init-addr last,libc,none",
        " backend:443 ": f" localhost:{web.server_port} ",
        " frontend:5001 ": f" {getattr(request, 'param', 'localhost')}:{web.server_port} ",
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    text = text.replace("localhost:", "127.0.0.1:")
    (tmp_path / "edge/run").mkdir(parents=True)
    (tmp_path / "edge/haproxy.cfg").write_text(text)
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(
        ["haproxy", "-W", "-db", "-f", str(tmp_path / "edge/haproxy.cfg")], stdout=log, stderr=subprocess.STDOUT
    )
    real = Real(Edge(tmp_path / "edge"), process, slow)
    try:
        until(lambda: len(real.edge.serving("backend")) == 1, tmp_path / "log")
        yield real
    finally:
        slow.set()
        process.terminate()
        process.wait(20)
        log.close()
        web.shutdown()
        web.server_close()


def until(true: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            if true():
                return
        except EdgeError:
            pass
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def test_haproxy_is_drained_reloaded_and_asked_as_the_switch_does(
    haproxy: Real, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    running = haproxy.edge
    running.wait_for("frontend", {"127.0.0.1"}, time.monotonic() + 10)
    assert {slot.backend for slot in running.slots("frontend")} == {"frontend", "frontend_streams"}
    running.drain("backend", {"127.0.0.1"})
    assert running.serving("backend") == set()
    assert running.wait_drained("backend", {"127.0.0.1"}, time.monotonic(), requests=5, streams=5) == 0
    running.undrain("backend", {"127.0.0.1"})
    assert running.serving("backend") == {"127.0.0.1"}

    # one place stays drained over a reload, by the file that is written down before
    first = running.slots("backend")[0]
    running.set_state(first, "drain")
    before = running.worker()
    running.remember_servers()
    haproxy.process.send_signal(signal.SIGUSR2)
    running.wait_reloaded(before)
    running.forget_servers()
    assert running.worker() != before
    after = running.slots("backend")
    assert after[0].draining
    assert after[0].address == first.address
    assert not any(slot.draining for slot in after[1:])

    # a configuration that it cannot read leaves the old worker
    before = running.worker()
    (running.folder / "haproxy.cfg").write_text("BROKEN\n")
    haproxy.process.send_signal(signal.SIGUSR2)
    with pytest.raises(EdgeError, match="did not load its new configuration"):
        running.wait_reloaded(before, seconds=2)
    assert running.worker() == before


def test_haproxy_counts_a_request_that_is_under_way(haproxy: Real) -> None:
    running = haproxy.edge
    port = next(
        int(line.split(":")[1].split()[0])
        for line in (running.folder / "haproxy.cfg").read_text().splitlines()
        if line.strip().startswith("bind 127.0.0.1:")
    )
    context = ssl.create_default_context(cafile=str(running.folder.parent / "tls/public/ca.crt"))
    context.check_hostname = False
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port))) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n")
        until(lambda: sum(slot.sessions for slot in running.slots("backend")) == 1, running.folder)
        running.drain("backend", {"127.0.0.1"})
        drained = time.monotonic()
        assert running.wait_drained("backend", {"127.0.0.1"}, drained, requests=1, streams=1) == 1
        haproxy.slow.set()
        assert running.wait_drained("backend", {"127.0.0.1"}, drained, requests=10, streams=1) == 0
        assert b" 200 " in client.recv(4096)


@pytest.mark.parametrize("haproxy", ["frontend.invalid"], indirect=True)
def test_haproxy_keeps_a_place_held_when_a_copy_comes_to_it(haproxy: Real) -> None:
    running = haproxy.edge
    assert not any(slot.address or slot.draining for slot in running.slots("frontend"))
    running.hold("frontend")
    # ends the maintenance in which a place without address is; the address itself would take a real DNS
    running.ask("set server frontend/frontend1 addr 127.0.0.1")
    row = next(line for line in running.ask("show servers state frontend").splitlines() if " frontend1 " in line)
    assert row.split()[6] == str(0x08)
    assert all(slot.draining for slot in running.slots("frontend"))
    running.set_state(running.slots("frontend")[0], "ready")
    assert not running.slots("frontend")[0].draining
