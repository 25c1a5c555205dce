"""The web application, made by gunicorn's workers: `gunicorn 'app.main:create_app()'`."""

from app.startup import imitate_imports

# before anything else is known: gunicorn listens already, and requests wait
imitate_imports(8)

import time  # noqa: E402
from collections.abc import AsyncGenerator  # noqa: E402
from contextlib import asynccontextmanager  # noqa: E402
from datetime import UTC, datetime  # noqa: E402
from typing import Any  # noqa: E402

from fastapi import FastAPI, Request  # noqa: E402
from fastapi.middleware.cors import CORSMiddleware  # noqa: E402
from fastapi.responses import JSONResponse  # noqa: E402

from app import auth, executions, release, streams  # noqa: E402
from app.database import open_database  # noqa: E402
from app.errors import DomainError  # noqa: E402
from app.events import Broker  # noqa: E402
from app.log import log, set_up_log  # noqa: E402
from app.rate_limit import RateLimitMiddleware  # noqa: E402
from app.redis_client import open_redis  # noqa: E402
from app.security import CSRFMiddleware  # noqa: E402
from app.settings import Settings  # noqa: E402
from app.state import State  # noqa: E402

_STARTED = time.time()


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    settings: Settings = app.state.settings
    redis = app.state.redis
    database = await open_database(settings)
    log.info(release.STARTING, project_name=settings.PROJECT_NAME, environment="production")
    broker = Broker(settings, database)
    app.state.connections = State(settings, database, redis, broker)
    streams.subscribe(broker, app.state.connections)
    log.info("Kafka subscribers registered")
    await broker.start()
    log.info("Kafka broker started")
    await redis.ping()
    log.info(f"Redis connected: {settings.REDIS_HOST}:{settings.REDIS_PORT}/{settings.REDIS_DB}")
    try:
        yield
    finally:
        await broker.stop()
        await redis.aclose()
        await database.client.close()
        log.info("DI container closed")


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    status, message = (error.status, error.message) if isinstance(error, DomainError) else (500, str(error))
    return JSONResponse({"detail": message, "type": type(error).__name__}, status_code=status)


def create_app() -> FastAPI:
    """Make the application.

    Returns:
        The application; it connects to Mongo, Kafka and Redis when the server starts it, and a failure there ends
        gunicorn with code 3.

    Raises:
        pydantic.ValidationError: a setting is refused; gunicorn's worker does not boot and gunicorn ends with code 3.
    """
    settings = Settings()
    set_up_log(settings.LOG_LEVEL)
    app = FastAPI(title=settings.PROJECT_NAME, lifespan=_lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.state.settings = settings
    app.state.redis = open_redis(settings)
    # the last one added is the outermost
    app.add_middleware(RateLimitMiddleware, settings=settings, client=app.state.redis)
    app.add_middleware(CSRFMiddleware, settings=settings)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.CORS_ORIGINS,
        allow_credentials=True,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Accept", "Origin", "X-Requested-With", "X-CSRF-Token"],
        expose_headers=["Content-Length", "Content-Range"],
    )
    app.add_exception_handler(DomainError, _refused)
    for router in (auth.router, executions.router, streams.router):
        app.include_router(router, prefix=settings.API_V1_STR)

    @app.get(f"{settings.API_V1_STR}/health/live")
    async def live() -> dict[str, Any]:
        """Say that the application serves; asks nothing of Mongo or Kafka."""
        return {
            "status": "ok",
            "uptime_seconds": int(time.time() - _STARTED),
            "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        }

    log.info("All routers configured")
    return app
