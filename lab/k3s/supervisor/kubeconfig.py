"""The two forms of kubeconfig that k3s writes."""

import base64
from pathlib import Path

import yaml


def by_path(url: str, server_name: str, ca: Path, certificate: Path, key: Path) -> str:
    """Return the form of `server/cred/*.kubeconfig`, which names files."""
    cluster = {"server": url, "certificate-authority": str(ca), "tls-server-name": server_name}
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    return _text("local", "Default", "user", cluster, user)


def embedded(url: str, ca: Path, certificate: Path, key: Path) -> str:
    """Return the form of `/etc/rancher/k3s/k3s.yaml`, which holds everything."""
    cluster = {"certificate-authority-data": _base64(ca), "server": url}
    user = {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)}
    return _text("default", "default", "default", cluster, user)


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _text(cluster_name: str, context_name: str, user_name: str, cluster: dict[str, str], user: dict[str, str]) -> str:
    data = {
        "apiVersion": "v1",
        "clusters": [{"cluster": cluster, "name": cluster_name}],
        "contexts": [{"context": {"cluster": cluster_name, "user": user_name}, "name": context_name}],
        "current-context": context_name,
        "kind": "Config",
        "preferences": {},
        "users": [{"name": user_name, "user": user}],
    }
    return str(yaml.safe_dump(data, sort_keys=False))
