"""Event streams: from Kafka through Redis to browsers, so that any copy serves any browser."""

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request
from sse_starlette.sse import EventSourceResponse

from app.auth import CurrentUser
from app.events import Broker, Event
from app.log import log
from app.state import State, state_of

router = APIRouter(prefix="/events", tags=["sse"])

_SHOWN = [
    *(f"execution_{what}" for what in ("requested", "queued", "started", "running", "completed", "failed", "timeout")),
    "execution_cancelled",
    "result_stored",
    "result_failed",
    *(f"pod_{what}" for what in ("created", "scheduled", "running", "succeeded", "failed", "terminated", "deleted")),
]
_LAST = {"result_stored", "result_failed", "execution_failed", "execution_timeout"}
_NOTIFIED = {"execution_completed": "completed", "execution_failed": "failed", "execution_timeout": "timed out"}
# how long one look into Redis' subscription waits
_POLL_SECONDS = 0.5


def subscribe(broker: Broker, state: State) -> None:
    """Register the two groups that every copy of the backend belongs to.

    Args:
        broker: not started yet.
        state: Redis, where the events go on.
    """

    async def pass_on(event: Event) -> None:
        if execution_id := event.get("execution_id"):
            message = {"event_type": event["event_type"], "execution_id": execution_id, "data": event}
            await state.redis.publish(f"sse:exec:{execution_id}", json.dumps(message))

    async def notify(event: Event) -> None:
        user_id = event["metadata"]["user_id"]
        message = {
            "notification_id": str(uuid4()),
            "channel": "in_app",
            "status": "delivered",
            "subject": f"Execution {_NOTIFIED[event['event_type']]}",
            "body": f"Execution {event['execution_id']} {_NOTIFIED[event['event_type']]}",
            "action_url": "",
            "created_at": event["timestamp"],
            "severity": "low" if event["event_type"] == "execution_completed" else "high",
            "tags": ["execution"],
        }
        await state.redis.publish(f"sse:notif:{user_id}", json.dumps(message))

    broker.subscribe(_SHOWN, "sse-bridge-pool", pass_on)
    for topic in _NOTIFIED:
        broker.subscribe([topic], "notification-service", notify)


async def _messages(state: State, channel: str) -> AsyncGenerator[dict[str, Any], None]:
    subscription = state.redis.pubsub()
    await subscription.subscribe(channel)
    try:
        # the subscription's own confirmation
        await subscription.get_message(timeout=1.0)
        yield {}
        while True:
            message = await subscription.get_message(ignore_subscribe_messages=True, timeout=_POLL_SECONDS)
            if message and message["type"] == "message":
                yield json.loads(message["data"])
    finally:
        await asyncio.shield(subscription.aclose())


async def _execution_stream(state: State, execution_id: str) -> AsyncGenerator[dict[str, str], None]:
    def line(event_type: str, **fields: Any) -> dict[str, str]:
        values = {"timestamp": datetime.now(UTC).isoformat(), **fields}
        return {"data": json.dumps({**values, "event_type": event_type, "execution_id": execution_id}, default=str)}

    try:
        yield line("connected")
        async for message in _messages(state, f"sse:exec:{execution_id}"):
            if message:
                yield line(message["event_type"], **message["data"])
                if message["event_type"] in _LAST:
                    return
                continue
            yield line("subscribed", message="Redis subscription established")
            if execution := await state.database.executions.find_one({"execution_id": execution_id}):
                yield line("status", status=execution["status"])
    finally:
        log.info("SSE connection closed", execution_id=execution_id)


async def _notification_stream(state: State, user_id: str) -> AsyncGenerator[dict[str, str], None]:
    try:
        async for message in _messages(state, f"sse:notif:{user_id}"):
            if message:
                yield {"event": "notification", "data": json.dumps(message)}
    finally:
        log.info("Notification stream closed", user_id=user_id)


@router.get("/notifications/stream", response_class=EventSourceResponse)
async def notifications(request: Request, user: CurrentUser) -> EventSourceResponse:
    """Stream a user's notifications, with a comment line every 30 s."""
    return EventSourceResponse(_notification_stream(state_of(request), user["user_id"]), ping=30)


@router.get("/executions/{execution_id}", response_class=EventSourceResponse)
async def execution(request: Request, user: CurrentUser, execution_id: str) -> EventSourceResponse:  # noqa: ARG001
    """Stream what happens to an execution, with a comment line every 15 s, until its result is stored."""
    return EventSourceResponse(_execution_stream(state_of(request), execution_id))
