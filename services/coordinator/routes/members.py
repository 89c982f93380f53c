"""Joining, leaving, being removed, and changing keys."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.concurrency import run_in_threadpool

from protocol.members import Clients, JoinReply, JoinRequest, KeyRotation
from protocol.problems import Forbidden, NotFound, Unauthorized
from protocol.signatures import thumbprint
from services.coordinator import openapi
from services.coordinator.identity.callers import SIGNATURE, TOKEN, ClientDep, OperatorDep, SelfOrOperatorDep
from services.coordinator.identity.gate import Gate, signed_body, signing_key
from services.coordinator.identity.joining import join, leave, public_key, revoke, rotate
from services.coordinator.identity.members import clients
from services.coordinator.routes.common import (
    GUARDED,
    MAX_JOIN_BYTES,
    MAX_JSON_BYTES,
    PRINTABLE,
    WITH_BODY,
    SettingsDep,
    StoreDep,
    WorkerDep,
)
from services.openapi import problems
from services.web import JSON, media_type, parse_json

router = APIRouter(tags=["members"])
ClientPath = Annotated[str, Path(max_length=100, pattern=PRINTABLE, description="The client's id.")]


@router.post(
    "/clients",
    summary="Join",
    status_code=201,
    dependencies=[TOKEN, SIGNATURE],
    responses=problems(*WITH_BODY),
    openapi_extra=openapi.JOIN_BODY,
)
async def join_federation(request: Request, store: StoreDep, worker: WorkerDep, settings: SettingsDep) -> JoinReply:
    """Join, with the invitation token or a key that an operator has listed. The body's key signs the request.

    The same key again is the same client: its name and counts are brought up to date, and so are its entities and
    relations unless a training is running.
    """
    gate: Gate = request.app.state.gate
    signed = await gate.joining(request)
    media_type(request, [JSON])
    limit = min(settings.max_body_bytes, MAX_JOIN_BYTES)
    body = await signed_body(request, limit, settings.body_seconds)
    message = await run_in_threadpool(parse_json, JoinRequest, body)
    public = public_key(message.public_key)
    if thumbprint(public) != signed.key_id:
        raise Unauthorized("the request is signed by another key than the one in its body")
    await gate.prove(request, signed, public)
    reply = await run_in_threadpool(join, store, message)
    worker.kick()
    return reply


@router.get("/clients", summary="Members", dependencies=[OperatorDep], responses=problems(*GUARDED))
def members(store: StoreDep) -> Clients:
    """All that ever joined, with what they sent and when they were seen; an operator's part."""
    return clients(store)


@router.delete(
    "/clients/{client}", summary="Leave, or remove a client", status_code=204, responses=problems(*GUARDED, NotFound)
)
async def remove_client(client: ClientPath, caller: SelfOrOperatorDep, store: StoreDep, worker: WorkerDep) -> None:
    """Leave, as the client itself, or remove it for good, as an operator. Rounds no longer wait for it."""
    await run_in_threadpool(revoke if caller.role == "operator" else leave, store, client)
    worker.kick()


@router.put(
    "/clients/{client}/key",
    summary="Change a client's key",
    responses=problems(*WITH_BODY),
    openapi_extra=openapi.ROTATION_BODY,
)
async def rotate_key(
    client: ClientPath,
    caller: ClientDep,
    request: Request,
    store: StoreDep,
    worker: WorkerDep,
    settings: SettingsDep,
) -> JoinReply:
    """Let a new key speak for the client from now on; signed by the present one, with a proof of the new one."""
    if caller != client:
        raise Forbidden("a client can change its own key only")
    media_type(request, [JSON])
    rotation = parse_json(KeyRotation, await signed_body(request, MAX_JSON_BYTES, settings.body_seconds))
    reply = await run_in_threadpool(rotate, store, client, rotation, signing_key(request))
    worker.kick()
    return reply
