"""The coordinator's queue. It lives in this process's memory only: a restart loses what is queued."""

import heapq
from uuid import uuid4

from app.events import Event, new_event
from app.log import log
from app.worker import Context

_PRIORITIES = {name: number for number, name in enumerate(("critical", "high", "normal", "low", "background"))}
_MAX_PER_USER = 100
_COMMAND_FIELDS = (
    "execution_id",
    "script",
    "language",
    "language_version",
    "runtime_image",
    "runtime_command",
    "runtime_filename",
    "timeout_seconds",
    "cpu_limit",
    "memory_limit",
    "cpu_request",
    "memory_request",
    "priority",
)


class Coordinator:
    """Decides which execution is next.

    Args:
        context: the worker's connections.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._queue: list[tuple[int, int, Event]] = []
        self._active: set[str] = set()
        self._owners: dict[str, str] = {}
        self._count = 0

    async def requested(self, event: Event) -> None:
        """Queue an execution, say so, and start the next one when it is the first."""
        execution_id, user_id = event["execution_id"], event["metadata"]["user_id"]
        if list(self._owners.values()).count(user_id) >= _MAX_PER_USER:
            await self._failed_to_queue(event, f"User execution limit exceeded ({_MAX_PER_USER})")
            return
        self._count += 1
        heapq.heappush(self._queue, (_PRIORITIES[event["priority"]], self._count, event))
        self._owners[execution_id] = user_id
        position = next(index for index, entry in enumerate(self._queue) if entry[2] is event)
        accepted = new_event(
            "execution_accepted",
            "execution-service",
            user_id,
            execution_id=execution_id,
            queue_position=position,
            estimated_wait_seconds=None,
            priority=event["priority"],
        )
        await self._context.answer(accepted)
        log.info(f"Execution {execution_id} added to queue at position {position}")
        if position == 0:
            await self._next()

    async def ended(self, event: Event) -> None:
        """Forget an execution that has completed or failed, and start the next one."""
        self._forget(event["execution_id"])
        await self._next()

    async def cancelled(self, event: Event) -> None:
        """Take an execution out of the queue."""
        self._queue = [entry for entry in self._queue if entry[2]["execution_id"] != event["execution_id"]]
        heapq.heapify(self._queue)
        await self.ended(event)

    def _forget(self, execution_id: str) -> None:
        self._active.discard(execution_id)
        self._owners.pop(execution_id, None)

    async def _next(self) -> None:
        if not self._queue:
            return
        event = heapq.heappop(self._queue)[2]
        execution_id = event["execution_id"]
        if execution_id in self._active:
            return
        self._active.add(execution_id)
        command = new_event(
            "create_pod_command",
            "execution-coordinator",
            event["metadata"]["user_id"],
            saga_id=str(uuid4()),
            **{name: event[name] for name in _COMMAND_FIELDS},
        )
        await self._context.answer(command)
        log.info(f"Scheduled execution {execution_id}")

    async def _failed_to_queue(self, event: Event, reason: str) -> None:
        await self._context.answer(
            new_event(
                "execution_failed",
                "execution-service",
                event["metadata"]["user_id"],
                execution_id=event["execution_id"],
                exit_code=-1,
                error_type="resource_limit",
                error_message=reason,
                stdout="",
                stderr=f"Queue full: {reason}. Queue size: {len(self._queue)}",
                resource_usage=None,
            )
        )
