"""What the real application lacks and a load test needs: answers that say which release gave them, and known work."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated
from uuid import uuid4

from app.state import state_of
from fastapi import APIRouter, Path, Request
from sse_starlette.sse import EventSourceResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

router = APIRouter(tags=["load test"])

_TICK_SECONDS = 0.25
_Name = Annotated[str, Path(pattern="^[a-z0-9-]{1,40}$")]


class ReleaseHeader:
    """Puts the release's name into every answer, as `X-Release`.

    Args:
        app: what answers.
        name: the release.
    """

    def __init__(self, app: ASGIApp, name: str) -> None:
        self._app = app
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""

        async def send_with_name(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Release"] = self._name
            await send(message)

        await self._app(scope, receive, send_with_name)


@router.get("/load-test/slow/{seconds}")
async def slow(seconds: Annotated[float, Path(ge=0, le=60)]) -> dict[str, float]:
    """Answer after so many seconds."""
    await asyncio.sleep(seconds)
    return {"seconds": seconds}


@router.post("/load-test/count/{run}/{number}")
async def count(request: Request, run: _Name, number: int) -> dict[str, int]:
    """Count a request before anything else is done: Redis' set `load-test:<run>` has a member each time one is begun.

    A member and not a counter's step: the client sends a command again that Redis has not answered in 5 s, and adding
    the same member twice is adding it once.
    """
    await state_of(request).redis.sadd(f"load-test:{run}", f"{number}:{uuid4().hex}")
    return {"number": number}


async def _ticks() -> AsyncGenerator[dict[str, str], None]:
    number = 0
    while True:
        yield {"data": str(number)}
        number += 1
        await asyncio.sleep(_TICK_SECONDS)


@router.get("/events/load-test", response_class=EventSourceResponse)
async def stream() -> EventSourceResponse:
    """Stream a number every quarter of a second, until somebody ends it."""
    return EventSourceResponse(_ticks())
