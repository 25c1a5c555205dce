"""The look at a server, with the kernel's and the engine's answers as they come."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.atomic_files import Access
from ansible.module_utils.history import append_history, read_history
from ansible.module_utils.integr8scode_docker import EngineUnavailableError
from ansible.module_utils.releases import lock
from ansible.module_utils.releases.targets import left_by_rollback, rollback_target
from ansible.module_utils.server_state import kubernetes, listeners, machine, releases, stack
from ansible.modules import kubeconfig_renew
from ansible.plugins.filter.status_table import (
    describe,
    rollback_list,
    status_document,
    status_problems,
    status_table,
)

from tests.unit.support.fake_kubernetes import FakeKubernetes
from tests.unit.support.kubernetes_access_role import definitions
from tests.unit.test_release_bundle import arguments

WORKERS = ["k8s-worker", "pod-monitor"]

INSPECT = {
    "Id": "1f",
    "Name": "/integr8scode-backend-1",
    "RestartCount": 2,
    "State": {
        "Status": "running",
        "StartedAt": "2026-02-20T10:00:00.123456789Z",
        "ExitCode": 0,
        "OOMKilled": False,
        "Health": {"Status": "healthy"},
    },
    "Config": {
        "Image": f"registry.example/backend:2026.2.20@sha256:{'a' * 64}",
        "Labels": {"com.docker.compose.project.working_dir": "/opt/integr8scode/releases/x"},
    },
}


def test_a_container_is_described() -> None:
    described = stack.describe_container(INSPECT)
    assert described["digest"] == f"sha256:{'a' * 64}"
    assert (described["state"], described["health"], described["restarts"]) == ("running", "healthy", 2)


def test_listeners_are_found_in_the_kernels_table(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    table.write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n"
        "   1: 0100007F:1389 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n"
    )
    assert listeners.listening_inodes({443, 5001}, [table, tmp_path / "tcp6"]) == {443: {"4711"}}


def test_history_survives_a_line_that_was_cut_off(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text('{"a": 1}\n{"a": 2}\n{"a":')
    assert read_history(tmp_path) == [{"a": 1}, {"a": 2}]


def deployed(base: Path, record: str | None) -> Path:
    """A release that runs, with this record; its folder."""
    folder = base / "releases/2026.2.20-0a"
    folder.mkdir(parents=True)
    digests = {"services": {"backend": {"image": "r:5000/b:2026.2.20@sha256:aa"}, "edge": {"image": "haproxy:3"}}}
    (folder / "digests.yaml").write_text(json.dumps(digests))
    if record is not None:
        (folder / "release.json").write_text(record)
    (base / "current").symlink_to("releases/2026.2.20-0a")
    return folder


@pytest.mark.parametrize("record", ["", "\0\0", '{"id": "2026', "[]", "{}", None])
def test_a_damaged_record_of_what_runs_keeps_no_deploy_from_writing_it_again(
    tmp_path: Path, run_module: Any, record: str | None
) -> None:
    folder = deployed(tmp_path, record)
    answer = run_module("integr8scode_state", {"base": str(tmp_path)})
    assert not answer.get("failed")
    release = answer["release"]
    # tag and digests stay: a run that names none must not ship others
    assert (release["id"], release["tag"]) == ("2026.2.20-0a", "2026.2.20")
    assert release["images"]["backend"] == "r:5000/b:2026.2.20@sha256:aa"
    assert release["digests"] == {"r:5000/b:2026.2.20": "sha256:aa"}
    assert f"{folder}/release.json cannot be read" in release["problem"]
    assert "deploy.yml -e tag=2026.2.20" in release["problem"]
    told = {"docker": {"available": True}, "containers": {}, "release": release}
    assert status_problems(told)[0] == release["problem"]


def test_the_volumes_of_a_release_without_a_record_are_not_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Engine:
        containers = SimpleNamespace(list=lambda **_: [])
        volumes = SimpleNamespace(list=lambda **_: [SimpleNamespace(name="integr8scode_mongo_data")])
        api = SimpleNamespace(containers=list, networks=lambda **_: [], images=list)

        def info(self) -> dict[str, str]:
            return {"ServerVersion": "26.1", "DockerRootDir": "/var/lib/docker"}

    monkeypatch.setattr(stack, "connect", lambda timeout: Engine())
    assert stack.read_docker("integr8scode", tmp_path)["foreign"]["volumes"] == ["integr8scode_mongo_data"]
    deployed(tmp_path, None)
    assert stack.read_docker("integr8scode", tmp_path)["foreign"]["volumes"] == []


def test_where_nothing_tells_what_runs_the_cure_is_one(tmp_path: Path, run_module: Any) -> None:
    folder = deployed(tmp_path, "{")
    (folder / "digests.yaml").write_text("{")
    answer = run_module("integr8scode_state", {"base": str(tmp_path)})
    assert answer["failed"]
    assert (
        f"Cure: rm {folder}/release.json on the server, then ansible-playbook deploy.yml -e tag=2026.2.20"
        in (answer["msg"])
    )
    (folder / "release.json").unlink()
    assert run_module("integr8scode_state", {"base": str(tmp_path)})["release"] is None


def test_a_current_that_is_a_copy_is_told_with_the_cure(tmp_path: Path, run_module: Any) -> None:
    assert run_module("integr8scode_state", {"base": str(tmp_path)})["current_problem"] == ""
    for folder in ("current", "releases/2026.2.20-b"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "current/release.json").write_text('{"id": "2026.2.20-b"}')
    answer = run_module("integr8scode_state", {"base": str(tmp_path)})
    link = f"ln -s releases/2026.2.20-b {tmp_path}/current; then run again."
    assert answer["current_problem"].endswith(f"mv {tmp_path}/current {tmp_path}/current.copy && {link}")


def test_another_login_of_mongo_is_found_and_not_shown(tmp_path: Path, run_module: Any, run_part: Any) -> None:
    login = {"mongo_root_username": "root", "mongo_root_password": "canary-1 '$\"\\\\ {{ x }}"}

    def asked(**changes: str) -> Any:
        answer = run_module("integr8scode_state", {"base": str(tmp_path), **login, **changes})
        assert "canary" not in json.dumps(answer)
        return answer["other_secrets"]

    # nothing is there yet
    assert asked() == []
    files = [
        {
            "name": name,
            "content": content,
            "owner": os.geteuid(),
            "group": os.getegid(),
            "services": [{"service": "mongo", "target": f"/run/secrets/{name}"}],
        }
        for name, content in login.items()
    ]
    run_part("secrets", {"directory": str(tmp_path / "secrets"), "files": files})
    assert asked() == []
    assert asked(mongo_root_password="canary-2") == ["mongo_root_password"]
    assert asked(mongo_root_username="admin") == ["mongo_root_username"]
    assert run_module("integr8scode_state", {"base": str(tmp_path)})["other_secrets"] == []
    # a broken key is told when it is needed
    (tmp_path / "secrets/.key").chmod(0o600)
    (tmp_path / "secrets/.key").write_bytes(b"short")
    assert asked(mongo_root_password="canary-2") == []


def test_a_password_that_is_a_common_word_spoils_no_path(tmp_path: Path, run_module: Any) -> None:
    (tmp_path / "marker").write_text("x")
    name = str(tmp_path / "marker")
    login = {"registry": "r", "username": "tmp", "password": "marker"}
    given = {"base": str(tmp_path), "files": [name], "mongo_root_password": "marker", "registry_login": [login]}
    answer = run_module("integr8scode_state", given)
    assert name in answer["files"]
    assert answer["invocation"]["module_args"]["mongo_root_password"] != "marker"
    assert answer["invocation"]["module_args"]["registry_login"][0]["password"] != "marker"


def test_works_without_docker(tmp_path: Path, run_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_engine(timeout: int) -> None:
        raise EngineUnavailableError("python3-docker is missing")

    monkeypatch.setattr(stack, "connect", no_engine)
    answer = run_module("integr8scode_state", {"base": str(tmp_path), "ports": [443]})
    assert answer["docker"] == {
        "available": False,
        "error": "python3-docker is missing",
        "version": None,
        "root": None,
    }
    assert answer["release"] is None
    assert answer["memory"]["total_bytes"] > 0


def test_an_engine_that_stops_answering_is_told(
    tmp_path: Path, run_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hangs:
        def info(self) -> None:
            raise TimeoutError("Read timed out.")

    monkeypatch.setattr(stack, "connect", lambda timeout: Hangs())
    answer = run_module("integr8scode_state", {"base": str(tmp_path)})
    assert not answer["docker"]["available"]
    assert "does not answer (Read timed out.); see `systemctl status docker`" in answer["docker"]["error"]


def test_the_projects_networks_are_read_as_the_engine_tells_of_them() -> None:
    """GET /networks of Engine 26.1."""
    told = [
        {"Name": "integr8scode", "IPAM": {"Driver": "default", "Options": None, "Config": [{"Subnet": "10.9.0.0/24"}]}},
        {"Name": "integr8scode_proxy", "IPAM": {"Config": [{"Subnet": "10.9.1.0/24", "IPRange": "10.9.1.128/25"}]}},
        {"Name": "without", "IPAM": {"Config": []}},
    ]

    class Engine:
        @property
        def api(self) -> Engine:
            return self

        def networks(self, filters: dict[str, str]) -> list[dict[str, Any]]:
            assert filters == {"label": "com.docker.compose.project=integr8scode"}
            return told

    assert stack.networks(Engine(), "integr8scode") == {
        "integr8scode": {"subnet": "10.9.0.0/24", "ip_range": ""},
        "integr8scode_proxy": {"subnet": "10.9.1.0/24", "ip_range": "10.9.1.128/25"},
        "without": {"subnet": "", "ip_range": ""},
    }


def test_a_line_that_was_cut_off_does_not_spoil_the_next(tmp_path: Path) -> None:
    append_history(tmp_path, {"a": 1})
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"a":')
    append_history(tmp_path, {"a": 3})
    append_history(tmp_path, {"a": 4})
    assert read_history(tmp_path) == [{"a": 1}, {"a": 3}, {"a": 4}]


def test_status_names_what_is_missing_and_who_is_silent() -> None:
    release = {
        "id": "2026.2.20-abc",
        "created_at": "2026-02-20T10:00:00+00:00",
        "by": "ops",
        "images": {"backend": "x", "mongo": "y", "user-seed": "x"},
    }
    answer = {
        "docker": {"available": True},
        "release": release,
        "containers": {"backend": [stack.describe_container(INSPECT)]},
        "history": [
            {
                "at": "2026-02-20T10:00:00",
                "action": "deploy",
                "release": "2026.2.20-abc",
                "result": "ok",
                "by": "ops",
                "seconds": 40.0,
            }
        ],
    }
    text = "\n".join(describe("app1", json.loads(json.dumps(answer))))
    assert "release 2026.2.20-abc" in text
    assert "backend            running, healthy, 2 restarts, aaaaaaaaaaaa" in text
    assert "mongo              MISSING" in text
    assert "user-seed" not in text


@pytest.mark.parametrize(
    ("answer", "says", "reachable"),
    [
        ({}, "UNREACHABLE: it was not asked", False),
        ({"status": {"unreachable": True, "msg": "no route to host"}}, "UNREACHABLE: no route to host", False),
        ({"status": {"failed": True, "msg": "release.json broken"}}, "FAILED to look at it: release.json broken", True),
        ({"status": {"failed": True, "module_stderr": "no python\n"}}, "FAILED to look at it: no python", True),
    ],
)
def test_status_says_why_a_server_has_no_answer(answer: dict[str, Any], says: str, reachable: bool) -> None:
    assert status_table(["app2"], {"app2": answer}) == [f"app2: {says}"]
    assert status_document(["app2"], {"app2": answer})["hosts"]["app2"] == {
        "reachable": reachable,
        "problems": [says],
    }


def test_status_names_a_left_over_lock_before_the_first_deploy_and_without_docker() -> None:
    lost = {"owner": {}, "description": "deploy 1 by x.", "stale": "the switch has ended without a word"}
    left = {"backend": [{**stack.describe_container(INSPECT), "state": "created"}]}
    state = {"docker": {"available": True}, "release": None, "containers": left, "lock": lost, "history": []}
    (problem,) = status_problems(state)
    assert "left over, the switch has ended without a word: deploy 1 by x." in problem
    lines = describe("app1", state)
    assert lines[0] == "app1: no release was deployed"
    assert lines[1].startswith("    backend            created (exit code")
    assert lines[2:] == [f"    PROBLEM: {problem}", "    locked: deploy 1 by x."]
    away = {**state, "docker": {"available": False, "error": "the engine is away"}}
    assert status_problems(away) == ["the engine is away", problem]
    assert describe("app1", away) == ["app1: the engine is away", *lines[2:]]


def test_whether_an_image_is_here_is_told_by_its_digest() -> None:
    digest = f"sha256:{'a' * 64}"
    for image, name in {
        f"registry.example:5000/a/backend:1@{digest}": f"registry.example:5000/a/backend@{digest}",
        f"docker.io/library/mongo:8.0.20@{digest}": f"mongo@{digest}",
        f"docker.io/confluentinc/cp-kafka:7.8.2@{digest}": f"confluentinc/cp-kafka@{digest}",
        "mongo:8.0.20": "",
    }.items():
        assert stack.pinned_name(image) == name


def kept(base: Path, name: str, created: str, *, complete: bool = True, image: str = "r/backend:1") -> None:
    folder = base / "releases" / name
    folder.mkdir(parents=True)
    pinned = {"backend": f"{image}@sha256:{'a' * 64}"}
    record = {"id": name, "tag": name.partition("-")[0], "created_at": created, "by": "ops", "images": pinned}
    (folder / "release.json").write_text(json.dumps(record) if complete else "{")


def test_kept_releases_are_listed_with_what_they_lack(tmp_path: Path) -> None:
    kept(tmp_path, "1-a", "2026-01-01")
    kept(tmp_path, "2-b", "2026-02-01", image="gone/backend:2")
    kept(tmp_path, "3-c", "2026-03-01", complete=False)
    history = [{"release": "1-a", "result": "ok", "action": "deploy", "at": "2026-01-02"}]
    found = releases.read_kept(tmp_path, "1-a", history, {f"r/backend@sha256:{'a' * 64}"})
    assert [(one["id"], one["current"], one["served_at"], len(one["missing"])) for one in found] == [
        ("2-b", False, None, 1),
        ("1-a", True, "2026-01-02", 0),
    ]
    # an engine that does not answer says nothing about images
    assert releases.read_kept(tmp_path, None, [], None)[0]["missing"] is None


@pytest.mark.parametrize(
    ("history", "current", "kept_ones", "target"),
    [
        ("deploy a ok, deploy b ok", "b", "ab", "a"),
        # what failed never served
        ("deploy a ok, deploy x failed, deploy y rolled_back, deploy b ok", "b", "abxy", "a"),
        # two rollbacks go back two releases, and never forth to the one that was left
        ("deploy a ok, deploy b ok, deploy c ok, rollback b ok", "b", "abc", "a"),
        ("deploy a ok, deploy b ok, rollback a ok", "a", "ab", None),
        ("deploy a ok, deploy b ok, rollback a ok, deploy c ok", "c", "abc", "a"),
        # a release that was deployed again stands where it was deployed last
        ("deploy a ok, deploy b ok, deploy a ok", "a", "ab", "b"),
        ("deploy a ok, deploy b ok, deploy c ok", "c", "ac", "a"),
        ("deploy a ok, backup x ok", "a", "a", None),
        # a history that was lost
        ("", "a", "ab", None),
        ("deploy b ok", "a", "ab", "b"),
    ],
)
def test_a_rollback_goes_to_what_served_before(history: str, current: str, kept_ones: str, target: str | None) -> None:
    entries = [
        dict(zip(("action", "release", "result"), line.split(), strict=True)) for line in history.split(", ") if line
    ]
    assert rollback_target(entries, current, set(kept_ones)) == target


@pytest.mark.parametrize(
    ("history", "kept_ones", "left"),
    [
        ("deploy b ok, deploy a ok, deploy b ok, rollback a ok", "abx", "b"),
        ("deploy a ok, deploy b ok, deploy c ok, rollback b ok, rollback a ok", "abc", "b"),
        ("deploy a ok, deploy b ok, deploy c ok, rollback b ok, rollback a ok", "ac", "c"),
        ("deploy a ok, deploy b ok, rollback a ok", "a", None),
        # it serves once more, or a release that never did
        ("deploy b ok, deploy a ok, rollback b failed", "ab", None),
        ("deploy x failed, deploy a ok", "ax", None),
    ],
)
def test_what_a_rollback_has_left_is_known(history: str, kept_ones: str, left: str | None) -> None:
    entries = [dict(zip(("action", "release", "result"), line.split(), strict=True)) for line in history.split(", ")]
    assert left_by_rollback(entries, "a", set(kept_ones)) == left


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"rollback_target": "0-z"}, "0-z"),
        ({"rollback_target": None}, "nowhere: no release from before is kept"),
        (
            {"rollback_target": None, "rollback_left": "2-b"},
            "nowhere: no release from before is kept; to 2-b, which a rollback has left, only with -e to=2-b",
        ),
    ],
)
def test_status_says_where_a_rollback_would_go(more: dict[str, Any], says: str) -> None:
    state = {
        "docker": {"available": True, "error": None},
        "release": {"id": "1-a", "tag": "1", "created_at": "t", "images": {}, "digests": {}},
        "containers": {}, "lock": None, "switching": False, "history": [], **more,
    }  # fmt: skip
    assert f"    a rollback goes to {says}" in status_table(["app1"], {"app1": {"status": state}})


def test_files_are_described_and_links_not_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("file")
    assert machine.describe_path(tmp_path / "absent") is None
    described = machine.describe_path(tmp_path / "file")
    assert described is not None
    assert (described["kind"], described["mode"]) == ("file", "0640")
    assert described["sha256"] == hashlib.sha256(b"x").hexdigest()
    for path, kind in ((tmp_path, "directory"), (tmp_path / "link", "link")):
        found = machine.describe_path(path)
        assert found is not None
        assert (found["kind"], found["sha256"]) == (kind, None)


def test_libraries_are_found_without_loading_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_a_folder_here").mkdir()
    (tmp_path / "a_library_here.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(tmp_path)
    names = ["json", "a_library_here", "only_a_folder_here", "no_such_library_here"]
    assert machine.importable(names) == dict(zip(names, (True, True, False, False), strict=True))


def fake_systemctl(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    program = folder / "systemctl"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_units_are_asked_for_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_systemctl(
        tmp_path,
        monkeypatch,
        "printf 'Id=a.service\\nActiveState=active\\nUnitFileState=enabled\\nNeedDaemonReload=yes\\n\\n"
        "Id=b.service\\nActiveState=inactive\\nUnitFileState=\\nNeedDaemonReload=no\\n'",
    )
    assert machine.read_units(["a.service", "b.service", "c.service"]) == {
        "a.service": {"active": "active", "enabled": "enabled", "reload": True},
        "b.service": {"active": "inactive", "enabled": "", "reload": False},
        "c.service": {"active": "", "enabled": "", "reload": False},
    }


def test_a_systemd_that_hangs_does_not_hold_the_look_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SYSTEMD_SECONDS", 0.2)
    fake_systemctl(tmp_path, monkeypatch, "exec sleep 20")
    began = time.monotonic()
    assert machine.read_units(["a.service"])["a.service"]["active"] == ""
    assert time.monotonic() - began < 5


def test_a_held_lock_is_told_with_its_holder(tmp_path: Path, run_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_engine(timeout: int) -> None:
        raise EngineUnavailableError("away")

    monkeypatch.setattr(stack, "connect", no_engine)
    fake_systemctl(tmp_path, monkeypatch, "echo Id=integr8scode-switch.service; echo ActiveState=active")
    assert run_module("integr8scode_state", {"base": str(tmp_path)})["lock"] is None
    owner = lock.Owner("one", "deploy", "2026.2.20", "ops@desk")
    lock.take(tmp_path, owner, lease_seconds=60, unit_active=lambda: True)
    lock.beat(tmp_path, "one", lock.SWITCHING)
    answer = run_module("integr8scode_state", {"base": str(tmp_path), "libraries": ["json"], "files": ["/nowhere"]})
    assert answer["switching"]
    assert (answer["lock"]["owner"]["run"], answer["lock"]["stale"]) == ("one", "")
    assert (answer["libraries"], answer["files"], answer["units"]) == ({"json": True}, {"/nowhere": None}, {})
    fake_systemctl(tmp_path, monkeypatch, "echo Id=integr8scode-switch.service; echo ActiveState=inactive")
    answer = run_module("integr8scode_state", {"base": str(tmp_path)})
    assert (answer["switching"], answer["lock"]["stale"]) == (False, "the switch has ended without a word")
    # one that hangs is no sign that the switch has ended
    monkeypatch.setattr(machine, "SYSTEMD_SECONDS", 0.2)
    for hangs in ("exec sleep 20", "echo 'Failed to connect to bus' >&2; exit 1"):
        fake_systemctl(tmp_path, monkeypatch, hangs)
        answer = run_module("integr8scode_state", {"base": str(tmp_path)})
        assert (answer["switching"], answer["lock"]["stale"]) == (None, "")
    with lock.restoring(tmp_path, "one"):
        assert run_module("integr8scode_state", {"base": str(tmp_path)})["lock"]["stale"] == ""
    (tmp_path / "systemctl").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_module("integr8scode_state", {"base": str(tmp_path)})["switching"] is False


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeKubernetes]:
    with FakeKubernetes(tmp_path) as running:
        yield running


@pytest.fixture
def kubeconfigs(cluster: FakeKubernetes, tmp_path: Path, run_module: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workers' kubeconfigs, made as the role kubernetes_access makes them."""
    access = Access(os.geteuid(), os.getegid(), 0o400)
    monkeypatch.setattr(kubeconfig_renew, "Settings", functools.partial(kubeconfig_renew.Settings, access=access))
    admin = {"admin_kubeconfig": str(cluster.admin_path), "timeout": 5}
    folder = tmp_path / "kubeconfig"
    assert not run_module("kubernetes_access_objects", {"definitions": definitions(), **admin}).get("failed")
    made = run_module(
        "kubeconfig_renew",
        {
            "workers": WORKERS,
            "namespace": "integr8scode",
            "directory": str(folder),
            # a name that this machine does not know: the API is asked on 127.0.0.1
            "server": f"https://host.docker.internal:{cluster.port}",
            **admin,
        },
    )
    assert not made.get("failed"), made
    return folder


def test_kubernetes_is_asked_as_the_workers_would(
    cluster: FakeKubernetes, kubeconfigs: Path, run_module: Any, tmp_path: Path
) -> None:
    asked = {"workers": WORKERS, "directory": str(kubeconfigs), "namespace": "integr8scode"}

    def look() -> dict[str, Any]:
        answer: dict[str, Any] = run_module(
            "integr8scode_state", {"base": str(tmp_path / "base"), "kubernetes": asked}
        )["kubernetes"]
        return answer

    assert look() == {worker: {"usable": True, "problem": ""} for worker in WORKERS}
    (cluster_role,) = (path for path in cluster.objects if path.endswith("/roles/pod-monitor"))
    rules = cluster.objects[cluster_role].pop("rules")
    cluster.objects[cluster_role]["rules"] = []
    assert look()["pod-monitor"]["problem"] == "pod-monitor may not list pods in the namespace integr8scode"
    cluster.objects[cluster_role]["rules"] = rules
    cluster.refuse_tokens = True
    assert all("does not accept the token" in answer["problem"] for answer in look().values())
    cluster.refuse_tokens = False
    (kubeconfigs / "pod-monitor.yaml").chmod(0o600)
    (kubeconfigs / "pod-monitor.yaml").write_text("no: kubeconfig")
    (kubeconfigs / "k8s-worker.yaml").unlink()
    found = look()
    assert found["k8s-worker"] == {"usable": False, "problem": f"{kubeconfigs}/k8s-worker.yaml does not exist"}
    assert "pod-monitor.yaml" in found["pod-monitor"]["problem"]


def test_an_api_that_is_away_is_told_soon(cluster: FakeKubernetes, kubeconfigs: Path) -> None:
    cluster.__exit__(None, None, None)
    began = time.monotonic()
    found = kubernetes.problems(WORKERS, kubeconfigs, "integr8scode")
    assert all("127.0.0.1" in problem for problem in found.values()), found
    assert time.monotonic() - began < 2 * kubernetes.ANSWER_SECONDS + 1


def test_status_says_what_is_not_as_it_was_deployed() -> None:
    running = stack.describe_container(INSPECT)
    other = {**running, "image": f"registry.example/backend:1@sha256:{'b' * 64}", "health": "unhealthy"}
    state = {
        "docker": {"available": True},
        "release": {"id": "r", "images": {"backend": running["image"], "edge": "x", "user-seed": "x"}},
        "containers": {"backend": [running]},
        "lock": None,
        "switching": False,
    }
    assert status_problems(state) == ["edge is missing."]
    found = status_problems({**state, "containers": {"edge": [running], "backend": [other, running]}})
    assert found == [
        "backend runs 2 times.",
        "backend is unhealthy.",
        "backend runs another image than release r names.",
    ]
    more = {"edge": [running], "backend": [running], "grafana": [running]}
    assert status_problems({**state, "containers": more}) == ["grafana is no service of release r."]
    assert status_problems({**state, "containers": more, "switching": True}) == []
    # while a switch works, that is how it goes
    switching = {**state, "containers": {"edge": [running], "backend": [{**other, "health": "starting"}, running]}}
    assert status_problems({**switching, "switching": True}) == ["backend is starting."]
    lost = {"owner": {}, "description": "deploy 1 by x.", "stale": "its process has ended"}
    (problem,) = status_problems({**state, "containers": {"backend": [running], "edge": [running]}, "lock": lost})
    assert "left over, its process has ended: deploy 1 by x." in problem
    (problem,) = status_problems({**state, "containers": {"backend": [running], "edge": [running]}, "switching": None})
    assert "whether a switch works at this moment is not known" in problem
    assert status_problems({**state, "release": None}) == []
    assert status_problems({**state, "release": None, "current_problem": "it is no link."}) == ["it is no link."]


def test_the_document_for_programs_names_every_server() -> None:
    running = stack.describe_container(INSPECT)
    state = {
        "docker": {"available": True, "error": None},
        "release": {"id": "1-a", "tag": "1", "created_at": "t", "by": "ops", "commit": "", "images": {}, "digests": {}},
        "releases": [{"id": "1-a", "current": True, "served_at": "2026-01-02", "missing": []}],
        "containers": {"backend": [running]},
        "rollback_target": "0-z",
        "lock": None,
        "switching": False,
        "history": [],
        "memory": {},
        "disk": {},
    }
    document = status_document(["app1", "app2", "app3"], {
        "app1": {"status": state}, "app2": {}, "app3": {"status": {**state, "release": None}},
    })  # fmt: skip
    hosts = json.loads(json.dumps(document))["hosts"]
    assert hosts["app1"]["release"]["since"] == "2026-01-02"
    assert hosts["app1"]["rollback_target"] == "0-z"
    assert (hosts["app2"]["reachable"], hosts["app3"]["release"]) == (False, None)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": {"backend": f"r/backend:2026.2.20@sha256:{'b' * 64}"}}, "images of backend"),
        ({"files": [{"name": "config.toml", "variable": "CONFIG_TOML", "content": "canary"}]}, "files config.toml"),
        ({"compose": "services: {}  # canary", "edge_config": "canary"}, "files docker-compose.yaml, haproxy.cfg"),
        ({"environment": {"NEW": "canary", "WEB_CONCURRENCY": 3}}, "variables NEW, WEB_CONCURRENCY"),
        ({"environment": {}, "files": []}, "files config.toml; variables WEB_CONCURRENCY"),
        # the images that bear the tag differ with it
        ({"tag": "2026.2.19", "images": {"backend": "r:5000/backend:2026.2.19@sha256:cc"}}, "the tag"),
        (
            {"tag": "2026.2.19", "images": {"backend": "r/b:2026.2.19@sha256:c", "mongo": "mongo:8.1@sha256:d"}},
            "the tag; images of mongo",
        ),
    ],
)
def test_what_of_a_kept_release_is_unlike_the_one_that_runs_is_listed(
    tmp_path: Path, run_module: Any, run_part: Any, changes: dict[str, Any], says: str
) -> None:
    running = run_part("bundle", arguments(tmp_path))["id"]
    (tmp_path / "current").symlink_to(f"releases/{running}")
    other = run_part("bundle", arguments(tmp_path, **changes))["id"]
    state = run_module("integr8scode_state", {"base": str(tmp_path)})
    lines = rollback_list(state, "app1")
    # values are never told
    assert "canary" not in json.dumps(state)
    assert lines[lines.index(f"    {other}, never served") + 1] == f"        unlike what runs: {says}"
    assert sum("unlike" in line for line in lines) == 1
    # as well without the running one's record
    (tmp_path / "current/release.json").write_text("{")
    state = run_module("integr8scode_state", {"base": str(tmp_path)})
    assert f"        unlike what runs: {says}" in rollback_list(state, "app1")


def test_where_a_release_cannot_be_read_nothing_is_said_of_it(tmp_path: Path, run_module: Any, run_part: Any) -> None:
    running = run_part("bundle", arguments(tmp_path))["id"]
    other = run_part("bundle", arguments(tmp_path, environment={}))

    def differs() -> Any:
        found = run_module("integr8scode_state", {"base": str(tmp_path)})["releases"]
        return [one["differs"] for one in found if one["id"] == other["id"]]

    # nothing runs
    assert differs() == [None]
    (tmp_path / "current").symlink_to(f"releases/{running}")
    assert differs() == [{"images": [], "files": [], "environment": ["WEB_CONCURRENCY"]}]
    (Path(other["path"]) / ".env").write_bytes(b"\xff")
    assert differs() == [None]


def test_what_there_is_to_go_back_to_is_listed() -> None:
    lines = rollback_list(
        {
            "releases": [
                {"id": "2-b", "current": True, "served_at": "2026-02-02", "missing": []},
                {"id": "1-a", "current": False, "served_at": "2026-01-02", "missing": ["x"]},
                {"id": "1-c", "current": False, "served_at": "2026-01-03", "missing": []},
                {"id": "0-z", "current": False, "served_at": None, "missing": None},
            ],
            "rollback_target": "1-a",
            "rollback_left": "1-c",
            "history": [{"at": "2026-02-02", "action": "deploy", "release": "2-b", "result": "ok", "by": "ops"}],
        },
        "app1",
    )
    assert lines[1:5] == [
        "    2-b, served last from 2026-02-02, runs",
        "    1-a, served last from 2026-01-02, a rollback goes here, 1 images are not here",
        "    1-c, served last from 2026-01-03, a rollback has left it",
        "    0-z, never served",
    ]
    assert "deploy 2-b: ok by ops" in lines[-1]
