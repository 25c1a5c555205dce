"""What pod-monitor sees: the executors' pods, listed once and then watched, and what their phases mean."""

import ast
from typing import Any

from kubernetes_asyncio import client, watch
from kubernetes_asyncio.client.rest import ApiException

from app.events import Broker, Event, new_event
from app.log import log
from app.settings import Settings

_SELECTOR = "app=integr8s,component=executor"
_WATCH_SECONDS = 300
_LOG_LINES = 10000
_GONE = 410


class PodMonitor:
    """Turns the phases of pods into events.

    Args:
        api: the client.
        broker: where the events go.
        settings: K8S_NAMESPACE.
    """

    def __init__(self, api: client.ApiClient, broker: Broker, settings: Settings) -> None:
        self._core = client.CoreV1Api(api)
        self._broker = broker
        self._namespace = settings.K8S_NAMESPACE
        self._cursor = ""
        self._phases: dict[str, str] = {}
        log.info(f"PodMonitor initialized for namespace {self._namespace}")

    async def cycle(self) -> None:
        """Watch for up to five minutes. Errors are logged and forgotten: the next cycle is 5 s away."""
        try:
            await self._watch()
        except ApiException as error:
            if error.status == _GONE:
                log.warning("Resource version expired, resetting watch cursor")
                self._cursor = ""
            else:
                log.error(f"API error in watch: {error}")
        except Exception as error:  # noqa: BLE001 - as the real program does
            log.error(f"Unexpected error in watch: {error}", exception=error)

    async def _watch(self) -> None:
        if not self._cursor:
            pods = await self._core.list_namespaced_pod(self._namespace, label_selector=_SELECTOR)
            for pod in pods.items:
                await self._seen(pod)
            self._cursor = pods.metadata.resource_version
            log.info(f"Listed {len(pods.items)} existing pods, rv={self._cursor}")
        log.info(f"Starting pod watch from rv={self._cursor}, selector: {_SELECTOR}")
        stream = watch.Watch().stream(
            self._core.list_namespaced_pod,
            self._namespace,
            label_selector=_SELECTOR,
            timeout_seconds=_WATCH_SECONDS,
            resource_version=self._cursor,
        )
        async for event in stream:
            self._cursor = event["object"].metadata.resource_version or self._cursor
            await self._seen(event["object"])

    async def _seen(self, pod: client.V1Pod) -> None:
        name, phase = pod.metadata.name, pod.status.phase if pod.status else "Unknown"
        execution_id = (pod.metadata.labels or {}).get("execution-id")
        if not execution_id or self._phases.get(name) == phase:
            return
        self._phases[name] = phase
        event = await self._event(pod, execution_id, phase)
        if event is not None:
            await self._broker.produce(event, execution_id)
            log.info(f"Processed event for pod {name} (phase: {phase}), published 1 events")

    async def _event(self, pod: client.V1Pod, execution_id: str, phase: str) -> Event | None:
        user_id = (pod.metadata.labels or {}).get("user-id", "")
        common = {"execution_id": execution_id, "pod_name": pod.metadata.name}
        if phase == "Pending":
            conditions = pod.status.conditions or []
            if any(condition.type == "PodScheduled" and condition.status == "True" for condition in conditions):
                node = pod.spec.node_name or "pending"
                return new_event("pod_scheduled", "pod-monitor", user_id, **common, node_name=node)
        elif phase == "Running":
            return new_event("pod_running", "pod-monitor", user_id, **common, container_statuses=[])
        elif phase in {"Succeeded", "Failed"}:
            return await self._end(pod, execution_id, user_id)
        return None

    async def _end(self, pod: client.V1Pod, execution_id: str, user_id: str) -> Event | None:
        output = await self._output(pod)
        if pod.status.phase == "Failed":
            message = pod.status.message or "Pod failed"
            late = pod.status.reason == "DeadlineExceeded"
            if late and output is None:
                log.error(f"POD-EVENT: failed to extract logs for timed out pod exec={execution_id}")
                return None
            values = output or {"stdout": "", "stderr": message, "exit_code": 1, "resource_usage": None}
            if late:
                values = {key: value for key, value in values.items() if key != "exit_code"}
                deadline = pod.spec.active_deadline_seconds or 0
                return new_event(
                    "execution_timeout",
                    "pod-monitor",
                    user_id,
                    execution_id=execution_id,
                    timeout_seconds=deadline,
                    **values,
                )
            return new_event(
                "execution_failed",
                "pod-monitor",
                user_id,
                execution_id=execution_id,
                error_type="script_error" if output else "system_error",
                error_message=values["stderr"],
                **values,
            )
        if output is None:
            log.error(f"POD-EVENT: failed to extract logs for completed pod exec={execution_id}")
            return None
        return new_event("execution_completed", "pod-monitor", user_id, execution_id=execution_id, **output)

    async def _output(self, pod: client.V1Pod) -> dict[str, Any] | None:
        """Read what the executor printed: one line that is a dictionary of its results."""
        try:
            text = await self._core.read_namespaced_pod_log(
                pod.metadata.name, pod.metadata.namespace, tail_lines=_LOG_LINES
            )
        except ApiException as error:
            log.warning(f"Failed to extract logs from pod {pod.metadata.name}: {error}")
            return None
        for line in (text or "").splitlines():
            if line.startswith("{") and line.endswith("}"):
                data = ast.literal_eval(line)
                return {
                    "stdout": data.get("stdout", ""),
                    "stderr": data.get("stderr", ""),
                    "exit_code": data.get("exit_code", 0),
                    "resource_usage": data.get("resource_usage", {}),
                }
        log.warning("Logs do not contain valid executor JSON")
        return None
