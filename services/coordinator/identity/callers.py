"""What routes ask of their callers, as dependencies; and how callers show who they are, for the OpenAPI page."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, APIKeyHeader, HTTPBearer

from protocol.problems import Forbidden, Unauthorized
from services.coordinator.identity.gate import Caller, Gate, bearer
from services.coordinator.identity.sessions import COOKIE

TOKEN = Depends(
    HTTPBearer(scheme_name="Token", auto_error=False, description="The operators' token, or the invitation to join.")
)
SESSION = Depends(
    APIKeyCookie(
        name=COOKIE,
        scheme_name="Session",
        auto_error=False,
        description="A browser's session, from `POST /session`. What changes something needs the header "
        "`Tripleherd-Page: 1` beside it.",
    )
)
SIGNATURE = Depends(
    APIKeyHeader(
        name="Signature",
        scheme_name="Signature",
        auto_error=False,
        description="A client's signature of the request (RFC 9421, Ed25519), with `Signature-Input` and "
        "`Content-Digest` beside it; docs/coordinator.md says over what, in Python and with openssl.",
    )
)


async def _caller(request: Request) -> Caller:
    """The operator, viewer or client."""
    gate: Gate = request.app.state.gate
    if (token := bearer(request)) is not None:
        if not gate.is_operator(token):
            raise Unauthorized("this is not the operators' token; clients sign their requests (RFC 9421) instead")
        return Caller("operator")
    if "signature-input" in request.headers:
        return Caller("client", await gate.client(request))
    if (session := gate.session(request)) is not None:
        return Caller(session.role)
    raise Unauthorized("operators send `Authorization: Bearer <token>`; clients sign their requests (RFC 9421)")


_Caller = Annotated[Caller, Depends(_caller)]


async def _operator(caller: _Caller, token: Annotated[object, TOKEN], session: Annotated[object, SESSION]) -> None:
    if caller.role != "operator":
        raise Forbidden("this route is for operators, who send their token")


async def _watcher(caller: _Caller, token: Annotated[object, TOKEN], session: Annotated[object, SESSION]) -> None:
    if caller.role == "client":
        raise Forbidden("this route is for operators and viewers; clients read GET /rounds")


async def _client(caller: _Caller, signature: Annotated[object, SIGNATURE]) -> str:
    if caller.client is None:
        raise Forbidden("this route is for clients, who sign their requests")
    return caller.client


async def _member(
    caller: _Caller,
    token: Annotated[object, TOKEN],
    session: Annotated[object, SESSION],
    signature: Annotated[object, SIGNATURE],
) -> Caller:
    return caller


async def _self_or_operator(request: Request, caller: Annotated[Caller, Depends(_member)]) -> Caller:
    if caller.role != "operator" and caller.client != request.path_params["client"]:
        raise Forbidden("a client can do this for itself only; operators do it for others")
    return caller


OperatorDep = Depends(_operator)
WatcherDep = Depends(_watcher)
ClientDep = Annotated[str, Depends(_client)]
MemberDep = Annotated[Caller, Depends(_member)]
"""Whoever may see where a training stands."""
SelfOrOperatorDep = Annotated[Caller, Depends(_self_or_operator)]
"""For routes below `/clients/{client}`."""
