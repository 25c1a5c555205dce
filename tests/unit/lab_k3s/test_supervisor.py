"""The supervisor's decisions, without a server."""

import datetime as dt
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from lab.k3s.supervisor import bootstrap, faults, logs, network, node, parts, pki, plan, settings, versions
from lab.k3s.supervisor.api import ApiError
from lab.k3s.supervisor.flags import FLAGS, Effect
from lab.k3s.supervisor.logs import FatalError
from lab.k3s.supervisor.paths import Paths
from lab.k3s.supervisor.settings import Settings


class TestVersions:
    @pytest.mark.parametrize(
        ("version", "fatal"),
        [
            ("v1.31.6+k3s1", False),
            ("v1.31.13+k3s1", True),
            ("v1.32.5+k3s1", False),
            ("v1.32.6+k3s1", True),
            ("v1.33.5+k3s1", True),
            ("v1.33.6+k3s1", False),
            ("v1.34.1+k3s1", True),
            ("v1.34.4+k3s1", False),
            ("v1.36.4+k3s1", False),
        ],
    )
    def test_which_ones_crash_on_a_stale_node(self, version: str, fatal: bool) -> None:
        assert versions.stale_node_is_fatal(versions.Version.parse(version)) is fatal

    @pytest.mark.parametrize("text", ["1.34.4+k3s1", "v1.34.4", "v1.34+k3s1", "latest", ""])
    def test_what_is_no_version_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="not a k3s version"):
            versions.Version.parse(text)


ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth1\t0000D60A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth0\t00000000\t0100D50A\t0003\t0\t0\t0\t00000000\t0\t0\t0
"""
TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.214.0.0/24 2 0 2
        |-- 10.214.0.0
           /24 link UNICAST
        |-- 10.214.0.10
           /32 host LOCAL
        |-- 10.214.0.255
           /32 link BROADCAST
Local:
        |-- 127.0.0.1
           /32 host LOCAL
"""


class TestNetwork:
    def test_the_default_route_decides(self) -> None:
        assert network.default_route_interface(ROUTES) == "eth0"

    def test_without_a_default_route_there_is_none(self) -> None:
        assert network.default_route_interface("\n".join(ROUTES.splitlines()[:2])) is None

    def test_a_route_that_is_down_does_not_count(self) -> None:
        assert network.default_route_interface(ROUTES.replace("\t0003\t", "\t0002\t")) is None

    def test_own_addresses_only(self) -> None:
        assert network.local_addresses_of(TRIE) == {"10.214.0.10", "127.0.0.1"}

    def test_listening_on_a_foreign_address_fails_in_gos_words(self) -> None:
        problem = network.listen_error("192.0.2.1", 6443)
        assert problem == "listen tcp 192.0.2.1:6443: bind: cannot assign requested address"


class TestLog:
    def test_lines_are_quoted_as_logrus_does(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.warning('say "x"\\\n')
        line = capsys.readouterr().err
        assert line.startswith('time="')
        assert line.endswith(' level=warning msg="say \\"x\\"\\\\\\n"\n')

    def test_time_is_utc_or_has_an_offset(self) -> None:
        text = logs.timestamp(0)
        assert dt.datetime.fromisoformat(text).timestamp() == 0


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def load(config: Path, *arguments: str, **environment: str) -> Settings:
    return settings.load([*arguments], {"K3S_CONFIG_FILE": str(config), **environment})


class TestSettings:
    def test_drop_ins_win_in_alphabetical_order(self, config: Path) -> None:
        config.write_text("node-ip: 10.0.0.1\ndebug: true\ntls-san: [a, b]\n")
        folder = config.with_name("config.yaml.d")
        folder.mkdir()
        (folder / "20.yaml").write_text("node-ip: 10.0.0.3\n")
        (folder / "10.yml").write_text("node-ip: 10.0.0.2\ntls-san: [c]\n")
        (folder / "30.txt").write_text("node-ip: 10.0.0.4\n")
        read = load(config)
        assert read.items("node-ip") == ["10.0.0.3"]
        assert read.items("tls-san") == ["c"]
        assert read.switch("debug")

    def test_a_plus_adds(self, config: Path) -> None:
        config.write_text("tls-san: [a]\n")
        folder = config.with_name("config.yaml.d")
        folder.mkdir()
        (folder / "10.yaml").write_text("tls-san+: [b]\n")
        assert load(config).items("tls-san") == ["a", "b"]

    def test_the_command_line_replaces_values_and_adds_to_lists(self, config: Path) -> None:
        config.write_text("tls-san: [a]\nnode-name: one\n")
        read = load(config, "--tls-san", "b,c", "--node-name=two", "--disable-network-policy")
        assert read.items("tls-san") == ["a", "b", "c"]
        assert read.text("node-name") == "two"
        assert read.switch("disable-network-policy")

    def test_short_names_and_the_environment(self, config: Path) -> None:
        config.write_text("i: 10.0.0.1\n")
        read = load(config, K3S_TOKEN="obvious-fake")
        assert (read.items("node-ip"), read.text("token")) == (["10.0.0.1"], "obvious-fake")

    def test_unknown_keys_are_skipped_with_k3s_warning(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        config.write_text("notaflag: secret-value\n")
        assert load(config).values == {}
        error = capsys.readouterr().err
        assert 'level=warning msg="Unknown flag --notaflag found in config.yaml, skipping\\n"' in error
        assert "secret-value" not in error

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("debug: maybe\n", 'invalid value "maybe" for flag -debug'),
            ("https-listen-port: x\n", 'invalid value "x" for flag -https-listen-port'),
            ("a: [\n", "yaml: line"),
            ("- a\n", "cannot unmarshal list into a map"),
        ],
    )
    def test_bad_files_are_fatal(self, config: Path, text: str, message: str) -> None:
        config.write_text(text)
        with pytest.raises(FatalError, match=message.replace("[", r"\[")):
            load(config)

    def test_a_named_file_must_exist(self, config: Path) -> None:
        with pytest.raises(FatalError, match="no such file"):
            settings.load(["--config", str(config)], {})

    @pytest.mark.parametrize("words", [["--no-such"], ["--token"], ["word"]])
    def test_bad_words_are_fatal(self, config: Path, words: list[str]) -> None:
        with pytest.raises(FatalError):
            load(config, *words)

    def test_data_dir_for_other_commands_ignores_the_rest(
        self, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config.write_text("data-dir: /srv/k3s\nnotaflag: 1\n")
        assert settings.configured_data_dir({"K3S_CONFIG_FILE": str(config)}) == Path("/srv/k3s")
        assert capsys.readouterr().err == ""


def test_every_option_has_one_effect() -> None:
    assert {flag.effect for flag in FLAGS.values()} == set(Effect)
    assert len({flag.name for flag in FLAGS.values()}) > 110


class TestPlan:
    @pytest.fixture(autouse=True)
    def _root(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(network, "choose_address", lambda: "10.0.0.7")

    def test_node_ip_wins_over_the_default_route(self) -> None:
        assert plan.make_plan(Settings({})).node_address == "10.0.0.7"
        assert plan.make_plan(Settings({"node-ip": ["10.0.0.9"]})).node_address == "10.0.0.9"

    def test_without_a_route_it_needs_a_node_ip(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def none() -> str:
            raise LookupError("no default routes found in x")

        monkeypatch.setattr(network, "choose_address", none)
        with pytest.raises(FatalError, match=r"^no default routes found"):
            plan.make_plan(Settings({}))
        assert plan.make_plan(Settings({"node-ip": ["10.0.0.9"]})).node_address == "10.0.0.9"

    @pytest.mark.parametrize(
        "values",
        [
            {"datastore-endpoint": ["mysql://x"]},
            {"flannel-iface": ["nosuch0"]},
            {"node-ip": ["10.0.0.300"]},
            {"service-cidr": ["10.43.0.0/33"]},
            {"node-taint": ["nonsense"]},
            {"write-kubeconfig-mode": ["384"]},
        ],
    )
    def test_bad_values_are_fatal(self, values: dict[str, list[str]]) -> None:
        with pytest.raises(FatalError):
            plan.make_plan(Settings(values))

    def test_names_of_the_serving_certificate(self) -> None:
        given = Settings({"tls-san": ["host.docker.internal,203.0.113.5"], "node-name": ["One"]})
        names = plan.serving_names(plan.make_plan(given), given)
        assert {"kubernetes.default.svc.cluster.local", "localhost", "one", "host.docker.internal"} <= set(names.dns)
        assert set(names.addresses) == {"127.0.0.1", "::1", "10.43.0.1", "10.0.0.7", "203.0.113.5"}

    def test_a_bind_address_is_where_everything_listens(self) -> None:
        made = plan.make_plan(Settings({"bind-address": ["10.0.0.7"]}))
        assert made.local_host == "10.0.0.7"

    def test_what_the_user_gives_replaces_k3s_own_argument(self, tmp_path: Path) -> None:
        given = Settings({"kube-apiserver-arg": ["anonymous-auth=true", "audit-log-path=/x"]})
        arguments = parts.api_server(plan.make_plan(given), given, Paths(tmp_path))
        assert [word for word in arguments if "anonymous-auth" in word] == ["--anonymous-auth=true"]
        assert "--audit-log-path=/x" in arguments


class TestCertificates:
    @pytest.fixture
    def ca(self, tmp_path: Path) -> tuple[Path, Path]:
        pair = tmp_path / "ca.crt", tmp_path / "ca.key"
        pki.ensure_ca("k3s-server", *pair)
        return pair

    @staticmethod
    def sign(folder: Path, ca: tuple[Path, Path], *names: str) -> bool:
        wanted = pki.Names("kube-apiserver", dns=names, addresses=("127.0.0.1", "::1"))
        return pki.ensure_leaf(wanted, folder / "s.crt", folder / "s.key", *ca)

    def test_a_good_one_is_left_alone(self, tmp_path: Path, ca: tuple[Path, Path]) -> None:
        assert self.sign(tmp_path, ca, "a")
        before = (tmp_path / "s.crt").read_bytes()
        assert not self.sign(tmp_path, ca, "a")
        assert (tmp_path / "s.crt").read_bytes() == before
        assert (tmp_path / "s.key").stat().st_mode & 0o777 == 0o600

    def test_a_missing_name_is_added_and_the_key_kept(self, tmp_path: Path, ca: tuple[Path, Path]) -> None:
        self.sign(tmp_path, ca, "a")
        key = (tmp_path / "s.key").read_bytes()
        assert self.sign(tmp_path, ca, "a", "b")
        assert (tmp_path / "s.key").read_bytes() == key
        assert pki.alternative_names(pki.load_certificate(tmp_path / "s.crt"))[0] == {"a", "b"}

    def test_another_ca_means_signing_again(self, tmp_path: Path, ca: tuple[Path, Path]) -> None:
        self.sign(tmp_path, ca, "a")
        for path in ca:
            path.unlink()
        pki.ensure_ca("k3s-server", *ca)
        assert self.sign(tmp_path, ca, "a")

    def test_near_its_end_it_is_signed_again(
        self, tmp_path: Path, ca: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.sign(tmp_path, ca, "a")
        future = dt.datetime.now(dt.UTC) + dt.timedelta(days=365 - 119)
        monkeypatch.setattr(pki, "_now", lambda: future)
        assert self.sign(tmp_path, ca, "a")

    def test_an_existing_ca_is_kept(self, ca: tuple[Path, Path]) -> None:
        before = ca[0].read_bytes()
        pki.ensure_ca("k3s-server", *ca)
        assert ca[0].read_bytes() == before
        assert x509.load_pem_x509_certificate(before).subject.rfc4514_string().startswith("CN=k3s-server-ca@")

    def test_what_is_no_certificate_is_fatal(self, tmp_path: Path, ca: tuple[Path, Path]) -> None:
        (tmp_path / "s.crt").write_text("nonsense")
        (tmp_path / "s.key").write_text("nonsense")
        with pytest.raises(FatalError, match=r"s\.crt"):
            self.sign(tmp_path, ca, "a")


class TestBootstrap:
    @pytest.fixture
    def cluster(self, tmp_path: Path) -> Paths:
        """A server's files with their copy in the datastore, as after the first start."""
        paths = Paths(tmp_path)
        for name in paths.bootstrap_files().values():
            pki.write_private(name, f"content of {name.name}".encode())
        bootstrap.write_tokens(paths, "one")
        paths.database.parent.mkdir(parents=True)
        with sqlite3.connect(paths.database) as connection:
            connection.execute(
                "CREATE TABLE kine (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, created INTEGER, deleted INTEGER,"
                " create_revision INTEGER, prev_revision INTEGER, lease INTEGER, value BLOB, old_value BLOB)"
            )
        connection.close()
        bootstrap.store_copy(paths, "one")
        return paths

    @pytest.mark.parametrize("text", ["secret", "K10abc::server:secret", " K10abc::node:secret\n"])
    def test_a_tokens_secret_part(self, text: str) -> None:
        assert bootstrap.plain_token(text) == "secret"

    def test_the_token_on_disk_is_used_again(self, cluster: Paths) -> None:
        assert bootstrap.choose_token(cluster, "") == "one"
        assert bootstrap.choose_token(cluster, "two") == "two"
        assert (cluster.server / "node-token").read_text().startswith("K10")

    def test_nothing_to_do(self, cluster: Paths) -> None:
        before = {path: path.stat().st_mtime_ns for path in cluster.bootstrap_files().values()}
        bootstrap.reconcile(cluster, "one")
        assert before == {path: path.stat().st_mtime_ns for path in cluster.bootstrap_files().values()}

    def test_the_copy_shows_no_secret(self, cluster: Paths) -> None:
        assert b"content of" not in cluster.database.read_bytes()

    def test_another_token_is_fatal(self, cluster: Paths) -> None:
        with pytest.raises(FatalError, match="bootstrap data already found and encrypted with different token"):
            bootstrap.reconcile(cluster, "two")

    def test_deleted_files_come_back(self, cluster: Paths) -> None:
        key = cluster.tls / "service.key"
        key.unlink()
        bootstrap.reconcile(cluster, "one")
        assert key.read_text() == "content of service.key"

    def test_an_older_file_is_replaced(self, cluster: Paths) -> None:
        ca = cluster.tls / "server-ca.crt"
        ca.write_text("older")
        os.utime(ca, (0, 0))
        bootstrap.reconcile(cluster, "one")
        assert ca.read_text() == "content of server-ca.crt"

    def test_a_newer_file_is_fatal_and_kept(self, cluster: Paths) -> None:
        ca = cluster.tls / "server-ca.crt"
        ca.write_text("newer")
        os.utime(ca, (2**31, 2**31))
        with pytest.raises(FatalError, match="newer than datastore and could cause a cluster outage"):
            bootstrap.reconcile(cluster, "one")
        assert ca.read_text() == "newer"

    def test_a_damaged_database_is_fatal(self, cluster: Paths) -> None:
        cluster.database.write_bytes(b"\0" * 8192)
        with pytest.raises(FatalError, match="file is not a database"):
            bootstrap.reconcile(cluster, "one")

    def test_waiting_for_a_token_file_can_be_stopped(self, tmp_path: Path) -> None:
        stop = threading.Event()
        stop.set()
        assert bootstrap.read_token_file(tmp_path / "token", stop) == ""


class FakeApi:
    """One Node object, and what was written to it."""

    host, port = "127.0.0.1", 6443

    def __init__(self, address: str | None) -> None:
        self.node: dict[str, Any] | None = None
        self.others: list[dict[str, Any]] = []
        self.writes: list[str] = []
        if address is not None:
            self.node = {"metadata": {"uid": "u"}, "spec": {}, "status": {"addresses": self._addresses(address)}}

    @staticmethod
    def _addresses(address: str) -> list[dict[str, str]]:
        return [{"type": "InternalIP", "address": address}]

    def get(self, path: str) -> dict[str, Any] | None:
        if path == "/api/v1/nodes":
            return {"items": [{"metadata": {"name": "one"}}, *self.others]}
        return self.node if path == "/api/v1/nodes/one" else None

    def create(self, path: str, body: dict[str, Any]) -> bool:
        self.writes.append(f"create {path}")
        if path == "/api/v1/nodes":
            self.node = {"metadata": {"uid": "new"}, "spec": body["spec"], "status": {}}
        return True

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        if body is None:
            return
        self.writes.append(f"{method} {path}")
        if self.node is None:
            raise ApiError(404, "not found")
        metadata = body.get("metadata", {})
        if any(path == f"/api/v1/nodes/{other['metadata']['name']}" for other in self.others):
            return
        self.node["metadata"]["finalizers"] = metadata.get("finalizers", self.node["metadata"].get("finalizers", []))
        if node._WITHOUT_FINALIZER in metadata:
            self.node = None
            return
        if path.endswith("/status"):
            entries = [entry for entry in body["status"].get("addresses", []) if "$patch" not in entry]
            self.node["status"] = {**self.node["status"], **body["status"]}
            if entries:
                self.node["status"]["addresses"] = entries


class TestNode:
    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(network, "local_addresses", lambda: {"10.0.0.2"})
        monkeypatch.setattr(node, "_NETWORK_POLICY_DELAY", 0.0)

    @staticmethod
    def run(tmp_path: Path, api: FakeApi, **changes: Any) -> None:
        values: dict[str, Any] = {
            "name": "one", "address": "10.0.0.2", "external_addresses": (), "labels": (), "taints": (),
            "version": "v1.34.4+k3s1", "flannel_iface": "", "ca_name": "k3s-server-ca@1", "network_policy": True,
            "stale_node_is_fatal": False, "password_file": tmp_path / "password",
        }  # fmt: skip
        stop = threading.Event()
        made = node.Node(node.NodeConfig(**{**values, **changes}), api, api)  # type: ignore[arg-type]

        def once() -> None:
            stop.set()

        made._renew_lease = once  # type: ignore[method-assign]
        made.run(stop)

    @staticmethod
    def internal(api: FakeApi) -> str:
        assert api.node is not None
        return str(api.node["status"]["addresses"][0]["address"])

    def test_a_fresh_node_is_registered(self, tmp_path: Path) -> None:
        api = FakeApi(None)
        self.run(tmp_path, api, stale_node_is_fatal=True)
        assert "create /api/v1/nodes" in api.writes
        assert self.internal(api) == "10.0.0.2"

    def test_a_deleted_node_is_let_go_a_moment_after_the_start_as_its_controller_does(self, tmp_path: Path) -> None:
        api = FakeApi("10.0.0.2")
        self.run(tmp_path, api)
        assert api.node is not None
        assert api.node["metadata"]["finalizers"] == [node.FINALIZER]
        api.node["metadata"]["deletionTimestamp"] = "now"
        self.run(tmp_path, api)
        assert api.node is None
        assert "create /api/v1/nodes" not in api.writes

    def test_another_deleted_node_is_let_go_too_and_one_that_is_not_deleted_stays(self, tmp_path: Path) -> None:
        api = FakeApi("10.0.0.2")
        api.others = [{"metadata": {"name": "old", "deletionTimestamp": "now"}}, {"metadata": {"name": "other"}}]
        self.run(tmp_path, api)
        assert "PATCH /api/v1/nodes/old" in api.writes
        assert "PATCH /api/v1/nodes/other" not in api.writes

    def test_a_stale_node_is_fatal_before_anything_heals_it(self, tmp_path: Path) -> None:
        api = FakeApi("10.0.0.1")
        with pytest.raises(FatalError, match="failed to find interface with specified node ip"):
            self.run(tmp_path, api, stale_node_is_fatal=True)
        assert self.internal(api) == "10.0.0.1"

    def test_a_newer_release_heals_it_first(self, tmp_path: Path) -> None:
        api = FakeApi("10.0.0.1")
        self.run(tmp_path, api)
        assert self.internal(api) == "10.0.0.2"

    def test_without_network_policy_it_is_healed(self, tmp_path: Path) -> None:
        api = FakeApi("10.0.0.1")
        self.run(tmp_path, api, stale_node_is_fatal=True, network_policy=False)
        assert self.internal(api) == "10.0.0.2"

    def test_with_the_fault_an_object_keeps_its_addresses_until_it_is_deleted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(faults, "FOLDER", tmp_path)
        (tmp_path / faults.STALE_NODE_ADDRESS).touch()
        api = FakeApi("10.0.0.1")
        assert api.node is not None
        api.node["metadata"]["annotations"] = {"k3s.io/internal-ip": "10.0.0.1"}
        self.run(tmp_path, api, network_policy=False)
        assert self.internal(api) == "10.0.0.1"
        with pytest.raises(FatalError, match="failed to find interface"):
            self.run(tmp_path, api)
        api.node = None
        self.run(tmp_path, api)
        assert self.internal(api) == "10.0.0.2"

    def test_a_node_ip_that_no_interface_has_is_fatal_for_all(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(FatalError, match="failed to find interface"):
            self.run(tmp_path, FakeApi(None), address="10.0.0.1")
        assert "not found in the host's network interfaces" in capsys.readouterr().err

    @pytest.mark.parametrize("text", ["a=b:NoSchedule", "a:NoExecute"])
    def test_taints(self, text: str) -> None:
        assert node.parse_taint(text)["key"] == "a"

    @pytest.mark.parametrize("text", ["a", "a=b", "a:Never", ":NoSchedule"])
    def test_what_is_no_taint(self, text: str) -> None:
        with pytest.raises(FatalError):
            node.parse_taint(text)
