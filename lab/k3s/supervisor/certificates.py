"""Every certificate, key and kubeconfig of a server, laid out as in k3s (`CreateRuntimeCertFiles`), and its signer."""

import secrets
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from . import pki
from .kubeconfig import by_path
from .listener import Listener
from .paths import Paths
from .plan import Plan, serving_names
from .settings import Settings

# k3s' own parts reach the API server past the listener (127.0.0.1:6444 in k3s); here this name, sent at the beginning
# of a connection, brings up the API server's own certificate on the one port that there is
API_SERVER_NAME = "apiserver.k3s.internal"


@dataclass(frozen=True)
class _Client:
    """A client certificate; `kubeconfig` is the file in `server/cred` that uses it."""

    file: str
    common_name: str
    organization: str = ""
    kubeconfig: str = ""


_CLIENTS = (
    _Client("client-admin", "system:admin", "system:masters", "admin"),
    _Client("client-supervisor", "system:k3s-supervisor", "system:masters", "supervisor"),
    _Client("client-controller", "system:kube-controller-manager", "", "controller"),
    _Client("client-scheduler", "system:kube-scheduler", "", "scheduler"),
    _Client("client-k3s-cloud-controller", "k3s-cloud-controller-manager", "", "cloud-controller"),
    _Client("client-k3s-controller", "system:k3s-controller", "system:masters"),
    _Client("client-kube-proxy", "system:kube-proxy"),
    _Client("client-kube-apiserver", "system:apiserver", "system:masters", "api-server"),
)
_AGENT_COPIES = ("client-kube-proxy", "client-k3s-controller")


def _pair(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.crt", folder / f"{name}.key"


def files_of(paths: Paths, service: str) -> list[Path]:
    """Return the files that belong to a service of `k3s certificate` (`pkg/util/services`).

    Raises:
        KeyError: there is no such service.
    """
    tls, agent = paths.tls, paths.agent
    etcd = tls / "etcd"
    table = {
        "admin": _pair(tls, "client-admin"),
        "api-server": (*_pair(tls, "client-kube-apiserver"), *_pair(tls, "serving-kube-apiserver")),
        "auth-proxy": _pair(tls, "client-auth-proxy"),
        "cloud-controller": _pair(tls, "client-k3s-cloud-controller"),
        "controller-manager": _pair(tls, "client-controller"),
        "etcd": (*_pair(etcd, "client"), *_pair(etcd, "server-client"), *_pair(etcd, "peer-server-client")),
        "scheduler": _pair(tls, "client-scheduler"),
        "supervisor": _pair(tls, "client-supervisor"),
        "k3s-server": (),
        "kube-proxy": (*_pair(tls, "client-kube-proxy"), *_pair(agent, "client-kube-proxy")),
        "kubelet": (
            tls / "client-kubelet.key", tls / "serving-kubelet.key",
            *_pair(agent, "client-kubelet"), *_pair(agent, "serving-kubelet"),
        ),
        "k3s-controller": (*_pair(tls, "client-k3s-controller"), *_pair(agent, "client-k3s-controller")),
    }  # fmt: skip
    return list(table[service])


# in k3s' order: the server's, then the agent's
SERVICES = (
    "api-server", "admin", "auth-proxy", "cloud-controller", "controller-manager", "etcd", "scheduler", "supervisor",
    "k3s-server", "kube-proxy", "kubelet", "k3s-controller",
)  # fmt: skip


def prepare(paths: Paths, plan: Plan, settings: Settings) -> None:
    """Make what is missing, sign again what does not fit, write the kubeconfigs.

    Raises:
        FatalError: a file that is there cannot be used.
    """
    tls = paths.tls
    for name in ("client", "server", "request-header"):
        pki.ensure_ca(f"k3s-{name}", *_pair(tls, f"{name}-ca"))
    for name in ("client", "server"):
        certificate, nochain = tls / f"{name}-ca.crt", tls / f"{name}-ca.nochain.crt"
        if not nochain.exists() or nochain.read_bytes() != certificate.read_bytes():
            pki.write_private(nochain, certificate.read_bytes(), 0o644)
    pki.ensure_service_key(tls / "service.key", tls / "service.current.key")
    if not (paths.cred / "ipsec.psk").exists():
        pki.write_private(paths.cred / "ipsec.psk", secrets.token_hex(48).encode() + b"\n")
    _clients(paths, plan)
    _node(paths, plan)
    server_ca = _pair(tls, "server-ca")
    proxy = pki.Names("system:auth-proxy")
    pki.ensure_leaf(proxy, *_pair(tls, "client-auth-proxy"), *_pair(tls, "request-header-ca"))
    names = serving_names(plan, settings)
    own = replace(names, dns=(*names.dns, API_SERVER_NAME))
    pki.ensure_leaf(own, *_pair(tls, "serving-kube-apiserver"), *server_ca)
    Listener.of(tls).prepare(names, *server_ca)
    if paths.is_etcd:
        _etcd(tls / "etcd", plan)


def _clients(paths: Paths, plan: Plan) -> None:
    tls = paths.tls
    url = f"https://{plan.local_host}:{plan.port}"
    for client in _CLIENTS:
        certificate, key = _pair(tls, client.file)
        pki.ensure_leaf(pki.Names(client.common_name, client.organization), certificate, key, *_pair(tls, "client-ca"))
        if client.kubeconfig:
            text = by_path(url, API_SERVER_NAME, tls / "server-ca.crt", certificate, key)
            kubeconfig = paths.cred / f"{client.kubeconfig}.kubeconfig"
            if not kubeconfig.exists() or kubeconfig.read_text() != text:
                pki.write_private(kubeconfig, text.encode())


def _node(paths: Paths, plan: Plan) -> None:
    """Make the node's: the server has the keys, the agent keys and certificates."""
    tls, agent = paths.tls, paths.agent
    for name in ("client-ca.crt", "server-ca.crt"):
        pki.write_private(agent / name, (tls / name).read_bytes(), 0o644)
    for name in _AGENT_COPIES:
        for source, target in zip(_pair(tls, name), _pair(agent, name), strict=True):
            pki.write_private(target, source.read_bytes(), 0o644 if source.suffix == ".crt" else 0o600)
    kubelet = pki.Names(f"system:node:{plan.node_name}", "system:nodes")
    pki.ensure_leaf(kubelet, *_pair(agent, "client-kubelet"), *_pair(tls, "client-ca"))
    addresses = ("127.0.0.1", plan.node_address)
    serving = pki.Names(plan.node_name, dns=(plan.node_name, "localhost"), addresses=addresses)
    pki.ensure_leaf(serving, *_pair(agent, "serving-kubelet"), *_pair(tls, "server-ca"))
    for name in ("client-kubelet", "serving-kubelet"):
        pki.write_private(tls / f"{name}.key", (agent / f"{name}.key").read_bytes())


def _etcd(folder: Path, plan: Plan) -> None:
    """Make etcd's, which the lab's datastore does not use: a backup or a rotation meets them."""
    for name in ("server", "peer"):
        pki.ensure_ca(f"etcd-{name}", *_pair(folder, f"{name}-ca"))
    addresses = ("127.0.0.1", "::1", plan.node_address)
    pki.ensure_leaf(pki.Names("etcd-client"), *_pair(folder, "client"), *_pair(folder, "server-ca"))
    for name, ca in (("server-client", "server-ca"), ("peer-server-client", "peer-ca")):
        wanted = pki.Names(f"etcd-{name.split('-', maxsplit=1)[0]}", dns=("localhost",), addresses=addresses)
        pki.ensure_leaf(wanted, *_pair(folder, name), *_pair(folder, ca))


def back_up(paths: Paths, services: tuple[str, ...], moment: int) -> Path:
    """Copy `server/tls` and the agent's files of the services to `server/tls-<moment>`; return that folder."""
    target = paths.server / f"tls-{moment}"
    shutil.copytree(paths.tls, target, symlinks=True)
    for service in services:
        for file in files_of(paths, service):
            if file.is_relative_to(paths.agent) and file.exists():
                shutil.copy2(file, target / file.name)
    return target
