"""Executions: accepted here, run elsewhere. The answer only says that one is queued."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, model_validator

from app.auth import CurrentUser
from app.database import Document
from app.errors import ExecutionNotFoundError, ExecutionTerminalError, ForbiddenError, InfrastructureError
from app.events import new_event
from app.log import log
from app.runtimes import SUPPORTED_RUNTIMES, runtime
from app.state import State, state_of

router = APIRouter(tags=["execution"])

_SERVICE = "execution-service"
_TERMINAL = {"completed", "failed", "timeout", "error"}
_RESULT = (
    "execution_id",
    "status",
    "stdout",
    "stderr",
    "lang",
    "lang_version",
    "resource_usage",
    "exit_code",
    "error_type",
)


class ExecutionRequest(BaseModel):
    """A script, its language and the language's version."""

    script: str = Field(..., max_length=50000)
    lang: str = "python"
    lang_version: str = "3.11"

    @model_validator(mode="after")
    def supported(self) -> "ExecutionRequest":
        """Refuse a language or version without a run-time image."""
        info = SUPPORTED_RUNTIMES.get(self.lang)
        if info is None:
            raise ValueError(f"Language '{self.lang}' not supported. Supported: {list(SUPPORTED_RUNTIMES)}")
        if self.lang_version not in info.versions:
            raise ValueError(f"Version '{self.lang_version}' not supported for {self.lang}. Supported: {info.versions}")
        return self


class CancelRequest(BaseModel):
    """Why an execution is cancelled."""

    reason: str = "User requested cancellation"


@router.post("/execute")
async def execute(request: Request, user: CurrentUser, wanted: ExecutionRequest) -> dict[str, str]:
    """Store an execution as queued and tell the coordinator."""
    state = state_of(request)
    now = datetime.now(UTC)
    execution: Document = {
        "execution_id": str(uuid4()),
        "script": wanted.script,
        "status": "queued",
        "lang": wanted.lang,
        "lang_version": wanted.lang_version,
        "user_id": user["user_id"],
        "created_at": now,
        "updated_at": now,
        "stdout": None,
        "stderr": None,
        "exit_code": None,
        "error_type": None,
        "resource_usage": None,
    }
    execution_id = execution["execution_id"]
    await state.database.executions.insert_one(execution)
    log.info("Created execution record", execution_id=execution_id, lang=wanted.lang, lang_version=wanted.lang_version)
    try:
        await state.broker.produce(_requested(state, execution), execution_id)
    except Exception as error:
        await state.database.executions.update_one(
            {"execution_id": execution_id},
            {
                "$set": {
                    "status": "error",
                    "stderr": f"Failed to submit execution: {error}",
                    "error_type": "system_error",
                }
            },
        )
        raise InfrastructureError("Failed to submit execution request") from error
    return {"execution_id": execution_id, "status": "queued"}


def _requested(state: State, execution: Document) -> dict[str, Any]:
    settings = state.settings
    chosen = runtime(execution["lang"], execution["lang_version"])
    return new_event(
        "execution_requested",
        _SERVICE,
        execution["user_id"],
        execution_id=execution["execution_id"],
        script=execution["script"],
        language=execution["lang"],
        language_version=execution["lang_version"],
        runtime_image=chosen.image,
        runtime_command=chosen.command,
        runtime_filename=chosen.file_name,
        timeout_seconds=settings.K8S_POD_EXECUTION_TIMEOUT,
        cpu_limit=settings.K8S_POD_CPU_LIMIT,
        memory_limit=settings.K8S_POD_MEMORY_LIMIT,
        cpu_request=settings.K8S_POD_CPU_REQUEST,
        memory_request=settings.K8S_POD_MEMORY_REQUEST,
        priority="normal",
    )


async def _own(request: Request, user: Document, execution_id: str) -> Document:
    execution = await state_of(request).database.executions.find_one({"execution_id": execution_id})
    if execution is None:
        raise ExecutionNotFoundError(execution_id)
    if execution["user_id"] != user["user_id"] and user["role"] != "admin":
        raise ForbiddenError("Access denied")
    return execution


@router.get("/executions/{execution_id}/result")
async def result(request: Request, user: CurrentUser, execution_id: str) -> dict[str, Any]:
    """Say how far an execution is."""
    execution = await _own(request, user, execution_id)
    return {field: execution.get(field) for field in _RESULT}


@router.post("/executions/{execution_id}/cancel")
async def cancel(request: Request, user: CurrentUser, execution_id: str, wanted: CancelRequest) -> dict[str, Any]:
    """Ask the workers to forget an execution."""
    execution = await _own(request, user, execution_id)
    if execution["status"] in _TERMINAL:
        raise ExecutionTerminalError(f"Execution '{execution_id}' is already {execution['status']}")
    event = new_event(
        "execution_cancelled",
        _SERVICE,
        user["user_id"],
        execution_id=execution_id,
        reason=wanted.reason,
        cancelled_by=user["user_id"],
        force_terminated=False,
    )
    await state_of(request).broker.produce(event, execution_id)
    return {
        "execution_id": execution_id,
        "status": "cancellation_requested",
        "message": "Cancellation request submitted",
        "event_id": event["event_id"],
    }
