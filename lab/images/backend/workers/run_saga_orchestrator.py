"""The saga-orchestrator: keeps a record of each execution's way, and gives it up after five minutes."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from app.events import Event, new_event
from app.log import log
from app.worker import Context, run
from pymongo.errors import DuplicateKeyError

_GROUP = "saga-orchestrator"
_NAME = "execution_saga"
_GIVE_UP = timedelta(seconds=300)
_CYCLE_SECONDS = 30
_STATES = {
    "execution_completed": "completed",
    "execution_failed": "failed",
    "execution_timeout": "timeout",
    "execution_cancelled": "cancelled",
}


async def _set_up(context: Context) -> None:
    sagas = context.database.sagas

    async def begin(event: Event) -> None:
        now = datetime.now(UTC)
        saga_id, execution_id = str(uuid4()), event["execution_id"]
        saga = {
            "saga_id": saga_id,
            "saga_name": _NAME,
            "execution_id": execution_id,
            "state": "running",
            "completed_steps": [],
            "created_at": now,
            "updated_at": now,
        }
        try:
            await sagas.insert_one(saga)
        except DuplicateKeyError:
            log.info("Saga already exists for execution", saga_name=_NAME, execution_id=execution_id)
            return
        log.info("Started saga", saga_name=_NAME, saga_id=saga_id, execution_id=execution_id)
        started = new_event(
            "saga_started",
            "saga-orchestrator",
            event["metadata"]["user_id"],
            saga_id=saga_id,
            saga_name=_NAME,
            execution_id=execution_id,
            initial_event_id=event["event_id"],
        )
        await context.answer(started)

    async def end(event: Event) -> None:
        now = datetime.now(UTC)
        state = _STATES[event["event_type"]]
        changed = {"state": state, "updated_at": now, "completed_at": now, "error_message": event.get("error_message")}
        await sagas.update_one({"execution_id": event["execution_id"], "state": "running"}, {"$set": changed})

    async def give_up() -> None:
        now = datetime.now(UTC)
        late = {"state": "running", "created_at": {"$lt": now - _GIVE_UP}}
        changed = {"state": "timeout", "updated_at": now, "completed_at": now}
        result = await sagas.update_many(late, {"$set": changed})
        if result.modified_count:
            log.warning("Saga timed out", count=result.modified_count)

    context.broker.subscribe(["execution_requested"], _GROUP, begin)
    for topic in _STATES:
        context.broker.subscribe([topic], _GROUP, end)
    context.periodic.append((_CYCLE_SECONDS, give_up))
    log.info("SagaOrchestrator initialized (APScheduler interval=30s)")


if __name__ == "__main__":
    run("saga-orchestrator", "SagaOrchestrator", _set_up)
