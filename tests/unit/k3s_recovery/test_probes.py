"""What is asked of the server itself: SQLite, systemd, certificates by a handshake, and all of it on a broken one."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import http.client
import importlib
import json
import socket
import sqlite3
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

facts = importlib.import_module("ansible.module_utils.k3s_recovery.facts")
listeners = importlib.import_module("ansible.module_utils.k3s_recovery.listeners")
probes = importlib.import_module("ansible.module_utils.k3s_recovery.probes")
k3s_node = importlib.import_module("ansible.module_utils.k3s_node")
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
    rows = [("/registry/namespaces/mine", 0), ("/registry/namespaces/gone", 1)]
    rows += [("/registry/minions/a", 0), ("/registry/minions/b", 1)]
    connection.executemany("INSERT INTO kine (name, deleted) VALUES (?, ?)", rows)
    connection.commit()
    connection.close()
    return path


def test_a_database_and_its_token(tmp_path: Path) -> None:
    path = database(tmp_path / "state.db")
    before = {one.name for one in tmp_path.iterdir()}
    assert probes.database(path, SECRET, whole=True) == probes.Datastore(
        "sqlite", str(path), "", True, path.stat().st_size, 505, ["mine"], ["a"]
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


class Cut:
    """A k3s that dies under a request."""

    def open(self, *_arguments: object, **_more: object) -> Any:
        raise http.client.IncompleteRead(b"{")


def test_an_answer_that_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(self: Any, *_arguments: object) -> None:
        self.server, self.opener = "https://127.0.0.1:6443", Cut()

    monkeypatch.setattr(k3s_node.Api, "__init__", begin)
    assert "does not answer: IncompleteRead" in probes.api("/x").problem
    assert "does not answer: IncompleteRead" in k3s_node.node_state(name="a", node_ip="").problem


def test_a_systemd_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **more: Any) -> Any:
        assert more["timeout"] > 0
        raise subprocess.TimeoutExpired(command, more["timeout"])

    monkeypatch.setattr(subprocess, "run", hang)
    assert "no answer within 20 s" in probes.unit().problem
    with pytest.raises(k3s_node.K3sError, match="systemd has not answered"):
        k3s_node.unit_state()


def test_the_name_of_a_node_with_an_identifier(tmp_path: Path) -> None:
    write(tmp_path / "etc/rancher/k3s/config.yaml", b"with-node-id: true\nnode-name: A\n")
    write(tmp_path / "etc/rancher/node/id", b"0a1b2c3d\n")
    assert facts.collect(root=tmp_path).node_name == "a-0a1b2c3d"


def test_servers_and_addresses_that_files_tell(tmp_path: Path) -> None:
    write(
        tmp_path / "agent/etc/k3s-agent-load-balancer.json", b'{"ServerAddresses": ["10.0.0.2:6443", "10.0.0.3:6443"]}'
    )
    write(tmp_path / "agent/etc/k3s-api-server-agent-load-balancer.json", b"cut off {")
    write(tmp_path / "etc/wireguard/wg0.conf", b"[Interface]\nPrivateKey = x\nAddress = 10.8.0.1/24, fd08::1/64\n")
    assert probes.known_servers(tmp_path) == ["10.0.0.2", "10.0.0.3"]
    assert probes.wireguard_addresses(tmp_path) == {"10.8.0.1": "wg0", "fd08::1": "wg0"}


def test_what_the_last_backup_says(tmp_path: Path) -> None:
    def backup(at: str, reason: str, revision: int) -> None:
        path = tmp_path / f"backups/k3s-a-202611{at}T000000Z.tar.gz"
        write(path, b"")
        manifest = {
            "kind": "k3s", "created": f"2026-11-{at}T00:00:00+00:00", "reason": reason, "verified": True,
            "encrypted": False, "host": "a", "inventory": {"revision": revision, "namespaces": ["mine"]},
        }  # fmt: skip
        write(path.with_name(f"{path.name}.json"), json.dumps(manifest).encode())

    def kept() -> Any:
        return facts._kept(tmp_path / "backups", "a", tmp_path / "data")

    assert kept() is None
    backup("21", "backup", 5)
    backup("22", "backup", 9)
    backup("23", "before a recovery", 2)
    found = kept()
    assert (found.revision, found.namespaces, "20261122" in found.backup) == (9, ["mine"], True)
    # what a restore has put aside since then
    (tmp_path / "data/server/.before-restore-x").mkdir(parents=True)
    backup("22", "backup", 9)
    made = dt.datetime(2026, 11, 22, tzinfo=dt.timezone.utc).timestamp()
    assert (tmp_path / "data/server/.before-restore-x").stat().st_ctime > made
    assert kept() is None
