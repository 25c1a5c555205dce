"""What is asked of the server itself: SQLite, systemd, certificates by a handshake, and all of it on a broken one."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import importlib
import json
import socket
import sqlite3
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

facts = importlib.import_module("ansible.module_utils.k3s_recovery.facts")
listeners = importlib.import_module("ansible.module_utils.k3s_recovery.listeners")
probes = importlib.import_module("ansible.module_utils.k3s_recovery.probes")
tools = importlib.import_module("ansible.module_utils.certificate_tools")

SECRET = "0123456789abcdef0123"


def database(path: Path, secret: str = SECRET, rows: int = 500) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE kine (id INTEGER PRIMARY KEY, name TEXT, deleted INTEGER, value BLOB)")
    key = "/bootstrap/" + hashlib.sha256(secret.encode()).hexdigest()[:12]
    connection.execute("INSERT INTO kine (name, deleted, value) VALUES (?, 0, ?)", (key, b"x"))
    connection.executemany(
        "INSERT INTO kine (name, deleted, value) VALUES (?, 0, ?)", [("/registry/x", b"y" * 900)] * rows
    )
    connection.commit()
    connection.close()
    return path


def test_a_database_and_its_token(tmp_path: Path) -> None:
    path = database(tmp_path / "state.db")
    before = {one.name for one in tmp_path.iterdir()}
    assert probes.database(path, SECRET, whole=True) == probes.Datastore(
        "sqlite", str(path), "", True, path.stat().st_size
    )
    assert probes.database(path, "another", whole=True).token is False
    assert probes.database(path, "", whole=True).token is None
    assert {one.name for one in tmp_path.iterdir()} == before


def test_a_database_in_use(tmp_path: Path) -> None:
    path = database(tmp_path / "state.db")
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO kine (name, deleted, value) VALUES ('/registry/y', 0, x'00')")
    assert probes.database(path, SECRET, whole=True).problem == ""
    writer.execute("COMMIT")
    assert probes.database(path, SECRET, whole=True).token is True
    writer.close()


@pytest.mark.parametrize("offset", [0, 200_000])
def test_a_damaged_database(tmp_path: Path, offset: int) -> None:
    path = database(tmp_path / "state.db")
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xa5" * 40960)
    problem = probes.database(path, SECRET, whole=True).problem
    assert problem
    assert "\n" not in problem


def test_an_empty_database(tmp_path: Path) -> None:
    (tmp_path / "state.db").touch()
    assert probes.database(tmp_path / "state.db", "", whole=True).problem == "it is empty"


def test_what_systemd_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "monotonic", lambda: 100.0)
    text = (
        "Id=k3s.service\nLoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nResult=success\n"
        "NRestarts=3\nInvocationID=abc\nActiveEnterTimestampMonotonic=90000000\nExecMainStartTimestampMonotonic=80000000\n\n"
        "Id=k3s-agent.service\nLoadState=not-found\nActiveState=inactive\n"
    )
    found = probes.parse_units(text)
    assert (found.running, found.restarts, found.running_seconds, found.process_seconds) == (True, 3, 10.0, 20.0)
    assert (found.loaded, found.enabled, found.agent) == (True, True, False)
    assert not probes.parse_units("").loaded


def test_nodes() -> None:
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-24T00:00:00Z"}
    body = {
        "metadata": {"name": "a", "labels": {"node-role.kubernetes.io/control-plane": "true"}},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "10.0.0.2"}, {"type": "Hostname", "address": "a"}],
            "conditions": [ready],
        },
    }
    (found,) = probes.parse_nodes({"items": [body]})
    assert (found.ready, found.control_plane, found.internal_ips) == (True, True, ["10.0.0.2"])
    assert found.reported == dt.datetime(2026, 11, 24, tzinfo=dt.timezone.utc).timestamp()
    (bare,) = probes.parse_nodes({"items": [{"metadata": {"name": "b"}}]})
    assert (bare.ready, bare.reported) == (False, 0.0)


class Authority:
    """A certificate authority in a folder laid out as k3s' data."""

    def __init__(self, name: str) -> None:
        self.key = tools.new_key()
        self.certificate = tools.make_ca(self.key, name, 3650)

    def leaf(self, days: float) -> tuple[bytes, bytes]:
        key = tools.new_key()
        end = tools.now() + dt.timedelta(days=days)
        made = tools.make_leaf(
            key, self.certificate, self.key, common_name="k3s", names=frozenset({"localhost"}), end=end
        )
        return tools.certificate_pem(made), tools.key_pem(key)


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    own = Authority("k3s-server")
    write(tmp_path / "server/tls/server-ca.crt", tools.certificate_pem(own.certificate))
    certificate, key = own.leaf(300)
    write(tmp_path / "server/tls/serving-kube-apiserver.crt", certificate)
    write(tmp_path / "server/tls/serving-kube-apiserver.key", key)
    # the same name, another key: what a wrong CA file that was put back looks like
    for name, authority, days in (("foreign", Authority("k3s-server"), 300.0), ("expired", own, -0.001)):
        certificate, key = authority.leaf(days)
        write(tmp_path / name / "tls.crt", certificate)
        write(tmp_path / name / "tls.key", key)
    return tmp_path


def listener(data: Path, name: str) -> Any:
    """What is found when k3s' own listener has the certificate in the folder `name`."""
    pair = {one: base64.b64encode((data / name / one).read_bytes()).decode() for one in ("tls.crt", "tls.key")}
    write(data / listeners.LISTENER, json.dumps({"kind": "Secret", "data": pair}).encode())
    return next(one for one in listeners.certificates(data) if one.place.endswith("dynamic-cert.json"))


def test_certificates_as_clients_judge_them(data: Path) -> None:
    ca, serving = listeners.certificates(data)
    assert (ca.problem, serving.problem) == ("", "")
    assert serving.names == ("localhost",)
    assert ca.not_after > serving.not_after > 0
    assert listener(data, "foreign").problem == "foreign"
    assert listener(data, "expired").problem == "expired"
    write(data / listeners.LISTENER, b"{}")
    assert len(listeners.certificates(data)) == 2
    assert listeners.certificates(data / "nowhere") == []


@pytest.mark.parametrize(("name", "problem"), [("server/tls/serving-kube-apiserver", ""), ("foreign/tls", "foreign")])
def test_what_the_port_shows(data: Path, name: str, problem: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(data / f"{name}.crt", data / f"{name}.key")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            plain, _peer = server.accept()
            try:
                context.wrap_socket(plain, server_side=True).close()
            except OSError:
                plain.close()

        thread = threading.Thread(target=answer)
        thread.start()
        found = listeners.served("127.0.0.1", server.getsockname()[1], data)
        thread.join()
    assert found is not None
    assert found.problem == problem
    assert probes.port_holder(1) == ""


def test_nothing_answers(data: Path) -> None:
    assert listeners.served("127.0.0.1", 1, data) is None


def test_a_server_on_which_nothing_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without systemd, without a journal, without k3s: it says so and does not raise."""
    monkeypatch.setenv("PATH", "/nowhere")
    found = facts.collect(root=tmp_path)
    assert found.gone == ["server/db", "server/tls", "server/token"]
    assert (found.datastore.kind, found.unit.loaded, bool(found.binary_problem)) == ("none", False, True)
    assert found.api.problem
    assert found.journal.problem
    json.dumps(found.as_dict())


def test_no_secret_gets_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = {"MESSAGE": f"token {SECRET} is wrong, so is other-secret-value", "_SYSTEMD_INVOCATION_ID": "a"}
    journalctl = tmp_path / "bin/journalctl"
    write(journalctl, f"#!/bin/sh\ncat <<'END'\n{json.dumps(line)}\nEND\n".encode())
    journalctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    write(tmp_path / "etc/rancher/k3s/config.yaml", b"token: other-secret-value\n")
    write(tmp_path / "etc/rancher/node/password", b"the-nodes-own-password\n")
    write(tmp_path / "var/lib/rancher/k3s/server/token", f"K10abc::server:{SECRET}\n".encode())
    database(tmp_path / "var/lib/rancher/k3s/server/db/state.db")
    found = facts.collect(root=tmp_path)
    assert found.token_matches is False
    assert found.datastore.token is False
    shown = repr(found) + json.dumps(found.as_dict())
    for secret in (SECRET, "other-secret-value", "the-nodes-own-password"):
        assert secret not in shown
    assert found.journal.starts[0].lines == ["token ******** is wrong, so is ********"]
