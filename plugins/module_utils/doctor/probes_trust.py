"""Looks at what expires: certificates and tokens; and at k3s with the recovery's own diagnosis. Read only."""

from __future__ import annotations

import hashlib
import socket
import ssl
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils import certificate_tools as certificates
from ansible.module_utils.doctor.probes_machine import ProbeRefused
from ansible.module_utils.doctor.probes_network import WORKERS
from ansible.module_utils.k3s_recovery import cautions, diagnosis, facts
from ansible.module_utils.k3s_recovery.cause import View
from ansible.module_utils.kubeconfig_file import read_claims
from ansible.module_utils.kubernetes_access_client import KubeconfigError, read_kubeconfig

CERTIFICATES = {
    "public": "tls/public/server.crt",
    "edge": "tls/internal/edge/server.crt",
    "backend": "tls/internal/backend/server.crt",
    "frontend": "tls/internal/frontend/server.crt",
    "authority": "tls/ca/ca.crt",
}


def _describe(path: Path) -> dict[str, Any]:
    try:
        leaf = certificates.load_chain(path.read_bytes())[0]
    except FileNotFoundError:
        return {"path": str(path), "problem": "it is not there"}
    except (OSError, ValueError) as error:
        return {"path": str(path), "problem": str(error)}
    return {
        "path": str(path),
        "problem": "",
        "names": sorted(str(name) for name in certificates.names_of(leaf)),
        "not_before": certificates.valid_from(leaf).timestamp(),
        "not_after": certificates.valid_until(leaf).timestamp(),
        "life_left": round(certificates.life_left(leaf), 3),
        "fingerprint": certificates.fingerprint(leaf),
    }


def _served(port: int, name: str) -> str:
    """Fingerprint of the certificate that the edge shows; '' where it shows none."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 3) as plain,
            context.wrap_socket(plain, server_hostname=name or None) as secure,
        ):
            shown = secure.getpeercert(binary_form=True)
    except (OSError, ValueError):
        return ""
    return hashlib.sha256(shown).hexdigest() if shown else ""


def trust(base: str, names: list[str], https_port: int, server_name: str) -> dict[str, Any]:
    """The stack's certificates, which of `names` the public one lacks, and what the edge shows. Raises ProbeRefused."""
    if not certificates.HAS_CRYPTOGRAPHY:
        raise ProbeRefused("python3-cryptography is missing; playbooks/site.yml installs it")
    found = {kind: _describe(Path(base) / path) for kind, path in CERTIFICATES.items()}
    missing: list[str] = []
    if names and not found["public"]["problem"]:
        leaf = certificates.load_chain(Path(found["public"]["path"]).read_bytes())[0]
        wanted = certificates.parse_names(names, [])
        missing = certificates.not_covered(wanted, leaf)
    return {"certificates": found, "missing_names": missing, "served": _served(https_port, server_name)}


def tokens(kubeconfigs: str) -> dict[str, dict[str, Any]]:
    """Of each worker's kubeconfig: when its token was issued and ends (seconds since 1970), or its problem."""
    found: dict[str, dict[str, Any]] = {}
    for worker in WORKERS:
        path = str(Path(kubeconfigs) / f"{worker}.yaml")
        try:
            claims = read_claims(read_kubeconfig(path).token)
            found[worker] = {"path": path, "problem": "", "issued": claims.issued, "expires": claims.expires}
        except FileNotFoundError:
            found[worker] = {"path": path, "problem": "it is not there"}
        except KubeconfigError as error:
            found[worker] = {"path": path, "problem": str(error).removeprefix(f"{path}: ")}
    return found


def k3s(node_ip: str, backups: str) -> dict[str, Any]:
    """The diagnosis of the module k3s_diagnose, its cautions about VPNs and overlapping networks apart."""
    seen = facts.collect(settle_seconds=0, backups=backups)
    told = diagnosis.diagnose(seen, node_ip=node_ip)
    view = View(seen, node_ip, 60)
    network = [*cautions.vpn(view), *cautions.overlaps(view)]
    return {
        "installed": bool(seen.unit.loaded or seen.unit.masked or seen.unit.agent or seen.unit.problem),
        "healthy": told.healthy,
        "refusal": told.refusal,
        "causes": [asdict(one) for one in told.causes],
        "warnings": [one for one in told.warnings if one not in network],
        "network": network,
        "expected_ip": told.expected_ip,
        "version": seen.binary_version,
        "unit": asdict(seen.unit),
        "api_problem": seen.api.problem,
    }
