"""The scorer's routes. Start it with `uvicorn services.scorer.app:create_app --factory`.

A route takes a place among the calls, reads the body, has the service answer it, and drops the call if its client goes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from protocol.encoding import EncodeGradientReply, EncodeGradientRequest, EncodeReply, EncodeRequest
from protocol.info import Info
from protocol.problems import (
    BodyTooLarge,
    Busy,
    InvalidRequest,
    ModelFailed,
    NotReady,
    OverBudget,
    ProblemError,
    TooSlow,
    Unauthorized,
    WrongMediaType,
)
from protocol.ranking import RankReply, RankRequest
from protocol.scoring import ScoreGradientReply, ScoreGradientRequest, ScoreReply, ScoreRequest
from protocol.tensors import MEDIA_TYPE
from services import logs, openapi, problem_pages, web
from services.scorer import pages
from services.scorer.allocator import keep_memory
from services.scorer.auth import Gate, RequireKey, read_key
from services.scorer.metrics import Kind, Metrics
from services.scorer.model.loading import LoadError
from services.scorer.service import Route, Service
from services.scorer.settings import Settings
from services.scorer.worker import Places
from services.settings import read_settings

CLIENT_GONE = logs.CLIENT_GONE
NOT_ALIVE = openapi.problems(NotReady)
LOCKED = openapi.problems(Unauthorized)
REFUSALS = openapi.problems(
    Unauthorized, TooSlow, BodyTooLarge, WrongMediaType, InvalidRequest, ModelFailed, Busy, ProblemError, NotReady
)
OVER_BUDGET = openapi.problems(OverBudget)


class Status(BaseModel):
    """The state of the scorer in one word."""

    status: str


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application; its model is loaded when the server starts it. Settings come from the environment by default."""
    chosen = settings or read_settings(Settings, "scorer")
    if settings is None:
        logs.configure()
        keep_memory()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = app.state.service = await asyncio.to_thread(Service, chosen, metrics)
        await service.warm()
        yield
        await service.close()

    app = FastAPIOffline(
        redoc_url=None,
        title="Tripleherd scorer",
        version="0.1.0",
        description=pages.DESCRIPTION,
        openapi_tags=pages.TAGS,
        lifespan=lifespan,
        generate_unique_id_function=openapi.operation_id,
    )
    app.state.settings = chosen
    app.state.gate = Gate(read_key(chosen))
    app.state.places = Places(chosen.queue + chosen.workers)
    web.install(app)
    _add_scoring(app)
    _add_encoding(app)
    _add_status(app)
    app.include_router(problem_pages.router, tags=["status"])
    openapi.install_openapi(app, pages.MODELS)
    app.add_middleware(logs.RequestLog, ended=metrics.answered)
    app.add_middleware(_PlainStartFailure)
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
        dependencies=[RequireKey],
        responses=_replies(ScoreReply, pages.SCORE_REPLY) | OVER_BUDGET,
        openapi_extra=openapi.body_of(ScoreRequest, pages.SCORE_EXAMPLES, tensors=pages.SCORE_BODY),
    )
    async def score(request: Request, service: ServiceDep) -> Response:
        """How plausible each triple is, as the readout reads it: a verdict, a likelihood or a number."""
        return await _answer(request, service, service.score, "forward")

    @app.post(
        "/score/gradient",
        tags=["scoring"],
        summary="Gradients of scores",
        dependencies=[RequireKey],
        responses=_replies(ScoreGradientReply, pages.SCORE_GRADIENT_REPLY),
        openapi_extra=openapi.body_of(
            ScoreGradientRequest, pages.SCORE_GRADIENT_EXAMPLES, tensors=pages.SCORE_GRADIENT_BODY
        ),
    )
    async def score_gradient(request: Request, service: ServiceDep) -> Response:
        """Scores, and d(loss)/d(vectors): for given d(loss)/d(scores), or for a loss computed beside the model.

        Any replica answers. One that kept the forward pass of the same `/score` call saves it.
        """
        return await _answer(request, service, service.score_gradient, "gradient")

    @app.post(
        "/rank",
        tags=["scoring"],
        summary="Rank candidates",
        dependencies=[RequireKey],
        responses=_replies(RankReply, pages.RANK_REPLY) | OVER_BUDGET,
        openapi_extra=openapi.body_of(RankRequest, pages.RANK_EXAMPLES, tensors=pages.RANK_BODY),
    )
    async def rank(request: Request, service: ServiceDep) -> Response:
        """The best of given candidates for (head, relation, ?) or (?, relation, tail), with their realistic ranks.

        Heads are asked for by a template that has the head last, so a score here need not equal that of `/score`.
        """
        return await _answer(request, service, service.rank, "forward")


def _add_encoding(app: FastAPI) -> None:
    @app.post(
        "/encode",
        tags=["encoding"],
        summary="Encode queries",
        dependencies=[RequireKey],
        responses=_replies(EncodeReply, pages.ENCODE_REPLY),
        openapi_extra=openapi.body_of(EncodeRequest, pages.ENCODE_EXAMPLES, tensors=pages.ENCODE_BODY),
    )
    async def encode(request: Request, service: ServiceDep) -> Response:
        """A hidden state of the model for each (entity, relation) query: one pass for all its candidates."""
        return await _answer(request, service, service.encode, "forward")

    @app.post(
        "/encode/gradient",
        tags=["encoding"],
        summary="Gradients of encoded queries",
        dependencies=[RequireKey],
        responses=_replies(EncodeGradientReply, pages.GRADIENT_REPLY),
        openapi_extra=openapi.body_of(EncodeGradientRequest, pages.GRADIENT_EXAMPLES, tensors=pages.GRADIENT_BODY),
    )
    async def encode_gradient(request: Request, service: ServiceDep) -> Response:
        """d(loss)/d(vectors) for given d(loss)/d(states).

        Any replica answers. One that kept the forward pass of the same `/encode` call saves it.
        """
        return await _answer(request, service, service.encode_gradient, "gradient")


def _add_status(app: FastAPI) -> None:
    @app.get("/health", tags=["status"], summary="Is the process alive?")
    async def health() -> Status:
        """Answers as long as the process does."""
        return Status(status="alive")

    @app.get("/ready", tags=["status"], summary="May calls be sent?", responses=NOT_ALIVE)
    async def ready(service: ServiceDep) -> Status:
        """The model is loaded and warmed, and its workers take calls."""
        service.check()
        return Status(status="ready")

    @app.get(
        "/info", tags=["status"], summary="Model, templates and limits", dependencies=[RequireKey], responses=LOCKED
    )
    async def info(service: ServiceDep) -> Info:
        """What is loaded, and every limit."""
        return service.info

    @app.get(
        "/metrics",
        tags=["status"],
        summary="Numbers for Prometheus",
        dependencies=[RequireKey],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **LOCKED},
    )
    async def metrics(service: ServiceDep) -> Response:
        """Requests, refusals, tokens run and shared, waits, batches and times, in Prometheus' text format."""
        body, media = service.metrics.render()
        return Response(body, media_type=media)


def _replies(model: type[BaseModel], layout: str) -> dict[int | str, dict[str, object]]:
    """The `responses` of a route that answers in both forms."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    content = {web.JSON: {"schema": schema}, MEDIA_TYPE: openapi.binary(layout)}
    return {200: {"description": "The reply, in the form of the request", "content": content}, **REFUSALS}


async def _answer(request: Request, service: Service, route: Route, kind: Kind) -> Response:
    """Run the call on the body, and leave it as soon as the client does.

    The place is taken before the body is read: what waits is bounded, bodies included.
    """
    settings: Settings = request.app.state.settings
    media = web.media_type(request, (web.JSON, MEDIA_TYPE))
    service.check()
    with request.app.state.places.take(kind):
        body = await web.read_body(request, settings.max_body_bytes, settings.body_seconds)
        answer = asyncio.ensure_future(service.answer(route, body, media))
        del body
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                return Response(status_code=CLIENT_GONE)  # nobody reads it; the number is what nginx logs for this
            return web.Reply(answer.result(), media, settings.body_seconds)
        finally:
            gone.cancel()
            answer.cancel()


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
