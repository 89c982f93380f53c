"""Who speaks: the bearer token of a request, and what it allows. Tokens are compared as digests and never logged."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from protocol.problems import Forbidden, Unauthorized
from services.coordinator.joining import client_with_secret, digest
from services.coordinator.settings import CoordinatorSettings
from services.coordinator.store import Store

Role = Literal["operator", "invitee", "client"]

_bearer = HTTPBearer(
    auto_error=False,
    description="Operators' token, invitation token, or the secret that a client got when it joined.",
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


@dataclass(frozen=True)
class Caller:
    """Whoever sent the request; `client` is the id where the role is that of a client."""

    role: Role
    client: str | None = None


class Gate:
    """Tells callers by their tokens. Holds digests of the two fixed tokens."""

    def __init__(self, settings: CoordinatorSettings, store: Store) -> None:
        self._fixed: dict[Role, str] = {
            "operator": digest(settings.operator()),
            "invitee": digest(settings.invitation()),
        }
        self._store = store

    def identify(self, token: str) -> Caller:
        """The caller with this token.

        Raises:
            Unauthorized: Nobody was given it.
        """
        given = digest(token)
        for role, expected in self._fixed.items():
            if hmac.compare_digest(given, expected):
                return Caller(role)
        client = client_with_secret(self._store, given)
        if client is None:
            raise Unauthorized("nobody was given this token; a client that joined again has a fresh secret")
        return Caller("client", client)


def require(*roles: Role) -> Callable[[Request, HTTPAuthorizationCredentials | None], Caller]:
    """The dependency of a route that only these roles may call."""

    def caller(request: Request, credentials: Credentials) -> Caller:
        if credentials is None:
            raise Unauthorized("send the header `Authorization: Bearer <token>`")
        gate: Gate = request.app.state.gate
        found = gate.identify(credentials.credentials)
        if found.role not in roles:
            raise Forbidden(f"this is a token of role {found.role}; the route is for {' and '.join(roles)}")
        return found

    return caller


def _client_id(caller: Annotated[Caller, Depends(require("client"))]) -> str:
    assert caller.client is not None
    return caller.client


OperatorDep = Depends(require("operator"))
InviteeDep = Depends(require("invitee"))
MemberDep = Annotated[Caller, Depends(require("client", "operator"))]
ClientDep = Annotated[str, Depends(_client_id)]
