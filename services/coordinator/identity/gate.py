"""Who speaks: operators send a bearer token, clients sign (RFC 9421), browsers have a session. Tokens are never logged.

A client's request is refused before its body is read, unless its key, its time, its signature and its nonce are right.
The digest that the body must then have was signed too: `signed_body` compares it.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from fastapi import Request
from fastapi.security.utils import get_authorization_scheme_param
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from protocol.problems import Forbidden, Unauthorized
from protocol.signatures import Signed, read_signature, verify
from protocol.watching import WatcherRole
from services.coordinator.identity.invitations import Invitations
from services.coordinator.identity.nonces import Nonces, Use
from services.coordinator.identity.sessions import COOKIE, Session, Sessions
from services.coordinator.settings import CoordinatorSettings
from services.coordinator.store.schema import Client, Key
from services.coordinator.store.store import Store
from services.web import read_body

Role = Literal["operator", "viewer", "client"]
PAGE_HEADER = "tripleherd-page"
"""No other site can have a browser send it, unless this service allowed that site to, and it allows none."""
SAFE = ("GET", "HEAD")


@dataclass(frozen=True)
class Caller:
    """Whoever sent the request; `client` is the id where the role is that of a client."""

    role: Role
    client: str | None = None


class Gate:
    """Tells callers, and lets nobody else through.

    Attributes:
        invitations: Who may join.
        sessions: Of browsers.
    """

    def __init__(self, settings: CoordinatorSettings, store: Store) -> None:
        self.invitations = Invitations(settings.invitation(), settings.allowed_keys_file)
        self._operator = settings.operator().encode()
        self.sessions = Sessions(self._operator, store.clock)
        self._window = settings.clock_window_seconds
        self._nonces = Nonces(store)
        self._store = store

    def is_operator(self, token: str) -> bool:
        """Whether this is the operators' token."""
        return hmac.compare_digest(token.encode(errors="replace"), self._operator)

    def session(self, request: Request) -> Session | None:
        """The session of the browser that sent the request, if it has one.

        Raises:
            Forbidden: The request changes something, and does not show that the coordinator's own page sent it.
        """
        session = self.sessions.read(request.cookies.get(COOKIE, ""))
        if session and request.method not in SAFE and PAGE_HEADER not in request.headers:
            raise Forbidden("with a session, send the header `Tripleherd-Page: 1`, as the page does")
        return session

    async def client(self, request: Request) -> str:
        """The client that signed the request.

        Raises:
            Unauthorized: Nobody did whom the coordinator knows, or not now, or not this, or a second time.
            Forbidden: A client that was removed, or has left.
        """
        signed = self._fresh(request)
        client = await run_in_threadpool(self._look_up_and_verify, request, signed)
        await self._use(signed, client)
        return client

    async def prove(self, request: Request, signed: Signed, public: bytes) -> None:
        """Check a signature against the key that should have made it, and use its nonce up.

        Raises:
            Unauthorized: It did not, or the nonce was used before.
        """
        await run_in_threadpool(_verify, request, public)
        await self._use(signed, None)

    async def _use(self, signed: Signed, client: str | None) -> None:
        # The window takes the signature until `created` and once its width; the clocks of two coordinators may differ.
        expires = signed.created + 2 * self._window
        if not await self._nonces.take(Use(signed.key_id, signed.nonce, client, expires)):
            raise Unauthorized("this request was taken before; sign every request, also a repeated one, anew")

    async def joining(self, request: Request) -> Signed:
        """The signature of a request to join, its key allowed to; `prove` it once the body has told the key.

        Raises:
            Unauthorized: There is none, it is not of now, or a listed key did not make it.
            Forbidden: The key may not join.
            NotReady: The list of keys cannot be read.
        """
        signed = self._fresh(request)
        listed = await run_in_threadpool(self.invitations.check, bearer(request), signed.key_id)
        if listed is not None:
            # A thumbprint is no secret: without this, who knows one could have a long body read.
            await run_in_threadpool(_verify, request, listed)
        return signed

    def _fresh(self, request: Request) -> Signed:
        """The signature, if it was made now; notes the digest that it covers."""
        signed = read_signature(request.headers)
        now = self._store.clock()
        if abs(off := signed.created - now) > self._window:
            raise Unauthorized(
                f"the signature is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the coordinator's clock; "
                f"at most {self._window:g} s are allowed: set the client's clock",
                server_time=datetime.fromtimestamp(now, UTC).isoformat(),
            )
        request.state.digest, request.state.key = signed.digest, signed.key_id
        return signed

    def _look_up_and_verify(self, request: Request, signed: Signed) -> str:
        """The client that has the key and signed with it; one change of threads, as every request comes here."""
        member = select(Key.client, Key.public, Key.ended, Client.removed_by).join(Client, Client.id == Key.client)
        with self._store.database.read() as session:
            found = session.execute(member.where(Key.id == signed.key_id)).one_or_none()
        if found is None:
            raise Unauthorized("the coordinator knows nobody with this key; join with it first", key=signed.key_id)
        if found.ended is not None:
            raise Unauthorized("this key was replaced by another one; sign with that", key=signed.key_id)
        if found.removed_by == "client":
            raise Forbidden(f"client {found.client} has left; join again to come back")
        if found.removed_by is not None:
            raise Forbidden(f"client {found.client} was removed by an operator")
        _verify(request, found.public)
        client: str = found.client
        return client


def watching(request: Request) -> WatcherRole | None:
    """As whom the sender of a request may look at the page; None if it has shown neither token nor session."""
    gate: Gate = request.app.state.gate
    if (token := bearer(request)) is not None and gate.is_operator(token):
        return "operator"
    session = gate.session(request)
    return session.role if session else None


def bearer(request: Request) -> str | None:
    """The bearer token of a request, if it has one."""
    scheme, token = get_authorization_scheme_param(request.headers.get("authorization"))
    return token if scheme.lower() == "bearer" and token else None


def claimed_digest(request: Request) -> bytes:
    """The SHA-256 that the body of a request that has passed the gate must have."""
    digest: bytes = request.state.digest
    return digest


def signing_key(request: Request) -> str:
    """The thumbprint of the key that signed a request that has passed the gate."""
    key: str = request.state.key
    return key


async def signed_body(request: Request, limit: int, seconds: float) -> bytes:
    """The body of a signed request.

    Raises:
        Unauthorized: It is not the one that was signed.
        BodyTooLarge, TooSlow: As `services.web.read_body`.
    """
    body = await read_body(request, limit, seconds)
    if hashlib.sha256(body).digest() != claimed_digest(request):
        raise Unauthorized("the body is not the one that was signed; sign what is sent, and send it again")
    return body


def _verify(request: Request, public: bytes) -> None:
    verify(request.method, f"http://coordinator{_target(request)}", request.headers, public)


def _target(request: Request) -> str:
    """Path and query as they were on the wire."""
    path = request.scope.get("raw_path") or request.scope["path"].encode()
    query = request.scope["query_string"]
    target: bytes = path + b"?" + query if query else path
    return target.decode("latin-1")
