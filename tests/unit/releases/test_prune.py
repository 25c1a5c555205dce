"""What is removed after a switch, and what never is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils.history import read_history
from ansible.module_utils.releases.layout import Layout, Release
from ansible.module_utils.releases.prune import digest_references, last_served, prune, split

from tests.unit.releases.fake_server import SERVICES, FakeServer


def serve(server: FakeServer, *steps: tuple[str, str]) -> None:
    """A history of deploys and rollbacks, whose releases are all here; the last one runs."""
    with (server.base / "history.jsonl").open("a") as file:
        for action, name in steps:
            if not (server.base / "releases" / name).exists():
                server.release(name)
            file.write(json.dumps({"action": action, "release": name, "result": "ok"}) + "\n")
    layout = Layout(server.base)
    layout.point_current(layout.release(steps[-1][1]))


def kept(server: FakeServer) -> list[str]:
    return sorted(path.name for path in (server.base / "releases").iterdir())


def images_of(*names: str) -> set[str]:
    every = [*SERVICES]
    return {f"registry.example:5000/{service}@sha256:{name}-{service}" for name in names for service in every}


def test_the_newest_five_stay_and_the_images_of_the_others_go(server: FakeServer) -> None:
    serve(server, *[("deploy", name) for name in ("a", "b", "c", "d", "e", "f", "g")])
    said = prune(Layout(server.base), server, 5)
    assert kept(server) == ["c", "d", "e", "f", "g"]
    assert set(server.images_removed) == images_of("a", "b")
    assert "release a is removed" in said
    assert sorted(path.name for path in (server.base / "files").iterdir()) == ["c", "d", "e", "f", "g"]


def test_where_a_rollback_goes_stays_however_long_ago_it_served(server: FakeServer) -> None:
    tried = [step for name in "cdefgh" for step in (("deploy", name), ("rollback", "b"))]
    serve(server, ("deploy", "a"), ("deploy", "b"), *tried)
    prune(Layout(server.base), server, 5)
    assert kept(server) == ["a", "b", "f", "g", "h"]


def test_the_rollback_target_stays_even_if_one_release_is_to_be_kept(server: FakeServer) -> None:
    serve(server, ("deploy", "a"), ("deploy", "b"), ("deploy", "c"))
    prune(Layout(server.base), server, 1)
    assert kept(server) == ["b", "c"]


def test_what_never_served_goes_first(server: FakeServer) -> None:
    serve(server, ("deploy", "a"), ("deploy", "b"), ("deploy", "c"))
    server.release("bad")
    prune(Layout(server.base), server, 3)
    assert kept(server) == ["a", "b", "c"]


def test_an_image_that_a_kept_release_names_too_stays(server: FakeServer) -> None:
    serve(server, ("deploy", "a"), ("deploy", "b"), ("deploy", "c"))
    path = server.base / "releases/c/release.json"
    record = json.loads(path.read_text())
    record["images"]["kafka"] = f"registry.example:5000/kafka:other@sha256:a-{'kafka'}"
    path.write_text(json.dumps(record))
    prune(Layout(server.base), server, 2)
    assert "registry.example:5000/kafka@sha256:a-kafka" not in server.images_removed
    assert "registry.example:5000/mongo@sha256:a-mongo" in server.images_removed


def test_an_image_in_use_and_one_that_is_gone_are_no_trouble(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server, ("deploy", "a"), ("deploy", "b"), ("deploy", "c"))
    server.in_use = {"registry.example:5000/mongo@sha256:a-mongo"}
    said = prune(Layout(server.base), server, 2)
    assert not any("mongo" in sentence for sentence in said)
    assert len(server.images_removed) == len(SERVICES) - 1


def test_an_engine_that_refuses_for_another_reason_is_told(server: FakeServer) -> None:
    from ansible.module_utils.integr8scode_docker import docker_errors

    serve(server, ("deploy", "a"), ("deploy", "b"), ("deploy", "c"))

    def refuse(reference: str, **_: Any) -> None:
        response = type("Response", (), {"status_code": 500})()
        if "mongo" in reference:
            raise docker_errors.APIError("x", response, "the store is broken")
        raise docker_errors.ImageNotFound("x")

    server.api.remove_image = refuse
    said = prune(Layout(server.base), server, 2)
    assert "image registry.example:5000/mongo@sha256:a-mongo could not be removed: the store is broken" in said
    assert len([sentence for sentence in said if "image" in sentence]) == 1


def test_a_removal_that_was_cut_off_is_finished_the_next_time(server: FakeServer) -> None:
    serve(server, ("deploy", "a"), ("deploy", "b"), ("deploy", "c"))
    # the record is gone, the folder is not
    (server.base / "releases/a/release.json").unlink()
    prune(Layout(server.base), server, 5)
    assert kept(server) == ["b", "c"]


def test_without_a_running_release_nothing_is_removed(server: FakeServer) -> None:
    server.release("a")
    assert prune(Layout(server.base), server, 1) == []
    assert kept(server) == ["a"]


def test_history_is_read_over_what_is_no_line(server: FakeServer) -> None:
    assert read_history(server.base) == []
    (server.base / "history.jsonl").write_bytes(b'{"release": "a"}\n[1]\n\xff\n{"rel')
    assert read_history(server.base) == [{"release": "a"}]


def test_who_served_last() -> None:
    entries = [
        {"action": "deploy", "release": "a", "result": "ok"},
        {"action": "deploy", "release": "b", "result": "ok"},
        {"action": "deploy", "release": "c", "result": "rolled_back"},
        {"action": "recovery", "release": "d", "result": "ok"},
        {"action": "rollback", "release": "a", "result": "ok"},
    ]
    assert last_served(entries) == ["a", "b"]


def test_images_by_digest(server: FakeServer) -> None:
    record = {
        "images": {
            "a": "registry.example:5000/x/a:1.2@sha256:1",
            "b": "registry.example:5000/b@sha256:2",
            "c": "c:3",
            "d": "docker.io/library/d:4@sha256:4",
        }
    }
    assert digest_references([Release(server.base, record)]) == {
        "registry.example:5000/x/a@sha256:1",
        "registry.example:5000/b@sha256:2",
        "docker.io/library/d@sha256:4",
    }


def test_split_without_a_history_keeps_the_newest(server: FakeServer) -> None:
    releases = [Release(server.base / name, {}) for name in ("new", "middle", "old")]
    keep, gone = split(releases, [], "old", 2)
    assert [one.id for one in keep] == ["old", "new"]
    assert [one.id for one in gone] == ["middle"]
