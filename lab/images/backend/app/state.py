"""What the routes share."""

from dataclasses import dataclass
from typing import cast

import redis.asyncio as redis
from starlette.requests import Request

from app.database import Database
from app.events import Broker
from app.settings import Settings


@dataclass
class State:
    """The program's connections."""

    settings: Settings
    database: Database
    redis: redis.Redis
    broker: Broker


def state_of(request: Request) -> State:
    """Return the connections of the program that serves a request."""
    return cast("State", request.app.state.connections)
