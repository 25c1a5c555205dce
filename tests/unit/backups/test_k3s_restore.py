"""k3s' backup put back: refused before anything is touched, all of it or nothing, and undone after a kill."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.backups import k3s, k3s_restore, store, swap
from ansible.module_utils.backups.k3s import BackupError
from ansible.module_utils.backups.store import Backup
from ansible.module_utils.kine_database import integrity, inventory

from tests.unit.conftest import RunModule
from tests.unit.support import kine
from tests.unit.support.k3s_server import DATA, VERSION, Server, make_server

CORE = ("database", "token", "certificates", "node_password")


class Killed(BaseException):
    """The process ends here; nothing catches it."""


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return make_server(tmp_path / "root", mark="first")


@pytest.fixture
def backup(server: Server, tmp_path: Path) -> Backup:
    return k3s.create(tmp_path / "backups", reason="test", required_free=0, root=server.root)


def change(server: Server) -> None:
    """What happens on a server after its backup, for good and for bad."""
    with closing(kine.connect(server.database)) as connection:
        kine.put(connection, "/registry/namespaces/after")
        kine.put(connection, "/registry/configmaps/default/c-0", deleted=True)
    for path in (
        "/etc/rancher/k3s/config.yaml",
        "/etc/rancher/node/password",
        "/etc/systemd/system/k3s.service",
        f"{DATA}/server/tls/server-ca.crt",
        f"{DATA}/server/manifests/own.yaml",
    ):
        server.path(path).write_text("changed")
    server.path("/etc/rancher/k3s/config.yaml.d/20-new.yaml").write_text("node-ip: 10.0.0.1")
    server.path(f"{DATA}/server/db/state.db-wal").write_bytes(b"")
    server.path("/etc/rancher/k3s/token").write_text("another-token-than-the-datastore's")


def manifest(backup: Backup, **more: Any) -> Backup:
    """The same backup, its manifest saying something else."""
    text = {**backup.manifest, **more}
    store.sidecar(backup.path).write_text(json.dumps(text))
    return store.load(backup.path)


# there and back


def test_all_of_it_is_as_it_was(server: Server, backup: Backup) -> None:
    before = server.content()
    change(server)
    assert k3s.check(backup, root=server.root) == []
    said = k3s.restore(backup, root=server.root)
    found = server.live()
    database = found.pop(server.database_member)
    assert database[0] == before[server.database_member][0] & ~0o077, "root's alone"
    before.pop(server.database_member)
    assert found == before
    integrity(server.database)
    assert inventory(server.database).namespaces == ["default", "integr8scode", "kube-system"]
    assert "is kept beside it" in said[1]


def test_what_was_there_is_aside_and_not_deleted(server: Server, backup: Backup) -> None:
    change(server)
    changed = {name: value for name, value in server.content().items() if value[1]}
    k3s.restore(backup, root=server.root)
    kept = {
        name.partition(".before-restore-")[0]: value for name, value in server.content().items() if "before-r" in name
    }
    # folders are moved as a whole
    within = {name.replace(".before-restore-", "\0").split("\0")[0]: value for name, value in server.content().items()}
    assert within
    assert kept["etc/rancher/k3s/token"] == changed["etc/rancher/k3s/token"]
    assert kept[server.database_member][1] == changed[server.database_member][1]
    aside = sorted(server.path("/etc/rancher/k3s").glob("config.yaml.d.before-restore-*/20-new.yaml"))
    assert [path.read_text() for path in aside] == ["node-ip: 10.0.0.1"]


def test_only_the_parts_that_were_asked_for(server: Server, backup: Backup) -> None:
    change(server)
    k3s.restore(backup, parts=CORE, root=server.root)
    assert server.path("/etc/rancher/k3s/token").read_text() == f"{kine.TOKEN}\n"
    assert server.path("/etc/rancher/node/password").read_text() == "node-password first\n"
    assert server.path("/etc/rancher/k3s/config.yaml").read_text() == "changed"
    assert server.path("/etc/rancher/k3s/config.yaml.d/20-new.yaml").exists()
    assert server.path("/etc/systemd/system/k3s.service").read_text() == "changed"


def test_a_second_restore_is_like_the_first(server: Server, backup: Backup) -> None:
    k3s.restore(backup, root=server.root)
    live = server.live()
    k3s.restore(backup, root=server.root)
    assert server.live() == live


def test_onto_a_server_that_has_nothing(backup: Backup, tmp_path: Path) -> None:
    bare = Server(tmp_path / "bare")
    bare.root.mkdir()
    assert "no k3s is installed" in k3s.check(backup, parts=CORE, root=bare.root)[0]
    assert k3s.check(backup, parts=CORE, version=VERSION, token=kine.TOKEN, root=bare.root) == []
    assert bare.content() == {}, "a check leaves nothing"
    k3s.restore(backup, parts=CORE, version=VERSION, token=kine.TOKEN, root=bare.root)
    assert inventory(bare.database).nodes == ["server1"]
    assert bare.path(f"{DATA}/server").stat().st_mode & 0o777 == 0o700
    assert not bare.path("/etc/rancher/k3s/config.yaml").exists()


def test_onto_a_fresh_server_with_a_cluster_of_its_own(backup: Backup, tmp_path: Path) -> None:
    fresh = make_server(tmp_path / "fresh", mark="fresh", objects=3)
    k3s.restore(backup, parts=CORE, root=fresh.root)
    assert inventory(fresh.database).objects["configmaps"] == 20
    assert fresh.path(f"{DATA}/server/tls/server-ca.crt").read_text() == "ca first\n"
    assert fresh.path("/etc/default/k3s").read_text() == "X=fresh\n"


def test_onto_another_data_folder_and_token_file(backup: Backup, tmp_path: Path) -> None:
    other = make_server(tmp_path / "other", data="/data/k3s", token_file="/etc/own-token", token="x" * 20, mark="other")
    k3s.restore(backup, parts=CORE, root=other.root)
    assert inventory(other.database).objects["configmaps"] == 20
    assert other.path("/etc/own-token").read_text() == f"{kine.TOKEN}\n"
    assert not other.path(DATA).exists()


def test_of_another_server_only_when_it_is_meant(server: Server, backup: Backup) -> None:
    backup = manifest(backup, host="elsewhere")
    assert "is of the server elsewhere" in k3s.check(backup, root=server.root)[0]
    with pytest.raises(BackupError, match="is of the server elsewhere"):
        k3s.restore(backup, root=server.root)
    said = k3s.restore(backup, other_host=True, root=server.root)
    assert platform.node().lower() != "server1"
    assert "knows the node server1" in said[-1]


def test_etcd_s_data_make_room_for_sqlite(server: Server, backup: Backup) -> None:
    server.path(f"{DATA}/server/db/etcd/member").mkdir(parents=True)
    k3s.restore(backup, parts=CORE, root=server.root)
    assert not server.path(f"{DATA}/server/db/etcd").exists()


def test_volumes_each_by_itself(server: Server, tmp_path: Path) -> None:
    for name in ("pvc-1", "pvc-2"):
        server.path(f"{DATA}/storage/{name}").mkdir(parents=True)
        server.path(f"{DATA}/storage/{name}/data").write_text(name)
    backup = k3s.create(tmp_path / "b", reason="", local_volumes=True, required_free=0, root=server.root)
    server.path(f"{DATA}/storage/pvc-1/data").write_text("later")
    server.path(f"{DATA}/storage/pvc-3").mkdir()
    shutil.rmtree(server.path(f"{DATA}/storage/pvc-2"))
    k3s.restore(backup, parts=["local_volumes"], root=server.root)
    assert server.path(f"{DATA}/storage/pvc-1/data").read_text() == "pvc-1"
    assert server.path(f"{DATA}/storage/pvc-2/data").read_text() == "pvc-2"
    assert server.path(f"{DATA}/storage/pvc-3").exists(), "what came later stays"


# refused before anything is touched


def refused(server: Server, backup: Backup, match: str, **more: Any) -> None:
    """Both ways, and nothing is other than before."""
    before = server.content()
    problems = k3s.check(backup, root=server.root, **more)
    with pytest.raises(BackupError, match=match) as raised:
        k3s.restore(backup, root=server.root, **more)
    assert problems
    assert problems[0] in str(raised.value)
    assert kine.TOKEN not in str(raised.value)
    assert server.content() == before


@pytest.mark.parametrize("version", ["v1.34.3+k3s1", "v1.35.0+k3s1", "v1.34.4+k3s2"])
def test_another_release_of_k3s(server: Server, backup: Backup, version: str) -> None:
    refused(server, backup, r"made under k3s v1\.34\.4\+k3s1, and here k3s", version=version)
    server.k3s_answers("exit 1", version)
    refused(server, backup, "is sure to read it. Cure: set k3s_version to")


def test_a_token_that_does_not_fit(server: Server, backup: Backup) -> None:
    refused(server, backup, "made with another token than k3s would have here", token="y" * 20)
    server.path("/etc/rancher/k3s/token").write_text("z" * 20)
    refused(server, backup, "made with another token", parts=["database", "certificates"])


def test_a_token_s_long_form_is_the_same_token(server: Server, backup: Backup) -> None:
    assert k3s.check(backup, token=f"K10{'a' * 64}::server:{kine.TOKEN}", root=server.root) == []


def test_a_token_in_the_configuration_wins(server: Server, backup: Backup) -> None:
    server.path("/etc/rancher/k3s/config.yaml.d/30-token.yaml").write_text("token: something-else-altogether\n")
    refused(server, backup, "made with another token", parts=CORE)
    # unless the configuration is put back, too
    assert k3s.check(backup, root=server.root) == []


def test_a_token_of_the_backup_that_does_not_fit_the_present_database(server: Server, tmp_path: Path) -> None:
    other = make_server(tmp_path / "other", token="o" * 20)
    backup = k3s.create(tmp_path / "b", reason="", required_free=0, root=other.root)
    refused(server, backup, "made with another token", parts=["token"])


def test_no_token_at_all(server: Server, backup: Backup) -> None:
    server.path("/etc/rancher/k3s/token").unlink()
    refused(server, backup, "would have no token", parts=["database", "certificates"])


def test_certificates_of_another_cluster(server: Server, backup: Backup) -> None:
    server.path(f"{DATA}/server/tls/server-ca.crt").write_text("another CA")
    refused(server, backup, "belongs to another cluster", parts=["database", "token"])
    assert k3s.check(backup, parts=CORE, root=server.root) == []


def test_a_damaged_file(server: Server, backup: Backup) -> None:
    with backup.path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff\xff\xff")
    refused(server, backup, "is damaged")


def test_one_whose_database_could_not_be_opened(server: Server, tmp_path: Path) -> None:
    server.database.write_bytes(b"rubbish")
    backup = k3s.create(tmp_path / "b", reason="", required_free=0, root=server.root)
    refused(server, backup, "'raw': .*file is not a database.*Cure: restore an older backup")
    assert k3s.check(backup, parts=["token", "certificates"], root=server.root) == []


@pytest.mark.parametrize("active", ["active", "activating", "deactivating", "reloading"])
def test_while_k3s_runs(server: Server, backup: Backup, unit: dict[str, str], active: str) -> None:
    unit["active"] = active
    before = server.content()
    with pytest.raises(BackupError, match=f"k3s is {active}.*Nothing was changed.*systemctl stop k3s"):
        k3s.restore(backup, root=server.root)
    assert server.content() == before
    assert k3s.check(backup, root=server.root) == [], "a check may run"


def test_without_room(server: Server, backup: Backup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=100, f_frsize=1))
    refused(server, backup, "no room in .*/var/lib/rancher/k3s: ")


def test_of_the_application(server: Server, backup: Backup) -> None:
    refused(server, manifest(backup, kind="application"), "not of k3s")


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ("token", "/etc/cron.d/own"),
        ("token", "/etc/rancher/k3s/../../cron.d/own"),
        ("token", "/etc/rancher/k3s/."),
        ("config", "/etc/rancher/k3s/"),
        ("database", f"{DATA}/server/db/../tls"),
        ("certificates", "/root/.ssh/authorized_keys"),
        ("node_password", "/etc/shadow"),
        ("database", f"{DATA}/server/tls/server-ca.crt"),
        ("manifests", f"{DATA}/server/tls"),
        ("local_volumes", f"{DATA}/agent"),
        ("config", "/etc/passwd"),
        ("unit", "/etc/systemd/system/own.service"),
    ],
)
def test_a_forged_manifest_that_names_another_path(server: Server, backup: Backup, part: str, path: str) -> None:
    parts = {**backup.manifest["parts"], part: [path]}
    refused(server, manifest(backup, parts=parts), f"would put .* in its place as its {part}")
    refused(server, manifest(backup, parts=parts), "would put", parts=[part])


def test_a_forged_layout_makes_no_path_k3s_own(server: Server, backup: Backup) -> None:
    layout = {**backup.manifest["layout"], "data": "/srv", "token_file": "/etc/cron.d/own", "config": "/etc/passwd"}
    parts = {**backup.manifest["parts"], "token": ["/etc/cron.d/own"]}
    server.path("/etc/rancher/k3s/config.yaml").unlink()
    refused(server, manifest(backup, parts=parts, layout=layout), "would put /etc/cron.d/own", parts=["token"])


def test_a_part_that_does_not_exist(server: Server, backup: Backup) -> None:
    refused(server, backup, "there is no part databse", parts=["databse"])


# failures and kills on the way


def renames(monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException) -> Callable[[], None]:
    """Let the rename of that number fail, or the process end there; the result ends that."""
    original, calls = os.rename, [0]

    def rename(source: Any, target: Any) -> None:
        calls[0] += 1
        if calls[0] == number:
            raise error
        original(source, target)

    monkeypatch.setattr(swap.os, "rename", rename)
    return lambda: monkeypatch.setattr(swap.os, "rename", original)


@pytest.mark.parametrize("number", [*range(1, 46, 4), 24, 26, 27, 40])
def test_a_failure_on_the_way_puts_everything_back(
    server: Server, backup: Backup, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    change(server)
    before = server.content()
    whole = renames(monkeypatch, number, OSError(5, "Input/output error"))
    try:
        k3s.restore(backup, root=server.root)
    except BackupError as error:
        assert "Input/output error. What was there is there again" in str(error)  # noqa: PT017  (there may be none)
        assert server.content() == before
    else:
        # there were fewer renames than that
        assert number > 30
    whole()


@pytest.mark.parametrize("number", [*range(1, 46, 3), 26, 27, 30, 39])
def test_a_kill_anywhere_is_undone_by_the_next_run(
    server: Server, backup: Backup, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    change(server)
    before = server.content()
    # a kill runs no clean-up
    monkeypatch.setattr(k3s_restore.shutil, "rmtree", lambda *_a, **_m: None)
    monkeypatch.setattr(swap.Swap, "clean", lambda _self: None)
    renames(monkeypatch, number, Killed())
    try:
        k3s.restore(backup, root=server.root)
    except Killed:
        pass
    else:
        assert number > 30
        return
    monkeypatch.undo()
    k3s_restore.put_back_killed(server.root)
    left = {name: value for name, value in server.content().items() if ".of-killed-restore-" not in name}
    assert left == before
    assert k3s_restore.put_back_killed(server.root) == []


def test_a_kill_is_undone_and_then_the_restore_is_done(
    server: Server, backup: Backup, monkeypatch: pytest.MonkeyPatch, unit: dict[str, str]
) -> None:
    change(server)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(k3s_restore.shutil, "rmtree", lambda *_a, **_m: None)
        renames(patch, 30, Killed())
        with pytest.raises(Killed):
            k3s.restore(backup, root=server.root)
    said = k3s.restore(backup, root=server.root)
    assert "A restore that was killed is undone" in said[0]
    assert inventory(server.database).namespaces == ["default", "integr8scode", "kube-system"]


def test_an_undo_that_fails_is_finished_by_the_next_run(
    server: Server, backup: Backup, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(server)
    before = server.content()
    original, calls = os.rename, [0]

    def rename(source: Any, target: Any) -> None:
        calls[0] += 1
        if calls[0] >= 30:
            raise OSError(5, "Input/output error")
        original(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(swap.os, "rename", rename)
        with pytest.raises(BackupError, match="Run it again: that puts back what was there"):
            k3s.restore(backup, root=server.root)
    assert server.content() != before
    assert k3s_restore.put_back_killed(server.root) != []
    assert {n: v for n, v in server.content().items() if ".of-killed-" not in n} == before


# what is lost


def test_what_a_restore_takes_back_is_told(server: Server, backup: Backup) -> None:
    assert k3s.losses(backup, root=server.root)["revisions"] == 0
    change(server)
    lost = k3s.losses(backup, root=server.root)
    assert (lost["known"], lost["revisions"], lost["namespaces"]) == (True, 2, ["after"])
    server.database.write_bytes(b"rubbish")
    assert not k3s.losses(backup, root=server.root)["known"]


# whose node is left


@pytest.mark.parametrize(
    ("of", "named", "nodes", "here", "left"),
    [
        # the same server, with its agents
        ("App1", "", ["app1", "agent1"], "App1", ""),
        ("app1", "old-name", ["old-name"], "app1", ""),
        # another one's place is taken
        ("App1", "", ["agent1", "app1"], "app2", "app1"),
        ("app1", "old-name", ["agent1", "old-name"], "app2", "old-name"),
        # it goes on under the old name: `server1` is what the configuration says here
        ("app1", "server1", ["agent1", "server1"], "app2", ""),
        # it is known no more
        ("app1", "", ["agent1"], "app2", ""),
    ],
)
def test_only_the_node_of_a_server_that_is_replaced_is_left(
    server: Server,
    backup: Backup,
    monkeypatch: pytest.MonkeyPatch,
    of: str,
    named: str,
    nodes: list[str],
    here: str,
    left: str,
) -> None:
    monkeypatch.setattr(platform, "node", lambda: here)
    if named == "server1":
        server.path("/etc/rancher/k3s/config.yaml.d/50-name.yaml").write_text("node-name: server1\n")
    layout = {**backup.manifest["layout"], "node_name": named}
    other = manifest(backup, host=of, layout=layout, inventory={**backup.manifest["inventory"], "nodes": nodes})
    assert k3s_restore.left_node(other, root=server.root) == left


# the module


def test_module_k3s_restore(server: Server, backup: Backup, run_module: RunModule, on: Any) -> None:
    on(server)
    change(server)
    before = server.content()
    arguments = {"path": str(backup.path)}
    checked = run_module("k3s_restore", arguments)
    assert (checked["changed"], checked["problems"]) == (False, [])
    assert checked["lost"]["namespaces"] == ["after"]
    assert checked["backup"]["versions"]["k3s"] == VERSION
    predicted = run_module("k3s_restore", {**arguments, "state": "restored"}, check=True, diff=True)
    assert predicted["changed"]
    assert server.content() == before
    assert f"{DATA}/server/db/state.db\n" in predicted["diff"]["after"]
    result = run_module("k3s_restore", {**arguments, "state": "restored"})
    assert result["changed"]
    assert result["sentences"]
    assert inventory(server.database).namespaces == ["default", "integr8scode", "kube-system"]
    assert kine.TOKEN not in json.dumps([checked, predicted, result])


@pytest.mark.parametrize("check", [True, False])
def test_module_k3s_restore_refuses_alike(
    server: Server, backup: Backup, run_module: RunModule, on: Any, check: bool
) -> None:
    on(server)
    arguments = {"path": str(backup.path), "token": "w" * 20}
    assert "another token" in run_module("k3s_restore", arguments, check=check)["problems"][0]
    result = run_module("k3s_restore", {**arguments, "state": "restored"}, check=check)
    assert result["failed"]
    assert "Nothing was changed" in result["msg"]
