"""Who holds a lock: the process of an ansible-playbook, and whether it lives."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible.module_utils.releases import holder


@pytest.fixture
def other_process() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process.pid
    process.kill()
    process.wait()


def identity_of(pid: int) -> dict[str, Any]:
    return {**holder.identity(), "pid": pid, "started": holder.started(pid)}


def test_a_task_says_which_ansible_playbook_runs_it() -> None:
    me = holder.identity()
    assert me["pid"] == os.getppid()
    assert me["started"] == holder.started(os.getppid()) != ""
    assert len(me["machine"]) == 12


def _asks_when_its_parent_is_gone(pipe: Any, parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.01)
    pipe.send((holder.identity(), holder.orphaned()))


def _begins_a_task_and_dies(pipe: Any) -> None:
    multiprocessing.get_context("fork").Process(target=_asks_when_its_parent_is_gone, args=(pipe, os.getpid())).start()
    # without waiting for its child, as a kill does
    os._exit(0)


def test_a_task_that_outlives_its_ansible_playbook_does_not_speak_for_another_process() -> None:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    playbook = context.Process(target=_begins_a_task_and_dies, args=(theirs,))
    playbook.start()
    playbook.join(20)
    assert ours.poll(20)
    identity, orphaned = ours.recv()
    assert orphaned
    assert identity["pid"] == playbook.pid
    assert holder.holder_lives(identity) is False
    assert not holder.orphaned()


def test_a_process_lives_until_it_ends(other_process: int) -> None:
    controller = identity_of(other_process)
    assert holder.holder_lives(controller) is True
    os.kill(other_process, 9)
    deadline = time.monotonic() + 10
    while holder.started(other_process) and time.monotonic() < deadline:
        time.sleep(0.02)
    # dead, though nobody has waited for it yet
    assert holder.holder_lives(controller) is False


def test_another_process_with_the_same_number_is_not_the_holder(other_process: int) -> None:
    assert holder.holder_lives({**identity_of(other_process), "started": "1"}) is False


@pytest.mark.parametrize("other", [{"machine": "0" * 12}, {"space": "0.0"}, {"pid": None}])
def test_what_another_machine_or_container_runs_is_not_known_here(other: dict[str, Any]) -> None:
    assert holder.holder_lives({**identity_of(os.getpid()), **other}) is None
