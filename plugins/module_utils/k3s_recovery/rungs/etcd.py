"""Embedded etcd of a single server: its membership made anew, or a snapshot put back."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

from ansible.module_utils.k3s_common import BINARY, UNIT
from ansible.module_utils.k3s_recovery.configuration import settings_with_places
from ansible.module_utils.k3s_recovery.etcd_folder import put_aside, put_back, would_begin_anew
from ansible.module_utils.k3s_recovery.rungs.base import Context, Rung, RungError

RESET_SECONDS = 300
RESET_UNIT = "k3s-cluster-reset.service"
# k3s keeps so many snapshots by itself.
TRIES = 5


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
        """Only for embedded etcd, and only with its files: without them a reset makes a new, empty cluster."""
        if not is_etcd(context):
            return "the datastore is not embedded etcd"
        return "" if context.server("db/etcd").exists() else f"{context.server('db/etcd')} is missing"

    def apply(self, context: Context) -> str:
        """Reset, start."""
        reset(context)
        context.step("start")
        context.machine.start()
        return (
            "etcd's member list was made anew with this server's address (k3s server --cluster-reset); its data stayed."
        )


class SnapshotRestore(Rung):
    """The newest snapshot that can be put back; what came after it is lost."""

    name = "snapshot_restore"
    finishes = True

    def unsuitable(self, context: Context) -> str:
        """Only for embedded etcd, and only with a snapshot."""
        if not is_etcd(context):
            return "the datastore is not embedded etcd"
        return "" if snapshots(context) else f"there is no etcd snapshot below {context.server('db/snapshots')}"

    def apply(self, context: Context) -> str:
        """Restore, start. k3s keeps the data that were there as db/etcd-old-<time>."""
        path = context.entry.data.get("restored") or str(self._restore(context))
        newest = Path(path)
        made = newest.stat().st_mtime
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(made))
        context.record.restored_from = path
        minutes = (context.machine.now() - made) / 60
        context.record.add_lost(
            f"All that changed in the cluster after the snapshot of {when} ({minutes:.0f} min ago)."
        )
        context.step("start", restored=path)
        context.machine.start()
        return f"The etcd snapshot {newest.name} of {when} was put back."

    @staticmethod
    def _restore(context: Context) -> Path:
        """From the newest snapshot on, until one can be put back; that one. Before each the data are as they were."""
        context.machine.stop()
        why_not = ""
        _mend(context)
        context.step("choose a snapshot", aside=put_aside(context.server("db")))
        for snapshot in snapshots(context)[: -TRIES - 1 : -1]:
            try:
                reset(context, f"--cluster-reset-restore-path={snapshot}")
            except RungError as error:
                why_not = why_not or str(error)
                half = _mend(context)
                if half is not None:
                    # of a snapshot that is still there, and room may be what is missing
                    shutil.rmtree(half)
            else:
                return snapshot
        raise RungError(why_not or "No snapshot is there any more.")

    def undo(self, context: Context) -> str:
        """The data as they were, unless a snapshot took their place wholly."""
        if context.entry.data.get("restored"):
            return f"What was put back stays; what was there before is kept beside {context.server('db/etcd')}."
        context.machine.stop()
        _mend(context)
        why_not = would_begin_anew(context.server("db"))
        if why_not:
            raise RungError(why_not)
        return f"{context.server('db/etcd')} is as it was."


def _mend(context: Context) -> Path | None:
    """Put back what a restore that failed has moved away; where its half of a snapshot is. Raises OSError."""
    known = context.entry.data.get("aside")
    if known is None:
        return None
    # a reset that still runs would go on in these files
    context.machine.run(["systemctl", "stop", RESET_UNIT])
    return put_back(context.server("db"), known, f"etcd-not-wanted-{context.record.id}")[1]
