"""The coordinator: from `execution_requested` to `create_pod_command`."""

from app.coordinator import Coordinator
from app.idempotency import once
from app.redis_client import open_redis
from app.worker import Context, run

_GROUP = "execution-coordinator"
_REMEMBERED_SECONDS = 7200


async def _set_up(context: Context) -> None:
    coordinator = Coordinator(context)
    redis = open_redis(context.settings)
    context.at_end.push_async_callback(redis.aclose)
    for topic, handler in (
        ("execution_requested", coordinator.requested),
        ("execution_completed", coordinator.ended),
        ("execution_failed", coordinator.ended),
        ("execution_cancelled", coordinator.cancelled),
    ):
        context.broker.subscribe([topic], _GROUP, once(redis, _REMEMBERED_SECONDS, handler))


if __name__ == "__main__":
    run("coordinator", "ExecutionCoordinator worker", _set_up)
