"""What clients do in rounds: look, fetch, send. `operators` has what operators do."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from protocol.problems import NotFound, Unauthorized
from protocol.rounds import Evaluation, EvaluationReceipt, Rounds, RoundView, UpdateReceipt
from protocol.tensors import MEDIA_TYPE as SAFETENSORS
from services.coordinator import openapi
from services.coordinator.identity.callers import ClientDep, MemberDep
from services.coordinator.identity.gate import claimed_digest, signed_body, signing_key
from services.coordinator.metrics import Metrics
from services.coordinator.rounds.evaluations import accept_evaluation
from services.coordinator.rounds.history import rounds_history
from services.coordinator.rounds.incoming import Incoming
from services.coordinator.rounds.shares import client_share
from services.coordinator.rounds.updates import accept_update, admission, standing_receipt
from services.coordinator.routes.common import (
    GUARDED,
    LARGEST,
    MAX_JSON_BYTES,
    PRINTABLE,
    WITH_BODY,
    Number,
    SettingsDep,
    StoreDep,
    WorkerDep,
)
from services.openapi import problems
from services.web import JSON, PiecesReply, media_type, parse_json, receive_body

router = APIRouter(tags=["rounds"])


@router.get(
    "/round", summary="The round, as the caller should see it", responses=problems(*GUARDED), response_model=RoundView
)
async def current_round(
    caller: MemberDep,
    worker: WorkerDep,
    settings: SettingsDep,
    wait: Annotated[float, Query(ge=0, description="Seconds; cut to the longest wait that is set.")] = 0,
    after: Annotated[int | None, Query(description="Answer at once if the event is greater.")] = None,
) -> Response:
    """The round as the caller should see it; with `wait` and `after`, as soon as something has changed."""
    snapshot = await worker.snapshot_after(after, min(wait, settings.max_wait_seconds))
    return Response(snapshot.body(caller.client), media_type=JSON)


@router.get(
    "/round/{number}/embeddings",
    summary="A client's share of a version",
    response_class=Response,
    responses={**problems(*GUARDED, NotFound), 200: openapi.SHARE, 304: openapi.NOT_MODIFIED},
)
async def embeddings(
    number: Number, client: ClientDep, request: Request, store: StoreDep, settings: SettingsDep
) -> Response:
    """The client's share of version `number`: the rows of what it holds in its own order, and dense tensors.

    The reply's `ETag` sent as `If-None-Match` is answered 304, as a version never changes.
    """
    share = await run_in_threadpool(client_share, store, client, number)
    headers = {"ETag": share.etag, "Cache-Control": "private"}
    if share.etag in request.headers.get("if-none-match", ""):
        share.close()
        return Response(status_code=304, headers=headers)
    return PiecesReply(share.pieces(), share.length, SAFETENSORS, settings.body_seconds, headers)


@router.put(
    "/round/{number}/update",
    summary="Send an update",
    status_code=201,
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
    digest = claimed_digest(request)
    standing = await run_in_threadpool(standing_receipt, store, client, number, digest.hex())
    if standing is not None:
        response.status_code = 200
        return standing
    admitted = await run_in_threadpool(admission, store, client, number)
    file = store.blobs.temporary()
    try:
        async with Incoming(file) as incoming:
            limit = min(settings.max_body_bytes, admitted.max_bytes)
            await receive_body(request, incoming.take, limit, settings.body_seconds)
            if await incoming.end() != digest:
                raise Unauthorized("the body is not the one that was signed; sign what is sent, and send it again")
        sender = client, signing_key(request)
        receipt, new = await run_in_threadpool(accept_update, store, *sender, number, admitted, file, digest.hex())
    finally:
        file.unlink(missing_ok=True)
    response.status_code = 201 if new else 200
    if new:
        metrics: Metrics = request.app.state.metrics
        metrics.took_update(store.clock() - admitted.drawn)
    worker.kick()
    return receipt


@router.put(
    "/round/{number}/evaluation",
    summary="Report metrics",
    status_code=201,
    responses={**problems(*WITH_BODY), 200: openapi.same_receipt(EvaluationReceipt)},
    openapi_extra=openapi.EVALUATION_BODY,
)
async def put_evaluation(
    number: Number,
    client: ClientDep,
    request: Request,
    response: Response,
    store: StoreDep,
    worker: WorkerDep,
    settings: SettingsDep,
) -> EvaluationReceipt:
    """The client's metrics of version `number`, while it is evaluated or as the best of a finished training."""
    media_type(request, [JSON])
    evaluation = parse_json(Evaluation, await signed_body(request, MAX_JSON_BYTES, settings.body_seconds))
    receipt, new = await run_in_threadpool(accept_evaluation, store, client, signing_key(request), number, evaluation)
    response.status_code = 201 if new else 200
    worker.kick()
    return receipt


@router.get("/rounds", summary="Trainings and rounds", responses=problems(*GUARDED, NotFound))
def history(
    caller: MemberDep,
    store: StoreDep,
    training: Annotated[str | None, Query(pattern=PRINTABLE, description="Only this training.")] = None,
    before: Annotated[int | None, Query(ge=0, le=LARGEST, description="Only rounds with a smaller number.")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000, description="At most so many.")] = 100,
) -> Rounds:
    """History: trainings and rounds, newest first, with metrics as means over clients weighted by triples."""
    return rounds_history(store, training, before, limit)
