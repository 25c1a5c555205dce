"""Releases are shipped, go wrong, are taken back and are changed under load: nobody who uses the server notices.

One load runs beside all tests of this file; the last one asks what its users met.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import LONG
from tests.servers import release_load
from tests.servers.release_load import Load
from tests.servers.releases import (
    APPLICATION,
    CRASHING,
    FIRST,
    LOGIN,
    NEVER_HEALTHY,
    NO_COORDINATOR,
    REPOSITORIES,
    SECOND,
    WRONG_KEY,
    changed,
    current,
    digests,
    history,
    ids,
    locked,
    moved_tag,
    progress,
    registry_down,
    renewed,
    switches,
    whole,
)
from tests.servers.test_deploys import snapshot
from tests.servers.test_site import BASE

STEADY_SECONDS = 60 if LONG else 20
HEALTHY_SECONDS = 25
"""Until a new container of a release that never gets healthy has to be; a good one needs some 12 s."""
STABLE_SECONDS = 25
"""Long enough for a worker that crashes after 20 s."""

READERS = APPLICATION - {"frontend"}
"""Who reads config.toml."""


@dataclass(frozen=True)
class Step:
    """One deploy of a row.

    Attributes:
        tag: what is shipped.
        settings: for this deploy alone.
        says: what the output of one that is taken back has to hold.
    """

    tag: str
    settings: dict[str, Any] | None = None
    says: tuple[str, ...] = ()


BAD_BACKEND = Step(NEVER_HEALTHY, {"integr8scode_healthy_timeout_seconds": HEALTHY_SECONDS}, ("backend", "healthy"))
BAD_WORKER = Step(
    CRASHING, {"integr8scode_stable_seconds": STABLE_SECONDS}, ("result-processor", "Old results cannot be counted")
)
ROW = [Step(SECOND), BAD_BACKEND, BAD_WORKER, Step(FIRST)]
if LONG:
    good = [Step(SECOND), Step(FIRST)]
    ROW = [
        *good,
        Step(SECOND),
        BAD_BACKEND,
        Step(FIRST),
        Step(SECOND),
        BAD_WORKER,
        Step(FIRST),
        Step(SECOND),
        Step(FIRST),
    ]


@pytest.fixture(scope="module")
def load(host: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    with Load(host, tmp_path_factory.mktemp("load"), f"releases-{int(time.time())}", LOGIN).running() as running:
        time.sleep(STEADY_SECONDS)
        yield running


def deploy(playbook: Any, tag: str, settings: dict[str, Any] | None = None) -> Any:
    return playbook("deploy.yml", "-e", f"tag={tag}", *(("-e", json.dumps(settings)) if settings else ()))


def backend_digest(host: Any) -> str:
    return whole(host)["backend"].image


@pytest.mark.parametrize("step", [pytest.param(one, id=f"{n}-{one.tag}") for n, one in enumerate(ROW, 1)])
def test_deploys_in_a_row(host: Any, playbook: Any, load: Load, step: Step) -> None:
    before, serving, known = ids(host), current(host), len(history(host))
    assert serving["tag"] != step.tag

    run = deploy(playbook, step.tag, step.settings)

    after, last = ids(host), history(host)[-1]
    assert not locked(host)
    assert len(history(host)) == known + 1
    said = progress(host)
    if not step.says:
        assert run.returncode == 0, run.stdout + run.stderr
        assert current(host)["tag"] == step.tag
        assert renewed(before, after) == APPLICATION
        assert whole(host)["backend"].image == digests(step.tag)[REPOSITORIES[0]]
        assert last["result"] == "ok"
        return
    assert run.returncode == 2, run.stdout + run.stderr
    for text in (*step.says, serving["id"], "put back"):
        assert text in run.stdout, run.stdout
    assert last["result"] == "rolled_back"
    assert current(host)["id"] == serving["id"]
    assert backend_digest(host) == digests(serving["tag"])[REPOSITORIES[0]]
    if step.tag == NEVER_HEALTHY:
        # the one that serves was never touched, and the decision came in time
        assert renewed(before, after) == set()
        began, failed = (
            one["at"] for one in said if one["step"] == "backend" and one["state"] in ("started", "failed")
        )
        assert HEALTHY_SECONDS <= failed - began <= HEALTHY_SECONDS + 5, f"{failed - began:.1f} s"


def test_a_release_that_does_not_fit_is_refused_before_any_change(host: Any, playbook: Any, load: Load) -> None:
    cases = {NO_COORDINATOR: "run_coordinator.py is missing", WRONG_KEY: "KAFKA_MAX_POLL_RECORDS"}
    for tag, says in cases.items():
        before, serving = ids(host), current(host)
        run = deploy(playbook, tag)
        assert run.returncode == 2, run.stdout
        assert "Nothing that runs was changed" in run.stdout
        assert says in run.stdout
        assert (ids(host), current(host)) == (before, serving)
        assert not locked(host)


def test_a_tag_that_was_moved_goes_back_to_the_bytes_that_ran(host: Any, playbook: Any, load: Load) -> None:
    """With the registry down: a rollback needs nobody."""
    serving = current(host)
    tag, other = serving["tag"], SECOND if serving["tag"] == FIRST else FIRST
    was, will = digests(tag)[REPOSITORIES[0]], digests(other)[REPOSITORIES[0]]
    assert backend_digest(host) == was
    with moved_tag(tag, other):
        run = deploy(playbook, tag)
        assert run.returncode == 0, run.stdout + run.stderr
        moved = current(host)
        assert (moved["tag"], moved["id"] == serving["id"]) == (tag, False)
        assert backend_digest(host) == will
        assert will in json.dumps(moved), "the digest is not recorded"

        with registry_down(host):
            refused = snapshot(host)
            early = deploy(playbook, "2026.2.19")
            assert early.returncode != 0, early.stdout
            assert "registry.lab.test cannot be reached" in early.stdout
            assert snapshot(host) == refused
            back = playbook("playbooks/rollback.yml")
        assert back.returncode == 0, back.stdout + back.stderr
    assert current(host)["id"] == serving["id"]
    assert backend_digest(host) == was
    assert history(host)[-1]["action"] == "rollback"


def files_and_environment(host: Any) -> dict[str, Any]:
    """All that the release and its containers were given, secrets apart."""
    names = "docker ps -q -f label=com.docker.compose.project=integr8scode"
    inspected = json.loads(host.check_output(f"docker inspect $({names})"))
    return {
        "release": host.check_output(f"cd {BASE}/current/ && find . -type f -exec sha256sum {{}} + | sort"),
        "edge": host.check_output(f"sha256sum {BASE}/edge/haproxy.cfg"),
        # Docker keeps variables in no order
        "environment": {
            one["Config"]["Labels"]["com.docker.compose.service"]: (sorted(one["Config"]["Env"]), one["Config"]["Cmd"])
            for one in inspected
        },
        "config.toml": host.check_output(
            f"for id in $({names}); do "
            "docker exec $id sh -c 'sha256sum /app/*.toml' 2>/dev/null | grep -v secrets; done | sort"
        ),
    }


def test_a_configuration_alone_is_deployed_and_rolled_back(host: Any, playbook: Any, load: Load) -> None:
    before, given, serving = ids(host), files_and_environment(host), current(host)
    settings = {"integr8scode_config": {"RATE_LIMIT_ENABLED": False, "K8S_POD_EXECUTION_TIMEOUT": 7}}

    run = deploy(playbook, serving["tag"], settings)
    assert run.returncode == 0, run.stdout + run.stderr
    assert current(host)["id"] != serving["id"]
    assert renewed(before, ids(host)) == READERS
    assert files_and_environment(host)["config.toml"] != given["config.toml"]
    again = ids(host)
    twice = deploy(playbook, serving["tag"], settings)
    assert (twice.returncode, changed(twice.stdout)) == (0, 0), twice.stdout
    assert ids(host) == again

    back = playbook("playbooks/rollback.yml")
    assert back.returncode == 0, back.stdout + back.stderr
    assert files_and_environment(host) == given
    assert renewed(again, ids(host)) == READERS


def test_compose_by_hand_changes_nothing(host: Any, playbook: Any, load: Load) -> None:
    before = ids(host)
    host.check_output(f"cd {BASE}/current && docker compose up -d")
    assert ids(host) == before


def test_a_disk_that_is_nearly_full_is_refused(host: Any, playbook: Any, load: Load) -> None:
    host.check_output(
        "size=$(($(du -sm /opt/integr8scode | cut -f1) + 50))m && mkdir -p /mnt/small "
        "&& mount -t tmpfs -o size=$size small /mnt/small "
        "&& cp -a /opt/integr8scode/. /mnt/small && mount --bind /mnt/small /opt/integr8scode"
    )
    try:
        before = snapshot(host)
        run = deploy(playbook, "2026.2.20")
        after = snapshot(host)
    finally:
        host.check_output("umount /opt/integr8scode && umount /mnt/small && rmdir /mnt/small")
    assert run.returncode != 0, run.stdout
    assert "integr8scode_min_free_disk_mb" in run.stdout
    assert "Nothing was changed" in run.stdout
    assert after == before


def test_nobody_has_noticed(host: Any, load: Load, record_property: Any) -> None:
    """Of all that has happened above."""
    time.sleep(release_load.SLOW_SECONDS + 2)
    records = load.read()
    assert not release_load.failures(records), release_load.describe(records)
    assert 429 not in {record.status for record in records}

    made = [record for record in records if record.kind in release_load.SHORT_NAMES]
    seconds = records[-1].ended - records[0].at
    # in a short run other servers are at work beside this one
    assert len(made) >= (0.95 if LONG else 0.5) * release_load.PER_SECOND * seconds, f"{len(made)} in {seconds:.0f} s"
    answered = release_load.releases(records)
    assert {FIRST, SECOND} <= set(answered), answered
    # never in service, not for one answer
    assert NEVER_HEALTHY not in {record.release for record in records if record.kind not in ("page", "stream")}, (
        answered
    )

    # each POST that was sent was begun once, and none that was not
    counted = load.counted()
    sent = {record.number for record in records if record.number > 0}
    assert {number: times for number, times in counted.items() if times != 1} == {}
    assert sent <= counted.keys()

    steady = release_load.longest(release_load.outside(records, switches(host, records[0].at)))
    longest = release_load.longest(records)
    slow = [record.seconds for record in records if record.kind in release_load.SLOW]
    pauses = {name: release_load.pauses(records, name) for name in release_load.STREAMS}
    assert all(pauses.values()), "no stream has ever ended"
    assert not [record for record in records if record.kind in release_load.STREAMS and record.problem]
    if LONG:
        # how long something takes says something only where nothing else is at work
        assert longest <= 2 * steady + 0.2, f"{longest:.3f} s, while nothing is switched {steady:.3f} s"
        assert max(slow) <= release_load.SLOW_SECONDS + 2 * steady + 0.2
        assert max(pause for each in pauses.values() for pause in each) <= 1, pauses
    record_property("answers", json.dumps(answered))
    print(
        f"{len(records)} answers in {seconds:.0f} s, 0 failed, by release: {dict(answered)}; longest short request "
        f"{longest:.3f} s (steady {steady:.3f} s), streams back within {max(max(one) for one in pauses.values()):.2f} s"
    )
