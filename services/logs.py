"""Structured logs of both services: one JSON object a line, and one line a request that carries the request's id.

`configure` takes over every log of the process; `RequestLog` is the outermost middleware of an application.
"""

import logging
import re
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from protocol.problems import ProblemError
from services import web

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

REQUEST_ID = b"x-request-id"
WELL_FORMED = re.compile(rb"[A-Za-z0-9._-]{1,64}")
PROBES = {"/health", "/ready", "/metrics"}
"""Routes that machines ask every few seconds: logged for who looks for them only."""
CLIENT_GONE = 499
"""What nginx logs where the client went before the answer."""


def configure() -> None:
    """Write every log line of the process to stderr as JSON, or for people where stderr is a terminal.

    Call it once uvicorn has set its own logs up, as an application factory is; a second call changes nothing. This
    project logs from uvicorn's `--log-level` on, libraries from warnings on, and Python's warnings are logged too.
    """
    terminal = sys.stderr.isatty()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=_for_people() if terminal else _for_machines()))
    _take_over_handlers()
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("services").setLevel(logging.getLogger("uvicorn.error").level or logging.INFO)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def _take_over_handlers() -> None:
    """Let loggers that write to the standard streams themselves (uvicorn's, transformers', torch's) write to ours."""
    for logger in logging.root.manager.loggerDict.values():
        if not isinstance(logger, logging.Logger):
            continue
        for handler in logger.handlers[:]:
            if getattr(handler, "stream", None) in (sys.stderr, sys.stdout):
                logger.removeHandler(handler)
                logger.propagate = True
    # `RequestLog` logs requests; uvicorn asks for no access log where nobody would handle it.
    access = logging.getLogger("uvicorn.access")
    access.handlers, access.propagate = [], False


def _fields() -> list[structlog.types.Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
    ]


def _for_machines() -> list[structlog.types.Processor]:
    return [*_fields(), structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _for_people() -> list[structlog.types.Processor]:
    # The renderer's own choice of traceback shows local variables, which may hold a token or a client's vectors.
    return [*_fields(), structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]


@dataclass(frozen=True)
class Ended:
    """A request that has ended; `route` is its template, or `other`."""

    route: str
    status: int
    seconds: float
    bytes_in: int
    bytes_out: int


class RequestLog:
    """Middleware that names each request, logs it once it ends, and answers for what the application let fall.

    A well-formed `X-Request-ID` is taken over, else one is made; every log line of the request holds it as
    `request_id`, and every response as header. Bodies pass through as they come: they are counted, never kept.

    An exception is logged here, once, and becomes the 500 problem document that carries the id. It goes no further,
    or the server would log it again without the id.
    """

    def __init__(self, app: ASGIApp, ended: Callable[[Ended], None] | None = None) -> None:
        """`ended` is told of each request."""
        self._app = app
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an ASGI call on; anything but a request is passed as it is."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        exchange = _Exchange(_request_id(scope), receive, send)
        with structlog.contextvars.bound_contextvars(request_id=exchange.id):
            try:
                await self._app(scope, exchange.receive, exchange.send)
            except ClientDisconnect:
                exchange.gone = True  # nobody is there to answer, and the line says so
            except Exception:
                log.exception("request failed", method=scope["method"], route=_route(scope))
                if exchange.status is None:
                    fault = ProblemError(f"the service failed on this request; its log has the reason: {exchange.id}")
                    await web.respond(fault)(scope, exchange.receive, exchange.send)
            finally:
                self._end(scope, exchange)

    def _end(self, scope: Scope, exchange: "_Exchange") -> None:
        seconds = time.perf_counter() - exchange.started
        status = exchange.status or (CLIENT_GONE if exchange.gone else ProblemError.status)
        route = _route(scope)
        (log.debug if route in PROBES else log.info)(
            "request",
            method=scope["method"],
            route=route,
            status=status,
            duration_ms=round(seconds * 1000, 1),
            bytes_in=exchange.bytes_in,
            bytes_out=exchange.bytes_out,
            client_gone=exchange.gone,
        )
        if self._ended:
            self._ended(Ended(route, status, seconds, exchange.bytes_in, exchange.bytes_out))


class _Exchange:
    """One request and its response, watched as they pass.

    Attributes:
        status: The response's; None until it starts.
        gone: Whether the client went before it had the whole response.
    """

    def __init__(self, request_id: str, receive: Receive, send: Send) -> None:
        self.id = request_id
        self.started = time.perf_counter()
        self.status: int | None = None
        self.bytes_in = self.bytes_out = 0
        self.gone = False
        self._complete = False
        self._receive, self._send = receive, send

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self.bytes_in += len(message.get("body", b""))
        elif not self._complete:  # after its end, every request looks disconnected
            self.gone = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), (REQUEST_ID, self.id.encode())]}
        elif message["type"] == "http.response.body":
            self.bytes_out += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
        await self._send(message)


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == REQUEST_ID), b"")
    return given.decode() if WELL_FORMED.fullmatch(given) else uuid.uuid4().hex


def _route(scope: Scope) -> str:
    """The path as the route declares it. Paths that no route has are one: callers make up as many as they like."""
    return getattr(scope.get("route"), "path", None) or "other"
