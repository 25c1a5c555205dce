"""The rungs by name."""

from __future__ import annotations

from ansible.module_utils.k3s_recovery.rungs.base import Rung
from ansible.module_utils.k3s_recovery.rungs.bootstrap_files import BootstrapFiles
from ansible.module_utils.k3s_recovery.rungs.certificates import Certificates
from ansible.module_utils.k3s_recovery.rungs.configuration import Configuration
from ansible.module_utils.k3s_recovery.rungs.delete_cluster import DeleteCluster
from ansible.module_utils.k3s_recovery.rungs.etcd import ClusterReset, SnapshotRestore
from ansible.module_utils.k3s_recovery.rungs.node_object import NodeObject
from ansible.module_utils.k3s_recovery.rungs.node_password import NodePassword
from ansible.module_utils.k3s_recovery.rungs.restart import Restart
from ansible.module_utils.k3s_recovery.rungs.restore import Restore
from ansible.module_utils.k3s_recovery.rungs.safe_mode import SafeMode
from ansible.module_utils.k3s_recovery.rungs.token import Token

RUNGS: dict[str, Rung] = {
    rung.name: rung
    for rung in (
        Restart(), Configuration(), SafeMode(), NodeObject(), BootstrapFiles(), NodePassword(), Certificates(), Token(),
        ClusterReset(), SnapshotRestore(), Restore(), DeleteCluster(),
    )
}  # fmt: skip
