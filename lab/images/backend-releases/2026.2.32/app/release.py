"""What is different in release 2026.2.32: it starts, and its backend never says that it is healthy."""

from app import executions
from fastapi import HTTPException

NAME = "2026.2.32"
STARTING = "Starting application with dishka DI"


# asked before the application's own route of this path
@executions.router.get("/health/live")
async def live() -> None:
    """Say that the application does not serve yet, for ever."""
    raise HTTPException(503, "The cache of example scripts is being filled")
