"""`k3s server`: certificates, datastore, API server and node, in the order in which k3s starts them."""

import grp
import json
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from . import bootstrap, certificates, logs, network, node_password, parts, pki, sdnotify
from .api import ApiError, Client
from .bundle import Manifest
from .etcd import Etcd
from .flags import Effect
from .kubeconfig import embedded
from .logs import FatalError
from .node import Node, NodeConfig
from .paths import NODE_PASSWORD, Paths
from .plan import Plan, make_plan
from .processes import Child
from .settings import DEFAULT_KUBECONFIG, Settings
from .versions import Version, stale_node_is_fatal

# Resident memory and processor time of an idle API server, measured: with 180MiB 250 MiB and 1 s a minute, 145MiB
# 211 MiB and 1 s, 125MiB 195 MiB and 1.2 s, 100MiB 186 MiB and 19 s (it collects garbage all the time). Room to grow:
API_SERVER_ENVIRONMENT = {"GOMEMLIMIT": "160MiB"}
CONTROLLER_MANAGER_ENVIRONMENT = {"GOMEMLIMIT": "100MiB"}
# the API server would wait a minute for watches to end; k3s, which is one process, does not
STOP_SECONDS = 3


class Server:
    """One run of `k3s server`."""

    def __init__(self, settings: Settings, manifest: Manifest, programs: Path) -> None:
        self._settings = settings
        self._manifest = manifest
        self._programs = programs / "bin"
        self._paths = Paths(settings.data_dir.absolute())
        self._stop = threading.Event()
        self._fatal: queue.Queue[str] = queue.Queue()
        self._children: list[Child] = []
        self._kine_error = ""
        self._was_reset = False
        self._plan: Plan

    def run(self) -> None:
        """Run until SIGTERM or SIGINT.

        Raises:
            FatalError: what ended the server, with k3s' message.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        for name in self._settings.with_effect(Effect.PARSED):
            logs.warning(f"lab: --{name} is parsed only, what it sets does not exist here")
        token = self._configured_token()
        if self._stop.is_set():
            return
        self._plan = make_plan(self._settings)
        logs.info(f"Starting k3s {self._manifest.version} ({self._manifest.commit})")
        if self._settings.switch("cluster-reset"):
            self._reset(token)
            return
        try:
            self._prepare(token)
            if self._stop.is_set():
                return
            self._start_api_server()
            if not self._stop.is_set():
                self._ready()
                self._supervise()
        finally:
            self._stop.set()
            for child in reversed(self._children):
                child.stop(STOP_SECONDS)

    def _configured_token(self) -> str:
        if self._settings.text("token"):
            return self._settings.text("token")
        file = self._settings.text("token-file")
        return bootstrap.read_token_file(Path(file), self._stop) if file else ""

    def _prepare(self, token: str) -> None:
        paths, plan = self._paths, self._plan
        for folder in (paths.server, paths.tls, paths.cred, paths.agent, paths.sqlite.parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (paths.server / "manifests").mkdir(exist_ok=True, mode=0o700)
        ours = sorted(path.name for path in (paths.server / "manifests").glob("*.y*ml"))
        if ours:
            logs.warning(f"lab: manifests are not applied here: {', '.join(ours)}")
        etcd = Etcd(paths, plan) if paths.is_etcd or self._settings.switch("cluster-init") else None
        is_new = not paths.is_etcd
        if etcd and not is_new:
            etcd.check_data()
        secret = bootstrap.choose_token(paths, token)
        bootstrap.reconcile(paths, secret)
        if etcd and is_new:
            etcd.begin()
        certificates.prepare(paths, plan, self._settings)
        bootstrap.write_tokens(paths, secret)
        self._check_port()
        if etcd:
            self._was_reset = etcd.started_normally()
            etcd.wait_for_membership(self._stop)
        if not self._stop.is_set():
            self._start_kine()
            bootstrap.store_copy(paths, secret)

    def _check_port(self) -> None:
        problem = network.listen_error(self._plan.bind_address, self._plan.port)
        if problem:
            raise FatalError(f"Error: preparing server: failed to init cluster datastore and https: {problem}")

    def _reset(self, token: str) -> None:
        """Do what `k3s server --cluster-reset` is for; k3s ends afterwards.

        Raises:
            FatalError: the datastore is not etcd, or its data, the token or the snapshot do not fit.
        """
        paths = self._paths
        if not paths.etcd.is_dir():
            raise FatalError("Error: the lab's k3s resets embedded etcd only, and there is none here")
        self._check_port()
        Etcd(paths, self._plan).reset(
            bootstrap.choose_token(paths, token), self._settings.text("cluster-reset-restore-path")
        )

    def _child(
        self,
        name: str,
        arguments: list[str],
        environment: Mapping[str, str],
        relay: Callable[[str], None] | None = None,
    ) -> Child:
        child = Child(name, [self._programs / name, *arguments], environment, self._paths.server, relay)
        self._children.append(child)
        return child

    def _relay_kine(self, line: str) -> None:
        """Write a line of kine's as it reads where kine is part of k3s."""
        try:
            record = json.loads(line)
            level, message = str(record["severity"]), str(record["message"])
        except (ValueError, KeyError, TypeError):
            level, message = "error", line
        if level in {"error", "fatal", "panic"}:
            self._kine_error = message
        logs.log("error" if level in {"fatal", "panic"} else level, message)

    def _start_kine(self) -> None:
        paths = self._paths
        paths.kine_socket.unlink(missing_ok=True)
        options = "_journal=WAL&cache=shared&_busy_timeout=30000&_txlock=immediate"
        arguments = ["--listen-address", f"unix://{paths.kine_socket}", "--metrics-bind-address", "0"]
        arguments += ["--log-format", "json", "--endpoint", f"sqlite://{paths.database}?{options}"]
        child = self._child("kine", arguments, {}, self._relay_kine)
        while not self._stop.is_set():
            if child.exit_code is not None:
                child.drain()
                cause = self._kine_error or f"kine ended with exit code {child.exit_code}"
                raise FatalError(f"Error: preparing server: creating storage endpoint: building kine: {cause}")
            if paths.kine_socket.exists():
                break
            time.sleep(0.05)

    def _client(self, certificate: Path, server_name: str = certificates.API_SERVER_NAME) -> Client:
        ca = self._paths.tls / "server-ca.crt"
        return Client(self._plan.local_host, self._plan.port, ca, certificate, server_name)

    def _start_api_server(self) -> None:
        (self._paths.tls / "temporary-certs").mkdir(exist_ok=True, mode=0o700)
        arguments = parts.api_server(self._plan, self._settings, self._paths)
        logs.info(f"Running kube-apiserver {' '.join(arguments)}")
        self._child("kube-apiserver", arguments, API_SERVER_ENVIRONMENT)
        client = self._client(self._paths.tls / "client-admin.crt")
        logs.info("Waiting for API server to become available")
        while not self._stop.wait(0.2):
            self._check_children()
            try:
                client.request("GET", "/readyz", timeout=5)
            except (OSError, ApiError):
                continue
            return

    def _ready(self) -> None:
        self._write_kubeconfig()
        logs.info("k3s is up and running")
        sdnotify.notify("READY=1")
        admin = self._client(self._paths.tls / "client-supervisor.crt")
        self._start_controller_manager()
        if self._was_reset:
            node_password.forget(admin, self._plan.node_name)
        through_listener = self._client(self._paths.agent / "client-kubelet.crt", server_name="")
        node = Node(self._node_config(), admin, through_listener)
        threading.Thread(target=self._run_node, args=(node,), name="node", daemon=True).start()

    def _start_controller_manager(self) -> None:
        arguments = parts.controller_manager(self._plan, self._settings, self._paths)
        logs.info(f"Running kube-controller-manager {' '.join(arguments)}")
        self._child("kube-controller-manager", arguments, CONTROLLER_MANAGER_ENVIRONMENT)

    def _node_config(self) -> NodeConfig:
        plan, settings = self._plan, self._settings
        return NodeConfig(
            name=plan.node_name,
            address=plan.node_address,
            external_addresses=tuple(settings.items("node-external-ip")),
            labels=tuple(settings.items("node-label")),
            taints=tuple(settings.items("node-taint")),
            version=self._manifest.version,
            flannel_iface=settings.text("flannel-iface"),
            ca_name=pki.common_name(self._paths.tls / "server-ca.crt"),
            network_policy=not settings.switch("disable-network-policy") and settings.text("flannel-backend") != "none",
            stale_node_is_fatal=stale_node_is_fatal(Version.parse(self._manifest.version)),
            password_file=NODE_PASSWORD,
        )

    def _run_node(self, node: Node) -> None:
        while not self._stop.is_set():
            try:
                node.run(self._stop)
            except FatalError as error:
                self._fatal.put(str(error))
                return
            except (ApiError, OSError) as error:
                logs.info(f"Waiting to retrieve agent configuration; server is not ready: {error}")
                self._stop.wait(2)

    def _check_children(self) -> None:
        for child in self._children:
            if child.exit_code is not None:
                name = {"kube-apiserver": "apiserver", "kine": "kine"}.get(child.name, child.name)
                raise FatalError(f"{name} exited: exit code {child.exit_code}, its own lines above say why")

    def _supervise(self) -> None:
        while not self._stop.is_set():
            try:
                raise FatalError(self._fatal.get(timeout=1))
            except queue.Empty:
                self._check_children()
        logs.info("Received signal, shutting down")

    def _write_kubeconfig(self) -> None:
        tls, settings = self._paths.tls, self._settings
        url = f"https://{self._plan.local_host}:{self._plan.port}"
        text = embedded(url, tls / "server-ca.crt", tls / "client-admin.crt", tls / "client-admin.key")
        path = Path(settings.text("write-kubeconfig") or DEFAULT_KUBECONFIG)
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = int(settings.text("write-kubeconfig-mode") or "600", 8)
        pki.write_private(path, text.encode(), 0o600)
        group = settings.text("write-kubeconfig-group")
        if group:
            try:
                os.chown(path, 0, int(group) if group.isdigit() else grp.getgrnam(group).gr_gid)
            except KeyError:
                logs.error(f"Failed to set {path} to group {group}: group: unknown group {group}")
        path.chmod(mode)
        logs.info(f"Wrote kubeconfig {path}")


def run(settings: Settings, manifest: Manifest, programs: Path) -> None:
    """Run the server (see `Server.run`)."""
    Server(settings, manifest, programs).run()
