"""A first run that is watched: marked secrets in an encrypted inventory, runs of playbooks, checks, canaries."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import choice
from string import ascii_letters, digits
from typing import Any

import yaml

from tests.servers import leak_search
from tests.servers.conftest import ROOT
from tests.servers.leak_search import Mark
from tests.servers.releases import NEVER_HEALTHY
from tests.servers.snapshot import differences, snapshot

SOURCE = Path(leak_search.__file__).read_text("utf-8")
SERVER = "first1"
CANARY = "99"
STOP = "/run/first-run-test.stop"
PAUSE = 0.05
"""Seconds between two looks at the list of processes."""


class Unsafe(str):
    """A text that Ansible must not evaluate."""


yaml.SafeDumper.add_representer(Unsafe, lambda dumper, value: dumper.represent_scalar("!unsafe", str(value), style='"'))


REFUSED, FAILED = "refused", "never-healthy"
CHECKS = ("fresh", "running", "changed-by-hand")
BY_HAND = """
chgrp nogroup /etc/sysctl.d/90-k3s.conf
echo 'debug: true' >> /etc/rancher/k3s/config.yaml
systemctl disable --now integr8scode-backup.timer
k3s kubectl -n integr8scode delete rolebinding pod-monitor
docker rm --force $(docker ps --quiet --filter label=com.docker.compose.service=event-replay)
"""
"""Five changes, one a line, that site.yml takes back."""


def new_mark() -> Mark:
    """A mark that nothing holds by chance."""
    return Mark("".join(choice(ascii_letters + digits) for _ in range(14)))


def hard_secrets(mark: Mark) -> dict[str, str]:
    """Five secrets, by their variables in the vault: all characters that hurt a format, and the mark in each."""
    return {
        "vault_integr8scode_secret_key": f" $\"'\\#@:/%!{{}} {{{{ key }}}} é;{mark.text}01 ${{KEY}} `id` ",
        "vault_integr8scode_mongo_root_password": f"  {{{{ 1 + 1 }}}}$$\"'\\#@:/%!?&=+é;{{% raw %}}{mark.text}02' ",
        # 72 bytes are the most that bcrypt takes
        "vault_integr8scode_user_password": f" {{# no #}}$\"'\\#@:/%!{{}}ü; $(id){mark.text}03 ",
        "vault_integr8scode_admin_password": (mark.text + "04" + "-$\"{x}%40 {{ '\\@:/;é" * 3)[:64],
        # k3s takes no white space and no colon
        "vault_k3s_token": f"$\"'\\#@/%!{{}}{{{{x}}}};{mark.text}05",
    }


def write_inventory(folder: Path, secrets: dict[str, str]) -> Path:
    """An inventory of the one server like the lab's, with these secrets in an encrypted vault. Returns its folder."""
    variables = folder / "group_vars" / "all"
    variables.mkdir(parents=True)
    shutil.copy(ROOT / "molecule/first-run/inventory/hosts.yml", folder / "hosts.yml")
    shutil.copy(ROOT / "inventories/lab/group_vars/all/main.yml", variables / "main.yml")
    lab = yaml.safe_load((ROOT / "inventories/lab/group_vars/all/vault.yml").read_text("utf-8"))
    text = yaml.safe_dump(lab | {name: Unsafe(value) for name, value in secrets.items()}, allow_unicode=True)
    vault = variables / "vault.yml"
    vault.touch(0o600)
    vault.write_text(text, "utf-8")
    password = folder / ".vault-password"
    password.touch(0o600)
    password.write_text("not-a-secret\n", "utf-8")
    subprocess.run(
        [ROOT / ".venv/bin/ansible-vault", "encrypt", "--vault-password-file", password, vault],
        check=True,
        capture_output=True,
    )
    return folder


def forms(text: str) -> dict[str, str]:
    """A text in each form that it could leak in."""
    return {
        "raw": text,
        "URL": urllib.parse.quote(text, safe=""),
        "base64": base64.b64encode(text.encode()).decode(),
        "base64 behind other text": base64.b64encode(b"u:" + text.encode()).decode(),
        "JSON": json.dumps(text),
        "shell": shlex.quote(text),
        "hex": text.encode().hex(),
    }


@dataclass
class Machine:
    """The server by ssh as the user ops, where scripts come by standard input: no command line holds what they do."""

    way: dict[str, Any]

    @property
    def command(self) -> list[str]:
        """What reaches it, up to the command that it is to run."""
        way = self.way
        return [
            "ssh", *shlex.split(way["ansible_ssh_common_args"]), "-o", "LogLevel=ERROR",
            "-i", way["ansible_ssh_private_key_file"], "-p", str(way["ansible_port"]),
            f"ops@{way['ansible_host']}",
        ]  # fmt: skip

    def script(self, text: str, *program: str) -> str:
        """Run a script as root; its output."""
        done = subprocess.run(
            [*self.command, "sudo", *(program or ("sh", "-s"))], input=text, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def search(self, mark: Mark, since: float) -> dict[str, list[list[str]]]:
        """What `leak_search` finds on it."""
        said = self.script(question({"what": "search", "mark": mark.text, "since": since}), "python3", "-")
        found: dict[str, list[list[str]]] = json.loads(said)
        return found


def question(asked: dict[str, object]) -> str:
    """The program that answers a question, for Python's standard input."""
    return f"{SOURCE}\nanswer(json.loads({json.dumps(json.dumps(asked))}))\n"


@contextmanager
def watched(command: Sequence[str], mark: Mark, stop: str) -> Iterator[list[list[str]]]:
    """For the time of the block, a Python program (`command`) looks at processes; the list is filled at the end."""
    found: list[list[str]] = []
    program = question({"what": "watch", "mark": mark.text, "stop": stop, "pause": PAUSE})
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(program)
    process.stdin.close()
    process.stdin = None
    try:
        yield found
    finally:
        # whoever made the block has the watcher's end to see to (`stop`), and is waited for here
        said, _ = process.communicate(timeout=60)
        found += json.loads(said)


def changes_in(output: str) -> set[str]:
    """Tasks that a run says have changed something, or would: task and, in a loop, the item."""
    found = set()
    task = ""
    for line in output.splitlines():
        started = re.match(r"(?:TASK|RUNNING HANDLER) \[(.*)\] \**$", line)
        task = started[1] if started else task
        if changed := re.match(r"changed: \[[^]]*\](?: => (\(item=.*\)))?", line):
            found.add(f"{task} {changed[1] or ''}".strip())
    return found


@dataclass
class Trial:
    """Runs of playbooks and what was found of the secrets.

    Attributes:
        mark: of all secrets.
        inventory: of the server.
        folder: where outputs and what playbooks fetch go.
        codes: exit code of each run by its name.
        found: by place, the secret's number and where it was.
        touched: what checks have changed on the server, by their run's name.
    """

    mark: Mark
    inventory: Path
    folder: Path
    codes: dict[str, int] = field(default_factory=dict)
    found: dict[str, list[list[str]]] = field(default_factory=dict)
    touched: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    began: float = field(default_factory=time.time)

    def run(self, name: str, *arguments: str, inventory: Path | None = None) -> str:
        """Run a playbook with all that Ansible can tell. Returns and keeps its output."""
        where = inventory or self.inventory
        done = subprocess.run(
            [ROOT / ".venv/bin/ansible-playbook", "-vvv", "--diff", "-i", where, *arguments],
            cwd=ROOT,
            env={
                **os.environ,
                "PATH": f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_VAULT_PASSWORD_FILE": str(where / ".vault-password"),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        (self.folder / f"{name}.log").write_bytes(done.stdout)
        self.codes[name] = done.returncode
        return done.stdout.decode("utf-8", "replace")

    def output(self, name: str) -> str:
        """What a run has said."""
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")

    def checked(self, name: str, host: Any) -> None:
        """Run site.yml as a check, then for real; note what the check has changed on the server."""
        before = snapshot(host)
        self.run(f"{name}-check", "playbooks/site.yml", "--check")
        self.touched[name] = differences(before, snapshot(host))
        self.run(name, "playbooks/site.yml")

    def in_outputs(self) -> list[list[str]]:
        """What the runs have said, by their name."""
        logs = sorted(self.folder.glob("*.log"))
        return [[number, log.stem] for log in logs for number in sorted(self.mark.found(log.read_bytes()))]

    def in_fetched(self) -> list[list[str]]:
        """What playbooks have written on this machine: reports and archives, and what is in these."""
        found = []
        for path in sorted((self.folder / "fetched").rglob("*")):
            if path.is_file():
                found += [[number, path.name] for number in sorted(self.mark.found(path.read_bytes()))]
            if path.is_file() and tarfile.is_tarfile(path):
                with tarfile.open(path) as archive:
                    for member in archive:
                        stream = archive.extractfile(member)
                        if stream is not None:
                            inside = f"{path.name}: {member.name}"
                            found += [[number, inside] for number in sorted(self.mark.found(stream.read()))]
        return found

    @contextmanager
    def watch(self, server: Machine) -> Iterator[None]:
        """Look at the processes of this machine and of the server for the time of the block; then search."""
        here = self.folder / "stop"
        server.script(f"rm -f {STOP}")
        with (
            watched([sys.executable, "-"], self.mark, str(here)) as mine,
            watched([*server.command, "sudo", "python3", "-"], self.mark, STOP) as theirs,
        ):
            try:
                yield
            finally:
                here.touch()
                server.script(f"touch {STOP}")
        self.found |= {"processes of the controller": mine, "processes of the server": theirs}
        self.found |= server.search(self.mark, self.began)
        self.found["temporary folders of the controller"] = leak_search.in_temporary_folders(
            self.mark, str(Path.home() / ".ansible")
        )
        self.found["outputs"] = self.in_outputs()
        self.found["fetched files"] = self.in_fetched()


def place_canaries(trial: Trial, server: Machine) -> None:
    """Let a secret out in every way, and in each form, so that each search is seen to find what is there."""
    canary = f" $\"'{trial.mark.text}{CANARY} é; "
    for form, text in forms(canary).items():
        slug = form.replace(" ", "-")
        (trial.folder / f"canary-{slug}.log").write_text(text, "utf-8")
        (trial.folder / "fetched" / f"canary-{slug}.txt").write_text(text, "utf-8")
        quoted = shlex.quote(text)
        server.script(
            f"""set -e
            LEAK={quoted} sleep 2 & sh -c 'sleep 2; :' {quoted} & wait
            printf %s {quoted} | systemd-cat --identifier=canary-{slug}
            image=$(docker ps --quiet --filter label=com.docker.compose.service=redis)
            image=$(docker inspect --format '{{{{.Image}}}}' "$image")
            docker run --detach --name canary-{slug} --network none --env LEAK={quoted} \\
                --entrypoint printf "$image" %s {quoted}
            install -m 0644 /dev/null /opt/canary-{slug}
            printf %s {quoted} > /opt/canary-{slug}
            mkdir -p /root/.ansible/tmp
            install -m 0600 /dev/null /root/.ansible/tmp/canary-{slug}
            printf %s {quoted} > /root/.ansible/tmp/canary-{slug}
            """
        )
        shown: dict[str, Any] = {**os.environ, "LEAK": text}
        subprocess.run(["sh", "-c", "sleep 2; :", text], check=True)
        subprocess.run(["sleep", "2"], env=shown, check=True)
        folder = Path.home() / ".ansible" / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / f"first-run-test-{trial.mark.text[:6]}-{slug}"
        kept.write_text(text, "utf-8")


def make_trial(folders: Callable[[str], Path], server_named: Callable[[str], Any]) -> Iterator[Trial]:
    """Run every playbook on a bare server, watch, and search for what is left of the secrets.

    Args:
        folders: makes a new folder of a name.
        server_named: the server as testinfra sees it, by its name.
    """
    folder = folders("trial")
    fetched = folder / "fetched"
    fetched.mkdir()
    mark = new_mark()
    secrets = hard_secrets(mark)
    trial = Trial(mark, write_inventory(folders("inventory"), secrets), folder)
    # what a person gets wrong: too long, a block with its line break, white space, too short
    wrong = {
        "vault_integr8scode_admin_password": f"{mark.text}06" * 6,
        "vault_integr8scode_user_password": f"{mark.text}07\n",
        "vault_k3s_token": f"with space {mark.text}08",
        "vault_integr8scode_secret_key": f"{mark.text}09",
    }
    refused = write_inventory(folders("refused"), secrets | wrong)

    said = trial.run("bootstrap", "playbooks/bootstrap.yml")
    assert trial.codes["bootstrap"] == 0, said[-5000:]
    host = server_named(SERVER)
    server = Machine(host.connection)
    with trial.watch(server):
        trial.run(REFUSED, "playbooks/site.yml", inventory=refused)
        for name in CHECKS:
            if name == "changed-by-hand":
                server.script(f"set -e\n{BY_HAND}")
            trial.checked(name, host)
            assert trial.codes[name] == 0, trial.output(name)[-5000:]
        trial.run("deploy", "deploy.yml", "-e", "tag=2026.2.31")
        limits = json.dumps({"integr8scode_healthy_timeout_seconds": 25})
        trial.run(FAILED, "deploy.yml", "-e", f"tag={NEVER_HEALTHY}", "-e", limits)
        trial.run("rollback", "playbooks/rollback.yml")
        trial.run("status", "playbooks/status.yml", "-e", "format=json", "-e", f"status_file={fetched}/status.json")
        trial.run("doctor", "playbooks/doctor.yml", "-e", "format=json", "-e", f"doctor_file={fetched}/doctor.json")
        trial.run("diagnostics", "playbooks/diagnostics.yml", "-e", f"diagnostics_dir={fetched}")
        trial.run("drift", "playbooks/drift.yml", "-e", f"drift_report_dir={fetched}/drift")
        trial.run("backup", "playbooks/backup.yml")
        confirmed = ("-e", f"restore_confirm={SERVER}", "-e", "restore_from=latest")
        trial.run("restore-check", "playbooks/restore.yml", "--limit", SERVER, *confirmed, "--check")
        trial.run("renew", "playbooks/renew-kubeconfig.yml", "-e", "renew_force=true")
        trial.run("recover", "playbooks/recover-k3s.yml")
        trial.run("unlock", "playbooks/unlock.yml")
        place_canaries(trial, server)
    yield trial
    for path in (Path.home() / ".ansible" / "tmp").glob(f"first-run-test-{mark.text[:6]}-*"):
        path.unlink()
