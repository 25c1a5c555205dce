"""Events: one Kafka topic for each type, named like it; a copy of each goes to Mongo's collection `events`."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from app.database import Database
from app.log import log
from app.settings import Settings

Event = dict[str, Any]
Handler = Callable[[Event], Awaitable[None]]

# what FastStream waits before it polls again after an error, and for handlers at the end
_RETRY_SECONDS = 5
_GRACE_SECONDS = 15


def new_event(event_type: str, service: str, user_id: str, **fields: Any) -> Event:
    """Make an event.

    Args:
        event_type: its type, which is also its topic.
        service: who says it.
        user_id: on whose behalf.
        **fields: what this type of event carries; `execution_id` in most.

    Returns:
        The event, ready for JSON.
    """
    return {
        "event_id": str(uuid4()),
        "event_type": event_type,
        "event_version": "1.0",
        "timestamp": datetime.now(UTC).isoformat(),
        "aggregate_id": fields.get("execution_id"),
        "metadata": {
            "service_name": service,
            "service_version": "1.0.0",
            "user_id": user_id,
            "environment": "production",
        },
        **fields,
    }


class Broker:
    """Kafka: one producer and, for each subscription, one consumer.

    Args:
        settings: KAFKA_BOOTSTRAP_SERVERS, KAFKA_REQUEST_TIMEOUT_MS, KAFKA_SESSION_TIMEOUT_MS, SERVICE_NAME.
        database: where copies of events go.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._client_id = f"integr8scode-{settings.SERVICE_NAME}"
        self._subscriptions: list[tuple[list[str], str, Handler, str]] = []
        self._consumers: list[AIOKafkaConsumer] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._handling: set[asyncio.Task[None]] = set()
        self._producer: AIOKafkaProducer | None = None
        log.info("Kafka broker created")

    def subscribe(self, topics: list[str], group: str, handler: Handler, offset: str = "latest") -> None:
        """Say who handles a topic's events once the broker has started.

        Args:
            topics: the topics of one consumer.
            group: its consumer group. KAFKA_CONSUMER_GROUP_ID of the settings is not asked.
            handler: what is called with each event, one after the other.
            offset: where a group without a committed offset begins, `earliest` or `latest`.
        """
        self._subscriptions.append((topics, group, handler, offset))

    async def start(self) -> None:
        """Connect, and begin to consume.

        Raises:
            aiokafka.errors.KafkaConnectionError: no broker answers.
        """
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.KAFKA_BOOTSTRAP_SERVERS,
            client_id=self._client_id,
            request_timeout_ms=self._settings.KAFKA_REQUEST_TIMEOUT_MS,
        )
        await self._producer.start()
        # all at once: each waits for its group's assignment, and one rebalance is enough
        await asyncio.gather(*(self._start_consumer(*subscription) for subscription in self._subscriptions))

    async def _start_consumer(self, topics: list[str], group: str, handler: Handler, offset: str) -> None:
        consumer = AIOKafkaConsumer(
            *topics,
            bootstrap_servers=self._settings.KAFKA_BOOTSTRAP_SERVERS,
            client_id=self._client_id,
            group_id=group,
            auto_offset_reset=offset,
            enable_auto_commit=False,
            request_timeout_ms=self._settings.KAFKA_REQUEST_TIMEOUT_MS,
            # a killed consumer holds its partitions until this has passed
            session_timeout_ms=self._settings.KAFKA_SESSION_TIMEOUT_MS,
        )
        self._consumers.append(consumer)
        await consumer.start()
        self._tasks.append(asyncio.create_task(self._consume(consumer, handler)))
        log.info(f"{'|'.join(topics)} | {group} | waiting for messages")

    async def stop(self) -> None:
        """Finish what is being handled, commit it, leave the groups, send what is buffered."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._handling:
            await asyncio.wait(self._handling, timeout=_GRACE_SECONDS)
        for consumer in self._consumers:
            await consumer.stop()
        if self._producer is not None:
            await self._producer.stop()
        log.info("Kafka broker stopped")

    async def produce(self, event: Event, key: str) -> None:
        """Store an event in Mongo, then send it and wait until Kafka has it.

        Args:
            event: from `new_event`.
            key: what keeps related events in one partition.

        Raises:
            aiokafka.errors.KafkaError: Kafka did not take it in time.
            RuntimeError: called before `start`.
        """
        if self._producer is None:
            raise RuntimeError("the broker has not started")
        now = datetime.now(UTC)
        document = {
            **event,
            "timestamp": datetime.fromisoformat(event["timestamp"]),
            "stored_at": now,
            "ttl_expires_at": now + timedelta(days=self._settings.EVENT_RETENTION_DAYS),
        }
        await self._database.events.insert_one(document)
        topic = event["event_type"]
        try:
            await self._producer.send_and_wait(topic, json.dumps(event).encode(), key=key.encode())
        except Exception as error:
            log.error(f"Failed to produce message: {error}")
            raise
        log.debug(f"Event {topic} sent to topic: {topic}")

    async def _consume(self, consumer: AIOKafkaConsumer, handler: Handler) -> None:
        while True:
            try:
                message = await consumer.getone()
            except KafkaError as error:
                log.error(f"Message fetch error: {error}", exception=error)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            # a task of its own: when the program stops, consuming ends at once and the handler may finish
            task = asyncio.create_task(self._handle(consumer, handler, message.value))
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)
            await asyncio.shield(task)

    @staticmethod
    async def _handle(consumer: AIOKafkaConsumer, handler: Handler, value: bytes) -> None:
        try:
            await handler(json.loads(value))
        except Exception as error:  # noqa: BLE001 - whatever a handler raises
            # acknowledged all the same: a message is tried once
            log.error(f"{type(error).__name__}: {error}", exception=error)
        try:
            await consumer.commit()
        except KafkaError as error:
            log.error(f"Commit failed: {error}")
