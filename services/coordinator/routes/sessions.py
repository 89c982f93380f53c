"""Sessions of browsers: a token is traded for a cookie, and operators make passes for viewers."""

from fastapi import APIRouter, Request, Response

from protocol.problems import BodyTooLarge, InvalidRequest, TooSlow, Unauthorized, WrongMediaType
from protocol.watching import Pass, SessionReply, SignIn
from services.coordinator import openapi
from services.coordinator.identity.callers import OperatorDep
from services.coordinator.identity.gate import Gate
from services.coordinator.identity.sessions import COOKIE, new_pass
from services.coordinator.rounds.times import moment
from services.coordinator.routes.common import GUARDED, SettingsDep, StoreDep
from services.openapi import problems
from services.web import JSON, media_type, parse_json, read_body

router = APIRouter(tags=["page"])
MAX_SIGN_IN_BYTES = 8 << 10
"""Of a token in JSON, from whoever asks."""
SIGNING_IN = (Unauthorized, InvalidRequest, TooSlow, BodyTooLarge, WrongMediaType)


@router.post(
    "/session",
    summary="Sign a browser in",
    status_code=201,
    responses=problems(*SIGNING_IN),
    openapi_extra=openapi.SIGN_IN_BODY,
)
async def sign_in(request: Request, response: Response, settings: SettingsDep) -> SessionReply:
    """Trade the operators' token, or a viewer's pass, for a session in a cookie."""
    media_type(request, [JSON])
    body = parse_json(SignIn, await read_body(request, MAX_SIGN_IN_BYTES, settings.body_seconds))
    gate: Gate = request.app.state.gate
    session = gate.sessions.open(body.token.get_secret_value())
    proxied = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip()
    https = "https" in (request.url.scheme, proxied)
    response.set_cookie(
        COOKIE, session.value, expires=moment(session.expires), httponly=True, samesite="lax", secure=https
    )
    return SessionReply(role=session.role, expires=moment(session.expires))


@router.delete("/session", summary="Sign a browser out", status_code=204)
async def sign_out(response: Response) -> None:
    """Forget the session. Whoever has copied the cookie could use it until it expires."""
    response.delete_cookie(COOKIE)


@router.post(
    "/session/pass",
    summary="Make a pass for a viewer",
    status_code=201,
    dependencies=[OperatorDep],
    responses=problems(*GUARDED),
)
def make_pass(request: Request, store: StoreDep) -> Pass:
    """Make a pass, with which somebody can watch for a week and change nothing. The audit log has it as `pass`."""
    gate: Gate = request.app.state.gate
    session = new_pass(store, gate.sessions)
    return Pass(token=session.value, expires=moment(session.expires))
