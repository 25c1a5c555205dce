"""What is different in release 2026.2.33: its backend is healthy, and dies 20 s after it has said so."""

import functools
import os
import threading

from app import executions
from app.log import log

NAME = "2026.2.33"
STARTING = "Starting application with dishka DI"


def _die() -> None:
    log.error("Example scripts cannot be refreshed: 'NoneType' object is not subscriptable")
    # gunicorn takes this code for a worker that cannot boot, and ends with it
    os._exit(3)


@functools.cache
def _start_clock() -> None:
    clock = threading.Timer(20, _die)
    clock.daemon = True
    clock.start()


# asked before the application's own route of this path
@executions.router.get("/health/live")
async def live() -> dict[str, str]:
    """Say that the application serves, which is true for 20 s."""
    _start_clock()
    return {"status": "ok"}
