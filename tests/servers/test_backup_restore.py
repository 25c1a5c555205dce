"""Restores: refused before anything changes, onto the same server, and onto a fresh one after a dead disk."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import Any

import pytest

from tests.servers import backup_server as server
from tests.servers.conftest import connect, connections, run

# writes objects one after the other, and each name only after the API server has acknowledged it
LOAD = (
    "n=0; while [ ! -e /run/stop-load ]; do n=$((n+1)); "
    "k3s kubectl -n integr8scode create configmap load-$n --from-literal=n=$n >/dev/null "
    "&& echo load-$n >> /run/load; done"
)


def restore(inventory: str, name: str, *arguments: str) -> Any:
    return run(
        "ansible-playbook", "-i", inventory, "playbooks/restore.yml", "-e", f"restore_confirm={name}", *arguments
    )


@pytest.fixture(scope="module")
def inventory(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--inventory"))


@pytest.fixture(scope="module")
def saved(host: Any, playbook: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A backup made while objects are written, brought to this machine; what was there before and what came after."""
    folder = tmp_path_factory.mktemp("fetched")
    identity = folder / "identity.txt"
    # made over there, since this machine may have no age
    host.check_output("apt-get -qq update && apt-get -qq -y --no-install-recommends install age >/dev/null")
    identity.write_text(host.check_output("age-keygen 2>/dev/null"))
    recipient = identity.read_text().split("public key: ")[1].split()[0]
    server.write_document(host, "before")
    server.kubectl(host, "-n", "integr8scode", "create", "configmap", "before", "--from-literal=x=1")
    host.check_output("rm -f /run/load /run/stop-load")
    host.check_output(f"systemd-run --quiet --unit=load sh -c {shlex.quote(LOAD)}")
    try:
        deadline = time.monotonic() + 60
        while host.run("test -s /run/load").rc != 0:
            assert time.monotonic() < deadline, "no object was written"
            time.sleep(0.5)
        sure = host.check_output("tail -1 /run/load")
        made = playbook(
            "playbooks/backup.yml",
            "-e",
            json.dumps({"backup_fetch_directory": str(folder), "backup_age_recipients": [recipient]}),
        )
        assert made.returncode == 0, made.stdout + made.stderr
    finally:
        host.check_output("touch /run/stop-load")
    server.write_document(host, "after")
    server.kubectl(host, "-n", "integr8scode", "create", "configmap", "after", "--from-literal=x=1")
    local = folder / host.server_name
    files = {kind: next(local.glob(f"{kind}-*.gz.age")) for kind in ("k3s", "application")}
    return {
        "files": files,
        "identity": identity,
        "sure": sure,
        "history": server.history(host),
        "written": host.check_output("cat /run/load").split(),
    }


def both(saved: dict[str, Any]) -> str:
    """The variables that name the backups, and what opens them."""
    files = ",".join(str(path) for path in saved["files"].values())
    return json.dumps({"restore_from": files, "restore_age_identity_file": str(saved["identity"])})


def state(host: Any) -> dict[str, str]:
    """Everything that a refused restore must leave as it is."""
    folders = f"{server.BASE} /etc/rancher /var/lib/rancher/k3s/server"
    return {
        "files": host.check_output(f"find {folders} -not -path '*/db/*' -type f -printf '%p %s %m %T@\\n' | sort"),
        "containers": host.check_output("docker ps --no-trunc --format '{{.ID}} {{.CreatedAt}}' | sort"),
        "k3s": host.check_output("systemctl show k3s --property=InvocationID"),
    }


def damaged(saved: dict[str, Any], folder: Path) -> Path:
    """A copy of k3s' backup with one byte changed, its manifest beside it."""
    source = saved["files"]["k3s"]
    content = bytearray(source.read_bytes())
    content[len(content) // 2] ^= 1
    target: Path = folder / source.name
    target.write_bytes(content)
    Path(f"{target}.json").write_bytes(Path(f"{source}.json").read_bytes())
    return target


REFUSALS = {
    "no confirmation": (["-e", "restore_confirm=other"], "restore_confirm="),
    "no backup": (["-e", "restore_from="], "Name the backups to restore"),
    "wrong token": (["-e", "k3s_token=another-token-that-does-not-fit"], "token"),
    "wrong version": (["-e", "k3s_version=v1.33.1+k3s1"], "v1.33.1+k3s1"),
    "a file that is none": (["-e", "restore_from=/etc/hostname"], "hostname"),
    "two of a kind": (["-e", "restore_from={k3s},{k3s}"], "both of k3s"),
    "damaged": (["-e", "restore_from={damaged}"], "damaged"),
    "encrypted and no key": (["-e", "restore_age_identity_file="], "encrypted"),
}


# one of each kind: by the variables, by the server, by the content; each is a run of Ansible
ALWAYS = ("no confirmation", "wrong token", "damaged")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in ALWAYS else pytest.mark.long) for case in REFUSALS]
)
def test_refused_before_anything_changes(
    host: Any, inventory: str, saved: dict[str, Any], tmp_path: Path, case: str
) -> None:
    arguments, says = REFUSALS[case]
    names = {"k3s": saved["files"]["k3s"], "damaged": damaged(saved, tmp_path)}
    before = state(host)
    answer = restore(inventory, host.server_name, "-e", both(saved), *(word.format(**names) for word in arguments))
    assert answer.returncode == 2, answer.stdout
    said = " ".join(answer.stdout.split())
    assert says in said
    assert "Nothing was changed" in said or "cannot be restored" in said
    assert state(host) == before
    assert not host.file(f"{server.BACKUPS}/restore").exists


def test_onto_the_same_server(host: Any, inventory: str, saved: dict[str, Any]) -> None:
    """What was there before is back, what came later is gone, and the last object acknowledged before it is there."""
    assert server.documents(host) == ["after", "before"]
    answer = restore(inventory, host.server_name, "-e", both(saved))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert server.documents(host) == ["before"]
    there = server.names_of(host, "configmaps")
    assert {"before", saved["sure"]} <= set(there)
    assert "after" not in there
    # one moment: no object is missing between the first and the last
    numbers = sorted(int(name.partition("-")[2]) for name in there if name.startswith("load-"))
    assert numbers == list(range(1, numbers[-1] + 1))
    assert numbers[-1] < len(saved["written"]), "nothing was written after the backup: the load was none"
    for user in ("user", "admin"):
        status, body = server.log_in(host, user)
        assert status == 200, body
    actions = [entry["action"] for entry in server.history(host)]
    assert actions.count("restore") == 1
    assert server.secrets_in(answer.stdout) == []


def test_what_was_there_before_the_restore_is_kept(host: Any) -> None:
    for kind in ("k3s", "application"):
        manifests = [server.manifest(host, name) for name in server.backups(host, kind)]
        before = [one for one in manifests if one["reason"] == "before a restore"]
        assert before, kind
    # dumped when the application was stopped: what was written last is in it
    assert before[-1]["facts"]["mongo"]["documents"]["integr8scode.proof"] == 2
    assert not host.file(f"{server.BACKUPS}/restore").exists


def test_the_second_run_of_site_changes_nothing(host: Any, playbook: Any) -> None:
    answer = playbook("playbooks/site.yml")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "changed=0" in answer.stdout, answer.stdout


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The bare server that takes the other one's place."""
    boot = run("ansible-playbook", "-i", server.FRESH, "playbooks/bootstrap.yml")
    assert boot.returncode == 0, boot.stdout
    found = connect("backup2", connections(server.FRESH)["backup2"], tmp_path_factory.mktemp("ssh") / "config")
    assert not found.file(f"{server.BASE}/current").exists
    return found


def test_onto_a_fresh_server_after_a_dead_disk(host: Any, fresh: Any, saved: dict[str, Any]) -> None:
    authority = host.file(f"{server.BASE}/tls/public/ca.crt").content_string
    release = host.check_output(f"readlink {server.BASE}/current")
    digests = json.loads(host.file(f"{server.BASE}/current/release.json").content_string)["digests"]
    # two servers of the whole stack are not needed at once
    host.check_output("systemctl stop integr8scode k3s")
    try:
        answer = restore(server.FRESH, "backup2", "-e", both(saved))
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert server.documents(fresh) == ["before"]
        # whoever trusts the old server's authority trusts this one
        for user in ("user", "admin"):
            status, body = server.log_in(fresh, user, authority)
            assert status == 200, body
        record = json.loads(fresh.file(f"{server.BASE}/current/release.json").content_string)
        assert record["digests"] == digests
        assert release.partition("releases/")[2].rpartition("-")[0] == record["tag"]
    finally:
        host.check_output("systemctl start k3s integr8scode")


def test_its_cluster_is_the_old_one(fresh: Any, saved: dict[str, Any]) -> None:
    there = server.names_of(fresh, "configmaps")
    assert {"before", saved["sure"]} <= set(there)
    assert "after" not in there
    assert server.kubectl(fresh, "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}") == "backup2"


def test_its_history_goes_on(fresh: Any, saved: dict[str, Any]) -> None:
    entries = server.history(fresh)
    # the dump was made before the line of its own backup
    old = saved["history"][:-1]
    assert entries[: len(old)] == old
    assert entries[-1]["action"] in ("restore", "deploy")
    assert "restore" in [entry["action"] for entry in entries]


def test_site_changes_nothing_there(fresh: Any) -> None:
    answer = run("ansible-playbook", "-i", server.FRESH, "playbooks/site.yml")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "changed=0" in answer.stdout, answer.stdout
