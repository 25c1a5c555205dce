"""The event-replay worker: has no replay sessions here, so it only connects and stays. It is in no consumer group."""

from app.log import log
from app.worker import Context, run


async def _set_up(_context: Context) -> None:
    log.info("Event replay service initialized (APScheduler interval=6h)")


if __name__ == "__main__":
    run("event-replay", "EventReplayService", _set_up)
