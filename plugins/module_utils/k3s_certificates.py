"""k3s' own certificates: how long they live, and the restart with which k3s signs them again before they end.

k3s signs its leaf certificates for 365 days, and at each start again those that end within 120 days (90 in releases
before mid-2025). One that runs for months without a start therefore reaches their end. Its authorities live ten years.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timezone
from pathlib import Path

from ansible.module_utils.backups.k3s_parts import layout
from ansible.module_utils.certificate_tools import HAS_CRYPTOGRAPHY, fingerprint, is_authority, load_chain, valid_until
from ansible.module_utils.k3s_common import UNIT, K3sError
from ansible.module_utils.k3s_node import NodeState, UnitState, monotonic, node_state, unit_state

DAY = 86400.0
# where k3s keeps certificates; what lies in other folders below is made anew at every start
FOLDERS = ("server/tls", "server/tls/etcd", "server/tls/kube-controller-manager", "server/tls/kube-scheduler", "agent")


@dataclass(frozen=True)
class CertificateFile:
    """One certificate of k3s. `expires` and `written` (the file's time) are seconds since 1970."""

    path: str
    authority: bool
    expires: float
    written: float
    fingerprint: str

    def days_left(self, now: float) -> float:
        """Days until it ends, negative when it has."""
        return (self.expires - now) / DAY


def read_certificates(data: Path | None = None) -> tuple[list[CertificateFile], list[str]]:
    """k3s' certificates, and a sentence for each file that holds none.

    :param data: k3s' data folder; None: the one of its configuration.
    :raises K3sError: there is not a single one.
    :raises OSError: one cannot be read.
    """
    if data is None:
        data = Path(layout().data)
    if not HAS_CRYPTOGRAPHY:
        raise K3sError("python3-cryptography is missing. Cure: run playbooks/site.yml, which installs it")
    found, problems = [], []
    for path in sorted(path for folder in FOLDERS for path in (data / folder).glob("*.crt")):
        try:
            # the first is the file's own, those after it are its issuers
            first = load_chain(path.read_bytes())[0]
        except ValueError as error:
            problems.append(f"{path} is no certificate: {error}")
            continue
        ends = valid_until(first).astimezone(timezone.utc).timestamp()
        found.append(CertificateFile(str(path), is_authority(first), ends, path.stat().st_mtime, fingerprint(first)))
    if not found:
        raise K3sError(f"no certificate of k3s was found below {data}, so nothing can look after their ends")
    return found, problems


def ending(
    certificates: Iterable[CertificateFile], days: float, *, authority: bool, now: float
) -> list[CertificateFile]:
    """Those with less than `days` left, the first to end first: authorities, or what they have signed."""
    found = [one for one in certificates if one.authority == authority and one.days_left(now) < days]
    return sorted(found, key=lambda one: one.expires)


def left_by_a_start(certificates: Iterable[CertificateFile], days: float, *, started: float) -> list[CertificateFile]:
    """Those that k3s found at its last start (seconds since 1970) as near to their end as this, and did not renew.

    Another start would leave them, too.
    """
    return [one for one in certificates if one.written < started and one.days_left(started) < days]


def last_start(unit: UnitState, now: float) -> float:
    """When the unit came up, seconds since 1970; now if it is not up."""
    return now - (monotonic() - unit.active_since) if unit.running else now


def restart(*, node_name: str, timeout_seconds: float, stable_seconds: float) -> None:
    """Restarts k3s and waits until it has run for `stable_seconds` with its node Ready ("": named like the server).

    Raises K3sError with what was seen last when that is not so after `timeout_seconds`.
    """
    before = unit_state()
    # a start of k3s may take for ever: it is watched here instead
    asked = subprocess.run(["systemctl", "--no-block", "restart", UNIT], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        raise K3sError(f"'systemctl restart {UNIT}' failed: {asked.stderr.strip()}")
    deadline = monotonic() + timeout_seconds
    while True:
        unit = unit_state()
        node = NodeState(problem=f"{UNIT} is {unit.active} ({unit.sub})")
        if unit.running and unit.invocation != before.invocation:
            node = node_state(name=node_name or os.uname().nodename.lower(), node_ip="")
            if not node.problem and monotonic() - unit.active_since >= stable_seconds:
                return
        if monotonic() > deadline:
            raise K3sError(
                f"k3s was restarted, so that it signs its certificates again, and was not up after {timeout_seconds:g} "
                f"s: {node.problem or 'it does not stay up'}"
            )
        time.sleep(1)
