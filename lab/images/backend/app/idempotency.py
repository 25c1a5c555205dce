"""A message is handled once, even when Kafka delivers it twice: Redis remembers."""

import hashlib
import json
from collections.abc import Awaitable, Callable

import redis.asyncio as redis

from app.events import Event, Handler
from app.log import log


def once(client: redis.Redis, seconds: int, handler: Callable[[Event], Awaitable[None]]) -> Handler:
    """Wrap a handler so that it sees an event once.

    Args:
        client: Redis. While it is away, handling fails and the message is lost, as in the real program.
        seconds: how long Redis remembers.
        handler: the handler.

    Returns:
        The wrapped handler.
    """

    async def guarded(event: Event) -> None:
        content = {key: value for key, value in event.items() if key not in {"event_id", "timestamp", "metadata"}}
        key = hashlib.sha256(f"{handler.__qualname__}{json.dumps(content, sort_keys=True)}".encode()).hexdigest()
        if not await client.set(f"idempotency:{key}", event["event_id"], nx=True, ex=seconds):
            log.info(f"Duplicate event: {event['event_type']} ({event['event_id']})")
            return
        await handler(event)

    return guarded
