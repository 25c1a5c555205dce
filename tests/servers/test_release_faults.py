"""Deploys that are killed, wherever it is: the server serves on, and the next run finishes cleanly."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LONG
from tests.servers import release_load
from tests.servers.release_load import Load
from tests.servers.releases import (
    DYING,
    FIRST,
    LOGIN,
    SECOND,
    Playbook,
    Stage,
    changed,
    current,
    forget_images,
    history,
    ids,
    is_switching,
    locked,
    newest_run,
    progress,
    wait,
    wait_until_switched,
    whole,
)

# the first four on the controller, the others on the server, where the work goes on without it
STAGES = (
    Stage("asking the server", task=r"refuse_server \| Look at the server"),
    Stage("locking", task=r"lock_all \| Lock every server"),
    Stage("pulling", task=r"release \| Pull the images"),
    Stage("writing the release", task=r"release \| Write the release"),
    Stage("trial", step="trial"),
    Stage("backend", step="backend"),
    Stage("workers", step="workers"),
    Stage("coordinator", step="coordinator"),
    Stage("verification", step="verify"),
    Stage("stable window", step="stable"),
)
IN_SHORT = {"writing the release", "backend"}
DOCKER_STAGES = tuple(stage for stage in STAGES if stage.name in ("backend", "workers", "verification"))
DOCKER_IN_SHORT = {"workers"}


def cases(stages: tuple[Stage, ...], short: set[str]) -> list[Any]:
    """Parameters: all stages in a long run, some in a short one."""
    return [pytest.param(stage, id=stage.name) for stage in stages if LONG or stage.name in short]


@pytest.fixture(scope="module")
def load(host: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    with Load(host, tmp_path_factory.mktemp("load"), f"faults-{int(time.time())}", LOGIN).running() as running:
        yield running


@pytest.fixture(scope="module")
def away() -> list[tuple[float, float]]:
    """From when to when Docker was away, of each test under one load: its records tell of those before as well."""
    return []


@pytest.fixture
def other(host: Any) -> str:
    """The good release that does not run."""
    return SECOND if current(host)["tag"] == FIRST else FIRST


@pytest.fixture
def deploy(request: pytest.FixtureRequest, host: Any, other: str, tmp_path: Path) -> Iterator[Playbook]:
    """A deploy of the other release that has begun."""
    inventory = request.config.getoption("--inventory")
    # long enough to be hit: what the verification has taken is counted into it
    settings = json.dumps({"integr8scode_stable_seconds": 20})
    forget_images(host, other)
    arguments = ("deploy.yml", "-e", f"tag={other}", "-e", settings)
    run = Playbook(arguments, inventory, tmp_path / "deploy.log", newest_run(host))
    yield run
    run.clean_up()


def finished_by_the_next_run(host: Any, playbook: Any, tag: str) -> None:
    """The same deploy again succeeds, and once more changes nothing."""
    wait_until_switched(host)
    again = playbook("deploy.yml", "-e", f"tag={tag}")
    assert again.returncode == 0, again.stdout + again.stderr
    assert current(host)["tag"] == tag
    assert not locked(host)
    before = ids(host)
    once_more = playbook("deploy.yml", "-e", f"tag={tag}")
    assert (once_more.returncode, changed(once_more.stdout)) == (0, 0), once_more.stdout
    assert ids(host) == before


@pytest.mark.parametrize("stage", cases(STAGES, IN_SHORT))
def test_the_controller_is_killed(
    host: Any, playbook: Any, load: Load, other: str, deploy: Playbook, stage: Stage, record_property: Any
) -> None:
    stage.await_in(deploy, host)
    # every other time what it has started lives on, as orphans
    deploy.kill(everything=STAGES.index(stage) % 2 == 0)
    said = [one for one in progress(host) if one["at"] <= deploy.killed_at] if newest_run(host) != deploy.before else []
    hit = f"{said[-1]['step']} ({said[-1]['state']})" if said else deploy.last_task()
    record_property("hit", hit)
    print(f"{stage.name}: killed in {hit}")

    if stage.step:
        assert said
        assert said[-1]["step"] == stage.step
        assert is_switching(host), "the work did not outlive the controller"
        wait_until_switched(host)
        # on its own
        assert current(host)["tag"] == other
        assert history(host)[-1]["result"] == "ok"
    else:
        assert not said
        assert current(host)["tag"] != other
    finished_by_the_next_run(host, playbook, other)
    assert not release_load.failures(load.read()), release_load.describe(load.read())


@pytest.mark.parametrize("stage", cases(DOCKER_STAGES, DOCKER_IN_SHORT))
def test_dockers_daemon_is_killed(
    host: Any,
    playbook: Any,
    load: Load,
    away: list[tuple[float, float]],
    other: str,
    deploy: Playbook,
    stage: Stage,
    record_property: Any,
) -> None:
    stage.await_in(deploy, host)
    since = time.time()
    # systemd gives up after three quick ones, which is not what this is about
    host.check_output("systemctl reset-failed docker && kill -9 $(pidof dockerd)")
    wait("Docker", 60, lambda: host.run("docker version").rc == 0)
    until = time.time()
    code = deploy.wait()
    said = history(host)[-1]["result"]
    record_property("deploy", f"{code}, {said}, Docker was away for {until - since:.1f} s")
    assert code in (0, 2), deploy.output
    # either it got over it, or it went back; never something between
    assert current(host)["tag"] in (FIRST, SECOND)
    assert (code == 0) == (current(host)["tag"] == other), deploy.output
    finished_by_the_next_run(host, playbook, other)
    # what Docker itself drops, while it is away and for the moment in which its proxies come back
    away.append((since, until + 5))
    failed = [
        one
        for one in release_load.failures(load.read())
        if not any(began <= one.ended and one.at <= ended for began, ended in away)
    ]
    assert not failed, release_load.describe(failed)


def test_the_server_is_rebooted_in_the_middle(
    host: Any, playbook: Any, reboot: Any, other: str, deploy: Playbook
) -> None:
    serving = current(host)
    STAGES[5].await_in(deploy, host)
    reboot(host)
    deploy.wait()
    assert not is_switching(host)

    # what served before, with whatever the deploy has left beside it, is started by itself
    wait("Docker", 120, lambda: host.run("docker version").rc == 0, 2)
    assert current(host)["id"] == serving["id"]
    finished_by_the_next_run(host, playbook, other)


# one bad release more: test_releases.py has two
@pytest.mark.long
def test_a_release_that_dies_after_a_while_is_taken_back(host: Any, playbook: Any) -> None:
    serving = current(host)
    run = playbook("deploy.yml", "-e", f"tag={DYING}", "-e", json.dumps({"integr8scode_stable_seconds": 25}))
    assert run.returncode == 2, run.stdout
    assert "Example scripts cannot be refreshed" in run.stdout
    assert current(host)["id"] == serving["id"]
    assert whole(host)
    assert not locked(host)
