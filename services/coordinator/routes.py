"""The routes that clients and operators call. Each reads what HTTP brought, and calls one function that knows none."""

import asyncio
import contextlib
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from protocol.federation import (
    Evaluation,
    EvaluationReceipt,
    JoinReply,
    JoinRequest,
    Rounds,
    RoundView,
    TrainingSettings,
    TrainingSummary,
    UpdateReceipt,
)
from protocol.problems import (
    BodyTooLarge,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    Unauthorized,
    WrongMediaType,
)
from protocol.tensors import MEDIA_TYPE as SAFETENSORS
from services.coordinator import openapi
from services.coordinator.auth import ClientDep, InviteeDep, MemberDep, OperatorDep
from services.coordinator.evaluations import accept_evaluation
from services.coordinator.history import rounds_history
from services.coordinator.joining import join, remove
from services.coordinator.settings import CoordinatorSettings
from services.coordinator.store import Store
from services.coordinator.trainings import start_training, stop_training
from services.coordinator.updates import accept_update
from services.coordinator.versions import client_share
from services.coordinator.views import round_view
from services.coordinator.worker import Worker
from services.web import JSON, media_type, parse_json, problems, read_body

MAX_JSON_BYTES = 1 << 20
"""Of the bodies whose size does not grow with a client's graph."""
LARGEST = (1 << 63) - 1
"""SQLite's largest integer."""
GUARDED = (Unauthorized, Forbidden, InvalidRequest)
WITH_BODY = (*GUARDED, Conflict, BodyTooLarge, WrongMediaType)

router = APIRouter()


def _settings(request: Request) -> CoordinatorSettings:
    settings: CoordinatorSettings = request.app.state.settings
    return settings


def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


def _worker(request: Request) -> Worker:
    worker: Worker = request.app.state.worker
    return worker


SettingsDep = Annotated[CoordinatorSettings, Depends(_settings)]
StoreDep = Annotated[Store, Depends(_store)]
WorkerDep = Annotated[Worker, Depends(_worker)]
Number = Annotated[int, Path(ge=1, le=LARGEST, description="Number of the round, which is its version's too.")]


@router.post(
    "/clients",
    status_code=201,
    tags=["members"],
    dependencies=[InviteeDep],
    responses=problems(*WITH_BODY),
    openapi_extra=openapi.JOIN_BODY,
)
async def join_federation(request: Request, store: StoreDep, worker: WorkerDep, settings: SettingsDep) -> JoinReply:
    """Join, with the invitation token. The same join key again gives the same client a fresh secret."""
    media_type(request, [JSON])
    body = await read_body(request, settings.max_body_bytes)
    message = await run_in_threadpool(parse_json, JoinRequest, body)
    reply = await run_in_threadpool(join, store, message)
    worker.kick()
    return reply


@router.delete(
    "/clients/{client}",
    status_code=204,
    tags=["members"],
    dependencies=[OperatorDep],
    responses=problems(*GUARDED, NotFound),
)
async def remove_client(
    client: Annotated[str, Path(max_length=100, description="The client's id.")], store: StoreDep, worker: WorkerDep
) -> None:
    """Remove a member that is gone or not trusted; an operator's part. Rounds no longer wait for it."""
    await run_in_threadpool(remove, store, client)
    worker.kick()


@router.get("/round", tags=["rounds"], responses=problems(*GUARDED))
async def current_round(
    caller: MemberDep,
    store: StoreDep,
    worker: WorkerDep,
    settings: SettingsDep,
    wait: Annotated[float, Query(ge=0, description="Seconds; cut to the longest wait that is set.")] = 0,
    after: Annotated[int | None, Query(description="Answer at once if the event is greater.")] = None,
) -> RoundView:
    """The round as the caller should see it; with `wait` and `after`, as soon as something has changed."""
    clock = asyncio.get_running_loop().time
    until = clock() + min(wait, settings.max_wait_seconds)
    while True:
        changed = worker.changed
        view = await run_in_threadpool(round_view, store, caller.client)
        left = until - clock()
        if after is None or view.event > after or left <= 0 or worker.stopping:
            return view
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), left)


@router.post(
    "/round",
    status_code=201,
    tags=["rounds"],
    dependencies=[OperatorDep],
    responses=problems(*WITH_BODY),
    openapi_extra=openapi.TRAINING_BODY,
)
async def start(request: Request, store: StoreDep, worker: WorkerDep, settings: SettingsDep) -> TrainingSummary:
    """Start a training; an operator's part. Its first round opens once enough clients have joined."""
    media_type(request, [JSON])
    fixed = parse_json(TrainingSettings, await read_body(request, MAX_JSON_BYTES))
    summary = await run_in_threadpool(start_training, store, fixed, settings.max_body_bytes)
    worker.kick()
    return summary


@router.post("/round/stop", tags=["rounds"], dependencies=[OperatorDep], responses=problems(*GUARDED, Conflict))
async def stop(store: StoreDep, worker: WorkerDep) -> TrainingSummary:
    """End the running training with its best version so far; an operator's part. Clients conclude with that version."""
    summary = await run_in_threadpool(stop_training, store)
    worker.kick()
    return summary


@router.get(
    "/round/{number}/embeddings",
    tags=["rounds"],
    response_class=Response,
    responses={**problems(*GUARDED, NotFound), 200: openapi.SHARE},
)
def embeddings(number: Number, client: ClientDep, store: StoreDep) -> Response:
    """The client's share of version `number`: the rows of its own entities in its own order, and dense tensors."""
    return Response(client_share(store, client, number), media_type=SAFETENSORS)


@router.put(
    "/round/{number}/update",
    status_code=201,
    tags=["rounds"],
    responses={**problems(*WITH_BODY), 200: openapi.same_receipt(UpdateReceipt)},
    openapi_extra=openapi.UPDATE_BODY,
)
async def put_update(
    number: Number,
    client: ClientDep,
    request: Request,
    response: Response,
    store: StoreDep,
    worker: WorkerDep,
    settings: SettingsDep,
) -> UpdateReceipt:
    """The client's trained rows and dense tensors of round `number`. The same body again gets the same receipt."""
    media_type(request, [SAFETENSORS])
    body = await read_body(request, settings.max_body_bytes)
    receipt, new = await run_in_threadpool(accept_update, store, client, number, body)
    response.status_code = 201 if new else 200
    worker.kick()
    return receipt


@router.put(
    "/round/{number}/evaluation",
    status_code=201,
    tags=["rounds"],
    responses={**problems(*WITH_BODY), 200: openapi.same_receipt(EvaluationReceipt)},
    openapi_extra=openapi.EVALUATION_BODY,
)
async def put_evaluation(
    number: Number, client: ClientDep, request: Request, response: Response, store: StoreDep, worker: WorkerDep
) -> EvaluationReceipt:
    """The client's metrics of version `number`, while it is evaluated or as the best of a finished training."""
    media_type(request, [JSON])
    evaluation = parse_json(Evaluation, await read_body(request, MAX_JSON_BYTES))
    receipt, new = await run_in_threadpool(accept_evaluation, store, client, number, evaluation)
    response.status_code = 201 if new else 200
    worker.kick()
    return receipt


@router.get("/rounds", tags=["rounds"], responses=problems(*GUARDED, NotFound))
def history(
    caller: MemberDep,
    store: StoreDep,
    training: Annotated[str | None, Query(description="Only this training.")] = None,
    before: Annotated[int | None, Query(ge=0, le=LARGEST, description="Only rounds with a smaller number.")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Rounds:
    """History: trainings and rounds, newest first, with metrics as means over clients weighted by triples."""
    return rounds_history(store, training, before, limit)
