"""The rate limiter: a sliding minute for each client address and path, shared by all copies through Redis.

It covers every path except login, register and logout, the health check included; refused requests count too. Nothing
catches Redis' errors here: with Redis away, every limited path answers 500.
"""

import re
import time
from datetime import UTC, datetime

import redis.asyncio as redis
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.clients import client_address
from app.settings import Settings

_WINDOW_SECONDS = 60
_EXEMPT = {"/api/v1/auth/login", "/api/v1/auth/register", "/api/v1/auth/logout", "/health", "/metrics", "/favicon.ico"}
# requests a minute; the first pattern that matches counts
_RULES = [
    (re.compile(r"/api/v1/execute"), 10),
    (re.compile(r"/api/v1/auth/"), 20),
    (re.compile(r"/api/v1/admin/"), 100),
    (re.compile(r"/api/v1/events/"), 5),
    (re.compile(r"/api/v1/"), 60),
]


class RateLimitMiddleware:
    """Counts a request, and answers 429 when it is one too many.

    Args:
        app: what is protected.
        settings: RATE_LIMIT_ENABLED and RATE_LIMIT_REDIS_PREFIX.
        client: Redis.
    """

    def __init__(self, app: ASGIApp, settings: Settings, client: redis.Redis) -> None:
        self._app = app
        self._settings = settings
        self._redis = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        path = scope.get("path", "")
        limit = next((limit for pattern, limit in _RULES if pattern.match(path)), None)
        if scope["type"] != "http" or path in _EXEMPT or limit is None or not self._settings.RATE_LIMIT_ENABLED:
            await self._app(scope, receive, send)
            return
        key = f"{self._settings.RATE_LIMIT_REDIS_PREFIX}sw:ip:{client_address(Request(scope))}:{path}"
        now = time.time()
        count = await self._count(key, now)
        if count > limit:
            await (await self._refusal(key, now, limit))(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-RateLimit-Limit"] = str(limit)
                headers["X-RateLimit-Remaining"] = str(limit - count)
                headers["X-RateLimit-Reset"] = str(int(now + _WINDOW_SECONDS))
            await send(message)

        await self._app(scope, receive, send_with_headers)

    async def _count(self, key: str, now: float) -> int:
        pipeline = self._redis.pipeline()
        pipeline.zremrangebyscore(key, 0, now - _WINDOW_SECONDS)
        pipeline.zadd(key, {str(now): now})
        pipeline.zcard(key)
        pipeline.expire(key, _WINDOW_SECONDS * 2)
        return int((await pipeline.execute())[2])

    async def _refusal(self, key: str, now: float, limit: int) -> JSONResponse:
        oldest = await self._redis.zrange(key, 0, 0, withscores=True)
        wait = int(oldest[0][1] + _WINDOW_SECONDS - now) + 1 if oldest else _WINDOW_SECONDS
        reset = now + wait
        return JSONResponse(
            {
                "detail": "Rate limit exceeded",
                "retry_after": wait,
                "reset_at": datetime.fromtimestamp(reset, UTC).isoformat(),
            },
            status_code=429,
            headers={
                "X-RateLimit-Limit": str(limit),
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": str(int(reset)),
                "Retry-After": str(wait),
            },
        )
