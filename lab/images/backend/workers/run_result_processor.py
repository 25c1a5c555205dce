"""The result-processor: writes how an execution ended to Mongo, and says that it did."""

from datetime import UTC, datetime

from app.events import Event, new_event
from app.idempotency import once
from app.log import log
from app.redis_client import open_redis
from app.worker import Context, run

_GROUP = "result-processor"
_REMEMBERED_SECONDS = 7200
_STATUS = {"execution_completed": "completed", "execution_failed": "failed", "execution_timeout": "timeout"}


async def _set_up(context: Context) -> None:
    redis = open_redis(context.settings)
    context.at_end.push_async_callback(redis.aclose)

    async def store(event: Event) -> None:
        execution_id, late = event["execution_id"], event["event_type"] == "execution_timeout"
        result = {
            "status": _STATUS[event["event_type"]],
            "exit_code": -1 if late else event["exit_code"],
            "stdout": event["stdout"],
            "stderr": event["stderr"],
            "resource_usage": event["resource_usage"],
            "error_type": "timeout" if late else event.get("error_type"),
            "updated_at": datetime.now(UTC),
        }
        written = await context.database.executions.update_one({"execution_id": execution_id}, {"$set": result})
        if not written.matched_count:
            log.warning("No execution found", execution_id=execution_id)
            raise LookupError(f"Execution '{execution_id}' not found")
        stored = new_event(
            "result_stored",
            "result-processor",
            event["metadata"]["user_id"],
            execution_id=execution_id,
            storage_type="database",
            storage_path=execution_id,
            size_bytes=len(event["stdout"]) + len(event["stderr"]),
        )
        await context.answer(stored)

    for topic in _STATUS:
        context.broker.subscribe([topic], _GROUP, once(redis, _REMEMBERED_SECONDS, store), offset="earliest")


if __name__ == "__main__":
    run("result-processor", "ResultProcessor", _set_up)
