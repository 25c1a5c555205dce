"""The command lines of the real parts, as k3s gives them (`pkg/daemons/control/server.go`)."""

from .certificates import API_SERVER_NAME
from .listener import Listener
from .paths import Paths
from .plan import Plan
from .settings import Settings


def _arguments(options: dict[str, str], extra: list[str]) -> list[str]:
    """Let what the user gives replace k3s' own."""
    given = [text.removeprefix("--") for text in extra]
    replaced = {text.partition("=")[0] for text in given}
    own = [f"--{name}={value}" for name, value in options.items() if name not in replaced]
    return own + [f"--{text}" for text in given]


def api_server(plan: Plan, settings: Settings, paths: Paths) -> list[str]:
    """Return kube-apiserver's arguments.

    k3s has it behind a listener of its own (dynamiclistener) on 6443; here it listens there itself, with the listener's
    certificate.
    """
    tls = paths.tls
    listener = Listener.of(tls)
    own = tls / "serving-kube-apiserver.crt"
    issuer = f"https://kubernetes.default.svc.{plan.cluster_domain}"
    options = {
        "advertise-address": plan.advertise_address,
        "allow-privileged": "true",
        "anonymous-auth": "false",
        "api-audiences": f"{issuer},k3s",
        "authorization-mode": "Node,RBAC",
        "bind-address": plan.bind_address,
        "cert-dir": str(tls / "temporary-certs"),
        "client-ca-file": str(tls / "client-ca.crt"),
        "enable-admission-plugins": "NodeRestriction",
        "enable-aggregator-routing": "true",
        "enable-bootstrap-token-auth": "true",
        "etcd-servers": f"unix://{paths.kine_socket}",
        "kubelet-certificate-authority": str(tls / "server-ca.crt"),
        "kubelet-client-certificate": str(tls / "client-kube-apiserver.crt"),
        "kubelet-client-key": str(tls / "client-kube-apiserver.key"),
        "kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname",
        "profiling": "false",
        "proxy-client-cert-file": str(tls / "client-auth-proxy.crt"),
        "proxy-client-key-file": str(tls / "client-auth-proxy.key"),
        "requestheader-allowed-names": "system:auth-proxy",
        "requestheader-client-ca-file": str(tls / "request-header-ca.crt"),
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "secure-port": str(plan.port),
        "service-account-issuer": issuer,
        "service-account-key-file": str(tls / "service.key"),
        "service-account-signing-key-file": str(tls / "service.current.key"),
        "service-cluster-ip-range": plan.service_cidr,
        "service-node-port-range": settings.text("service-node-port-range", "30000-32767"),
        "storage-backend": "etcd3",
        "tls-cert-file": str(listener.certificate),
        "tls-private-key-file": str(listener.key),
        "tls-sni-cert-key": f"{own},{own.with_suffix('.key')}:{API_SERVER_NAME}",
    }
    return _arguments(options, settings.arguments("kube-apiserver-arg"))


def controller_manager(plan: Plan, settings: Settings, paths: Paths) -> list[str]:
    """Return kube-controller-manager's arguments."""
    tls = paths.tls
    kubeconfig = str(paths.cred / "controller.kubeconfig")
    options = {
        "allocate-node-cidrs": "true",
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": "127.0.0.1",
        "cluster-cidr": plan.cluster_cidr,
        "cluster-signing-kube-apiserver-client-cert-file": str(tls / "client-ca.nochain.crt"),
        "cluster-signing-kube-apiserver-client-key-file": str(tls / "client-ca.key"),
        "cluster-signing-kubelet-client-cert-file": str(tls / "client-ca.nochain.crt"),
        "cluster-signing-kubelet-client-key-file": str(tls / "client-ca.key"),
        "cluster-signing-kubelet-serving-cert-file": str(tls / "server-ca.nochain.crt"),
        "cluster-signing-kubelet-serving-key-file": str(tls / "server-ca.key"),
        "cluster-signing-legacy-unknown-cert-file": str(tls / "server-ca.nochain.crt"),
        "cluster-signing-legacy-unknown-key-file": str(tls / "server-ca.key"),
        "controllers": "*,tokencleaner,-service,-route,-cloud-node-lifecycle",
        "kubeconfig": kubeconfig,
        "leader-elect": "false",
        "profiling": "false",
        "root-ca-file": str(tls / "server-ca.crt"),
        "secure-port": "10257",
        "service-account-private-key-file": str(tls / "service.current.key"),
        "service-cluster-ip-range": plan.service_cidr,
        "use-service-account-credentials": "true",
    }
    return _arguments(options, settings.arguments("kube-controller-manager-arg"))
