"""What both services share of the web: problem responses, body bounds, media types, and the OpenAPI page's honesty.

A route reads its body, calls a plain function that knows no HTTP, and lets `ProblemError` fly; the one mapping to
responses is `install`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.concurrency import iterate_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from protocol.problems import (
    KINDS,
    MEDIA_TYPE,
    BodyTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    ProblemError,
    TooSlow,
    WrongMediaType,
)

log = logging.getLogger(__name__)

JSON = "application/json"
REPLY_PART = 1 << 18
"""Bytes of a reply that are handed to the connection at once."""

Model = TypeVar("Model", bound=BaseModel)


def install(app: FastAPI) -> None:
    """Answer every refusal of `app` with a problem document. What falls through is `services.logs.RequestLog`'s."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)


def respond(problem: ProblemError) -> Response:
    """The response that a refusal becomes."""
    body = problem.document().model_dump_json(exclude_defaults=True)
    return Response(body, problem.status, problem.headers, media_type=MEDIA_TYPE)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return respond(error)


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return respond(InvalidRequest.of_items(error.errors()))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == NotFound.status:
        return respond(NotFound(f"there is no {request.url.path}; GET /docs lists the routes"))
    if error.status_code == MethodNotAllowed.status:
        allowed = _methods(request)
        refusal = f"{request.url.path} takes {', '.join(allowed)}, not {request.method}; see GET /docs"
        return respond(MethodNotAllowed(refusal, allowed=allowed))
    kind = KINDS.get(error.status_code, ProblemError)
    return respond(kind(str(error.detail)))


def _methods(request: Request) -> list[str]:
    """The methods that the request's path is served for, on whichever routes."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    matching = [route for route in routes if route.path_regex.match(request.url.path)]
    return sorted({method for route in matching for method in route.methods or ()})


def media_type(request: Request, accepted: Sequence[str]) -> str:
    """The media type of the request's body.

    Raises:
        WrongMediaType: It is not among those accepted, or the body is compressed.
    """
    if (coding := request.headers.get("content-encoding", "identity").lower()) != "identity":
        raise WrongMediaType(f"Content-Encoding is {coding!r}; send the body as it is")
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in accepted:
        raise WrongMediaType(f"Content-Type is {given or 'absent'!r}; send {' or '.join(accepted)}")
    return given


async def read_body(request: Request, limit: int, seconds: float | None = None) -> bytes:
    """The whole body, in memory.

    Raises:
        BodyTooLarge, TooSlow: As `receive_body`.
    """
    body = bytearray()

    async def take(chunk: bytes) -> None:
        body.extend(chunk)

    await receive_body(request, take, limit, seconds)
    return bytes(body)


async def receive_body(
    request: Request, take: Callable[[bytes], Awaitable[None]], limit: int, seconds: float | None = None
) -> None:
    """Pass the body on part by part, read no further than the limit allows, whatever Content-Length says.

    Raises:
        BodyTooLarge: The body is, or says that it is, over the limit.
        TooSlow: It did not arrive within so many seconds.
    """
    refusal = BodyTooLarge(f"the body is over {limit} bytes; send less in one call", limit=limit)
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limit:
        raise refusal
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise refusal
                await take(chunk)
    except TimeoutError as error:
        raise TooSlow(f"the body did not arrive within {seconds:g} s; send it faster, or less in one call") from error


class Reply(Response):
    """A large body, sent in parts; a client that takes no part of it for so many seconds is left.

    Sent as a whole, it would stay in memory for as long as its client pleases.
    """

    def __init__(self, body: bytes, media_type: str, seconds: float) -> None:
        super().__init__(body, media_type=media_type)
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. Raises `ClientDisconnect` where it is not taken, which ends the connection."""
        await self._send(send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for part in self._parts():
            await self._send(send, {"type": "http.response.body", "body": part, "more_body": True})
        await self._send(send, {"type": "http.response.body"})

    async def _parts(self) -> AsyncIterator[bytes | memoryview]:
        for start in range(0, len(self.body), REPLY_PART):
            yield self.body[start : start + REPLY_PART]

    async def _send(self, send: Send, message: Message) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await send(message)
        except TimeoutError as error:
            raise ClientDisconnect from error


class PiecesReply(Reply):
    """A body that is made piece by piece, in threads, while it is sent."""

    def __init__(
        self,
        pieces: Iterable[bytes | memoryview],
        length: int,
        media_type: str,
        seconds: float,
        headers: dict[str, str],
    ) -> None:
        super().__init__(b"", media_type, seconds)
        self._pieces = pieces
        self.headers.update({"Content-Length": str(length), **headers})

    async def _parts(self) -> AsyncIterator[bytes | memoryview]:
        async for piece in iterate_in_threadpool(self._pieces):
            yield piece


def parse_json(model: type[Model], body: bytes) -> Model:
    """The JSON body as a message. Types are as the API page says: no number is read from a string, no flag from one.

    Raises:
        InvalidRequest: It is not JSON, or a field is invalid; the fields are named.
    """
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise InvalidRequest.from_validation(error) from error
