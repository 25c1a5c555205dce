"""Questions to a server, all at once: each has its own limit, and none can hold up the rest or fail them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


class UnansweredError(Exception):
    """A question has no answer; the message says why in one sentence and holds no secret."""


@dataclass(frozen=True)
class Probe:
    """One question. `ask` returns plain data (as JSON has it); `limit` is in seconds."""

    ask: Callable[[], Any]
    limit: float = 15.0


@dataclass
class _Run:
    thread: threading.Thread
    limit: float
    value: Any = None
    why: str = ""
    seconds: float = 0.0
    done: bool = False


def _start(probe: Probe) -> _Run:
    def work() -> None:
        began = time.monotonic()
        try:
            run.value = probe.ask()
        except UnansweredError as error:
            run.why = str(error) or "it does not say why"
        except OSError as error:
            run.why = f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
        except Exception as error:  # noqa: BLE001  (whatever a broken server answers must end in a report)
            # of the kind only: what such an exception says may quote what was read
            run.why = f"what was read cannot be understood ({type(error).__name__})"
        run.seconds = time.monotonic() - began
        run.done = True

    # a daemon: one that hangs in the kernel does not keep the module from ending
    run = _Run(threading.Thread(target=work, daemon=True), probe.limit)
    run.thread.start()
    return run


def ask(probes: Mapping[str, Probe], total: float) -> dict[str, dict[str, Any]]:
    """Ask everything, and return for each name `value`, `why` ("" when it was answered) and `seconds`.

    :param total: seconds after which the rest counts as unanswered.
    """
    began = time.monotonic()
    runs = {name: _start(probe) for name, probe in probes.items()}
    answers: dict[str, dict[str, Any]] = {}
    for name, run in runs.items():
        until = began + min(run.limit, total)
        run.thread.join(max(0.0, until - time.monotonic()))
        if not run.done:
            seconds = round(min(run.limit, total), 1)
            answers[name] = {"value": None, "why": f"no answer within {seconds:g} s", "seconds": seconds}
        else:
            value = None if run.why else run.value
            answers[name] = {"value": value, "why": run.why, "seconds": round(run.seconds, 3)}
    return answers
