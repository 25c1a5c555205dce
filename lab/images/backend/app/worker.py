"""What the seven workers have in common: settings, Mongo, Kafka, and the way to stop."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime

from app.database import Database, open_database
from app.events import Broker, Event
from app.log import log, set_up_log
from app.settings import Settings
from app.startup import imitate_imports


def _faststream(message: str) -> None:
    # FastStream has a log format of its own
    sys.stderr.write(f"{datetime.now():%Y-%m-%d %H:%M:%S},000 INFO     - {message}\n")  # noqa: DTZ005


@dataclass
class Context:
    """What a worker is given.

    Attributes:
        settings: its settings.
        database: Mongo.
        broker: Kafka, not started: subscriptions are made first.
        at_end: closes what the worker has opened.
        periodic: jobs as (seconds, job).
    """

    settings: Settings
    database: Database
    broker: Broker
    at_end: AsyncExitStack
    periodic: list[tuple[float, Callable[[], Awaitable[None]]]] = field(default_factory=list)

    async def answer(self, event: Event) -> None:
        """Send an event that belongs to an execution."""
        await self.broker.produce(event, event["execution_id"])


async def _repeat(seconds: float, job: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await job()
        except Exception as error:  # noqa: BLE001 - whatever a job raises
            log.error(f"Job raised an exception: {error}", exception=error)


async def _run(settings: Settings, title: str, set_up: Callable[[Context], Awaitable[None]]) -> None:
    database = await open_database(settings)
    stopping = asyncio.Event()
    async with AsyncExitStack() as at_end:
        at_end.push_async_callback(database.client.close)
        context = Context(settings, database, Broker(settings, database), at_end)
        # only now: before, a program that is PID 1 in its container ignores SIGTERM, as the real ones do
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        _faststream("FastStream app starting...")
        await set_up(context)
        try:
            await context.broker.start()
            jobs = [asyncio.create_task(_repeat(seconds, job)) for seconds, job in context.periodic]
            _faststream("FastStream app started successfully! To exit, press CTRL+C")
            await stopping.wait()
            _faststream("FastStream app shutting down...")
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
        finally:
            await context.broker.stop()
    _faststream("FastStream app shut down gracefully.")
    log.info(f"{title} shutdown complete")


def run(name: str, title: str, set_up: Callable[[Context], Awaitable[None]]) -> None:
    """Run a worker until SIGTERM or SIGINT.

    Args:
        name: its own settings are in `config.<name>.toml`.
        title: what its log calls it.
        set_up: subscribes to topics, or plans jobs; called before Kafka is asked for.

    Raises:
        FileNotFoundError: no settings of its own.
        Exception: whatever keeps it from starting; the process ends with code 1 and a traceback.
    """
    imitate_imports(4)
    settings = Settings(override_path=f"config.{name}.toml")
    set_up_log(settings.LOG_LEVEL)
    log.info(f"Starting {title}...")
    asyncio.run(_run(settings, title, set_up))
