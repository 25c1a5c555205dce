"""How a server is asked: nothing is written, nothing hangs, nothing of a secret comes back."""

from __future__ import annotations

import ast
import json
import os
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ansible.module_utils import kubernetes_access_client
from ansible.module_utils.drift import (
    cluster,
    collect,
    containers,
    engine,
    expiry,
    network,
    owned_files,
    reading,
    registry,
    release,
    system,
    users,
)
from ansible.module_utils.drift.findings import Comparison
from ansible.module_utils.drift.probes import Probe, UnansweredError, ask
from ansible.module_utils.drift.reading import keyed
from ansible.module_utils.k3s_certificates import CertificateFile

from tests.unit.drift.clean_server import compose, inspected

KEY = b"k" * 32
PACKAGE = Path(reading.__file__).parent


# -- read-only by construction


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a file, by the name as it is written."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_no_file_of_the_package_knows_how_to_change_anything(path: Path) -> None:
    forbidden = {
        "write_text",
        "write_bytes",
        "mkdir",
        "makedirs",
        "unlink",
        "rename",
        "rmdir",
        "rmtree",
        "chmod",
        "chown",
        "fchmod",
        "fchown",
        "symlink",
        "symlink_to",
        "touch",
        "utime",
        "kill",
        "Popen",
        "system",
        "write_file",
        "ensure_access",
        "ensure_folder",
        "setxattr",
        "truncate",
        "mknod",
    }
    for name, node in calls(path):
        last = name.rpartition(".")[2]
        assert last not in forbidden, f"{path.name}:{node.lineno} calls {name}"
        if name == "open":
            modes = [
                *(ast.unparse(one) for one in node.args[1:2]),
                *(ast.unparse(k.value) for k in node.keywords if k.arg == "mode"),
            ]
            assert all(mode in {"'r'", "'rb'"} for mode in modes), f"{path.name}:{node.lineno} opens to write"
        if name == "subprocess.run":
            assert path.name == "reading.py", f"{path.name} runs a program by itself"


def test_programs_that_could_change_something_are_not_run() -> None:
    for command in (
        ["systemctl", "restart", "x"],
        ["docker", "rm", "x"],
        ["docker", "compose", "up"],
        ["nft", "flush", "ruleset"],
    ):
        with pytest.raises(ValueError, match="not among the programs"):
            reading.run(*command)


def test_a_file_is_read_without_its_access_time(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("text", encoding="utf-8")
    os.utime(path, (1000, 2000))
    assert reading.text(path) == "text"
    assert path.stat().st_atime == 1000
    assert reading.read(tmp_path / "none") is None


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="no regular file"):
        reading.read(tmp_path / "fifo")


def test_a_program_that_hangs_or_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "sshd"
    monkeypatch.setattr(reading, "PATH", f"{tmp_path}:/usr/bin:/bin")
    script.write_text("#!/bin/sh\nexec sleep 5\n", encoding="utf-8")
    script.chmod(0o755)
    with pytest.raises(UnansweredError, match=r"sshd -T has not ended within 0\.2 s"):
        reading.run("sshd", "-T", limit=0.2)
    script.write_text("#!/bin/sh\necho why >&2\nexit 3\n", encoding="utf-8")
    with pytest.raises(UnansweredError, match="sshd -T ends with 3: why"):
        reading.run("sshd", "-T")
    monkeypatch.setattr(reading, "PATH", str(tmp_path))
    with pytest.raises(UnansweredError, match="nft is not installed"):
        reading.run("nft", "list", "tables")


# -- questions


def test_one_that_hangs_holds_up_nothing() -> None:
    free = threading.Event()
    began = time.monotonic()
    answers = ask(
        {
            "hangs": Probe(lambda: free.wait(30), 0.3),
            "good": Probe(lambda: 7),
            "says why": Probe(lambda: (_ for _ in ()).throw(UnansweredError("no such thing"))),
            "breaks": Probe(lambda: json.loads("a secret")),
            "file": Probe(lambda: open("/nonexistent/x")),  # noqa: SIM115
        },
        total=5,
    )
    free.set()
    assert time.monotonic() - began < 3
    assert answers["good"] == {"value": 7, "why": "", "seconds": answers["good"]["seconds"]}
    assert answers["hangs"]["why"] == "no answer within 0.3 s"
    assert answers["says why"]["why"] == "no such thing"
    assert answers["file"]["why"] == "No such file or directory (/nonexistent/x)"
    # what was read may be a secret: only the kind of the error is told
    assert answers["breaks"]["why"] == "what was read cannot be understood (JSONDecodeError)"


def test_all_together_have_a_limit() -> None:
    free = threading.Event()
    began = time.monotonic()
    answers = ask({str(number): Probe(lambda: free.wait(30), 20) for number in range(5)}, total=0.3)
    free.set()
    assert time.monotonic() - began < 3
    assert all(answer["why"] == "no answer within 0.3 s" for answer in answers.values())


# -- the engine


class Handler(BaseHTTPRequestHandler):
    """An engine with the containers of the recorded release; the one named kafka hangs."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[str]] = []
    free = threading.Event()

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *_arguments: Any) -> None:
        return

    def answer(self) -> None:
        """Whatever is asked."""
        self.asked.append(self.command)
        path = self.path.partition("?")[0]
        project = compose()
        by_id = {name: inspected(name, service, project) for name, service in project["services"].items()}
        status, value = 200, None
        if path == "/containers/json":
            value = [{"Id": name, "Names": [one["Name"]]} for name, one in by_id.items()]
        elif path.startswith("/containers/"):
            name = path.split("/")[2]
            if name == "kafka":
                self.free.wait(20)
            value = by_id[name]
        elif path.startswith("/images/"):
            value = {"Config": {"Env": ["PATH=/bin"]}}
        elif path == "/broken":
            status, value = 500, {"message": "dead"}
        else:
            status, value = 404, {}
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = answer  # noqa: N815  (the library's names)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The socket of a stand-in for the engine."""
    path = tmp_path / "docker.sock"
    Handler.asked.clear()
    Handler.free.clear()
    with Server(str(path), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(containers, "SOCKET", str(path))
        yield path
        Handler.free.set()
        server.shutdown()


def test_containers_are_asked_side_by_side_and_a_hung_one_is_named(docker: Path) -> None:
    began = time.monotonic()
    found = containers.collect_containers(KEY, timeout=0.5, total=5)
    assert time.monotonic() - began < 4
    assert list(found["hung"]) == ["integr8scode-kafka-1"]
    assert "within 0.5 s" in found["hung"]["integr8scode-kafka-1"]
    assert {one["service"] for one in found["containers"]} == set(compose()["services"]) - {"kafka"}
    assert set(Handler.asked) == {"GET"}


def test_values_of_the_environment_are_hashes_only(docker: Path) -> None:
    Handler.free.set()
    found = containers.collect_containers(KEY, timeout=5, total=5)
    backend = next(one for one in found["containers"] if one["service"] == "backend")
    assert backend["environment"]["WEB_TIMEOUT"] == keyed(b"60", KEY)
    assert all(len(value) == 64 for value in backend["environment"].values())


def test_an_engine_that_does_not_answer_is_told(docker: Path, tmp_path: Path) -> None:
    with pytest.raises(UnansweredError, match="answers 500 to GET /broken: dead"):
        engine.Engine(str(docker)).get("/broken")
    assert engine.Engine(str(docker)).get("/none") is None
    with pytest.raises(UnansweredError, match="does not run"):
        engine.Engine(str(tmp_path / "nobody.sock")).get("/info")


def test_an_engine_that_takes_the_call_and_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(UnansweredError, match=r"has not answered GET /info within 0\.2 s"):
            engine.Engine(str(path), timeout=0.2).get("/info")


# -- files, release, secrets


def test_files_and_folders_are_described(tmp_path: Path) -> None:
    (tmp_path / "same").write_text("a\nb\n", encoding="utf-8")
    (tmp_path / "other").write_text("a\nB\nc\n", encoding="utf-8")
    (tmp_path / "secret").write_text("hunter2", encoding="utf-8")
    (tmp_path / "link").symlink_to("same")
    wanted = {
        "files": [
            {"path": f"{tmp_path}/same", "content": "a\nb\n"},
            {"path": f"{tmp_path}/other", "content": "a\nb\n"},
            {"path": f"{tmp_path}/secret", "digest": keyed(b"hunter3", KEY), "secret": True},
            {"path": f"{tmp_path}/link", "content": "a\nb\n"},
            {"path": f"{tmp_path}/none", "content": ""},
        ],
        "folders": [{"path": str(tmp_path)}, {"path": f"{tmp_path}/none"}],
    }
    found = owned_files.collect_files(wanted, KEY)
    entries = {Path(path).name: entry for path, entry in found["entries"].items()}
    assert entries["same"]["digest"] == keyed(b"a\nb\n", KEY)
    assert "text" not in entries["same"]
    assert entries["other"]["text"] == "a\nB\nc\n"
    assert "hunter2" not in str(found)
    assert entries["link"]["kind"] == "link"
    assert entries["none"]["kind"] == "missing"
    assert found["listings"][str(tmp_path)] == ["link", "other", "same", "secret"]
    assert found["listings"][f"{tmp_path}/none"] is None


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ("a\nX\nc\n", ("line 2: b", "1 line changed, the first at line 2")),
        ("a\nb\nc\nd\ne\n", ("the end of the file", "2 lines more, the first at line 4")),
        ("b\nc\n", ("line 1: a", "1 line missing, the first at line 1")),
        ("a\nb\nc", ("the same end of the file", "another end of the file (a line break)")),
    ],
)
def test_where_a_file_differs_is_said_without_showing_it(found: str, told: tuple[str, str]) -> None:
    assert owned_files.where("a\nb\nc\n", found) == told


def make_release(base: Path) -> None:
    content = "LOG_LEVEL = 'INFO'\n"
    folder = base / "files" / release.digest_of("config.toml", content)
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(content, encoding="utf-8")
    (base / "files/000000000000").mkdir()
    path = base / "releases/2026.2.20-a"
    path.mkdir(parents=True)
    (base / "releases/half").mkdir()
    (path / ".env").write_text("A=1\n", encoding="utf-8")
    record = {"id": "2026.2.20-a", "tag": "2026.2.20", "files": {"config.toml": f"{folder}/config.toml"}}
    (path / "release.json").write_text(json.dumps(record), encoding="utf-8")
    (base / "current").symlink_to("releases/2026.2.20-a")
    (base / "history.jsonl").write_text('{"result": "ok"}\n{"result": "failed"}\n', encoding="utf-8")


def test_a_release_is_read_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    make_release(tmp_path)
    found = release.collect_release(tmp_path)
    assert (found["id"], release.tag_of(found), found["texts"]) == ("2026.2.20-a", "2026.2.20", {".env": "A=1\n"})
    assert found["files"]["config.toml"]["untouched"] is True
    assert found["others"] == {"2026.2.20-a": True, "half": False}
    assert found["folders"] == ["000000000000"]
    assert found["last"] == {"result": "failed"}
    config = found["files"]["config.toml"]["path"]
    there = {path for path, access in found["access"].items() if access is not None}
    assert there == {config, *(f"{tmp_path}/releases/2026.2.20-a/{name}" for name in (".env", "release.json"))}
    assert found["strangers"] == []
    Path(f"{config}.old").touch()
    (tmp_path / "releases/2026.2.20-a/more").mkdir()
    assert release.collect_release(tmp_path)["strangers"] == [f"{config}.old", f"{tmp_path}/releases/2026.2.20-a/more"]
    Path(found["files"]["config.toml"]["path"]).write_text("LOG_LEVEL = 'DEBUG'\n", encoding="utf-8")
    assert release.collect_release(tmp_path)["files"]["config.toml"]["untouched"] is False


def test_a_folder_without_a_release_is_read(tmp_path: Path) -> None:
    found = release.collect_release(tmp_path / "none")
    assert (found["link"], found["record"], found["edge"]) == (None, None, None)


@pytest.mark.parametrize(
    "values", [{"A": "1", "B": "x y", "C": "it's", "D": "a\\", "E": '"$x"', "F": "", "G": "c:\\dir'"}], ids=["all"]
)
def test_the_environment_is_read_as_it_was_written(values: dict[str, str]) -> None:
    from ansible.module_utils.compose_dotenv import dotenv

    assert release.parse_environment(dotenv(values)) == values


# -- the system


def test_units_are_read_by_name() -> None:
    out = "Id=a.service\nActiveState=active\n\nId=b.timer\nActiveState=inactive\nDropInPaths=/x /y\n"
    assert system.parse_show(out) == {
        "a.service": {"Id": "a.service", "ActiveState": "active"},
        "b.timer": {"Id": "b.timer", "ActiveState": "inactive", "DropInPaths": "/x /y"},
    }


def test_the_clock_and_the_disks_of_this_machine_can_be_read(tmp_path: Path) -> None:
    clock = system.collect_clock()
    assert abs(clock["time"] - time.time()) < 5
    assert clock["synchronised"] in {True, False, None}
    (disk,) = system.collect_disks([str(tmp_path), f"{tmp_path}/none/deeper"])
    assert disk["free_bytes"] > 0
    assert system.collect_server()["memory_total_mb"] > 0


def test_keys_are_known_by_their_fingerprints() -> None:
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1vYp7yGvVIBv8WoqLk3UZnVYzZ0E0e4oYt3kGZJm2P me@here"
    mark = users.fingerprint(line)
    assert mark.startswith("SHA256:")
    assert users.fingerprint(f'from="10.0.0.1",command="a b" {line}') == mark
    assert users.fingerprint(line.replace("J1v", "J1w")) != mark
    for none in ("", "# comment", "ssh-ed25519 not-base64! x", "word"):
        assert users.fingerprint(none) == ""


TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 0A0200C0:01BB 0100000A:9999 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0
"""
TCP6 = """  sl  local_address                         remote_address st
   0: 00000000000000000000000000000000:192B 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 333 1
   1: 0000000000000000FFFF00000100007F:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 444 1
"""


def test_listeners_are_read_from_the_kernels_tables() -> None:
    found = [(one["address"], one["port"], one["inode"]) for one in network.parse_listeners([TCP, TCP6])]
    assert found == [("127.0.0.1", 5432, "111"), ("::", 6443, "333"), ("127.0.0.1", 80, "444")]


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/k3s.service\n", "k3s.service"),
        ("0::/system.slice/ssh.service/session\n", "ssh.service"),
        ("12:pids:/docker/abc\n1:name=systemd:/docker/abc/system.slice/docker.service\n", "docker.service"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope"),
        ("0::/system.slice/k3s.service/kubepods.slice/cri-containerd-x.scope\n", "k3s.service"),
        ("0::/\n", ""),
    ],
)
def test_the_unit_of_a_process_is_known(cgroup: str, unit: str) -> None:
    assert network.unit_of(cgroup) == unit


def test_policies_and_rules_of_others_are_told_apart() -> None:
    saved = (
        "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n-A INPUT -s 10.0.0.0/8 -j ACCEPT\n-A DOCKER -j "
        "RETURN\nCOMMIT\n"
    )
    assert network.unknown_rules(saved) == ["filter: policy DROP of INPUT", "filter: -A INPUT -s 10.0.0.0/8 -j ACCEPT"]


def test_what_docker_28_writes_into_table_raw_is_its_own() -> None:
    saved = (
        "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -d 172.31.209.10/32 ! -i br-integr8scode -j DROP\n"
        "-A PREROUTING -d 127.0.0.1/32 ! -i lo -p tcp -m tcp --dport 27017 -j DROP\nCOMMIT\n"
        "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -i docker0 -o docker0 -j DROP\n"
        '-A INPUT -m comment --comment "KUBE-ROUTER rule to explicitly ACCEPT" -m mark --mark 0x2/0x2 -j ACCEPT\n'
    )
    assert network.unknown_rules(saved) == []


@pytest.mark.parametrize(
    "rule",
    [
        "-A INPUT -i br-integr8scode -p tcp -m tcp --dport 6443 -j DROP",
        "-A FORWARD -o br-integr8scode -j REJECT --reject-with icmp-port-unreachable",
        "-A DOCKER-USER -j DROP",
        "-A DOCKER-USER -i eth0 -j ACCEPT",
    ],
)
def test_a_rule_that_refuses_is_not_hidden_by_the_interface_or_chain_that_it_names(rule: str) -> None:
    assert network.unknown_rules(f"*filter\n{rule}\nCOMMIT\n") == [f"filter: {rule}"]


def test_chains_of_docker_that_nothing_leads_to_count_as_missing() -> None:
    saved = (Path(__file__).parent / "recorded/iptables-save.txt").read_text(encoding="utf-8")
    assert network.dockers_rules(saved)
    for chain in ("FORWARD", "PREROUTING"):
        flushed = "".join(line for line in saved.splitlines(keepends=True) if not line.startswith(f"-A {chain} "))
        assert not network.dockers_rules(flushed)


# -- the registry


def test_tags_are_compared_as_numbers() -> None:
    assert registry.calver("2026.2.20") == (2026, 2, 20)
    assert registry.calver("2026.10.3") > registry.calver("2026.9.30")
    for none in ("latest", "sha-0123456", "2026.02.1", "2026.2"):
        assert registry.calver(none) == ()


def test_a_reference_is_taken_apart() -> None:
    assert registry.split_reference("registry.example:5000/a/b:2026.2.20@sha256:00") == (
        "registry.example:5000",
        "a/b",
        "2026.2.20",
    )


class Answers(registry.Registry):
    """A registry that answers from a list."""

    def __init__(self, *answers: tuple[int, dict[str, str], bytes]) -> None:
        super().__init__("registry.example", "ops", "the-password", 1)
        self.answers = list(answers)
        self.sent: list[tuple[str, str, dict[str, str]]] = []

    def _open(self, method: str, url: str, headers: Any) -> tuple[int, Any, bytes]:
        self.sent.append((method, url, dict(headers)))
        return self.answers.pop(0)


CHALLENGE = {"WWW-Authenticate": 'Bearer realm="https://auth.example/token",service="r",scope="repository:a/b:pull"'}


def test_a_login_is_exchanged_for_a_token_at_the_realm() -> None:
    asked = Answers(
        (401, CHALLENGE, b""), (200, {}, b'{"token": "t"}'), (200, {"Docker-Content-Digest": "sha256:1"}, b"")
    )
    assert asked.digest("a/b", "2026.2.20") == "sha256:1"
    assert asked.sent[0][2].get("Authorization") is None
    assert asked.sent[1][1] == "https://auth.example/token?service=r&scope=repository%3Aa%2Fb%3Apull"
    assert asked.sent[2][2]["Authorization"] == "Bearer t"


def test_a_refused_login_is_one_thing_and_a_missing_tag_another() -> None:
    with pytest.raises(registry.RefusedError):
        Answers((401, CHALLENGE, b""), (401, {}, b"")).digest("a/b", "x")
    with pytest.raises(registry.RefusedError):
        Answers((401, {"WWW-Authenticate": 'Basic realm="x"'}, b""), (401, {}, b"")).digest("a/b", "x")
    assert Answers((404, {}, b"")).digest("a/b", "x") == ""


def test_the_login_goes_to_no_realm_in_the_clear() -> None:
    asked = Answers((401, {"WWW-Authenticate": 'Bearer realm="http://evil.example/token"'}, b""))
    with pytest.raises(UnansweredError, match="unknown kind"):
        asked.digest("a/b", "x")
    assert len(asked.sent) == 1


def test_a_long_list_of_tags_has_pages() -> None:
    asked = Answers(
        (200, {"Link": '</v2/a/b/tags/list?last=2&n=1000>; rel="next"'}, b'{"tags": ["1", "2"]}'),
        (200, {}, b'{"tags": ["3"]}'),
    )
    assert asked.tags("a/b") == ["1", "2", "3"]
    assert asked.sent[1][1] == "https://registry.example/v2/a/b/tags/list?last=2&n=1000"


def test_only_the_applications_images_are_asked_for() -> None:
    record = {
        "digests": {
            "ghcr.io/x/y/backend:1": "sha256:a",
            "docker.io/library/mongo:8": "sha256:b",
            "ghcr.io/x/y/z:1": None,
        }
    }
    assert registry.application_images(record, "ghcr.io/x/y") == {"ghcr.io/x/y/backend:1": "sha256:a"}


@pytest.mark.parametrize(
    ("host", "beside"),
    [
        ("registry.example:5000", True),
        ("example", True),
        ("badexample", False),
        ("10.1.2.3:5000", True),
        ("11.1.2.3", False),
    ],
)
def test_who_is_reached_without_the_proxy(host: str, beside: bool) -> None:
    way = registry.proxy_for(host, {"https-proxy": "http://p:3128", "no-proxy": "localhost, .Example ,10.0.0.0/8,"})
    assert way == ({} if beside else {"https": "http://p:3128"})


@pytest.mark.parametrize(
    ("proxies", "way"),
    [
        ({}, None),
        ({"https-proxy": "socks5://proxy.example:1080"}, None),
        ({"https-proxy": "http://u:p@proxy.example:3128"}, {"https": "http://u:p@proxy.example:3128"}),
        ({"https-proxy": "http://proxy.example:3128", "no-proxy": "localhost,.example"}, {}),
        (
            {"https-proxy": "http://proxy.example:3128", "no-proxy": "other.example"},
            {"https": "http://proxy.example:3128"},
        ),
    ],
)
def test_the_registry_is_reached_as_the_engine_reaches_it(proxies: dict[str, str], way: dict[str, str] | None) -> None:
    assert registry.proxy_for("registry.example", proxies) == way


def test_the_engines_proxy_is_asked_for_the_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_release(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        heard: list[bytes] = []

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                heard.append(connection.recv(4096))
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        proxies = {"https-proxy": f"http://u:p@127.0.0.1:{server.getsockname()[1]}"}
        settings = {"config": {"proxies": proxies}}
        monkeypatch.setattr(collect.docker_settings, "collect_settings", lambda: settings)
        record = json.loads((tmp_path / "current/release.json").read_text(encoding="utf-8"))
        record["digests"] = {"registry.example/a/b:1": "sha256:1"}
        (tmp_path / "current/release.json").write_text(json.dumps(record), encoding="utf-8")
        with pytest.raises(UnansweredError, match="cannot be reached") as caught:
            collect._registry(tmp_path, {"host": "registry.example", "images": "registry.example/a"}, "", 5)
        thread.join(5)
    assert heard[0].startswith(b"CONNECT registry.example:443")
    assert "u:p" not in str(caught.value)


# -- k3s


def test_a_certificate_of_k3s_that_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    good = CertificateFile("/k3s/server/tls/a.crt", authority=False, expires=2e9, written=1e9, fingerprint="")
    read = ([good], ["/k3s/server/tls/b.crt is no certificate: it is empty"])
    monkeypatch.setattr(expiry, "read_certificates", lambda: read)
    found = {one["path"]: one.get("broken", False) for one in expiry.collect_k3s_certificates()}
    assert found == {"/k3s/server/tls/a.crt": False, "/k3s/server/tls/b.crt": True}


def test_a_kubeconfig_on_a_server_without_pyyaml_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kubernetes_access_client, "yaml", None)
    expected = {"admin_kubeconfig": str(tmp_path / "k3s.yaml"), "workers": ["one", "two"], "directory": str(tmp_path)}
    (tmp_path / "one.yaml").write_text("apiVersion: v1\n")
    found = expiry.collect_kubeconfigs(expected)["workers"]
    assert "python3-yaml is not installed" in found["one"]["problem"]
    assert found["two"] == {"path": str(tmp_path / "two.yaml"), "access": None, "problem": ""}


def test_the_release_of_the_program_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "k3s"
    monkeypatch.setattr(cluster, "BINARY", str(program))
    monkeypatch.setattr(reading, "PATH", f"{tmp_path}:/usr/bin:/bin")
    assert cluster.collect_binary() == {"version": ""}
    program.write_text("#!/bin/sh\necho 'k3s version v1.34.4+k3s1 (c6017918)'\n", encoding="utf-8")
    program.chmod(0o755)
    assert cluster.collect_binary() == {"version": "v1.34.4+k3s1"}
    program.write_text("#!/bin/sh\necho something\n", encoding="utf-8")
    with pytest.raises(UnansweredError, match="names no release"):
        cluster.collect_binary()


def binding(name: str, subject: dict[str, str], **metadata: Any) -> dict[str, Any]:
    role = {"kind": "ClusterRole", "name": "edit"}
    return {"metadata": {"name": name, **metadata}, "roleRef": role, "subjects": [subject]}


def test_what_everybody_may_counts_as_a_right_of_the_workers() -> None:
    everybody = {"kind": "Group", "name": "system:serviceaccounts"}
    kubernetes = {"labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}
    found = cluster._wide_grants(
        {
            "ClusterRoleBinding": [
                binding("system:discovery", everybody, **kubernetes),
                binding("k3s", {"kind": "User", "name": "system:k3s-controller"}),
                binding("oops", everybody),
                {"metadata": {"name": "nobody"}, "roleRef": {"kind": "ClusterRole", "name": "view"}},
            ],
            "RoleBinding": [binding("anonymous", {"kind": "User", "name": "system:anonymous"}, namespace="default")],
        }
    )
    assert found == ["ClusterRoleBinding oops (ClusterRole edit)", "RoleBinding default/anonymous (ClusterRole edit)"]


# -- the node's addresses


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"config.yaml": 'node-ip: [10.0.0.5, "FD00::0:5"]\n'}, "10.0.0.5,fd00::5"),
        ({"config.yaml": "node-ip:\n  - 10.0.0.5\n  - fd00::5\n"}, "10.0.0.5,fd00::5"),
        ({"config.yaml": "node-ip: 10.0.0.5,fd00::5\n"}, "10.0.0.5,fd00::5"),
        ({"config.yaml": "node-ip: 10.0.0.4\n", "config.yaml.d/9.yml": "node-ip: 10.0.0.5\n"}, "10.0.0.5"),
        ({"../../systemd/system/k3s.service": "[Service]\nExecStart=/k3s server --node-ip=10.0.0.5\n"}, "10.0.0.5"),
        ({"config.yaml": "debug: true\n"}, ""),
        ({}, ""),
    ],
)
def test_node_ip_is_read_as_k3s_reads_it(tmp_path: Path, files: dict[str, str], told: str) -> None:
    folder = tmp_path / "etc/rancher/k3s"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    assert collect.node_ip(tmp_path) == told
    facts = {"addresses": ["10.0.0.5", "fd00::5"], "default_route": True}
    result = Comparison("all")
    network.compare_addresses(result, {"node_ip": told.upper(), "docker_bridge": ""}, facts)
    assert not result.findings
