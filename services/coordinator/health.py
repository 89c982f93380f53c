"""Whether the service lives (`/health`), whether it can work (`/ready`), and its numbers (`/metrics`). Open to all."""

import math
import threading
import time
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from protocol.problems import NotReady, StorageFull
from services.coordinator.faults import storage_problem
from services.coordinator.metrics import Metrics
from services.coordinator.routes.common import StoreDep, WorkerDep
from services.coordinator.store import queries
from services.coordinator.store.store import Store
from services.openapi import problems

PROBE_SECONDS = 1.0
TEXT: dict[str, Any] = {"content": {"text/plain": {"schema": {"type": "string"}}}}

router = APIRouter(tags=["service"], responses=problems(NotReady))


class Status(BaseModel):
    """All is well; everything else is a problem document."""

    status: str = "ok"


class Probe:
    """Looks whether the database answers and the blobs take a file; what it has found well holds for a moment.

    Anybody may ask, and each look writes to the disk: many that ask at once get one look.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._well = -math.inf

    def check(self, store: Store) -> None:
        """Raise SQLAlchemyError or OSError where something is wrong."""
        with self._lock:
            if time.monotonic() - self._well < PROBE_SECONDS:
                return
            with store.database.read() as session:
                queries.event(session)
            store.blobs.probe()
            self._well = time.monotonic()


@router.get("/health", summary="Is the process alive?")
async def health(request: Request) -> Status:
    """The process lives, and so does the worker that advances rounds."""
    if request.app.state.working.done():
        raise NotReady("the worker that advances rounds is dead; restart the service")
    return Status()


@router.get("/ready", summary="Can it work?", responses=problems(StorageFull))
def ready(request: Request, store: StoreDep, worker: WorkerDep) -> Status:
    """The database answers, the blobs take a file, and rounds advance."""
    try:
        request.app.state.probe.check(store)
    except (SQLAlchemyError, OSError) as error:
        raise storage_problem(error) from error
    if worker.fault is not None or request.app.state.working.done():
        raise NotReady("rounds do not advance; the log has the reason")
    return Status()


@router.get("/metrics", summary="Numbers for Prometheus", response_class=Response, responses={200: TEXT})
def metrics(request: Request) -> Response:
    """Requests, refusals, bytes, rounds, phases, and how current each client is, for Prometheus."""
    numbers: Metrics = request.app.state.metrics
    body, media_type = numbers.render()
    return Response(body, media_type=media_type)
