"""Mongo: the client, the indexes, and the collections that others look at: `users`, `executions`, `events`, `sagas`."""

from typing import Any

from pymongo import ASCENDING, DESCENDING, AsyncMongoClient, IndexModel
from pymongo.asynchronous.database import AsyncDatabase

from app.log import log
from app.settings import Settings

Document = dict[str, Any]
Database = AsyncDatabase[Document]

_INDEXES = {
    "users": [
        IndexModel([("username", ASCENDING)], unique=True),
        IndexModel([("email", ASCENDING)], unique=True),
        IndexModel([("user_id", ASCENDING)], unique=True),
    ],
    "executions": [
        IndexModel([("execution_id", ASCENDING)], unique=True),
        IndexModel([("created_at", ASCENDING)]),
        IndexModel([("user_id", ASCENDING)]),
        IndexModel([("status", ASCENDING)]),
    ],
    "events": [
        IndexModel([("event_id", ASCENDING)], unique=True),
        IndexModel([("event_type", ASCENDING), ("timestamp", DESCENDING)], name="idx_event_type_ts"),
        IndexModel([("aggregate_id", ASCENDING), ("timestamp", DESCENDING)], name="idx_aggregate_ts"),
    ],
    "sagas": [
        IndexModel([("saga_id", ASCENDING)], unique=True),
        IndexModel(
            [("execution_id", ASCENDING), ("saga_name", ASCENDING)], unique=True, name="idx_saga_execution_name_unique"
        ),
        IndexModel([("state", ASCENDING), ("created_at", ASCENDING)], name="idx_saga_state_created"),
    ],
}


async def open_database(settings: Settings) -> Database:
    """Connect to Mongo and make the indexes, which is also the first proof that it can be reached and lets us in.

    Args:
        settings: MONGODB_URL (its path names the database) and DATABASE_NAME.

    Returns:
        The database.

    Raises:
        pymongo.errors.OperationFailure: authentication failed (code 18).
        pymongo.errors.ServerSelectionTimeoutError: out of reach for 30 s, unless the URL says otherwise.
        pymongo.errors.InvalidURI: a raw reserved character in the URL's password.
    """
    client: AsyncMongoClient[Document] = AsyncMongoClient(settings.MONGODB_URL, tz_aware=True)
    database = client.get_default_database(default=settings.DATABASE_NAME)
    for name, indexes in _INDEXES.items():
        await database[name].create_indexes(indexes)
    log.info("MongoDB initialized via Beanie")
    return database
