"""Subcommand renew-kubeconfig: the workers' tokens and k3s' certificates before they end; see kubernetes_renewal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.kubernetes_renewal import Job, RenewalError, perform
from ansible.module_utils.maintenance.state import MaintenanceError, write_state


def run(config: Mapping[str, Any]) -> int:
    """Renews what is due and says what was done; 0. Raises MaintenanceError, OSError."""
    try:
        job = Job(**config)
    except TypeError as error:
        raise MaintenanceError(
            f"its settings are not those of this release: {error}. Cure: playbooks/site.yml"
        ) from error
    try:
        report = perform(job)
    except RenewalError as error:
        if error.report is not None:
            print("\n".join(error.report.sentences()), flush=True)
        raise MaintenanceError(str(error)) from error
    print("\n".join(report.sentences()), flush=True)
    write_state("renew-kubeconfig", facts=report.facts())
    return 0
