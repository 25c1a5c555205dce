"""The probes, on files and programs that stand for a server's."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import certificate_tools as certificates
from ansible.module_utils.doctor import probes_docker, probes_machine, probes_network, probes_services, probes_trust
from ansible.module_utils.doctor.probes_machine import ProbeRefused
from ansible.module_utils.doctor.wire_mongo import MongoRefused
from ansible.module_utils.k3s_recovery.facts import Facts
from ansible.module_utils.k3s_recovery.probes import Unit

# -- the machine


def test_a_command_that_fails_hangs_or_is_not_there(quick: Callable[[], float]) -> None:
    assert probes_machine.command(["echo", "hello"]) == "hello\n"
    with pytest.raises(ProbeRefused, match="exit code 3"):
        probes_machine.command(["sh", "-c", "exit 3"])
    with pytest.raises(ProbeRefused, match=r"within 0\.2 s"):
        probes_machine.command(["sleep", "30"], timeout=0.2)
    with pytest.raises(ProbeRefused, match="cannot be run"):
        probes_machine.command(["no-such-program"])
    assert quick() < 5


def test_disks_are_told_once_for_each_file_system(tmp_path: Path) -> None:
    found = probes_machine.disks([str(tmp_path), str(tmp_path), "/no/such/place"])
    assert [one["path"] for one in found] == [str(tmp_path)]
    assert 0 < found[0]["free_percent"] <= 100


def test_units() -> None:
    text = "Id=docker.service\nActiveState=active\n\nId=k3s.service\nActiveState=failed\nResult=exit-code\n"
    assert probes_machine.parse_units(text)["k3s.service"]["Result"] == "exit-code"


def test_names_that_are_and_are_not() -> None:
    found = probes_machine.names(["localhost", "no-such-name.invalid"])["names"]
    assert found["localhost"]["addresses"]
    assert found["no-such-name.invalid"]["problem"]


def test_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    (jobs / "backup.json").write_text('{"result": "failed"}')
    monkeypatch.setattr(probes_machine, "JOBS", jobs)
    release = tmp_path / "releases/x"
    release.mkdir(parents=True)
    (release / "release.json").write_text('{"id": "x"}')
    (release / ".env").write_text("IMAGE_TAG=1\nKAFKA_CLUSTER_ID=abc\n")
    (tmp_path / "current").symlink_to("releases/x")
    (tmp_path / "lock").mkdir()
    (tmp_path / "lock/owner.json").write_text("{")
    (tmp_path / "history.jsonl").write_text('{"action": "deploy"}\n{"cut')
    backups = tmp_path / "backups"
    backups.mkdir()
    (backups / "k3s-app1-20260101T000000Z.tar.gz").touch()
    (backups / "k3s-app1-20260101T000000Z.tar.gz.json").touch()
    found = probes_machine.records(str(tmp_path), str(backups))
    assert found["release"] == {"id": "x"}
    assert found["environment"] == {"KAFKA_CLUSTER_ID": "abc"}
    assert found["lock"] == {}
    assert found["history"] == [{"action": "deploy"}]
    assert found["jobs"] == {"backup": {"result": "failed"}}
    assert list(found["backups"]) == ["k3s"]


def test_records_of_a_fresh_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes_machine, "JOBS", tmp_path / "none")
    found = probes_machine.records(str(tmp_path / "base"), str(tmp_path / "backups"))
    assert found["release"] is None
    assert found["lock"] is None
    (tmp_path / "base").mkdir()
    (tmp_path / "base/current").symlink_to("releases/gone")
    assert probes_machine.records(str(tmp_path / "base"), "")["dangling"]


# -- Docker


@pytest.mark.parametrize("version", [1, 2])
def test_memory_of_a_container(tmp_path: Path, version: int) -> None:
    (tmp_path / "proc/7").mkdir(parents=True)
    line = "0::/docker/x\n" if version == 2 else "5:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n"
    (tmp_path / "proc/7/cgroup").write_text(line)
    folder = tmp_path / "cgroup" / ("docker/x" if version == 2 else "memory/docker/x")
    folder.mkdir(parents=True)
    (folder / "memory.stat").write_text("anon 1000\nfile 5\n" if version == 2 else "rss 5\ntotal_rss 1000\n")
    kills = "memory.events" if version == 2 else "memory.oom_control"
    (folder / kills).write_text("oom 3\noom_kill 2\n")
    found = probes_docker.memory_of(7, tmp_path / "proc", tmp_path / "cgroup")
    assert found == {"used": 1000, "oom_kills": 2}
    assert probes_docker.memory_of(8, tmp_path / "proc", tmp_path / "cgroup") == {}


def test_a_container_is_described_without_its_secrets(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n172.17.0.1\thost.docker.internal\n")
    (tmp_path / "made-by-docker.toml").mkdir()
    attributes = {
        "Id": "1f", "Name": "/integr8scode-kafka-1", "RestartCount": 3, "HostsPath": str(tmp_path / "hosts"),
        "State": {"Status": "restarting", "ExitCode": 1, "Pid": 0, "OOMKilled": True},
        "Config": {"Image": "x", "Env": ["CLUSTER_ID=abc", "PASSWORD=geheim"], "Labels": None},
        "HostConfig": {"Memory": 5, "RestartPolicy": {"Name": "unless-stopped"}},
        "Mounts": [
            {"Destination": "/a", "Source": str(tmp_path / "hosts")},
            {"Destination": "/b", "Source": str(tmp_path / "made-by-docker.toml")},
            {"Destination": "/c", "Source": str(tmp_path / "gone")},
        ],
        "NetworkSettings": {"Networks": {"integr8scode": {"IPAddress": "172.31.209.5"}}},
    }  # fmt: skip
    found = probes_docker.describe(attributes)
    assert found["variables"] == {"CLUSTER_ID": "abc"}
    assert "geheim" not in json.dumps(found)
    assert [mount["kind"] for mount in found["mounts"]] == ["file", "directory", "missing"]
    assert found["host_gateway"] == "172.17.0.1"
    assert (found["oom_killed"], found["restarts"], found["health"]) == (True, 3, None)


# -- services


def stack(tmp_path: Path, *, url: str, password: str = "right") -> dict[str, Any]:
    """A stack whose secret files lie below `tmp_path`."""
    for name, text in {
        "user": "root\n",
        "password": f"{password}\n",
        "secrets.toml": f'MONGODB_URL = "{url}"\n',
    }.items():
        (tmp_path / name).write_text(text)
    mongo = {"/run/secrets/mongo_root_username": "user", "/run/secrets/mongo_root_password": "password"}

    def one(service: str, mounts: dict[str, str]) -> dict[str, Any]:
        return {
            "service": service, "name": service, "pid": 1, "networks": {"integr8scode": "127.0.0.1"}, "variables": {},
            "mounts": [{"target": target, "source": str(tmp_path / name)} for target, name in mounts.items()],
        }  # fmt: skip

    return {"containers": [one("mongo", mongo), one("backend", {"/app/secrets.toml": "secrets.toml"})]}


class FakeMongo:
    """Knows the password `right`."""

    logins = 0

    def __init__(self, host: str, port: int) -> None:
        assert (host, port) == ("127.0.0.1", 27017)

    def command(self, document: dict[str, Any]) -> dict[str, Any]:
        assert document == {"ping": 1}
        return {"ok": 1}

    def login(self, _user: str, password: str, _database: str) -> None:
        FakeMongo.logins += 1
        if password != "right":
            raise MongoRefused(18, "Authentication failed.")

    def close(self) -> None:
        pass


@pytest.fixture
def fake_mongo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeMongo, "logins", 0)
    monkeypatch.setattr(probes_services, "Connection", FakeMongo)


@pytest.mark.usefixtures("fake_mongo")
@pytest.mark.parametrize(
    ("url", "password", "told", "same"),
    [
        ("mongodb://root:right@mongo/x", "right", ["accepted", "accepted"], True),
        ("mongodb://root:wrong@mongo/x", "right", ["accepted", "refused"], False),
        ("mongodb://root:wrong@mongo/x", "wrong", ["refused", "refused"], True),
        ("mongodb://root:righ%74@mongo/x", "right", ["accepted", "accepted"], True),
        ("mongodb://mongo/x", "right", ["accepted", "MONGODB_URL in secrets.toml names no user and password"], True),
    ],
)
def test_mongo_is_asked_with_the_login_of_each_place(
    tmp_path: Path, url: str, password: str, told: list[str], same: bool
) -> None:
    found = probes_services.mongo(stack(tmp_path, url=url, password=password))
    assert list(found["places"].values()) == told
    assert found["same"] == same
    # the same login is tried once: each failure is a line in Mongo's log
    assert FakeMongo.logins == (1 if same else 2)


@pytest.mark.usefixtures("fake_mongo")
def test_a_url_that_is_none_shows_no_part_of_the_password(tmp_path: Path) -> None:
    found = probes_services.mongo(stack(tmp_path, url="mongodb://root:gehe[im/rest]@mongo/x"))
    assert "geh" not in json.dumps(found)
    assert found["places"]["secrets.toml"] != "accepted"


def test_a_service_that_does_not_run() -> None:
    for ask in (probes_services.mongo, probes_services.kafka, probes_services.redis, probes_services.kafka_volume):
        with pytest.raises(ProbeRefused):
            ask({"containers": []})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('A = 1\nKEY = "va\\"l\\\\u"\n', 'va"l\\u'),
        ("KEY='lit\\eral'", "lit\\eral"),
        ('KEY="caf\\u00e9"', "café"),
        ('NOKEY="x"', None),
        ('KEY="\\x"', None),
    ],
)
def test_a_text_of_toml(text: str, value: str | None) -> None:
    assert probes_services.toml_text(text, "KEY") == value


def test_kafkas_volume(tmp_path: Path) -> None:
    (tmp_path / "meta.properties").write_text("#\nversion=1\ncluster.id=MkU3OEVBNTcwNTJENDM2Qk\nnode.id=1\n")
    mounts = [{"target": "/var/lib/kafka/data", "source": str(tmp_path)}]
    docker = {"containers": [{"service": "kafka", "mounts": mounts, "variables": {"CLUSTER_ID": "other"}}]}
    found = probes_services.kafka_volume(docker)
    assert (found["volume"], found["container"]) == ("MkU3OEVBNTcwNTJENDM2Qk", "other")
    docker["containers"][0]["mounts"] = []
    assert probes_services.kafka_volume(docker)["volume"] == ""


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that does `serve` with each connection; its port."""
    server = socket.create_server(("127.0.0.1", 0))

    def loop() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer, contextlib.suppress(OSError):
                serve(peer)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        # a close alone does not wake the one who accepts
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)


def test_redis_is_asked(tmp_path: Path) -> None:
    def serve(peer: socket.socket) -> None:
        assert peer.recv(100) == b"PING\r\n"
        peer.sendall(b"+PONG\r\n")

    docker = stack(tmp_path, url="")
    docker["containers"][0]["service"] = "redis"
    with listening(serve) as port:
        assert probes_services.redis(docker, port) == {"answer": "+PONG"}


def certificate(names: list[str], days: int = 30) -> tuple[bytes, bytes, bytes]:
    """Certificate, key and authority in PEM form."""
    authority_key, key = certificates.new_key(), certificates.new_key()
    authority = certificates.make_ca(authority_key, "test", 365)
    end = certificates.now() + certificates.timedelta(days=days)
    wanted = certificates.parse_names(names, [])
    leaf = certificates.make_leaf(key, authority, authority_key, common_name="x", names=wanted, end=end)
    return certificates.certificate_pem(leaf), certificates.key_pem(key), certificates.certificate_pem(authority)


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A folder with server.crt and server.key for app1.test, and ca.crt of who signed them."""
    folder = tmp_path / "tls/public"
    folder.mkdir(parents=True)
    crt, key, authority = certificate(["app1.test"])
    (folder / "server.crt").write_bytes(crt)
    (folder / "server.key").write_bytes(key)
    (folder / "ca.crt").write_bytes(authority)
    return folder


def tls(pair: Path, answer: bytes, asked: list[bytes] | None = None) -> Callable[[socket.socket], None]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair / "server.crt", pair / "server.key")

    def serve(peer: socket.socket) -> None:
        with context.wrap_socket(peer, server_side=True) as secure:
            request = secure.recv(1000)
            if request:
                secure.sendall(answer)
            if asked is not None:
                asked.append(request)

    return serve


@pytest.mark.parametrize("status", [200, 429, 503])
def test_the_edge_is_asked(pair: Path, status: int) -> None:
    with listening(tls(pair, f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())) as port:
        found = probes_services.edge(port, port, "app1.test")
    assert (found["api"]["status"], found["web"]["status"]) == (status, status)


def test_an_edge_that_is_not_there_or_no_edge(pair: Path) -> None:
    with listening(lambda peer: peer.sendall(b"SSH-2.0\r\n")) as port:
        found = probes_services.edge(port, 1, "app1.test")
    assert found["api"]["status"] == 0
    assert "refused" in found["web"]["problem"]
    assert found["api"]["problem"]


# -- what ends


def test_certificates_are_read_and_compared_with_what_is_served(tmp_path: Path, pair: Path) -> None:
    with listening(tls(pair, b"")) as port:
        found = probes_trust.trust(str(tmp_path), ["app1.test", "www.test", "192.0.2.1"], port, "app1.test")
    assert found["missing_names"] == ["192.0.2.1", "www.test"]
    assert found["served"] == found["certificates"]["public"]["fingerprint"]
    assert found["certificates"]["edge"]["problem"] == "it is not there"
    assert found["certificates"]["public"]["not_after"] > time.time()


def test_tokens_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "k8s-worker.yaml").write_text("- no kubeconfig\n")
    found = probes_trust.tokens(str(tmp_path))
    assert found["k8s-worker"]["problem"] == "it is not a kubeconfig"
    assert found["pod-monitor"]["problem"] == "it is not there"


def test_a_server_without_k3s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes_trust.facts, "collect", lambda **_: Facts(unit=Unit(active="inactive")))
    found = probes_trust.k3s("", "/none")
    assert not found["installed"]
    assert "not installed" in found["refusal"]
    json.dumps(found)


# -- the network


def test_a_port_that_is_open_or_refused() -> None:
    with listening(lambda peer: None) as port:
        assert probes_network.knock("127.0.0.1", port) == "open"
    assert probes_network.knock("127.0.0.1", port) == "refused"


def kubeconfig(path: Path, authority: bytes, port: int) -> None:
    cluster = {
        "server": f"https://app1.test:{port}",
        "certificate-authority-data": base64.b64encode(authority).decode(),
    }
    document = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "geheimes-token"}}],
    }
    # JSON is YAML
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("status", [200, 401])
def test_the_api_is_asked_with_a_workers_kubeconfig(tmp_path: Path, pair: Path, status: int) -> None:
    asked: list[bytes] = []
    with listening(tls(pair, f"HTTP/1.0 {status} X\r\n\r\n".encode(), asked)) as port:
        kubeconfig(tmp_path / "k.yaml", (pair / "ca.crt").read_bytes(), port)
        found = probes_network.ask_api(str(tmp_path / "k.yaml"), "127.0.0.1")
    assert found == {"status": status, "kind": "", "problem": ""}
    assert b"Authorization: Bearer geheimes-token\r\n" in asked[0]


def test_an_api_of_another_authority(tmp_path: Path, pair: Path) -> None:
    with listening(tls(pair, b"")) as port:
        kubeconfig(tmp_path / "k.yaml", certificate(["other.test"])[2], port)
        found = probes_network.ask_api(str(tmp_path / "k.yaml"), "127.0.0.1")
    assert found["kind"] == "tls"
    assert probes_network.ask_api(str(tmp_path / "none.yaml"), "127.0.0.1")["kind"] == "kubeconfig"


def test_the_look_from_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[int] = []
    monkeypatch.setattr(probes_network, "enter", entered.append)
    monkeypatch.setattr(probes_network, "_lookups", lambda: {"mongo": ""})

    def knock(address: str, port: int, timeout: float = 3.0) -> str:
        # the server itself is asked before the container's network is entered
        return "open" if address == "127.0.0.1" and not entered else "timeout"

    monkeypatch.setattr(probes_network, "knock", knock)
    docker = {
        "bridge_gateway": "172.17.0.1",
        "containers": [
            {"service": name, "pid": pid, "networks": {"integr8scode": "172.31.209.5"}, "host_gateway": gateway}
            for name, pid, gateway in (("mongo", 5, ""), ("pod-monitor", 6, "172.17.0.9"), ("k8s-worker", 0, ""))
        ],
    }
    found = probes_network.inside(docker, str(tmp_path))
    assert entered == [6]
    assert (found["from"], found["gateway"], found["host"], found["reached"]) == (
        "pod-monitor", "172.17.0.9", "open", "timeout"
    )  # fmt: skip
    assert found["kubernetes"] == {}
    with pytest.raises(ProbeRefused, match="no container"):
        probes_network.inside({"bridge_gateway": "", "containers": []}, str(tmp_path))


def test_a_network_that_cannot_be_entered() -> None:
    with pytest.raises(ProbeRefused, match="cannot be entered"):
        probes_network.enter(2**22 + 5)


def test_firewalls(tmp_path: Path) -> None:
    (tmp_path / "etc/ufw").mkdir(parents=True)
    (tmp_path / "etc/ufw/ufw.conf").write_text("# x\nENABLED=yes\n")
    (tmp_path / "etc/nftables.conf").write_text("chain input { type filter hook input priority 0; policy drop; }")
    assert probes_network.firewalls(tmp_path) == ["ufw", "nftables"]
    assert probes_network.firewalls(tmp_path / "none") == []
