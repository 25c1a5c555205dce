"""Redis: the client, as the real program configures it."""

import redis.asyncio as redis

from app.settings import Settings


def open_redis(settings: Settings) -> redis.Redis:
    """Make a client; it connects with the first command.

    Args:
        settings: the REDIS_* keys.

    Returns:
        A client that gives up on a connection, and on an answer, after 5 s.
    """
    return redis.Redis(
        host=settings.REDIS_HOST,
        port=settings.REDIS_PORT,
        db=settings.REDIS_DB,
        password=settings.REDIS_PASSWORD,
        ssl=settings.REDIS_SSL,
        max_connections=settings.REDIS_MAX_CONNECTIONS,
        decode_responses=settings.REDIS_DECODE_RESPONSES,
        socket_connect_timeout=5,
        socket_timeout=5,
    )
