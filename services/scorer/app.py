"""The scorer's routes. Start it with `uvicorn services.scorer.app:create_app --factory`.

A route reads the body, has a worker run a plain function of `service` on it, and drops the call if its client goes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, TypeVar

from fastapi import Depends, FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from protocol.problems import BodyTooLarge, Busy, InvalidRequest, ModelFailed, NotReady, WrongMediaType
from protocol.scoring import (
    EncodeGradientReply,
    EncodeGradientRequest,
    EncodeReply,
    EncodeRequest,
    Info,
    ScoreReply,
    ScoreRequest,
)
from protocol.tensors import MEDIA_TYPE
from services import web
from services.scorer import pages
from services.scorer.loading import LoadError
from services.scorer.service import Service
from services.scorer.settings import Settings
from services.scorer.worker import ENDED, Worker
from services.settings import read_settings

T = TypeVar("T")

REFUSALS = web.problems(BodyTooLarge, WrongMediaType, InvalidRequest, ModelFailed, Busy, NotReady)


class Status(BaseModel):
    """The state of the scorer in one word."""

    status: str


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application; its model is loaded when the server starts it. Settings come from the environment by default."""
    chosen = settings or read_settings(Settings, "scorer")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = Service(chosen)
        app.state.worker = Worker(chosen.workers, chosen.queue, chosen.threads)
        yield
        app.state.worker.close()

    app = FastAPIOffline(
        redoc_url=None,
        title="Tripleherd scorer",
        version="0.1.0",
        description=pages.DESCRIPTION,
        openapi_tags=pages.TAGS,
        lifespan=lifespan,
    )
    app.state.max_body_bytes = chosen.max_body_bytes
    app.add_middleware(_PlainStartFailure)
    web.install(app)
    _add_scoring(app)
    _add_status(app)
    web.install_openapi(app, pages.MODELS)
    return app


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(_service)]


def _add_scoring(app: FastAPI) -> None:
    @app.post(
        "/score",
        tags=["scoring"],
        summary="Score triples",
        responses=_replies(ScoreReply, pages.SCORE_REPLY),
        openapi_extra=web.body_of(ScoreRequest, pages.SCORE_EXAMPLES, tensors=pages.SCORE_BODY),
    )
    async def score(request: Request, service: ServiceDep) -> Response:
        """How plausible each triple is: logit(yes) - logit(no) at the end of a prompt that asks for a verdict."""
        return await _answer(request, service.score)

    @app.post(
        "/encode",
        tags=["encoding"],
        summary="Encode queries",
        responses=_replies(EncodeReply, pages.ENCODE_REPLY),
        openapi_extra=web.body_of(EncodeRequest, pages.ENCODE_EXAMPLES, tensors=pages.ENCODE_BODY),
    )
    async def encode(request: Request, service: ServiceDep) -> Response:
        """The model's last hidden state for each (entity, relation) query: one pass for all its candidates."""
        return await _answer(request, service.encode)

    @app.post(
        "/encode/gradient",
        tags=["encoding"],
        summary="Gradients of encoded queries",
        responses=_replies(EncodeGradientReply, pages.GRADIENT_REPLY),
        openapi_extra=web.body_of(EncodeGradientRequest, pages.GRADIENT_EXAMPLES, tensors=pages.GRADIENT_BODY),
    )
    async def encode_gradient(request: Request, service: ServiceDep) -> Response:
        """d(loss)/d(vectors) for given d(loss)/d(states). Any replica answers: nothing is kept from `/encode`."""
        return await _answer(request, service.encode_gradient)


def _add_status(app: FastAPI) -> None:
    @app.get("/health", tags=["status"], summary="Is the process alive?")
    async def health() -> Status:
        """Answers as long as the process does."""
        return Status(status="alive")

    @app.get("/ready", tags=["status"], summary="May calls be sent?", responses=web.problems(NotReady))
    async def ready(request: Request) -> Status:
        """The model is loaded and warmed, and its workers take calls."""
        if not request.app.state.worker.alive:
            raise NotReady(ENDED)
        return Status(status="ready")

    @app.get("/info", tags=["status"], summary="Model, templates and limits")
    async def info(service: ServiceDep) -> Info:
        """What is loaded, and every limit."""
        return service.info


def _replies(model: type[BaseModel], layout: str) -> dict[int | str, dict[str, object]]:
    """The `responses` of a route that answers in both forms."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    content = {web.JSON: {"schema": schema}, MEDIA_TYPE: web.binary(layout)}
    return {200: {"description": "The reply, in the form of the request", "content": content}, **REFUSALS}


async def _answer(request: Request, call: Callable[[bytes, str], bytes]) -> Response:
    """Run the call on the body in a worker, and leave it as soon as the client does."""
    media = web.media_type(request, (web.JSON, MEDIA_TYPE))
    body = await web.read_body(request, request.app.state.max_body_bytes)
    future = request.app.state.worker.submit(lambda: call(body, media))
    result = asyncio.wrap_future(future)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({result, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            return Response(status_code=499)  # nobody reads it; the number is what nginx logs for this
        return Response(result.result(), media_type=media)
    finally:
        gone.cancel()
        result.cancel()  # drops a call that waits; one that is done stays done


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _PlainStartFailure:
    """Gives the server one line to log where a model cannot be loaded, and no traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            return await self._app(scope, receive, send)
        failed: Message | None = None

        async def hold(message: Message) -> None:
            nonlocal failed
            if message["type"] == "lifespan.startup.failed":
                failed = message
            else:
                await send(message)

        try:
            await self._app(scope, receive, hold)
        except LoadError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        except BaseException:
            if failed:
                await send(failed)
            raise
