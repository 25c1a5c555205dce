"""The unit that the server's own timer starts for a job: whether its last run failed, and one more run."""

from __future__ import annotations

import subprocess

from ansible.module_utils.k3s_node import unit_state
from ansible.module_utils.maintenance.state import MaintenanceError, read_state

RUN_SECONDS = 600


def unit_of(subcommand: str) -> str:
    """Name of a job's unit."""
    return f"integr8scode-{subcommand}.service"


def last_run_failed(subcommand: str) -> bool:
    """Whether systemd or the job itself has its last run as failed. False where no timer was set up.

    Raises K3sError when systemd does not answer.
    """
    unit = unit_state(unit_of(subcommand))
    return unit.loaded and (unit.active == "failed" or read_state(subcommand).get("result") == "failed")


def run_again(subcommand: str) -> None:
    """Start the job's unit and wait for its end.

    Raises MaintenanceError with what it said where it fails again, or does not end in ten minutes.
    """
    unit = unit_of(subcommand)
    try:
        done = subprocess.run(
            ["systemctl", "start", unit], capture_output=True, text=True, check=False, timeout=RUN_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise MaintenanceError(f"{unit} has not ended for {RUN_SECONDS} s: journalctl -u {unit} -n 50") from None
    if done.returncode != 0:
        why = read_state(subcommand).get("message") or done.stderr.strip() or f"exit code {done.returncode}"
        raise MaintenanceError(
            f"what was due is renewed, but {unit}, which the server's own timer starts, fails as before: {why}. "
            "Cure: playbooks/site.yml --tags maintenance, then this again"
        )
