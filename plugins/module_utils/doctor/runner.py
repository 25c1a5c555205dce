"""Runs probes side by side, each in a process of its own: one that hangs or crashes costs its own answer only."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.doctor.finding import Answer

LARGEST_ANSWER = 16 << 20  # bytes


@dataclass(frozen=True)
class Probe:
    """A question. `ask` gets the answers so far of the probe named `after` and returns what JSON can hold.

    It may raise anything; the error's text is the problem. `limit` is in seconds.
    """

    name: str
    ask: Callable[[Any], Any]
    after: str = ""
    limit: float = 15.0


@dataclass
class _Child:
    probe: Probe
    pid: int
    pipe: int
    began: float
    data: bytearray = field(default_factory=bytearray)

    @property
    def deadline(self) -> float:
        return self.began + self.probe.limit


def _answer(probe: Probe, earlier: Any) -> bytes:
    try:
        return json.dumps({"value": probe.ask(earlier)}).encode()
    except Exception as error:  # noqa: BLE001  (whatever a probe dies of is its answer)
        text = str(error) or type(error).__name__
        known = isinstance(error, OSError | ValueError) or type(error).__name__.endswith(
            ("UnavailableError", "Refused")
        )
        return json.dumps({"problem": text if known else f"{type(error).__name__}: {text}"}).encode()


def _start(probe: Probe, earlier: Any) -> _Child:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return _Child(probe, pid, reading, time.monotonic())
    try:
        os.setsid()
        os.close(reading)
        # what a probe or its programs print must not mix with the module's answer
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(_answer(probe, earlier))
    finally:
        os._exit(0)


def _end(child: _Child) -> None:
    """Kill what is left of a child and forget it; one that even SIGKILL does not end at once is not waited for."""
    os.close(child.pipe)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    for _ in range(20):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(child.pid, os.WNOHANG) == (0, 0):
                time.sleep(0.005)
                continue
        return


def _decoded(child: _Child) -> Answer:
    seconds = round(time.monotonic() - child.began, 2)
    try:
        told = json.loads(child.data)
    except ValueError:
        return Answer(problem="its process ended without an answer", seconds=seconds)
    return Answer(told.get("value"), told.get("problem", "").rstrip("."), seconds)


def _read(child: _Child) -> bool:
    """Take what it has to say; True when it has said everything."""
    part = os.read(child.pipe, 1 << 16)
    child.data += part
    return not part or len(child.data) > LARGEST_ANSWER


def run(probes: Sequence[Probe], *, jobs: int = 6) -> dict[str, Answer]:
    """Ask all probes, at most `jobs` at a time, and return their answers by name. Never raises for what they do."""
    answers: dict[str, Answer] = {}
    waiting = list(probes)
    running: list[_Child] = []
    while waiting or running:
        for probe in [one for one in waiting if not one.after or one.after in answers]:
            if len(running) >= jobs:
                break
            waiting.remove(probe)
            earlier = answers.get(probe.after)
            if earlier is not None and earlier.problem:
                answers[probe.name] = Answer(problem=earlier.problem)
                continue
            running.append(_start(probe, earlier.value if earlier else None))
        if not running:
            if any(one.after in answers for one in waiting):
                continue
            answers.update({one.name: Answer(problem=f"{one.after} was not asked") for one in waiting})
            break
        _collect(running, answers)
    return answers


def _collect(running: list[_Child], answers: dict[str, Answer]) -> None:
    """Wait for the next word or the next deadline."""
    patience = max(0.0, min(one.deadline for one in running) - time.monotonic())
    ready = select.select([one.pipe for one in running], [], [], patience)[0]
    for child in list(running):
        done = child.pipe in ready and _read(child)
        late = not done and time.monotonic() >= child.deadline
        if done or late:
            running.remove(child)
            answers[child.probe.name] = _decoded(child) if done else _late(child)
            _end(child)


def _late(child: _Child) -> Answer:
    limit = child.probe.limit
    return Answer(problem=f"no answer within {limit:g} s", seconds=round(limit, 2))


def values(answers: Mapping[str, Answer]) -> dict[str, Any]:
    """What was answered, by probe."""
    return {name: one.value for name, one in answers.items() if not one.problem}
