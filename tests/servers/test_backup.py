"""Backups on a server: the timer's unit, copies on another machine, encryption, retention, and what nobody may see."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import backup_server as server
from tests.servers.conftest import connect, connections

COPIES = "/srv/backups"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The machine that takes copies, root by sudo."""
    run_bootstrap = subprocess.run(
        [".venv/bin/ansible-playbook", "-i", server.FRESH, "playbooks/bootstrap.yml"],
        cwd=server.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run_bootstrap.returncode == 0, run_bootstrap.stdout
    found = connect("backup2", connections(server.FRESH)["backup2"], tmp_path_factory.mktemp("ssh") / "config")
    found.check_output("apt-get -qq update && apt-get -qq -y --no-install-recommends install rsync >/dev/null")
    found.run("useradd --create-home --shell /bin/sh backups")
    found.check_output(f"install -d -o backups -m 0700 {COPIES} /home/backups/.ssh")
    return found


@pytest.fixture(scope="module")
def settings(other: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Variables of role backup: encrypted, copied to the other machine, few kept. A pair of age beside them."""
    folder = tmp_path_factory.mktemp("settings")
    key, identity = folder / "key", folder / "identity.txt"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    other.check_output(
        f"echo '{key.with_suffix('.pub').read_text().strip()}' > /home/backups/.ssh/authorized_keys"
        " && chown backups /home/backups/.ssh/authorized_keys"
    )
    other.check_output("apt-get -qq -y --no-install-recommends install age >/dev/null")
    # made over there, since this machine may have no age
    identity.write_text(other.check_output("age-keygen 2>/dev/null"))
    recipient = identity.read_text().split("public key: ")[1].split()[0]
    values = {
        "backup_age_recipients": [recipient],
        "backup_copy_to": f"backups@backup2:{COPIES}",
        "backup_copy_private_key": key.read_text(),
        "backup_copy_host_key": other.check_output("ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key"),
        "backup_keep": 2,
    }
    path = folder / "settings.json"
    path.write_text(json.dumps(values))
    return path


@pytest.fixture(scope="module")
def configured(host: Any, playbook: Any, settings: Path) -> Iterator[Path]:
    """The server under test backs up as `settings` says; afterwards as the inventory does."""
    run = playbook("playbooks/site.yml", "--tags", "maintenance,backup", "-e", f"@{settings}")
    assert run.returncode == 0, run.stdout + run.stderr
    yield settings
    run = playbook("playbooks/site.yml", "--tags", "maintenance,backup")
    assert run.returncode == 0, run.stdout + run.stderr
    assert not host.file("/etc/integr8scode/backup-copy.key").exists


def start_unit(host: Any) -> tuple[int, str]:
    """Start the timer's unit by hand; its exit code and what it has said since."""
    since = host.check_output("date +%s")
    code = host.run("systemctl start integr8scode-backup.service").rc
    return code, host.check_output(f"journalctl --no-pager --output cat --unit integr8scode-backup --since @{since}")


def test_the_timer_waits(host: Any) -> None:
    timer = host.check_output(
        "systemctl show integr8scode-backup.timer --property=ActiveState,Persistent,UnitFileState"
    )
    assert set(timer.split()) == {"ActiveState=active", "Persistent=yes", "UnitFileState=enabled"}


def test_the_unit_backs_up_encrypts_and_copies(host: Any, other: Any, configured: Path) -> None:
    code, said = start_unit(host)
    assert code == 0, said
    for kind in ("k3s", "application"):
        newest = server.backups(host, kind)[-1]
        assert newest.endswith(".tar.gz.age")
        assert f"{kind} is backed up: {server.BACKUPS}/{newest}" in said
        found = server.manifest(host, newest)
        assert (found["kind"], found["host"], found["encrypted"], found["verified"]) == (
            kind,
            host.server_name,
            True,
            True,
        )
        file = host.file(f"{server.BACKUPS}/{newest}")
        assert (file.mode, file.user, file.sha256sum) == (0o600, "root", found["file"]["sha256"])
        assert file.content.startswith(b"age-encryption.org/v1\n")
        copy = other.file(f"{COPIES}/{newest}")
        assert (copy.sha256sum, copy.mode) == (found["file"]["sha256"], 0o600)
        assert other.file(f"{COPIES}/{newest}.json").exists
    assert host.file(server.BACKUPS).mode == 0o700
    last = server.history(host)[-1]
    assert (last["action"], last["result"], last["by"]) == ("backup", "ok", "systemd")
    state = json.loads(host.file("/var/lib/integr8scode/maintenance/backup.json").content_string)
    assert state["result"] == "ok"
    assert set(state["facts"]["last_success"]) == {"k3s", "application", "copy"}


def test_no_secret_is_seen_while_it_runs(host: Any, configured: Path) -> None:
    """Arguments and environments of all processes while a backup runs, what Docker shows of it, and the journal."""
    look = (
        "systemctl start --no-block integr8scode-backup.service; for n in $(seq 200); do "
        "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; "
        'test "$(systemctl is-active integr8scode-backup)" = activating || [ $n -lt 20 ] || break; sleep 0.1; done'
    )
    # the loop's own shell and ssh show what is looked for in no case: no secret is in this command
    seen = host.run(look).stdout
    assert "mongodump" in seen
    assert server.secrets_in(seen) == []
    assert "AGE-SECRET-KEY" not in seen
    journal = host.check_output("journalctl --no-pager --output cat --boot")
    assert server.secrets_in(journal) == []
    assert "PRIVATE KEY" not in journal


def test_only_as_many_as_wanted_stay_and_copies_stay_all(host: Any, other: Any, configured: Path) -> None:
    for _ in range(2):
        # names tell seconds apart
        time.sleep(1)
        code, said = start_unit(host)
        assert code == 0, said
    assert "is removed: 2 of a kind are kept" in said
    for kind in ("k3s", "application"):
        assert len(server.routine(host, kind)) == 2
        assert int(other.check_output(f"ls {COPIES} | grep -c '^{kind}-.*age$'")) >= 3


def test_a_copy_that_fails_is_loud_and_the_backups_are_there(host: Any, other: Any, configured: Path) -> None:
    before = server.backups(host, "k3s")
    other.check_output(f"mv {COPIES} {COPIES}.away")
    try:
        time.sleep(1)
        code, said = start_unit(host)
    finally:
        other.check_output(f"mv {COPIES}.away {COPIES}")
    assert code != 0
    assert "copying to backups@backup2:/srv/backups failed" in said
    assert "make the folder there" in said
    assert server.backups(host, "k3s") != before
    assert "integr8scode-backup.service" in host.check_output("systemctl list-units --failed --plain --no-legend")
    assert server.history(host)[-1]["result"] == "failed"


def test_the_next_backup_tells_of_it_and_copies_what_was_left_out(
    host: Any, other: Any, playbook: Any, configured: Path, tmp_path: Path
) -> None:
    fetched = tmp_path / "fetched"
    run = playbook("playbooks/backup.yml", "-e", f"@{configured}", "-e", f"backup_fetch_directory={fetched}")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "had failed" in run.stdout
    for kind in ("k3s", "application"):
        newest = server.backups(host, kind)[-1]
        local = fetched / host.server_name / newest
        assert local.stat().st_size == server.manifest(host, newest)["file"]["size"]
        assert local.parent.stat().st_mode & 0o777 == 0o700
        # a recovery's own is not encrypted, and those stay on the server
        encrypted = {name for name in server.backups(host, kind) if name.endswith(".age")}
        assert {newest} <= encrypted <= set(other.check_output(f"ls {COPIES}").split())
    assert server.secrets_in(run.stdout) == []


def test_a_wrong_host_key_is_refused(host: Any, playbook: Any, configured: Path) -> None:
    # a key, but not that machine's
    wrong = configured.with_name("key.pub").read_text()
    run = playbook("playbooks/backup.yml", "-e", f"@{configured}", "-e", json.dumps({"backup_copy_host_key": wrong}))
    assert run.returncode == 2
    assert "backup_copy_host_key is not its host key" in run.stdout.replace("\n", " ").replace("  ", " ")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"backup_copy_to": "backups@backup2:/srv"}, "backup_copy_private_key"),
        ({"backup_fetch_directory": "/tmp/x"}, "in the clear"),
        # each is a run of Ansible
        pytest.param({"backup_copy_to": "nowhere"}, "user@host:/absolute/path", marks=pytest.mark.long),
        pytest.param({"backup_schedule": "every day"}, "which is no time of", marks=pytest.mark.long),
        pytest.param({"backup_age_recipients": ["AGE-SECRET-KEY-1"]}, "public key of age", marks=pytest.mark.long),
        pytest.param({"backup_keep": 0}, "keep 1 or more", marks=pytest.mark.long),
    ],
)
def test_settings_that_cannot_be_are_refused(host: Any, playbook: Any, values: dict[str, Any], says: str) -> None:
    before = host.check_output("find /etc/integr8scode /etc/systemd/system -type f -printf '%p %T@\\n' | sort")
    run = playbook("playbooks/site.yml", "--tags", "backup", "-e", json.dumps(values))
    assert run.returncode == 2, run.stdout
    assert says in " ".join(run.stdout.split())
    assert host.check_output("find /etc/integr8scode /etc/systemd/system -type f -printf '%p %T@\\n' | sort") == before
