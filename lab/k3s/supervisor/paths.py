"""Where k3s keeps its files (`CreateRuntimeCertFiles` of k3s)."""

from dataclasses import dataclass
from pathlib import Path

NODE_PASSWORD = Path("/etc/rancher/node/password")


@dataclass(frozen=True)
class Paths:
    """The files below one data-dir."""

    data_dir: Path

    @property
    def server(self) -> Path:
        """Everything of the server: datastore, certificates, credentials, token."""
        return self.data_dir / "server"

    @property
    def agent(self) -> Path:
        """What the node part owns."""
        return self.data_dir / "agent"

    @property
    def tls(self) -> Path:
        """Certificates and keys."""
        return self.server / "tls"

    @property
    def cred(self) -> Path:
        """Kubeconfigs of the parts, passwords."""
        return self.server / "cred"

    @property
    def sqlite(self) -> Path:
        """The datastore of a server without etcd."""
        return self.server / "db" / "state.db"

    @property
    def etcd(self) -> Path:
        """What embedded etcd owns."""
        return self.server / "db" / "etcd"

    @property
    def is_etcd(self) -> bool:
        """Whether embedded etcd has been started here: k3s looks for its log."""
        return (self.etcd / "member" / "wal").is_dir()

    @property
    def database(self) -> Path:
        """The datastore in use; `-wal` and `-shm` are beside it while it is open."""
        return self.etcd / "member" / "snap" / "db" if self.is_etcd else self.sqlite

    @property
    def kine_socket(self) -> Path:
        """Where kine listens."""
        return self.server / "kine.sock"

    @property
    def token(self) -> Path:
        """The server token, with the CA's hash in front; `node-token` points to it."""
        return self.server / "token"

    @property
    def passwd(self) -> Path:
        """The server's and the nodes' password."""
        return self.cred / "passwd"

    def bootstrap_files(self) -> dict[str, Path]:
        """Return what k3s keeps a copy of in the datastore: name there -> file."""
        return {
            "ServerCA": self.tls / "server-ca.crt",
            "ServerCAKey": self.tls / "server-ca.key",
            "ClientCA": self.tls / "client-ca.crt",
            "ClientCAKey": self.tls / "client-ca.key",
            "RequestHeaderCA": self.tls / "request-header-ca.crt",
            "RequestHeaderCAKey": self.tls / "request-header-ca.key",
            "ServiceKey": self.tls / "service.key",
            "IPSECKey": self.cred / "ipsec.psk",
            "PasswdFile": self.passwd,
        }
