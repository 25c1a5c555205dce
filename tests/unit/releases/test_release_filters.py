"""What playbooks for releases ask of their filters: what stands in the way, who waits, what happened where."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.plugins.filter import releases as filters

RUN = "20261129T080000Z-1a2b3c"


def kept(name: str, **more: Any) -> dict[str, Any]:
    tag = name.partition("-")[0]
    return {"id": name, "tag": tag, "created_at": name, "served_at": None, "missing": [], **more}


def state(**more: Any) -> dict[str, Any]:
    return {
        "release": {"id": "2026.2.20-b"},
        "releases": [
            kept("2026.2.21-d"),
            kept("2026.2.20-b", served_at="2026-02-20"),
            kept("2026.2.19-c", served_at="2026-02-18"),
            kept("2026.2.19-a", served_at="2026-02-19", missing=["r/backend:2026.2.19@sha256:aa"]),
        ],
        "rollback_target": "2026.2.19-a",
        "containers": {},
        "memory": {"available_bytes": 4 * 2**30},
        **more,
    }


@pytest.mark.parametrize(
    ("to", "chosen"),
    [
        ("", "2026.2.19-a"),
        ("2026.2.19-c", "2026.2.19-c"),
        # of one tag the release that served last
        ("2026.2.19", "2026.2.19-a"),
        ("2026.2.21", "2026.2.21-d"),
        # the running one, when there is no other of its tag
        ("2026.2.20", "2026.2.20-b"),
    ],
)
def test_a_rollback_goes_where_it_is_told(to: str, chosen: str) -> None:
    choice = filters.choose_rollback(state(), to)
    assert (choice["release"]["id"], choice["problem"]) == (chosen, "")


def test_a_tag_that_runs_means_its_other_release() -> None:
    releases = [kept("2026.2.20-b", served_at="2026-02-20"), kept("2026.2.20-a", served_at="2026-02-19")]
    assert filters.choose_rollback(state(releases=releases), "2026.2.20")["release"]["id"] == "2026.2.20-a"


@pytest.mark.parametrize(
    ("more", "to", "says"),
    [
        ({}, "2026.2.1", "2026.2.1 is not kept. To get it from the registry: ansible-playbook deploy.yml"),
        (
            {"rollback_target": None},
            "",
            "no release that served before 2026.2.20-b is kept. To ship another one: ansible-playbook deploy.yml",
        ),
        (
            {"rollback_target": None, "rollback_left": "2026.2.19-c"},
            "",
            "a rollback does not go forward again to 2026.2.19-c, which a rollback has left",
        ),
        ({"release": None}, "", "nothing is deployed here"),
    ],
)
def test_what_is_not_kept_is_refused_and_what_is_named(more: dict[str, Any], to: str, says: str) -> None:
    choice = filters.choose_rollback(state(**more), to)
    assert choice["release"] is None
    assert says in choice["problem"]
    running = [] if more.get("release", "?") else ["2026.2.20-b"]
    names = ", ".join([*running, "2026.2.19-c", "2026.2.19-a"])
    assert choice["problem"].endswith(f"Kept on this server of those that have served: {names}.")


def test_releases_that_could_run_at_once_are_those_whose_images_are_here() -> None:
    assert filters.complete_releases(state()) == ["2026.2.21-d", "2026.2.20-b", "2026.2.19-c"]
    assert filters.complete_releases({"releases": [kept("a", missing=None)]}) == []


def test_pinned_images_are_taken_apart() -> None:
    images = {"backend": "r:5000/b:1@sha256:aa", "user-seed": "r:5000/b:1@sha256:aa", "mongo": "mongo:8@sha256:bb"}
    assert filters.without_digest(images) == {"backend": "r:5000/b:1", "user-seed": "r:5000/b:1", "mongo": "mongo:8"}
    assert filters.locked_digests(images) == {"r:5000/b:1": "sha256:aa", "mongo:8": "sha256:bb"}


@pytest.mark.parametrize(
    ("service", "running", "wanted", "says"),
    [
        ("mongo", "docker.io/library/mongo:8.0.20@sha256:aa", "docker.io/library/mongo:8.0.21", ""),
        ("mongo", "docker.io/library/mongo:8.0.20", "docker.io/library/mongo:8.2.1", "mongo would go from 8.0 to 8.2"),
        ("mongo", "docker.io/library/mongo:8.0.20", "docker.io/library/mongo:7.0.1@sha256:b", "from 8.0 to 7.0"),
        ("kafka", "confluentinc/cp-kafka:7.8.2", "confluentinc/cp-kafka:7.9.0", ""),
        ("kafka", "confluentinc/cp-kafka:7.8.2", "confluentinc/cp-kafka:8.0.0", "kafka would go from 7 to 8"),
        # nothing is known of it
        ("mongo", "r/mongo:latest", "docker.io/library/mongo:8.2.1", ""),
        ("redis", "redis:7.4.9-alpine", "redis:8.0.0-alpine", ""),
    ],
)
def test_another_major_version_of_a_database_needs_a_dump(service: str, running: str, wanted: str, says: str) -> None:
    now = state(containers={service: [{"image": running}]})
    found = filters.major_problems(now, {service: wanted}, False)
    assert len(found) == bool(says)
    assert all(says in problem and "integr8scode_backup_before_deploy=true" in problem for problem in found)
    assert filters.major_problems(now, {service: wanted}, True) == []


def test_data_outlive_their_container() -> None:
    deployed = state(release={"id": "a", "images": {"mongo": "mongo:8.0.20@sha256:aa"}})
    (problem,) = filters.major_problems(deployed, {"mongo": "mongo:8.2.1"}, False)
    assert "mongo would go from 8.0 to 8.2" in problem
    assert filters.major_problems(deployed, {"mongo": "mongo:8.0.21"}, False) == []


def test_a_fresh_server_has_no_data_to_lose() -> None:
    assert filters.major_problems(state(), {"mongo": "mongo:8.0.20"}, False) == []


def test_too_little_memory_for_two_copies_is_said_before() -> None:
    running = {"backend": [{"memory_bytes": 768 * 2**20}], "frontend": [{"memory_bytes": 128 * 2**20}]}
    assert filters.memory_notes(state(containers=running)) == []
    (note,) = filters.memory_notes(state(containers=running, memory={"available_bytes": 700 * 2**20}))
    assert "700 MiB of memory are free, a second copy of backend may need 768" in note
    assert filters.memory_notes(state(memory={"available_bytes": 0})) == []


def test_servers_are_locked_in_one_order_until_they_are_done() -> None:
    variables = {"b": {}, "c": {"__integr8scode_done": RUN}, "a": {"__integr8scode_done": "another run"}}
    assert filters.hosts_not_done(["b", "c", "a"], variables, RUN) == ["a", "b"]


def test_a_server_that_got_out_of_reach_is_not_passed_over() -> None:
    done = {"a": {"__integr8scode_done": "r1"}, "b": {}, "c": {}, "d": {}}
    hosts = ["a", "b", "c", "d"]
    assert filters.lost_before(hosts, ["a"], done, "r1") == []
    assert filters.lost_before(hosts, ["b", "c"], done, "r1") == []
    assert filters.lost_before(hosts, ["d"], done, "r1") == ["b", "c"]
    assert filters.lost_before(hosts, ["b"], done, "r2") == ["a"]


def test_who_is_in_the_way_is_told_by_server() -> None:
    results = [
        {"item": "a", "owner": {"run": RUN}, "replaced": None},
        {"item": "b", "owner": {"run": "x"}, "locked": True, "msg": "Nothing was changed. Another run works here."},
        {"item": "c", "unreachable": True, "msg": "no route"},
        {"item": "d", "skipped": True},
    ]
    assert filters.lock_problems(results) == ["b: Another run works here.", "c: no route"]
    assert filters.lock_problems(results[:1]) == []


def test_a_lock_that_was_taken_over_is_named() -> None:
    old = {"action": "deploy", "what": "2026.2.19", "by": "ops@desk", "since": "2026-11-29T08:00:00Z"}
    (said,) = filters.replaced_locks([{"item": "a", "replaced": old}, {"item": "b", "replaced": None}])
    assert "a: the lock of deploy 2026.2.19 by ops@desk (since 2026-11-29T08:00:00Z) was left over; this run" in said
    # a deploy does not go on with it
    (said,) = filters.replaced_locks([{"item": "a", "replaced": {**old, "action": "restore"}}])
    assert said.endswith("was left over. That restore did not end, so the data may be incomplete: run it again.")


HELD = {
    "owner": {"run": RUN, "phase": "preparing"},
    "description": "deploy 2026.2.20 by ops@desk from desk holds the lock.",
    "stale": "",
}


SWITCHING = {**HELD, "owner": {"run": RUN, "phase": "switching"}}


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({"owner": None, "description": ""}, "app1: nobody holds the lock."),
        ({**HELD, "stale": "its process has ended"}, "That run is over: its process has ended."),
        ({**HELD, "owner": {"action": "restore"}, "stale": "ended"}, "the data may be incomplete: run it again."),
        ({**HELD, "holder_lives": True}, "Its process works on this machine"),
        ({**HELD, "holder_lives": None}, "Whether it lives is not known here: it began on another machine"),
        ({**SWITCHING, "holder_lives": False}, "The process that began it, on this machine, has ended"),
        ({**SWITCHING, "holder_lives": None}, "The server switches between releases at this moment, by itself"),
        ({**SWITCHING, "holder_lives": True}, "The process that began it works on this machine."),
        ({"locked": True, "owner": None, "msg": "Nothing was changed. It cannot be understood."}, "app1: It cannot be"),
    ],
)
def test_a_lock_is_shown(found: dict[str, Any], says: str) -> None:
    text = "\n".join(filters.lock_sentences(found, "app1"))
    assert says in text
    # offered where it is not refused
    removable = "nobody" not in text and not filters.unlock_problems(found, "app1", "app1", False)
    assert ("unlock_confirm=app1" in text) == removable


@pytest.mark.parametrize(
    ("found", "confirmed", "force", "says"),
    [
        ({**HELD, "holder_lives": None}, "app1", False, ""),
        ({**HELD, "holder_lives": None}, "app2", False, "unlock_confirm is app2, this server is app1"),
        ({**HELD, "holder_lives": True}, "app1", False, "its holder works on this machine"),
        ({**HELD, "holder_lives": True}, "app1", True, ""),
        ({**HELD, "holder_lives": False, "stale": "gone"}, "app1", False, ""),
        ({**HELD, "owner": {"phase": "switching"}}, "app1", False, "the server switches between releases"),
        ({**HELD, "owner": {"phase": "restoring"}}, "app1", False, "the server replaces its data by those of a backup"),
        ({**HELD, "owner": {"phase": "switching"}}, "app1", True, ""),
        ({**HELD, "owner": {"phase": "switching"}, "stale": "ended"}, "app1", False, ""),
        ({"locked": True, "owner": None, "msg": "?"}, "app1", False, ""),
        ({"locked": True, "owner": None, "msg": "?"}, "app2", True, "unlock_confirm is app2"),
    ],
)
def test_what_may_be_alive_keeps_its_lock(found: dict[str, Any], confirmed: str, force: bool, says: str) -> None:
    problems = filters.unlock_problems(found, "app1", confirmed, force)
    assert len(problems) == bool(says)
    assert says in "".join(problems)


def outcome(result: str, release: str, **more: Any) -> dict[str, Any]:
    good = result in ("ok", "unchanged")
    done = {"__integr8scode_done": RUN} if good else {"__integr8scode_failed": {"run": RUN, "task": "switch | Switch"}}
    switch = {"result": result, "release": release, "failed": not good, **more}
    return {"__integr8scode_state": {"release": {"id": "old"}}, "__integr8scode_switch": switch, **done}


def failed_at(task: str) -> dict[str, Any]:
    """A server that is not done, although its switch was."""
    return {"__integr8scode_failed": {"run": RUN, "task": task}, "__integr8scode_done": ""}


def lost(**switch: Any) -> dict[str, Any]:
    """A server whose turn it was and that is neither done nor failed."""
    return {
        "__integr8scode_state": {"release": {"id": "old"}},
        "__integr8scode_begun": RUN,
        **({"__integr8scode_switch": switch} if switch else {}),
    }


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        (outcome("ok", "new", seconds=41.6), "app1: new serves (42 s)"),
        (outcome("ok", "new", lost=["e1", "e2"]), "app1: new serves; lost: e1, e2"),
        (outcome("unchanged", "old"), "app1: nothing to do, old serves"),
        (outcome("rolled_back", "old"), "app1: failed and was taken back; old serves"),
        (outcome("removed", ""), "app1: failed and was removed; no release serves for sure"),
        (outcome("failed", "old"), "app1: FAILED, and so did the way back; old serves"),
        (outcome("refused", "old"), "app1: refused; old serves"),
        (
            {**outcome("", ""), "__integr8scode_switch": {"failed": True, "changed": True}},
            "app1: it is not known how the switch ended; playbooks/status.yml says it",
        ),
        (
            {
                "__integr8scode_state": {"release": {"id": "old"}},
                "__integr8scode_failed": {"run": RUN, "task": "release | Pull"},
            },
            "app1: failed at release | Pull; old was left as it is",
        ),
        # the switch was good, and what comes after it was not
        (
            {**outcome("ok", "new", lost=["e1"]), **failed_at("unit | Lay down the unit")},
            "app1: new serves; lost: e1; then it failed at unit | Lay down the unit",
        ),
        (
            {**outcome("unchanged", "old"), **failed_at("Give the lock back")},
            "app1: old serves; then it failed at Give the lock back",
        ),
        # the module says that it changed nothing; a crash says nothing
        (
            {
                **outcome("", ""),
                "__integr8scode_switch": {"failed": True, "msg": "Nothing was changed by this step. x"},
            },
            "app1: failed at switch | Switch; old was left as it is",
        ),
        (
            {**outcome("", ""), "__integr8scode_switch": {"failed": True, "msg": "MODULE FAILURE"}},
            "app1: it is not known how the switch ended; playbooks/status.yml says it",
        ),
        # it works on, and what is done in between has failed
        (
            {**outcome("", ""), "__integr8scode_switch": {"changed": True, "done": False}},
            "app1: it is not known how the switch ended; playbooks/status.yml says it",
        ),
        ({"__integr8scode_state": {"release": {"id": "old"}}}, "app1: untouched; old serves"),
        ({"__integr8scode_state": {"release": None}}, "app1: untouched; nothing serves"),
        # another run's
        (
            {"__integr8scode_done": "x", "__integr8scode_failed": {"run": "x"}, "__integr8scode_begun": "x"},
            "app1: untouched; what it had serves",
        ),
        ({"__integr8scode_state": {"unreachable": True}}, "app1: untouched; what it had serves"),
        (lost(), "app1: got out of reach before it switched; old was left as it is"),
        (
            lost(unreachable=True, msg="no route"),
            "app1: got out of reach while it switched; playbooks/status.yml says how that ended",
        ),
        (
            lost(changed=True, done=False),
            "app1: got out of reach while it switched; playbooks/status.yml says how that ended",
        ),
        (lost(result="ok", release="new"), "app1: switched, new serves; then it got out of reach"),
        (
            lost(result="rolled_back", release="old", failed=True),
            "app1: failed and was taken back, old serves; then it got out of reach",
        ),
    ],
)
def test_the_summary_says_what_became_of_each_server(variables: dict[str, Any], says: str) -> None:
    assert filters.run_summary(["app1"], {"app1": variables}, RUN) == [says]
