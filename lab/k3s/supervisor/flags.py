"""The options of `k3s server` (v1.34) and what the supervisor does with each.

Taken from k3s' `pkg/cli/cmds/server.go` and `agent.go`. `USED` options have their effect here. `PARSED` ones are
checked for their type, named in a warning at start, and do nothing: what they set does not exist in the lab.
`REFUSED` ones would make another kind of server: the start fails instead of pretending.
"""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What an option's value must be."""

    TEXT = "text"
    NUMBER = "number"
    SWITCH = "switch"
    LIST = "list"


class Effect(Enum):
    """What the supervisor does with an option."""

    USED = "used"
    PARSED = "parsed only"
    REFUSED = "refused"


@dataclass(frozen=True)
class Flag:
    """One option of `k3s server`."""

    name: str
    kind: Kind
    effect: Effect
    aliases: tuple[str, ...] = ()
    environment: str = ""


_USED = {
    Kind.TEXT: (
        "bind-address advertise-address service-node-port-range cluster-domain flannel-backend write-kubeconfig-mode "
        "write-kubeconfig-group flannel-iface cluster-reset-restore-path etcd-snapshot-dir"
    ),
    Kind.NUMBER: "https-listen-port advertise-port",
    Kind.SWITCH: "disable-network-policy debug cluster-reset",
    Kind.LIST: (
        "tls-san cluster-cidr service-cidr kube-apiserver-arg kube-controller-manager-arg node-label node-taint "
        "node-external-ip"
    ),
}
_PARSED = {
    Kind.TEXT: (
        "egress-selector-mode servicelb-namespace helm-job-image agent-token agent-token-file etcd-snapshot-name "
        "etcd-snapshot-schedule-cron etcd-s3-endpoint etcd-s3-endpoint-ca etcd-s3-access-key "
        "etcd-s3-secret-key etcd-s3-session-token etcd-s3-bucket etcd-s3-bucket-lookup-type etcd-s3-region "
        "etcd-s3-folder etcd-s3-proxy etcd-s3-config-secret etcd-s3-timeout default-local-storage-path "
        "image-credential-provider-bin-dir image-credential-provider-config container-runtime-endpoint "
        "default-runtime image-service-endpoint pause-image snapshotter private-registry system-default-registry "
        "resolv-conf flannel-conf flannel-cni-conf secrets-encryption-provider vmodule alsologtostderr"
    ),
    Kind.NUMBER: "etcd-snapshot-retention etcd-s3-retention lb-server-port v supervisor-port",
    Kind.SWITCH: (
        "tls-san-security flannel-ipv6-masq flannel-external-ip kine-tls etcd-expose-metrics etcd-disable-snapshots "
        "etcd-snapshot-compress etcd-s3 etcd-s3-skip-ssl-verify etcd-s3-insecure disable-scheduler "
        "disable-cloud-controller disable-kube-proxy disable-helm-controller embedded-registry supervisor-metrics "
        "disable-default-registry-endpoint nonroot-devices protect-kernel-defaults selinux enable-pprof "
        "prefer-bundled-bin"
    ),
    Kind.LIST: (
        "cluster-dns etcd-arg kube-scheduler-arg kube-cloud-controller-manager-arg disable airgap-extra-registry "
        "node-internal-dns node-external-dns kubelet-arg kube-proxy-arg"
    ),
}
_REFUSED = {
    Kind.TEXT: ("datastore-cafile datastore-certfile datastore-keyfile vpn-auth vpn-auth-file log"),
    Kind.SWITCH: (
        "with-node-id docker secrets-encryption rootless disable-agent disable-apiserver "
        "disable-controller-manager disable-etcd"
    ),
}
_SPECIAL = (
    Flag("config", Kind.TEXT, Effect.USED, ("c",), "K3S_CONFIG_FILE"),
    Flag("data-dir", Kind.TEXT, Effect.USED, ("d",), "K3S_DATA_DIR"),
    Flag("write-kubeconfig", Kind.TEXT, Effect.USED, ("o",), "K3S_KUBECONFIG_OUTPUT"),
    Flag("token", Kind.TEXT, Effect.USED, ("t",), "K3S_TOKEN"),
    Flag("token-file", Kind.TEXT, Effect.USED, (), "K3S_TOKEN_FILE"),
    Flag("node-name", Kind.TEXT, Effect.USED, (), "K3S_NODE_NAME"),
    Flag("node-ip", Kind.LIST, Effect.USED, ("i",)),
    Flag("server", Kind.TEXT, Effect.REFUSED, ("s",), "K3S_URL"),
    Flag("cluster-init", Kind.SWITCH, Effect.USED, (), "K3S_CLUSTER_INIT"),
    Flag("datastore-endpoint", Kind.TEXT, Effect.REFUSED, (), "K3S_DATASTORE_ENDPOINT"),
)


def _table() -> dict[str, Flag]:
    flags = list(_SPECIAL)
    for effect, kinds in ((Effect.USED, _USED), (Effect.PARSED, _PARSED), (Effect.REFUSED, _REFUSED)):
        for kind, names in kinds.items():
            flags += [Flag(name, kind, effect) for name in names.split()]
    table = {}
    for flag in flags:
        for name in (flag.name, *flag.aliases):
            if name in table:
                raise ValueError(f"option {name} is listed twice")
            table[name] = flag
    return table


FLAGS = _table()
