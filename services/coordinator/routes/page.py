"""The page, and what keeps it live."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool

from protocol.problems import InvalidRequest, NotFound, NotReady, Unauthorized
from protocol.watching import Curves
from services.coordinator import openapi
from services.coordinator.identity.callers import WatcherDep
from services.coordinator.identity.gate import watching
from services.coordinator.page import render
from services.coordinator.page.curves import curves
from services.coordinator.page.scorer import ScorerState, ScorerWatch
from services.coordinator.page.shown import Shown
from services.coordinator.routes.common import GUARDED, LARGEST, PRINTABLE, StoreDep, WorkerDep
from services.openapi import problems


class _Static(StaticFiles):
    """Files that a browser asks for again: after an upgrade it must not go on with those from before."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """The file, or that it has not changed."""
        response = super().file_response(*args, **kwargs)
        response.headers.update({"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"})
        return response


STATIC = _Static(directory=Path(__file__).parents[1] / "page" / "static")
"""What the page is made with; served below `/page`."""
STREAM_SECONDS = 3600.0
"""A stream ends then, so that a session that has expired ends it; a browser connects again by itself."""
LOOK_SECONDS = 30.0

router = APIRouter(tags=["page"])
OneTraining = Annotated[str | None, Query(pattern=PRINTABLE, max_length=100, description="Id of the training.")]


@router.get(
    "/",
    summary="The page",
    response_class=HTMLResponse,
    responses={**problems(InvalidRequest, NotReady), 401: openapi.SIGN_IN_PAGE, 404: openapi.GONE_PAGE},
)
async def page(request: Request, training: OneTraining = None, other: OneTraining = None) -> HTMLResponse:
    """The page: where a training stands (the latest unless named), who takes part, and beside it another training."""
    role = watching(request)
    if role is None:
        return HTMLResponse(render.sign_in(), 401, render.SECURITY | Unauthorized("").headers)
    watch: ScorerWatch | None = request.app.state.scorer
    overviews: Shown = request.app.state.shown
    try:
        shown, scorer = await asyncio.gather(overviews.of(training or None, other or None), _state(watch))
    except NotFound as missing:
        return HTMLResponse(render.gone(missing.detail), 404, render.SECURITY)
    html = await run_in_threadpool(render.page, role, shown, training or None, scorer)
    return HTMLResponse(html, headers=render.SECURITY)


async def _state(watch: ScorerWatch | None) -> ScorerState | None:
    return await watch.state() if watch else None


@router.get(
    "/events",
    summary="Every change, as it comes",
    response_class=EventSourceResponse,
    dependencies=[WatcherDep],
    responses=problems(*GUARDED),
)
async def events(worker: WorkerDep) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: `round`, with what `GET /round` answers an operator, now and at every change."""
    clock = asyncio.get_running_loop().time
    until, told = clock() + STREAM_SECONDS, None
    while clock() < until and not worker.stopping:
        snapshot = await worker.snapshot_after(told, LOOK_SECONDS)
        if snapshot.event != told:
            told = snapshot.event
            yield ServerSentEvent(data=snapshot.common, event="round", id=str(told))


@router.get(
    "/curves", summary="Curves of a training", dependencies=[WatcherDep], responses=problems(*GUARDED, NotFound)
)
def training_curves(
    store: StoreDep,
    training: Annotated[
        str | None, Query(pattern=PRINTABLE, description="Id of the training; the latest unless given.")
    ] = None,
    after: Annotated[int, Query(ge=0, le=LARGEST, description="Only rounds with a greater number.")] = 0,
) -> Curves:
    """Loss, validation MRR, Hits@10 and bytes by round: of every client, and of all of them together."""
    return curves(store, training, after)
