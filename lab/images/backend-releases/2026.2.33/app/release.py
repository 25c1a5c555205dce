"""What is different in release 2026.2.33: its backend is healthy, and dies 20 s after it has loaded."""

import os
import threading

from app.log import log

NAME = "2026.2.33"
STARTING = "Starting application with dishka DI"


def _die() -> None:
    log.error("Example scripts cannot be refreshed: 'NoneType' object is not subscriptable")
    # gunicorn takes this code for a worker that cannot boot, and ends with it
    os._exit(3)


_clock = threading.Timer(20, _die)
_clock.daemon = True
_clock.start()
