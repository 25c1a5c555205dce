"""The dlq-processor: looks at Mongo's collection `dlq_messages` every 10 s. It belongs to no consumer group."""

from app.log import log
from app.worker import Context, run

_CYCLE_SECONDS = 10


async def _set_up(context: Context) -> None:
    async def look() -> None:
        settings = context.settings
        count = await context.database.dlq_messages.count_documents({"status": {"$in": ["pending", "scheduled"]}})
        if count >= settings.DLQ_WARNING_THRESHOLD:
            log.warning("Dead letter queue is long", messages=count, critical=count >= settings.DLQ_CRITICAL_THRESHOLD)

    context.periodic.append((_CYCLE_SECONDS, look))
    log.info("DLQ Processor initialized (APScheduler interval=10s)")


if __name__ == "__main__":
    run("dlq-processor", "DLQ Processor", _set_up)
