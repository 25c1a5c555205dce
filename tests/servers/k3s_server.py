"""One lab server whose k3s is broken and healed: its unit, its journal, what its cluster holds, and the way back.

What a cluster holds is compared by uid and content: an object that was deleted and made again is not the same.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.conftest import run
from tests.servers.uplink import Uplink

SERVER = "/var/lib/rancher/k3s/server"
CONFIG = "/etc/rancher/k3s/config.yaml"
DROP_INS = "/etc/rancher/k3s/config.yaml.d"
TOKEN = "/etc/rancher/k3s/token"
DATABASE = f"{SERVER}/db/state.db"
SERVICE_KEY = f"{SERVER}/tls/service.key"
BACKUPS = "/var/backups/integr8scode"
RECOVERIES = "/var/lib/integr8scode/recovery"
FAULTS = "/etc/lab-k3s/faults"
"""The lab's k3s does for a file here what a real one does by bad luck (lab/k3s/README.md)."""
NAMESPACE = "made-before"

_SNAPSHOT = "/root/recover-snapshot"
_STATE = (
    "/etc/rancher /etc/systemd/system/k3s.service /var/lib/rancher/k3s/server /var/lib/rancher/k3s/agent "
    "/opt/integr8scode/kubeconfig"
)
_OBJECTS = "namespaces,roles,rolebindings,clusterroles,clusterrolebindings,serviceaccounts,networkpolicies"
_READY_SECONDS = 180

_KILLER = "/root/recover-killer.py"
_KILLER_UNIT = "recover-killer"
_KILLER_PROGRAM = """
import json, os, pathlib, sys, time

rung, state = sys.argv[1:]
lock = pathlib.Path("/run/integr8scode/recover-k3s.lock")
end = time.monotonic() + 300
while time.monotonic() < end:
    for journal in pathlib.Path("/var/lib/integr8scode/recovery").glob("2*/journal.json"):
        try:
            rungs = json.loads(journal.read_text())["rungs"]
            if rungs and (rungs[-1]["name"], rungs[-1]["state"]) == (rung, state):
                pid = json.loads(lock.read_text())["pid"]
                os.kill(pid, 9)
                print("killed", pid, "at", rungs[-1], flush=True)
                sys.exit()
        except (ValueError, OSError):
            continue  # being written, or already gone
    time.sleep(0.01)
sys.exit("never saw it")
"""


def until(what: str, seconds: float, seen: Callable[[], bool], why: Callable[[], str] = str) -> float:
    """Wait until `seen` is true; the seconds that took. Fails with what was waited for, and what `why` says."""
    began = time.monotonic()
    while not seen():
        assert time.monotonic() < began + seconds, f"{what} did not come within {seconds} s\n{why()}"
        time.sleep(0.5)
    return time.monotonic() - began


@dataclass(frozen=True)
class Held:
    """What a cluster holds: objects (kind, namespace, name) by uid and content, the service accounts' key, the node."""

    objects: dict[tuple[str, str, str], str]
    service_key: str
    node_labels: dict[str, str]
    taints: list[dict[str, str]]

    def dumps(self) -> str:
        """As text."""
        return json.dumps([[*map(list, self.objects.items())], self.service_key, self.node_labels, self.taints])

    @classmethod
    def loads(cls, text: str) -> Held:
        """Undo `dumps`."""
        objects, *others = json.loads(text)
        return cls({tuple(key): value for key, value in objects}, *others)

    def names(self) -> set[tuple[str, str, str]]:
        """The objects without what they are made of."""
        return set(self.objects)


@dataclass(frozen=True)
class Recovery:
    """A finished run of the playbook."""

    code: int
    output: str
    seconds: float
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        """Tasks that changed something, by Ansible's own count."""
        return int(re.findall(r"changed=(\d+)", self.output)[-1])

    @property
    def text(self) -> str:
        """The output with every run of blanks as one."""
        return re.sub(r"\s+", " ", self.output)

    def states(self) -> dict[str, str]:
        """Each rung that was tried, and what became of it."""
        return {rung["name"]: rung["state"] for rung in self.report.get("rungs", [])}


class K3sServer:
    """A server of the scenario.

    Args:
        host: as testinfra sees it.
        inventory: where it stands.
        uplink: its second interface.
        reports: a folder on this machine, for the playbook's reports.
    """

    def __init__(self, host: Any, inventory: str, uplink: Uplink, reports: Path) -> None:
        self.host = host
        self.name: str = host.server_name
        self.uplink = uplink
        self._inventory = inventory
        self._reports = reports

    def sh(self, script: str) -> str:
        """Run a shell script as root; its output. Fails when it fails."""
        return str(self.host.check_output(script)).strip()

    def kubectl(self, command: str) -> str:
        """Run k3s' own kubectl as the cluster's administrator."""
        return self.sh(f"k3s kubectl {command}")

    def write(self, path: str, text: str) -> None:
        """Make a file with its folder, for root alone."""
        self.sh(f"umask 077 && mkdir -p $(dirname {path}) && printf %s {shlex.quote(text)} > {path}")

    # -- the unit and its journal

    def unit(self, name: str) -> str:
        """A property of k3s' unit."""
        return self.sh(f"systemctl show k3s --property={name} --value")

    def restarts(self) -> int:
        """How often systemd has started k3s again by itself."""
        return int(self.unit("NRestarts"))

    def restart(self) -> str:
        """Restart k3s without waiting for it, its count of restarts at 0. Returns from where its journal is read."""
        cursor = self.cursor()
        self.sh("systemctl reset-failed k3s; systemctl restart --no-block k3s")
        return cursor

    def stop(self) -> None:
        """Stop k3s."""
        self.sh("systemctl stop k3s; systemctl reset-failed k3s || true")

    def cursor(self) -> str:
        """Where the journal ends now."""
        found = re.search(r"-- cursor: (\S+)", self.sh("journalctl --quiet --lines=0 --show-cursor"))
        assert found
        return found[1]

    def journal(self, cursor: str) -> str:
        """What k3s has written since."""
        return self.sh(f"journalctl --quiet --unit=k3s --output=cat --no-pager --after-cursor={shlex.quote(cursor)}")

    def wait_journal(self, pattern: str, cursor: str, seconds: float = _READY_SECONDS) -> float:
        """Wait for a regular expression in the journal."""
        return until(
            f"{pattern!r} in the journal of {self.name}",
            seconds,
            lambda: re.search(pattern, self.journal(cursor)) is not None,
            lambda: self.journal(cursor)[-3000:],
        )

    def wait_crashes(self, times: int, seconds: float = _READY_SECONDS) -> None:
        """Wait until systemd has started k3s again by itself so often since `restart`."""
        until(f"{times} restarts of k3s on {self.name}", seconds, lambda: self.restarts() >= times)

    def wait_ready(self, cursor: str) -> None:
        """Wait until a start has gone through: the last thing it does is to start the network policy controller."""
        self.wait_journal("Starting network policy controller", cursor)

    def internal_ip(self) -> str:
        """The node's InternalIP, as the API server has it."""
        return self.kubectl(
            f"get node {self.name} -o jsonpath='{{.status.addresses[?(@.type==\"InternalIP\")].address}}'"
        )

    # -- what the cluster holds

    def held(self) -> Held:
        """Everything that must outlive a recovery."""
        objects = {}
        items = json.loads(self.kubectl(f"get {_OBJECTS},configmaps --all-namespaces -o json"))["items"]
        for item in items:
            meta = item["metadata"]
            content = {key: value for key, value in item.items() if key not in {"metadata", "status"}}
            content["labels"] = meta.get("labels", {})
            digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
            objects[item["kind"], meta.get("namespace", ""), meta["name"]] = f"{meta['uid']} {digest}"
        node = json.loads(self.kubectl(f"get node {self.name} -o json"))
        return Held(
            objects,
            self.sh(f"sha256sum {SERVICE_KEY}").split()[0],
            node["metadata"]["labels"],
            # those of Kubernetes itself come and go with the node's condition
            [taint for taint in node["spec"].get("taints", []) if not taint["key"].startswith("node.kubernetes.io/")],
        )

    def make_object(self, name: str) -> None:
        """Make a ConfigMap that can be looked for later."""
        self.kubectl(f"-n {NAMESPACE} create configmap {name} --from-literal=made={name}")

    def files(self) -> str:
        """Every file of k3s with its content, mode and time, what recoveries keep, and the unit's count of starts.

        Comparable only while k3s is stopped.
        """
        folders = f"/etc/rancher /etc/systemd/system {SERVER} /opt/integr8scode/kubeconfig {BACKUPS} {RECOVERIES}"
        return self.sh(
            f"find {folders} -printf '%p %m %T@ %s\\n' 2>/dev/null | LC_ALL=C sort;"
            f" find {folders} -type f -exec sha256sum {{}} + 2>/dev/null | LC_ALL=C sort;"
            " systemctl is-active k3s || true"
        )

    # -- the playbook

    def recover(self, *arguments: str, **variables: Any) -> Recovery:
        """Run `playbooks/recover-k3s.yml` on this server alone; variables without their prefix `recover_k3s_`."""
        settings = {f"recover_k3s_{name}": value for name, value in variables.items()}
        settings["recover_k3s_report"] = str(self._reports)
        report = self._reports / f"{self.name}-recover-k3s.json"
        report.unlink(missing_ok=True)
        began = time.monotonic()
        done = run(
            *("ansible-playbook", "-i", self._inventory, "--limit", self.name, "playbooks/recover-k3s.yml"),
            *("-e", json.dumps(settings), *arguments),
        )
        found = json.loads(report.read_text("utf-8")) if report.exists() else {}
        return Recovery(done.returncode, done.stdout + done.stderr, time.monotonic() - began, found)

    def kill_recovery_at(self, rung: str, state: str) -> None:
        """Let the program that climbs be killed (SIGKILL) as soon as its record shows that rung in that state."""
        self.write(_KILLER, _KILLER_PROGRAM)
        self.sh(
            f"systemctl reset-failed {_KILLER_UNIT} 2>/dev/null;"
            f" systemd-run --quiet --unit={_KILLER_UNIT} --property=RemainAfterExit=yes"
            f" python3 {_KILLER} {shlex.quote(rung)} {shlex.quote(state)}"
        )

    def killed(self) -> str:
        """What the killer did; ends it. Empty when it never had a reason to."""
        said = self.sh(f"journalctl --quiet --output=cat --unit={_KILLER_UNIT} --lines=1 --grep='^killed' || true")
        self.sh(f"systemctl stop {_KILLER_UNIT} || true")
        return said

    def backup(self) -> None:
        """Make a backup as the timer does."""
        done = run(
            *("ansible", self.name, "-i", self._inventory, "--become", "-m", "k3s_backup"),
            *("-a", json.dumps({"directory": BACKUPS, "reason": "test"})),
        )
        assert done.returncode == 0, done.stdout

    def backups(self) -> dict[str, str]:
        """Checksums of the backups that are there, by name."""
        listed = self.sh(f"find {BACKUPS} -maxdepth 1 -type f -exec sha256sum {{}} + 2>/dev/null || true")
        return {line.split()[1].rsplit("/", 1)[1]: line.split()[0] for line in listed.splitlines()}

    # -- the way back

    def prepare(self) -> None:
        """Fill the cluster with what must be kept, make a backup, and remember all of it for `reset`."""
        if self.host.run(f"test -e {_SNAPSHOT}/done").rc != 0:
            self._fill()
        self.kept = Held.loads(self.sh(f"cat {_SNAPSHOT}/kept.json"))
        """What the cluster holds after `reset`."""

    def _fill(self) -> None:
        self.uplink.restore()
        self.wait_ready(self.restart())
        assert self.internal_ip() == self.uplink.first
        # any of it may be there from a session that was cut off
        self.kubectl(f"create namespace {NAMESPACE} --dry-run=client -o yaml | k3s kubectl apply -f -")
        self.kubectl(f"label --overwrite namespace {NAMESPACE} lab/kept=yes")
        self.kubectl(f"-n {NAMESPACE} delete --ignore-not-found configmap made-before")
        self.make_object("made-before")
        self.kubectl(f"label --overwrite node {self.name} lab/kept=yes")
        self.kubectl(f"taint --overwrite node {self.name} lab/kept=yes:PreferNoSchedule")
        self.sh(f"rm -rf {BACKUPS} {_SNAPSHOT} && mkdir -m 0700 {_SNAPSHOT}")
        self.write(f"{_SNAPSHOT}/kept.json", self.held().dumps())
        self.backup()
        self.stop()
        self.sh(f"tar -cf {_SNAPSHOT}/state.tar {_STATE} && mv {BACKUPS} {_SNAPSHOT}/backups && touch {_SNAPSHOT}/done")

    def reset(self, *, backup: bool, running: bool = True) -> None:
        """Put everything back as `prepare` left it; with its backup or with none at all, started or not."""
        self.stop()
        self.sh(
            f"mountpoint -q {BACKUPS} && umount {BACKUPS};"
            f" rm -rf {_STATE} {BACKUPS} {RECOVERIES} {FAULTS} /etc/systemd/system/k3s.service.d"
            f" && tar -C / -xf {_SNAPSHOT}/state.tar && systemctl daemon-reload"
        )
        if backup:
            self.sh(f"cp -a {_SNAPSHOT}/backups {BACKUPS}")
        self.uplink.restore()
        if running:
            self.wait_ready(self.restart())
            assert self.internal_ip() == self.uplink.first
