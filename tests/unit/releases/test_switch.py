"""A whole switch: what it does in which order, what users notice of it, and how it ends."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.backups.archive import BackupError
from ansible.module_utils.release_secrets import give_own_list
from ansible.module_utils.releases import lock, rolling, switch
from ansible.module_utils.releases.containers import Snapshot
from ansible.module_utils.releases.lock import LockedError

from tests.unit.releases.fake_server import INFRASTRUCTURE, READERS, SERVICES, WORKERS, Container, FakeServer

NEVER_HEALTHY = {"hash": "two", "healthy_after": None}


def unlocked(server: FakeServer) -> bool:
    return not (server.base / "lock/owner.json").exists()


def changes(log: list[str]) -> list[str]:
    """What happened to containers."""
    return [line for line in log if line.split()[0] in ("create", "stop")]


# -- forward


def test_a_first_deploy_starts_all_of_it(server: FakeServer) -> None:
    server.release("one")
    outcome = server.switch("one")
    assert (outcome.result, outcome.release, outcome.cause) == ("ok", "one", "")
    assert outcome.sentences == ["Release one serves."]
    assert set(server.hashes()) == set(SERVICES)
    assert server.current == "one"
    (entry,) = server.history()
    assert (entry["action"], entry["result"], entry["release"], entry["previous"]) == ("deploy", "ok", "one", None)
    assert (entry["by"], entry["from"], entry["run"]) == ("ops@desk", "desk", "run01")
    assert unlocked(server)


def test_the_next_release_replaces_what_is_another_one_in_order_and_nobody_notices(server: FakeServer) -> None:
    server.deployed("one")
    kept = server.ids(*INFRASTRUCTURE, "edge")
    server.release("two")
    outcome = server.switch("two")
    assert outcome.result == "ok", outcome
    assert server.unharmed(), (server.outages, server.cut, server.to_nobody)
    assert server.current == "two"
    assert server.ids(*INFRASTRUCTURE, "edge") == kept
    assert {name: server.hashes()[name] for name in ("backend", "frontend", *WORKERS)} == {
        name: ["two"] for name in ("backend", "frontend", *WORKERS)
    }
    assert changes(server.log) == [
        "create backend two",
        "create frontend two",
        "stop k8s-worker one",
        "create k8s-worker two",
        "stop pod-monitor one",
        "create pod-monitor two",
        "stop result-processor one",
        "create result-processor two",
        "stop backend one",
        "stop frontend one",
        "stop coordinator one",
        "create coordinator two",
    ]
    assert server.history()[-1]["previous"] == "one"


def test_a_copy_is_drained_before_it_stops_and_its_place_is_free_only_when_its_address_is_gone(
    server: FakeServer,
) -> None:
    server.deployed("one")
    old = server.running("backend")[0].address
    server.release("two")
    server.switch("two")
    about = [line for line in server.log if "backend" in line]
    # the places that the new copy may get are held before it is there
    create, drain = about.index("create backend two"), about.index(f"drain backend {old}")
    assert {"drain backend ", "drain backend_streams "} == {line for line in about[:create] if line.startswith("drain")}
    assert [line for line in about[drain:] if line.startswith(("drain", "stop"))] == [
        f"drain backend {old}",
        f"drain backend_streams {old}",
        "stop backend one",
    ]
    # the new copy's place first, the others when the old one's address is gone
    ready = [line for line in about[drain:] if line.startswith("ready")]
    assert set(ready) == {"ready backend ", "ready backend_streams "}
    (new,) = [one.address for one in server.running("backend")]
    assert create < about.index(f"ready backend {new}") < drain
    about = about[drain:]
    assert about.index(ready[0]) > about.index("stop backend one")


def test_requests_are_waited_for_and_streams_are_not_waited_for_as_long(server: FakeServer) -> None:
    server.deployed("one")
    server.busy = {"backend": 10}
    server.release("two")
    began = server.clock.monotonic()
    assert server.switch("two", stable_seconds=0).result == "ok"
    assert server.cut == []
    assert server.clock.monotonic() - began >= 10

    server.busy = {"backend_streams": 3600}
    server.release("three")
    began = server.clock.monotonic()
    assert server.switch("three", stable_seconds=0, stream_seconds=5).result == "ok"
    # the edge has ended it: the program has none to wait for
    assert [line.partition("/")[0] for line in server.log if line.startswith("end ")] == ["end backend_streams"]
    assert server.cut == []
    assert server.clock.monotonic() - began < 60
    assert "1 requests or event streams of the old backend were still open when their time was over" in server.told()


def test_a_request_without_end_is_cut_off_when_its_time_is_over(server: FakeServer) -> None:
    server.deployed("one")
    server.busy = {"frontend": 3600}
    server.release("two")
    assert server.switch("two", drain_seconds=7).result == "ok"
    assert server.cut == ["frontend one"]


def test_where_all_is_as_it_should_be_no_container_is_touched(server: FakeServer) -> None:
    server.deployed("one")
    ids = server.ids()
    outcome = server.switch("one")
    assert outcome.result == "ok"
    assert server.ids() == ids
    assert server.log == []


@pytest.mark.parametrize("service", ["backend", "frontend"])
def test_an_unhealthy_copy_of_the_same_release_is_replaced_by_a_second_one(server: FakeServer, service: str) -> None:
    server.deployed("one")
    (old,) = server.running(service)
    old.sick = True
    outcome = server.switch("one")
    assert outcome.result == "ok", outcome
    assert changes(server.log) == [f"create {service} one", f"stop {service} one"]
    (new,) = server.running(service)
    assert (new is not old, new.sick) == (True, False)
    assert server.cut == server.to_nobody == []


def test_an_unhealthy_copy_is_replaced_in_place_where_memory_is_short(server: FakeServer) -> None:
    server.deployed("one")
    server.running("backend")[0].sick = True
    server.free_mb = 10
    assert server.switch("one").result == "ok"
    assert changes(server.log) == ["stop backend one", "create backend one"]


def test_an_unhealthy_worker_is_replaced_in_its_group(server: FakeServer) -> None:
    server.deployed("one")
    server.running("pod-monitor")[0].sick = True
    assert server.switch("one").result == "ok"
    assert changes(server.log) == ["stop pod-monitor one", "create pod-monitor one"]
    assert "group 1 of 1: pod-monitor" in server.told()


def test_unhealthy_infrastructure_is_left_alone_and_named(server: FakeServer) -> None:
    server.deployed("one")
    server.running("kafka")[0].sick = True
    outcome = server.switch("one")
    assert (outcome.result, changes(server.log)) == ("failed", [])
    assert "kafka is unhealthy" in outcome.cause


def test_one_that_is_starting_is_waited_for(server: FakeServer) -> None:
    server.deployed("one")
    live = server.running("backend")[0]
    live.spec["healthy_after"], live.started = 20, server.clock.time()
    assert server.switch("one").result == "ok"
    assert changes(server.log) == []


def test_one_that_is_unhealthy_when_its_start_is_over_is_replaced(server: FakeServer) -> None:
    server.deployed("one")
    live = server.running("backend")[0]
    # the successor starts as this one should have
    live.spec = {**live.spec, "healthy_after": None, "unhealthy_after": 20}
    live.started = server.clock.time()
    assert server.switch("one").result == "ok"
    assert changes(server.log) == ["create backend one", "stop backend one"]
    assert server.clock.time() - live.started > 20


def test_unhealthy_copies_do_not_heap_up_while_the_same_release_fails_again_and_again(server: FakeServer) -> None:
    server.deployed("one")
    server.running("backend")[0].sick = True
    path = server.base / "releases/one/docker-compose.yaml"
    good = path.read_text()
    services = json.loads(good)
    services["services"]["backend"] |= {"healthy_after": None, "unhealthy_after": 5}
    path.write_text(json.dumps(services))
    for _ in range(3):
        assert server.switch("one", healthy_timeout_seconds=10).result == "failed"
        assert len(server.running("backend")) == 2
    path.write_text(good)
    assert server.switch("one").result == "ok"
    assert len(server.running("backend")) == 1


def test_a_release_that_is_another_one_for_one_worker_replaces_that_one_alone(server: FakeServer) -> None:
    server.deployed("one")
    same = {name.replace("-", "_"): {"hash": "one"} for name in ("backend", "frontend", *WORKERS)}
    server.release("two", **{**same, "pod_monitor": {"hash": "two"}})
    assert server.switch("two").result == "ok"
    assert changes(server.log) == ["stop pod-monitor one", "create pod-monitor two"]
    assert "trial coordinator k8s-worker pod-monitor result-processor" in server.log


def test_infrastructure_is_replaced_first_when_its_own_definition_is_another_one(server: FakeServer) -> None:
    server.deployed("one")
    server.release("two", mongo={"hash": "mongo-9"})
    assert server.switch("two").result == "ok"
    assert changes(server.log)[:3] == ["stop mongo first", "create mongo mongo-9", "create backend two"]
    assert server.hashes()["kafka"] == ["first"]


def test_a_service_that_the_release_does_not_have_is_removed(server: FakeServer) -> None:
    server.deployed("one", grafana={})
    server.release("two")
    assert server.switch("two").result == "ok"
    assert "grafana" not in server.hashes()


def test_without_memory_for_two_the_copy_is_replaced_in_place(server: FakeServer) -> None:
    server.deployed("one")
    server.free_mb = 120
    server.release("two")
    assert server.switch("two").result == "ok"
    assert changes(server.log)[:2] == ["stop backend one", "create backend two"]
    assert server.outages == ["backend", "frontend"]
    assert "in its place: there is no memory for two" in server.told()


def test_the_old_copies_serve_again_at_once_where_a_worker_fails(server: FakeServer) -> None:
    server.deployed("one")
    old = server.ids("backend", "frontend")
    server.release("two", k8s_worker={"hash": "two", "dies_after": 1})
    outcome = server.switch("two")
    assert outcome.result == "rolled_back", outcome
    assert server.ids("backend", "frontend") == old
    assert server.unharmed(), (server.outages, server.cut, server.to_nobody)


def test_memory_that_an_old_copy_holds_is_given_to_the_next_second_one(server: FakeServer) -> None:
    server.deployed("one", backend={"hash": "one", "memory": 700}, frontend={"hash": "one", "memory": 128})
    server.release("two", backend={"hash": "two", "memory": 700}, frontend={"hash": "two", "memory": 128})
    # room for one second copy, as the engine would count it
    server.free_mb = 800
    server.before_call = lambda _: setattr(server, "free_mb", 800 if len(server.running("backend")) == 1 else 100)
    assert server.switch("two").result == "ok"
    assert server.outages == []
    assert changes(server.log)[:3] == ["create backend two", "stop backend one", "create frontend two"]


def test_the_room_for_a_second_copy_is_its_own_limit(server: FakeServer) -> None:
    server.deployed("one", backend={"hash": "one", "memory": 700})
    server.free_mb = 400
    server.release("two", backend={"hash": "two", "memory": 700})
    assert server.switch("two").result == "ok"
    assert server.outages == ["backend"]


def test_workers_go_in_groups_of_the_asked_size(server: FakeServer) -> None:
    server.deployed("one")
    server.release("two")
    server.switch("two", workers_at_once=3)
    assert "group 1 of 1: k8s-worker, pod-monitor, result-processor" in server.told()
    server.release("three")
    server.switch("three", workers_at_once=1)
    assert "group 3 of 3: result-processor" in server.told()


@pytest.mark.parametrize(("processors", "seconds"), [(2, 12), (8, 2)])
def test_workers_have_loaded_before_the_next_ones_do(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, processors: int, seconds: int
) -> None:
    server.deployed("one")
    server.release("two")
    monkeypatch.setattr(rolling.os, "cpu_count", lambda: processors)
    # each takes half a processor for twelve seconds, as two on a busy machine do
    monkeypatch.setattr(
        rolling,
        "processor_seconds",
        lambda one: min(server.clock.time() - one.live.started, 12.0) / 2,
    )
    began = server.clock.monotonic()
    assert server.switch("two", workers_at_once=2).result == "ok"
    started = [server.running(name)[0].started for name in ("k8s-worker", "result-processor", "coordinator")]
    gaps = [later - earlier for earlier, later in itertools.pairwise(started)]
    assert all(seconds <= gap < seconds + 4 for gap in gaps), gaps
    assert server.clock.monotonic() - began < 120


def test_a_worker_that_is_busy_for_good_holds_nothing_up(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.deployed("one")
    server.release("two")
    monkeypatch.setattr(rolling.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(rolling, "processor_seconds", lambda _: server.clock.time())
    began = server.clock.monotonic()
    assert server.switch("two", workers_at_once=4).result == "ok"
    assert server.clock.monotonic() - began < 2 * rolling.LOADING_SECONDS + 45


def test_the_processor_of_a_container_is_read_from_its_process() -> None:
    now = SimpleNamespace(attrs={"State": {"Pid": os.getpid()}})
    before = rolling.processor_seconds(now)
    assert before > 0
    assert rolling.processor_seconds(SimpleNamespace(attrs={"State": {}})) == 0


def test_the_coordinator_waits_for_executions(server: FakeServer) -> None:
    server.deployed("one")
    server.executions = {"e1": server.clock.time() + 25}
    server.release("two")
    outcome = server.switch("two", executions_wait_seconds=60)
    assert (outcome.result, outcome.lost) == ("ok", [])
    assert server.clock.time() > server.executions["e1"]
    assert changes(server.log)[-2:] == ["stop coordinator one", "create coordinator two"]


def test_without_a_backend_the_rest_is_still_replaced_in_order(server: FakeServer) -> None:
    server.deployed("one")
    server.remove(server.running("backend")[0])
    server.executions = {"e1": server.clock.time() + 25}
    server.release("two")
    outcome = server.switch("two", executions_wait_seconds=60)
    assert (outcome.result, outcome.lost) == ("ok", [])
    done = changes(server.log)
    assert done[:2] == ["create backend two", "create frontend two"]
    # once its executions have ended
    assert done[-2:] == ["stop coordinator one", "create coordinator two"]
    assert server.clock.time() > server.executions["e1"]
    assert "starting the application" not in server.told()


def test_where_nothing_of_the_application_runs_it_is_started_at_once(server: FakeServer) -> None:
    server.deployed("one")
    for live in server.containers_now:
        if live.service in ("backend", "frontend", *WORKERS):
            live.status = "exited"
    server.release("two")
    assert server.switch("two").result == "ok"
    assert "starting the application" in server.told()


def test_what_is_lost_when_the_wait_is_over_is_named(server: FakeServer) -> None:
    server.deployed("one")
    server.executions = {"e1": server.clock.time() + 9999, "e2": server.clock.time()}
    server.release("two")
    outcome = server.switch("two", executions_wait_seconds=4)
    assert (outcome.result, outcome.lost) == ("ok", ["e1"])
    assert "Executions that were queued or running and are lost: e1." in outcome.sentences
    assert server.history()[-1]["lost_executions"] == ["e1"]


def test_what_was_lost_once_is_not_waited_for_nor_named_again(server: FakeServer) -> None:
    server.deployed("one")
    # the application leaves it queued in its database for ever
    server.executions = {"e1": server.clock.time() + 9999}
    server.release("two")
    assert server.switch("two", executions_wait_seconds=4).lost == ["e1"]
    server.release("three")
    began = server.clock.time()
    assert server.switch("three", executions_wait_seconds=500).lost == []
    assert server.clock.time() - began < 500


def test_a_database_that_cannot_be_asked_is_told_without_its_password(server: FakeServer) -> None:
    server.deployed("one")
    server.executions = None
    server.release("two")
    assert server.switch("two").result == "ok"
    assert "the executions cannot be counted: pymongo.errors" in server.told()
    assert "secret" not in server.told()


def test_users_passwords_are_set_when_they_are_new_and_only_then(server: FakeServer) -> None:
    server.passwords("a")
    server.deployed("one")
    assert (server.base / "secrets/seeded").read_text().strip().endswith("secrets/a/user_passwords.json")
    server.release("two")
    server.switch("two")
    assert "seed" not in server.log
    server.passwords("b")
    server.switch("two")
    assert server.log.count("seed") == 1


def test_the_edge_gets_its_configuration_without_being_replaced(server: FakeServer) -> None:
    server.deployed("one")
    pid, edge = server.edge.pid, server.ids("edge")
    server.release("two", edge="another edge\n")
    assert server.switch("two").result == "ok"
    assert (server.edge.loaded, server.edge.pid, server.ids("edge")) == ("another edge\n", pid + 1, edge)
    assert server.unharmed()
    assert not (server.base / "edge/run/servers.state").exists()


def test_programs_load_certificates_that_are_newer(server: FakeServer) -> None:
    server.deployed("one")
    server.clock.pass_by(5)
    server.renew("tls/internal/frontend/server.crt")
    assert server.switch("one").result == "ok"
    assert server.log == ["SIGHUP frontend"]
    server.switch("one")
    assert server.log == ["SIGHUP frontend"]


@pytest.mark.parametrize(("free_mb", "beside"), [(10_000, True), (50, False)])
def test_a_backend_with_an_older_certificate_is_replaced(server: FakeServer, free_mb: int, *, beside: bool) -> None:
    server.deployed("one")
    server.clock.pass_by(5)
    server.free_mb = free_mb
    server.renew("tls/internal/backend/server.crt")
    assert server.switch("one").result == "ok"
    # never by a signal: its workers would be gone while the new ones load the application
    assert "SIGHUP backend" not in server.log
    steps = ["create backend one", "stop backend one"]
    assert changes(server.log) == (steps if beside else steps[::-1])
    assert server.unharmed() == beside
    assert len(server.running("backend")) == 1
    server.log.clear()
    assert server.switch("one").result == "ok"
    assert changes(server.log) == []


def test_a_worker_with_an_older_kubeconfig_is_restarted_and_watched(server: FakeServer) -> None:
    (server.base / "kubeconfig").mkdir()
    server.renew("kubeconfig/k8s-worker.yaml")
    server.clock.pass_by(5)
    server.deployed("one")
    server.clock.pass_by(100)
    server.renew("kubeconfig/k8s-worker.yaml")
    began = server.clock.monotonic()
    assert server.switch("one", stable_seconds=30).result == "ok"
    assert server.log == ["restart k8s-worker"]
    assert 30 <= server.clock.monotonic() - began < 40


def test_data_is_dumped_before_anything_changes(server: FakeServer) -> None:
    server.release("one")
    server.switch("one", backup_before=True)
    assert server.backups == []  # a first deploy has no data
    server.release("two")
    outcome = server.switch("two", backup_before=True, backup_directory="/backups")
    assert server.backups == ["/backups"]
    assert "The data before it: /backups/dump" in outcome.sentences


def test_an_edge_loads_its_new_configuration_although_the_clock_was_set_back(server: FakeServer) -> None:
    server.deployed("one")
    edge = server.running("edge")[0]
    edge.started += 3600
    edge.spec["healthy_after"] = -3600
    server.release("two", edge="another edge\n")
    assert server.switch("two").result == "ok"
    assert server.edge.loaded == "another edge\n"
    assert server.log.count("SIGUSR2 edge") == 1


@pytest.mark.parametrize("lost", ["releases/one/release.json", "current", "current history.jsonl"])
def test_data_are_dumped_too_where_nobody_knows_what_ran(server: FakeServer, lost: str) -> None:
    server.deployed("one")
    for name in lost.split():
        (server.base / name).unlink()
    server.release("two")
    assert server.switch("two", backup_before=True).result == "ok"
    assert len(server.backups) == 1


def test_data_that_nothing_can_dump_are_not_left_undumped(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise BackupError("MongoDB does not run")

    server.deployed("one")
    (server.base / "current").unlink()
    server.compose_down({}, ["--remove-orphans"])
    monkeypatch.setattr(switch.application, "create", away)
    server.release("two")
    outcome = server.switch("two", backup_before=True)
    assert (outcome.result, outcome.cause) == ("refused", "the backup before the deploy failed: MongoDB does not run")


# -- refused: nothing that runs is changed


def refused(server: FakeServer, outcome: Any, *, ids: set[int]) -> None:
    assert outcome.result == "refused"
    assert outcome.sentences[0] == "Nothing that runs was changed."
    assert server.ids() == ids
    assert changes(server.log) == []
    assert unlocked(server)
    assert [entry["result"] for entry in server.history()] == ["ok"] * len(server.history())


def test_a_release_that_does_not_fit_is_refused(server: FakeServer) -> None:
    server.deployed("one")
    server.release("two")
    server.failing["run --rm --no-deps --no-TTY --volume"] = "run_coordinator.py is missing"
    outcome = server.switch("two")
    refused(server, outcome, ids=server.ids())
    assert outcome.release == "one"
    assert outcome.cause == "release two does not fit: run_coordinator.py is missing"
    assert outcome.sentences[2] == "Release one serves on."
    assert server.current == "one"
    # its images were pulled and its files written before
    assert f"its images, and its files in {server.base}/releases/two." in outcome.sentences[3]
    assert "once more than 5 releases are kept" in outcome.sentences[3]


@pytest.mark.parametrize(("keep", "told"), [(3, 3), (1, 2)])
def test_what_a_refused_deploy_leaves_goes_as_it_is_told(server: FakeServer, keep: int, told: int) -> None:
    server.deployed("one")
    server.release("bad")
    server.failing["run --rm --no-deps --no-TTY --volume"] = "no"
    outcome = server.switch("bad", keep_releases=keep)
    assert f"once more than {told} releases are kept; one that never served goes first." in outcome.sentences[-1]
    server.failing.clear()
    for name in ("two", "three")[: told - 1]:
        assert (server.base / "releases/bad").exists()
        server.release(name)
        assert server.switch(name, keep_releases=keep).result == "ok"
    assert not (server.base / "releases/bad").exists()
    assert (server.base / "releases/one").exists()


def test_a_refusal_of_what_was_there_before_says_nothing_of_leftovers(server: FakeServer) -> None:
    server.deployed("one")
    server.deployed("two")
    server.failing["run --rm --no-deps --no-TTY --volume"] = "no"
    # so that the same release has something to replace
    server.running("backend")[0].status = "exited"
    for name, action in (("one", "rollback"), ("two", "deploy")):
        outcome = server.switch(name, action)
        refused(server, outcome, ids=server.ids())
        assert outcome.sentences[-1] == "Release two serves on."


def test_a_refused_first_deploy_leaves_not_even_a_network(server: FakeServer) -> None:
    server.release("one")
    server.failing["run --rm --no-deps --no-TTY --volume"] = "no"
    outcome = server.switch("one")
    refused(server, outcome, ids=set())
    assert server.log == ["down"]
    assert outcome.sentences[2] == "Nothing was deployed before."


def test_a_release_that_is_not_there_is_refused(server: FakeServer) -> None:
    server.deployed("one")
    outcome = server.switch("two")
    refused(server, outcome, ids=server.ids())
    assert "kept: one" in outcome.cause
    assert outcome.sentences[-1] == "Release one serves on."


def test_a_dump_that_fails_stops_the_deploy(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.deployed("one")
    server.release("two")

    def full(*_: Any, **__: Any) -> None:
        raise BackupError("no space left")

    monkeypatch.setattr(switch.application, "create", full)
    outcome = server.switch("two", backup_before=True)
    refused(server, outcome, ids=server.ids())
    assert outcome.cause == "the backup before the deploy failed: no space left"


def test_who_has_lost_the_lock_changes_nothing(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.deployed("one")
    server.release("two")

    def lost(*_: Any, **__: Any) -> None:
        raise LockedError("Nothing was changed. Another run has it.")

    monkeypatch.setattr(lock, "beat", lost)
    outcome = server.switch("two")
    assert outcome.sentences[:2] == ["Nothing that runs was changed.", "Another run has it."]
    assert changes(server.log) == []


# -- back


def undone(server: FakeServer, outcome: Any, why: str) -> None:
    assert outcome.result == "rolled_back", outcome
    assert why in outcome.cause
    assert outcome.release == "one"
    assert server.current == "one"
    assert outcome.sentences[0].startswith("Deploy of release two failed: ")
    assert outcome.sentences[1] == "Release one was put back and serves."
    assert {name: found for name, found in server.hashes().items() if name in ("backend", "frontend", *WORKERS)} == {
        name: ["one"] for name in ("backend", "frontend", *WORKERS)
    }
    entry = server.history()[-1]
    assert (entry["result"], entry["release"], entry["serving"]) == ("rolled_back", "two", "one")
    assert why.splitlines()[0] in entry["message"]
    assert unlocked(server)


def test_a_backend_that_never_gets_healthy_is_taken_back_and_the_old_one_was_never_gone(server: FakeServer) -> None:
    server.deployed("one")
    kept = server.ids()
    server.release("two", backend=NEVER_HEALTHY)
    began = server.clock.monotonic()
    outcome = server.switch("two", healthy_timeout_seconds=60)
    undone(server, outcome, "after 60 s backend is not healthy yet.\nLast lines of integr8scode-backend")
    assert server.ids() == kept
    assert server.unharmed()
    decided = next(json.loads(line) for line in server.told().splitlines() if '"decision"' in line)
    assert decided["seconds"] < 65
    assert server.clock.monotonic() - began < 100


def test_restarts_of_long_ago_do_not_keep_a_release_from_being_put_back(server: FakeServer) -> None:
    server.deployed("one")
    for live in server.containers_now:
        live.restarts = 3
    server.release("two", backend=NEVER_HEALTHY)
    undone(server, server.switch("two"), "backend is not healthy yet")


def test_a_frontend_that_dies_at_once_is_taken_back(server: FakeServer) -> None:
    server.deployed("one")
    server.release("two", frontend={"hash": "two", "dies_after": 0.5})
    undone(server, server.switch("two"), "the new frontend has ended, and Docker started it again")
    assert server.unharmed()


def test_a_worker_that_dies_at_once_is_taken_back_before_the_next_group(server: FakeServer) -> None:
    server.deployed("one")
    server.release("two", k8s_worker={"hash": "two", "dies_after": 2})
    undone(server, server.switch("two"), "the new k8s-worker")
    assert not any("result-processor" in line for line in changes(server.log))


@pytest.mark.parametrize("stable", [30, 60])
def test_a_worker_that_dies_after_a_while_is_taken_back(server: FakeServer, stable: float) -> None:
    server.deployed("one")
    server.release("two", result_processor={"hash": "two", "dies_after": 20})
    undone(server, server.switch("two", stable_seconds=stable), "restarted 1 time(s) while it was watched")


def test_one_that_died_before_it_was_watched_counts_too(server: FakeServer) -> None:
    server.deployed("one")
    server.executions = {"e1": server.clock.time() + 60}
    server.release("two", k8s_worker={"hash": "two", "dies_after": 25})
    undone(server, server.switch("two", executions_wait_seconds=60, stable_seconds=5), "k8s-worker restarted")


def test_where_nothing_is_watched_no_restart_counts(server: FakeServer) -> None:
    server.deployed("one")
    server.executions = {"e1": server.clock.time() + 60}
    server.release("two", k8s_worker={"hash": "two", "dies_after": 25})
    assert server.switch("two", executions_wait_seconds=60, stable_seconds=0).result == "ok"


def test_a_container_that_was_not_touched_may_have_restarted_before_it_was_watched(server: FakeServer) -> None:
    server.deployed("one")
    for live in server.running("kafka"):
        live.restarts = 2
    server.release("two")
    assert server.switch("two").result == "ok"


@pytest.mark.parametrize(
    ("fails", "why"),
    [
        ("--no-recreate --scale backend=2", "no such image"),
        ("up --detach --no-build --pull never k8s-worker pod-monitor", "disk full"),
        ("up --detach --no-build --pull never coordinator", "disk full"),
    ],
)
def test_a_compose_that_fails_is_taken_back(server: FakeServer, fails: str, why: str) -> None:
    server.deployed("one")
    server.release("two")
    server.failing[f"{fails}"] = why

    def mended(what: str) -> None:
        # it fails forward only
        if "undo:" in server.told():
            server.failing.clear()

    server.before_call = mended
    undone(server, server.switch("two"), why)


def test_infrastructure_that_does_not_come_up_is_put_back(server: FakeServer) -> None:
    server.deployed("one")
    server.release("two", mongo={"hash": "mongo-9", "healthy_after": None})
    undone(server, server.switch("two"), "mongo is not healthy yet")
    assert server.hashes()["mongo"] == ["first"]


def test_an_edge_configuration_that_haproxy_refuses_changes_nothing_of_it(server: FakeServer) -> None:
    server.deployed("one")
    pid = server.edge.pid
    server.release("two", edge="BROKEN\n")
    undone(server, server.switch("two"), "HAProxy refuses the edge's configuration")
    assert (server.edge.pid, (server.base / "edge/haproxy.cfg").read_text()) == (pid, "the edge\n")
    assert not (server.base / "edge/.trial.cfg").exists()


def test_an_edge_configuration_that_is_not_loaded_is_put_back(server: FakeServer) -> None:
    server.deployed("one")
    server.release("two", edge="WILL NOT LOAD\n")
    undone(server, server.switch("two"), "did not load its new configuration")
    assert (server.edge.loaded, (server.base / "edge/haproxy.cfg").read_text()) == ("the edge\n", "the edge\n")
    assert not (server.base / "edge/run/servers.state").exists()


def test_a_service_that_was_removed_comes_back(server: FakeServer) -> None:
    server.deployed("one", grafana={})
    server.release("two")
    server.missing_groups = {"k8s-worker"}
    server.before_call = lambda _: server.missing_groups.clear() if "undo:" in server.told() else None
    undone(server, server.switch("two"), "no consumer group k8s-worker in Kafka")
    assert server.hashes()["grafana"] == ["one"]


def test_a_service_that_is_new_goes_again(server: FakeServer) -> None:
    server.deployed("one")
    server.release("two", grafana={}, result_processor={"hash": "two", "dies_after": 20})
    undone(server, server.switch("two"), "result-processor restarted")
    assert "grafana" not in server.hashes()


@pytest.mark.parametrize("how", [{"healthy_after": None}, {"unhealthy_after": 5}])
def test_what_is_beside_the_application_takes_no_good_release_back(server: FakeServer, how: dict[str, Any]) -> None:
    server.deployed("one")
    server.release("two", grafana=how)
    outcome = server.switch("two")
    assert outcome.result == "ok"
    assert "The application does not need it" in " ".join(outcome.sentences)


def test_a_restart_of_what_is_beside_the_application_does_not_count(server: FakeServer) -> None:
    server.deployed("one")
    server.release("two", grafana={"dies_after": 15})
    assert server.switch("two").result == "ok"


def test_that_it_cannot_even_be_started_is_told(server: FakeServer) -> None:
    server.deployed("one")
    server.release("two", grafana={})
    server.failing["up --detach --no-build --pull never grafana"] = "port is already allocated"
    outcome = server.switch("two")
    assert outcome.result == "ok"
    assert "grafana has no container" in " ".join(outcome.sentences)
    assert "port is already allocated" in server.told()


def test_passwords_that_cannot_be_set_are_not_set_by_the_way_back_either(server: FakeServer) -> None:
    server.deployed("one")
    server.passwords("a")
    server.release("two")
    server.failing["user-seed"] = "the seed fails"
    undone(server, server.switch("two"), "the seed fails")


@pytest.mark.parametrize("what", ["/", "/api/v1/health/live", "login"])
def test_a_wrong_answer_through_the_edge_is_taken_back(server: FakeServer, what: str) -> None:
    server.passwords("a")
    server.deployed("one")
    server.release("two")
    server.answers[what] = 500
    server.before_call = lambda _: server.answers.clear() if "undo:" in server.told() else None
    undone(server, server.switch("two", healthy_timeout_seconds=20), "through the edge: HTTP status 500")


def test_kubernetes_out_of_reach_is_taken_back(server: FakeServer) -> None:
    server.deployed("one")
    server.release("two")
    server.reports = [{"worker": "k8s-worker", "fatal": {"kind": "connect", "message": "refused"}, "results": []}]
    server.before_call = lambda _: server.reports.clear() if "undo:" in server.told() else None
    outcome = server.switch("two", kubernetes={"namespace": "integr8scode"})
    undone(server, outcome, "k8s-worker: connect: refused")


def test_a_k3s_that_is_started_again_takes_no_good_release_back(server: FakeServer) -> None:
    server.deployed("one")
    server.release("two")
    server.reports = [{"worker": "k8s-worker", "fatal": {"kind": "connect", "message": "refused"}, "results": []}]
    asked: list[float] = []

    def back(what: str) -> None:
        if what == "kubernetes":
            asked.append(server.clock.time())
            if server.clock.time() - asked[0] > 30:
                server.reports.clear()

    server.before_call = back
    outcome = server.switch("two", kubernetes={"namespace": "integr8scode"})
    assert (outcome.result, outcome.sentences) == ("ok", ["Release two serves."])


def test_a_kubernetes_that_stays_away_does_not_spoil_the_way_back(server: FakeServer) -> None:
    server.deployed("one")
    server.release("two")
    server.reports = [{"worker": "k8s-worker", "fatal": {"kind": "connect", "message": "refused"}, "results": []}]
    outcome = server.switch("two", kubernetes={"namespace": "integr8scode"})
    undone(server, outcome, "k8s-worker: connect: refused")
    assert outcome.sentences[2].startswith("The workers cannot use Kubernetes, whatever the release: k8s-worker: ")


def test_a_container_whose_last_lines_the_locale_cannot_show_is_taken_back(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.deployed("one")
    server.release("two", backend=NEVER_HEALTHY)
    monkeypatch.setattr(Container, "logs", lambda *_, **__: "ready 🚀".encode())
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    undone(server, server.switch("two"), "ready 🚀")


def test_an_error_of_the_program_itself_is_taken_back(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.deployed("one")
    server.release("two")
    monkeypatch.setattr(switch.Verifier, "log_in", lambda *_, **__: {}["nothing"])
    outcome = server.switch("two")
    # the way back asks for a login too
    assert outcome.result == "failed"
    assert "an error of its own: KeyError: 'nothing'" in outcome.cause
    assert unlocked(server)


def test_what_the_way_back_loses_is_named(server: FakeServer) -> None:
    server.deployed("one")
    server.release("two", coordinator={"hash": "two", "dies_after": 10})
    server.executions = {"e1": server.clock.time() + 9999}
    outcome = server.switch("two", executions_wait_seconds=2)
    undone(server, outcome, "coordinator restarted")
    assert outcome.lost == ["e1"]
    assert "Executions that were queued or running and are lost: e1." in outcome.sentences
    assert server.history()[-1]["lost_executions"] == ["e1"]


def test_secrets_that_changed_meanwhile_are_no_reason_to_touch_more_on_the_way_back(server: FakeServer) -> None:
    server.deployed("one")
    # new secrets: the same release is another definition for k8s-worker, which this switch does not reach
    path = server.base / "releases/one/docker-compose.yaml"
    services = json.loads(path.read_text())
    services["services"]["k8s-worker"]["hash"] = "one-with-new-secrets"
    path.write_text(json.dumps(services))
    worker = server.ids("k8s-worker")
    server.release("two", backend=NEVER_HEALTHY)
    undone(server, server.switch("two"), "backend is not healthy yet")
    assert server.ids("k8s-worker") == worker


def test_a_failed_first_deploy_leaves_nothing_running(server: FakeServer) -> None:
    server.release("one", backend={"hash": "one", "healthy_after": None})
    outcome = server.switch("one")
    assert (outcome.result, outcome.release) == ("removed", "")
    assert server.containers_now == []
    assert server.log[-1].startswith("stop") or server.log[-1] == "down"
    assert server.current == ""
    assert "It was the first deploy" in outcome.sentences[1]
    assert server.history()[-1]["result"] == "removed"
    assert unlocked(server)


def test_where_current_leads_nowhere_nothing_that_serves_is_taken_down(server: FakeServer) -> None:
    server.deployed("one")
    (server.base / "releases/one/release.json").unlink()
    server.release("two", backend=NEVER_HEALTHY)
    outcome = server.switch("two")
    assert outcome.result == "failed"
    assert "down" not in server.log
    assert server.outages == []
    assert "leads to no complete release" in outcome.sentences[1]


def test_what_served_is_put_back_without_its_record(server: FakeServer) -> None:
    server.deployed("one")
    folder = server.base / "releases/one"
    images = json.loads((folder / "release.json").read_text())["images"]
    services = {name: {"image": image} for name, image in images.items()}
    (folder / "digests.yaml").write_text(json.dumps({"services": services}))
    (folder / "release.json").write_text("")
    server.release("two", backend=NEVER_HEALTHY)
    undone(server, server.switch("two"), "backend is not healthy yet")
    assert server.unharmed()


def test_a_current_that_was_removed_takes_nothing_down_that_serves(server: FakeServer) -> None:
    server.deployed("one")
    (server.base / "current").unlink()
    server.release("two", backend=NEVER_HEALTHY)
    outcome = server.switch("two")
    assert outcome.result == "failed"
    assert "down" not in server.log
    assert server.outages == []
    assert f"{server.base}/current is gone" in outcome.sentences[1]
    assert "What runs was left as it is." in outcome.sentences[2]
    # and the next good one is shipped as ever
    server.release("three")
    assert server.switch("three").result == "ok"
    assert server.current == "three"


def test_a_history_that_cannot_be_read_takes_nothing_down_either(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_: Any) -> None:
        raise OSError("Input/output error")

    server.release("one", backend={"hash": "one", "healthy_after": None})
    monkeypatch.setattr(switch, "read_history", unreadable)
    assert server.switch("one").result == "failed"
    assert "down" not in server.log


def test_a_current_that_is_no_link_is_refused_before_anything_is_done(server: FakeServer) -> None:
    server.deployed("one")
    (server.base / "current").unlink()
    shutil.copytree(server.base / "releases/one", server.base / "current")
    server.release("two")
    outcome = server.switch("two")
    assert outcome.result == "refused"
    assert server.log == []
    assert outcome.sentences[0] == "Nothing that runs was changed."
    link = f"ln -s releases/ID {server.base}/current, where ID is the folder in {server.base}/releases that runs"
    assert f"mv {server.base}/current {server.base}/current.copy && {link}" in outcome.cause
    assert outcome.sentences[2] == "What runs was left as it is."


def test_the_same_release_that_fails_has_nothing_to_go_back_to(server: FakeServer) -> None:
    server.deployed("one")
    live = server.running("k8s-worker")[0]
    live.spec["dies_after"] = 3600
    live.status = "exited"
    server.failing["never k8s-worker"] = "no space left"
    outcome = server.switch("one")
    assert (outcome.result, outcome.release) == ("failed", "one")
    assert "there is no other to put back: one" in outcome.sentences[1]


def test_an_undo_that_fails_too_is_told_with_both_causes_and_a_cure(server: FakeServer) -> None:
    server.deployed("one")
    server.release("two", k8s_worker={"hash": "two", "dies_after": 1})
    server.before_call = lambda what: server.failing.update(
        {"k8s-worker": "the disk is full"} if "logs" in what else {}
    )
    outcome = server.switch("two")
    assert outcome.result == "failed"
    assert "the new k8s-worker" in outcome.cause
    assert "after that: `docker compose up` failed with exit code 1: the disk is full" in outcome.cause
    assert "Putting back what served before failed too: " in outcome.sentences[1]
    assert outcome.sentences[2].endswith("ansible-playbook deploy.yml -e tag=one")
    assert server.history()[-1]["result"] == "failed"
    assert unlocked(server)


# -- what is away, slow or full


def test_an_engine_that_is_away_for_a_while_is_waited_for(server: FakeServer) -> None:
    server.deployed("one")
    server.release("two")
    gone: list[str] = []

    def away(what: str) -> None:
        # when the drained copy is stopped
        if what == "stop backend" and not gone:
            gone.append(what)
            server.engine_back_at = server.clock.time() + 20

    server.before_call = away
    assert server.switch("two").result == "ok"
    assert gone
    assert server.unharmed()


def test_an_engine_that_dies_with_a_removal_is_no_failure(server: FakeServer) -> None:
    server.deployed("one")
    server.release("two")
    gone: list[str] = []

    def away(what: str) -> None:
        # the container is gone, and so is the answer that says so
        if what == "removed" and not gone:
            gone.append(what)
            server.engine_back_at = server.clock.time() + 5
            server.engine("answer")

    server.before_call = away
    assert server.switch("two").result == "ok"
    assert gone


def test_an_engine_that_stays_away_is_told(server: FakeServer) -> None:
    server.deployed("one")
    server.release("two")
    server.before_call = lambda what: setattr(server, "engine_back_at", 2**40) if what == "stop backend" else None
    outcome = server.switch("two")
    assert outcome.result == "failed"
    assert "the Docker Engine has been away for 90 s" in outcome.cause
    assert unlocked(server)


def test_an_engine_that_is_away_from_the_beginning_changes_nothing(server: FakeServer) -> None:
    server.release("one")
    server.engine_back_at = 2**40
    outcome = server.switch("one")
    assert outcome.result == "refused"
    assert "the Docker Engine has been away for 90 s" in outcome.cause
    assert unlocked(server)


def test_a_full_disk_under_the_record_stops_nothing(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.deployed("one")
    server.release("two")
    opened = Path.open

    def full(path: Path, *arguments: Any, **more: Any) -> Any:
        if path.name == "progress.jsonl":
            raise OSError("No space left on device")
        return opened(path, *arguments, **more)

    monkeypatch.setattr(Path, "open", full)
    assert server.switch("two").result == "ok"


def test_a_lock_that_cannot_be_given_back_does_not_hide_how_it_ended(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.release("one")

    def broken(*_: Any) -> None:
        raise LockedError("it cannot be understood")

    monkeypatch.setattr(lock, "release", broken)
    outcome = server.switch("one")
    assert outcome.result == "ok"
    assert "The lock could not be given back: it cannot be understood" in outcome.sentences


def test_a_history_that_cannot_be_written_does_not_hide_how_it_ended(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.release("one")

    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(switch, "append_history", full)
    assert server.switch("one").result == "ok"
    assert "No space left on device" in server.told()


def test_what_cannot_be_pruned_is_noted(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.release("one")

    def stuck(*_: Any) -> None:
        raise OSError("busy")

    monkeypatch.setattr(switch, "prune", stuck)
    outcome = server.switch("one")
    assert outcome.result == "ok"
    assert any("busy" in sentence for sentence in outcome.sentences)


def test_a_refused_login_is_noted(server: FakeServer) -> None:
    server.passwords("a")
    server.deployed("one")
    server.answers["login"] = 401
    server.release("two")
    outcome = server.switch("two")
    assert outcome.result == "ok"
    assert any("the login as user was answered with 401" in sentence for sentence in outcome.sentences)


def test_a_refused_login_after_the_password_was_set_is_a_failure(server: FakeServer) -> None:
    server.deployed("one")
    server.passwords("a")
    server.answers["login"] = 401
    server.release("two")
    undone(server, server.switch("two"), "although user-seed has just set this password")


@pytest.mark.parametrize("status", [423, 429])
def test_a_login_that_is_held_back_right_after_the_seed_is_no_reason_to_go_back(
    server: FakeServer, status: int
) -> None:
    server.deployed("one")
    server.passwords("a")
    server.answers["login"] = status
    server.release("two")
    outcome = server.switch("two", healthy_timeout_seconds=300)
    assert outcome.result == "ok", outcome
    assert any(f"answered with {status} to the end" in sentence for sentence in outcome.sentences)


def test_what_a_limiter_takes_is_not_taken_from_the_other_checks(server: FakeServer) -> None:
    server.deployed("one")
    server.passwords("a")
    server.answers["login"], server.retry_after = 429, 20.0
    server.release("two")
    # it joins while the login is waited for, were that first
    server.missing_groups = {"k8s-worker"}
    began: list[float] = []

    def joins(what: str) -> None:
        if what == "exec kafka":
            began.append(server.clock.time())
            if server.clock.time() - began[0] > 15:
                server.missing_groups.clear()

    server.before_call = joins
    assert server.switch("two", healthy_timeout_seconds=30, stable_seconds=0).result == "ok"


def test_the_outcome_knows_what_is_good() -> None:
    assert [switch.Outcome(result, "").good for result in ("ok", "unchanged", "rolled_back", "failed")] == [
        True,
        True,
        False,
        False,
    ]
    assert SimpleNamespace(**switch.Outcome("ok", "one").__dict__).lost == []


# -- releases with other services


@pytest.mark.parametrize("lists", [True, False])
def test_a_bad_release_with_a_new_service_is_taken_back(server: FakeServer, lists: bool) -> None:
    """Its secrets are there before it serves; the release that is put back does not have it."""
    server.deployed("one", lists=lists)
    if not lists:
        # what the module release_files does with a release that names the newest mounts itself
        give_own_list(server.base / "releases/one", server.base / "secrets/current.yaml", READERS)
    server.secrets([*READERS, "scheduler"])
    server.release("two", scheduler={"profiles": []}, backend={"healthy_after": None})
    outcome = server.switch("two", workers=[*WORKERS, "scheduler"], healthy_timeout_seconds=10)
    assert (outcome.result, outcome.release) == ("rolled_back", "one"), outcome
    assert "scheduler" not in server.hashes()
    assert server.unharmed()


def test_a_release_without_a_service_and_back(server: FakeServer) -> None:
    server.deployed("one")
    server.release("two", without=["coordinator"])
    today = [one for one in WORKERS if one != "coordinator"]
    assert server.switch("two", workers=today).result == "ok"
    assert "coordinator" not in server.hashes()
    outcome = server.switch("one", "rollback", workers=today)
    assert outcome.result == "ok", outcome
    assert server.hashes()["coordinator"] == ["one"]
    assert outcome.sentences == ["Release one serves."]


def test_a_worker_that_only_the_older_release_has_must_run_there(server: FakeServer) -> None:
    server.deployed("one")
    today = [one for one in WORKERS if one != "coordinator"]
    server.release("two", without=["coordinator"])
    server.switch("two", workers=today)
    # its secrets are gone: it ends at once
    server.secrets([one for one in READERS if one != "coordinator"])
    services = json.loads((server.base / "releases/one/secrets.yaml").read_text())["services"]
    del services["coordinator"]
    (server.base / "releases/one/secrets.yaml").write_text(json.dumps({"services": services}))
    outcome = server.switch("one", "rollback", workers=today, healthy_timeout_seconds=10)
    assert (outcome.result, outcome.release) == ("rolled_back", "two"), outcome
    assert "coordinator" in outcome.cause


def test_its_consumer_group_is_looked_for_where_the_release_names_it(server: FakeServer) -> None:
    server.deployed("one")
    record = json.loads((server.base / "releases/one/release.json").read_text())
    record["consumer_groups"] = ["execution-coordinator", "k8s-worker"]
    (server.base / "releases/one/release.json").write_text(json.dumps(record))
    today = [one for one in WORKERS if one != "coordinator"]
    server.release("two", without=["coordinator"])
    server.switch("two", workers=today)
    outcome = server.switch("one", "rollback", workers=today, healthy_timeout_seconds=10)
    assert outcome.result == "rolled_back"
    assert "no consumer group execution-coordinator" in outcome.cause


def test_without_a_way_back_nothing_is_changed(server: FakeServer) -> None:
    server.deployed("one", lists=False)
    server.secrets([*READERS, "scheduler"])
    server.release("two", scheduler={"profiles": []})
    outcome = server.switch("two", workers=[*WORKERS, "scheduler"])
    assert outcome.result == "refused"
    assert "release one serves, and could not be put back if two were no good" in outcome.cause
    assert 'service "scheduler" has neither an image nor a build context' in outcome.cause
    assert "Cure: " in outcome.cause
    assert server.log == []
    (server.base / "releases/one/release.json").unlink()
    assert server.switch("two", workers=[*WORKERS, "scheduler"]).result == "ok"


# -- networks and ports of another release

THERE = {
    "integr8scode": {"Subnet": "172.31.209.0/24"},
    "integr8scode_proxy": {"Subnet": "172.31.210.0/24", "IPRange": "172.31.210.128/25"},
}


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"STACK_SUBNET": "10.9.0.0/24"},
            "10.9.0.0/24, and the stack's network integr8scode has 172.31.209.0/24.",
        ),
        ({"PROXY_SUBNET": "10.9.1.0/24"}, "PROXY_SUBNET 10.9.1.0/24"),
        ({"PROXY_IP_RANGE": "172.31.210.64/26"}, "integr8scode_proxy has 172.31.210.128/25"),
        ({"EDGE_PROXY_ADDRESS": "10.9.1.2"}, "EDGE_PROXY_ADDRESS 10.9.1.2, which is not in"),
        ({"EDGE_PROXY_ADDRESS": "172.31.210.130"}, "or in its part 172.31.210.128/25"),
    ],
)
def test_a_release_for_other_networks_is_refused(server: FakeServer, environment: dict[str, str], said: str) -> None:
    server.networks_now = THERE
    server.deployed("one")
    server.release("two", environment=environment)
    outcome = server.switch("two", "rollback")
    assert (outcome.result, server.log) == ("refused", [])
    assert said in outcome.cause
    assert "docker compose down" in outcome.cause
    assert "deploy.yml -e tag=two" in outcome.cause
    server.networks_now = {}
    assert server.switch("two", "rollback").result == "ok"


def test_a_release_for_the_networks_that_are_there_is_not(server: FakeServer) -> None:
    server.networks_now = THERE
    same = {"STACK_SUBNET": "172.31.209.0/24", "PROXY_SUBNET": "172.31.210.0/24", "PROXY_IP_RANGE": "172.31.210.128/25"}
    server.deployed("one")
    server.release("two", environment={**same, "EDGE_PROXY_ADDRESS": "172.31.210.2"})
    assert server.switch("two", "rollback").result == "ok"


@pytest.mark.parametrize("published", [True, False])
def test_a_release_for_a_port_that_somebody_else_has_is_refused(server: FakeServer, published: bool) -> None:
    server.deployed("one")
    server.release("two", environment={"EDGE_ADMIN_PORT": "8500"})
    server.listeners = {"8500": {"name": "docker-proxy" if published else "nginx", "pid": 7}}
    server.published = {8500: "grafana"} if published else {}
    # the stack's own
    server.listeners["8443"] = {"name": "docker-proxy", "pid": 8}
    outcome = server.switch("two", "rollback")
    assert (outcome.result, server.log) == ("refused", [])
    who = "container grafana" if published else "nginx (pid 7)"
    assert f"release two publishes port 8500 (EDGE_ADMIN_PORT), which is taken by {who}. Cure: " in outcome.cause
    assert "8443" not in outcome.cause


def test_the_new_frontend_starts_with_the_backend_and_gets_nothing_before_its_turn(server: FakeServer) -> None:
    server.deployed("one")
    server.release("two", backend={"hash": "two", "healthy_after": 20.0})
    seen: set[tuple[str, ...]] = set()

    def look(_: str) -> None:
        if len(server.running("frontend")) == 2 and "the new backend" not in server.told():
            new = server.running("frontend")[1].address
            seen.update((slot.backend, slot.name) for slot in server.edge.slots if slot.up and slot.address == new)
            assert not any(slot.address == new for slot in server.edge.takes("frontend"))

    server.before_call = look
    assert server.switch("two").result == "ok"
    assert {backend for backend, _ in seen} == {"frontend", "frontend_streams"}
    assert server.unharmed()
    assert not any(slot.drained for slot in server.edge.slots)


def test_a_frontend_that_came_along_goes_with_a_backend_that_is_no_good(server: FakeServer) -> None:
    server.deployed("one")
    frontends = server.ids("frontend")
    server.release("two", backend={"hash": "two", "healthy_after": None})
    assert server.switch("two", healthy_timeout_seconds=20).result == "rolled_back"
    assert "create frontend two" in server.log
    assert server.ids("frontend") == frontends
    assert server.unharmed()
    assert not any(slot.drained for slot in server.edge.slots)


def test_the_frontend_waits_for_its_turn_where_there_is_no_memory_for_all(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.deployed("one")
    # a copy of each takes 100
    monkeypatch.setattr("ansible.module_utils.releases.rolling.available_megabytes", lambda: 200)
    server.release("two", backend={"hash": "two", "healthy_after": 5.0})
    assert server.switch("two").result == "ok"
    log = [line for line in server.log if line.startswith(("create backend", "create frontend", "drain backend"))]
    assert log.index("create frontend two") > log.index(next(line for line in log if line.startswith("drain backend")))
    assert server.unharmed()


def test_places_that_a_killed_switch_has_left_held_are_given_back(server: FakeServer) -> None:
    server.deployed("one")
    for slot in server.edge.slots:
        if slot.backend == "frontend" and not slot.address:
            slot.drained = 1.0
    assert server.switch("one").result == "ok"
    assert not any(slot.drained for slot in server.edge.slots)


def test_a_snapshot_asks_the_engine_once(server: FakeServer) -> None:
    server.deployed("one")
    asked: list[str] = []
    server.before_call = asked.append
    seen = Snapshot()
    assert [one.live.service for one in seen.of("backend")] == ["backend"]
    server.stop(server.running("frontend")[0])
    assert seen.of("frontend")[0].attrs["State"]["Status"] == "running"
    assert seen.of("nothing") == []
    assert asked.count("list") == 1


def test_the_run_and_the_history_say_the_same_seconds(server: FakeServer) -> None:
    server.release("one")
    outcome = server.switch("one")
    # the clock of the fake server goes on while the switch waits
    assert outcome.seconds >= 30
    assert server.history()[-1]["seconds"] == outcome.seconds
