"""What operators do with trainings, and what they may take away: the model and the audit log."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from protocol.members import Audit
from protocol.problems import Conflict, NotFound
from protocol.rounds import TrainingSummary
from protocol.tensors import MEDIA_TYPE as SAFETENSORS
from protocol.trainings import TrainingSettings
from services.coordinator import openapi
from services.coordinator.identity.callers import OperatorDep
from services.coordinator.rounds.audit import audit_log
from services.coordinator.rounds.shares import whole_model
from services.coordinator.rounds.trainings import pause_training, resume_training, start_training, stop_training
from services.coordinator.routes.common import (
    GUARDED,
    LARGEST,
    MAX_JSON_BYTES,
    PRINTABLE,
    WITH_BODY,
    SettingsDep,
    StoreDep,
    WorkerDep,
)
from services.openapi import problems
from services.web import JSON, PiecesReply, media_type, parse_json, read_body

router = APIRouter(tags=["operators"], dependencies=[OperatorDep])


@router.post(
    "/round",
    summary="Start a training",
    status_code=201,
    responses=problems(*WITH_BODY),
    openapi_extra=openapi.TRAINING_BODY,
)
async def start(request: Request, store: StoreDep, worker: WorkerDep, settings: SettingsDep) -> TrainingSummary:
    """Start a training. Its first round opens once enough clients have joined."""
    media_type(request, [JSON])
    fixed = parse_json(TrainingSettings, await read_body(request, MAX_JSON_BYTES, settings.body_seconds))
    summary = await run_in_threadpool(start_training, store, fixed, settings.max_body_bytes)
    worker.kick()
    return summary


@router.post("/round/pause", summary="Pause the training", responses=problems(*GUARDED, Conflict))
async def pause(store: StoreDep, worker: WorkerDep) -> TrainingSummary:
    """Keep the running training as it is until it is resumed. Updates that clients have trained are still taken."""
    summary = await run_in_threadpool(pause_training, store)
    worker.kick()
    return summary


@router.post("/round/resume", summary="Resume the training", responses=problems(*GUARDED, Conflict))
async def resume(store: StoreDep, worker: WorkerDep) -> TrainingSummary:
    """Go on where the training was paused, with a fresh deadline."""
    summary = await run_in_threadpool(resume_training, store)
    worker.kick()
    return summary


@router.post("/round/stop", summary="Stop the training", responses=problems(*GUARDED, Conflict))
async def stop(store: StoreDep, worker: WorkerDep) -> TrainingSummary:
    """End the running training with its best version so far. Clients conclude with that version."""
    summary = await run_in_threadpool(stop_training, store)
    worker.kick()
    return summary


@router.get(
    "/model",
    summary="The best model",
    response_class=Response,
    responses={**problems(*GUARDED, NotFound), 200: openapi.MODEL},
)
async def model(
    store: StoreDep,
    settings: SettingsDep,
    training: Annotated[
        str | None, Query(pattern=PRINTABLE, description="Id of the training; the latest unless given.")
    ] = None,
) -> Response:
    """The best version of a training so far: all global rows with their opaque keys, and the dense tensors."""
    share = await run_in_threadpool(whole_model, store, training)
    return PiecesReply(share.pieces(), share.length, SAFETENSORS, settings.body_seconds, {"ETag": share.etag})


@router.get("/audit", summary="The audit log", responses=problems(*GUARDED))
def audit(
    store: StoreDep,
    before: Annotated[int | None, Query(ge=0, le=LARGEST, description="Only entries with a smaller number.")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000, description="At most so many.")] = 100,
) -> Audit:
    """Who did what when, newest first: joins, updates, evaluations, what operators did, and every version made."""
    return audit_log(store, before, limit)
