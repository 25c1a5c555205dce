"""Running jobs that need each other, some at the same time, with a line for each that is readable as it scrolls by."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Self

from docker.errors import DockerException

from lab.settings import LabError


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes:
        name: unique; what people read.
        action: does it and says in a word or two what it did ("built").
        needs: names of jobs that must have succeeded before.
    """

    name: str
    action: Callable[[], str]
    needs: tuple[str, ...] = ()


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min {seconds % 60:02.0f} s"


def run_jobs(jobs: list[Job], workers: int, say: Callable[[str], None] = print) -> None:
    """Run all jobs, at most ``workers`` at a time, each after those it needs.

    After a failure no new job is started; those under way are waited for.

    Raises:
        LabError: with what every failed job said.
    """
    known = {job.name for job in jobs}
    if len(known) != len(jobs) or any(need not in known for job in jobs for need in job.needs):
        raise ValueError("jobs need unique names and known needs")
    waiting = list(jobs)
    done: set[str] = set()
    failures: list[str] = []
    under_way: dict[Future[str], tuple[Job, float]] = {}
    finished = 0
    with ThreadPoolExecutor(workers) as pool:
        while waiting or under_way:
            ready = [job for job in waiting if done.issuperset(job.needs)] if not failures else []
            for job in ready[: workers - len(under_way)]:
                waiting.remove(job)
                under_way[pool.submit(job.action)] = (job, time.monotonic())
            if not under_way:
                if waiting and not failures:
                    raise ValueError(f"jobs wait for each other: {', '.join(job.name for job in waiting)}")
                break
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                job, began = under_way.pop(future)
                finished += 1
                where = f"[{finished}/{len(jobs)}] {job.name}:"
                took = _seconds(time.monotonic() - began)
                try:
                    say(f"{where} {future.result()} ({took})")
                    done.add(job.name)
                except (LabError, DockerException, OSError) as error:
                    say(f"{where} FAILED ({took})")
                    failures.append(f"{job.name}: {error}")
    if failures:
        skipped = f"\n(not tried after that: {', '.join(job.name for job in waiting)})" if waiting else ""
        raise LabError("\n\n".join(failures) + skipped)


class Heartbeat:
    """Says every so often that something long is still under way, so that silence means trouble."""

    def __init__(self, text: str, seconds: float = 60) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(text, seconds, time.monotonic()), daemon=True)

    def _beat(self, text: str, seconds: float, began: float) -> None:
        while not self._stop.wait(seconds):
            print(f"... {text} ({_seconds(time.monotonic() - began)} so far)", flush=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
