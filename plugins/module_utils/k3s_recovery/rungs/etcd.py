"""Embedded etcd of a single server: its membership made anew, or its newest snapshot put back."""

from __future__ import annotations

import re
import time
from pathlib import Path

from ansible.module_utils.k3s_common import BINARY, UNIT
from ansible.module_utils.k3s_recovery.configuration import settings_with_places
from ansible.module_utils.k3s_recovery.rungs.base import Context, Rung, RungError

RESET_SECONDS = 300
RESET_UNIT = "k3s-cluster-reset.service"


def command_of(unit: str) -> tuple[list[str], list[str]]:
    """The unit's own command and its environment files, out of `systemctl show`: the reset needs the same settings."""
    argv, files = [BINARY, "server"], []
    for line in unit.splitlines():
        key, _equals, value = line.partition("=")
        found = re.search(r"argv\[\]=(.*?) ;", value)
        if key == "ExecStart" and found:
            argv = found.group(1).split()
        if key == "EnvironmentFiles" and value:
            files.append(value.partition(" (")[0])
    return argv, files


def reset(context: Context, *arguments: str) -> None:
    """`k3s server --cluster-reset` with k3s stopped; it ends by itself. Raises RungError, MachineError, OSError.

    The flag file of an earlier reset, after which k3s was never started, would make k3s refuse another one.
    """
    machine = context.machine
    context.step("stop")
    machine.stop()
    # one that a killed run left
    machine.run(["systemctl", "stop", RESET_UNIT])
    machine.run(["systemctl", "reset-failed", RESET_UNIT])
    flag = context.server("db/reset-flag")
    if flag.exists():
        context.step("take the flag of an earlier reset away")
        flag.unlink()
    shown = machine.run(["systemctl", "show", UNIT, "--property=ExecStart,EnvironmentFiles"])
    argv, files = command_of(shown.out)
    limits = [f"RuntimeMaxSec={RESET_SECONDS}", *(f"EnvironmentFile=-{file}" for file in files)]
    context.step("cluster-reset")
    done = machine.run(
        ["systemd-run", "--quiet", "--collect", "--wait", "--pipe", f"--unit={RESET_UNIT}"]
        + [word for limit in limits for word in ("-p", limit)]
        + [*argv, "--cluster-reset", *arguments],
        timeout=RESET_SECONDS + 30,
    )
    if done.code != 0:
        raise RungError(f"'k3s server {' '.join(['--cluster-reset', *arguments])}' failed: {done.words}")


def is_etcd(context: Context) -> bool:
    """Whether the datastore is embedded etcd."""
    return (context.diagnosis.facts.get("datastore") or {}).get("kind") == "etcd"


def snapshots(context: Context) -> list[Path]:
    """Snapshots on this server, the oldest first."""
    folder = settings_with_places(context.machine.path("/")).text("etcd-snapshot-dir")
    place = context.machine.path(folder) if folder else context.server("db/snapshots")
    found = [path for path in place.iterdir() if path.is_file()] if place.is_dir() else []
    return sorted((path for path in found if not path.name.startswith(".")), key=lambda path: path.stat().st_mtime)


class ClusterReset(Rung):
    """The member list is written anew with this server's present address; the data stay."""

    name = "cluster_reset"

    def unsuitable(self, context: Context) -> str:
        """Only for embedded etcd."""
        return "" if is_etcd(context) else "the datastore is not embedded etcd"

    def apply(self, context: Context) -> str:
        """Reset, start."""
        reset(context)
        context.step("start")
        context.machine.start()
        return (
            "etcd's member list was made anew with this server's address (k3s server --cluster-reset); its data stayed."
        )


class SnapshotRestore(Rung):
    """The newest snapshot; what came after it is lost."""

    name = "snapshot_restore"
    finishes = True

    def unsuitable(self, context: Context) -> str:
        """Only for embedded etcd, and only with a snapshot."""
        if not is_etcd(context):
            return "the datastore is not embedded etcd"
        return "" if snapshots(context) else f"there is no etcd snapshot below {context.server('db/snapshots')}"

    def apply(self, context: Context) -> str:
        """Restore, start. k3s keeps the data that were there as db/etcd-old-<time>."""
        newest = snapshots(context)[-1]
        made = newest.stat().st_mtime
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(made))
        reset(context, f"--cluster-reset-restore-path={newest}")
        context.record.restored_from = str(newest)
        minutes = (context.machine.now() - made) / 60
        context.record.add_lost(
            f"All that changed in the cluster after the snapshot of {when} ({minutes:.0f} min ago)."
        )
        context.step("start")
        context.machine.start()
        return f"The etcd snapshot {newest.name} of {when} was put back."
