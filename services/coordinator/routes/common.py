"""What routes are given: the application's settings, store and worker, and the refusals that they share."""

from typing import Annotated

from fastapi import Depends, Path, Request

from protocol.problems import (
    BodyTooLarge,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotReady,
    StorageFull,
    TooSlow,
    Unauthorized,
    WrongMediaType,
)
from services.coordinator.rounds.worker import Worker
from services.coordinator.settings import CoordinatorSettings
from services.coordinator.store.store import Store

MAX_JSON_BYTES = 1 << 20
"""Of the bodies whose size does not grow with a client's graph."""
MAX_JOIN_BYTES = 136 << 20
"""Of joining with as many keys as a message may hold: two million, of 67 bytes each in JSON."""
LARGEST = (1 << 63) - 1
"""The databases' largest integer."""
PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
"""Text without control characters, which PostgreSQL does not take and terminals obey."""
GUARDED = (Unauthorized, Forbidden, InvalidRequest, NotReady)
WITH_BODY = (*GUARDED, Conflict, TooSlow, BodyTooLarge, WrongMediaType, StorageFull)


def _settings(request: Request) -> CoordinatorSettings:
    settings: CoordinatorSettings = request.app.state.settings
    return settings


def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


def _worker(request: Request) -> Worker:
    worker: Worker = request.app.state.worker
    return worker


SettingsDep = Annotated[CoordinatorSettings, Depends(_settings)]
StoreDep = Annotated[Store, Depends(_store)]
WorkerDep = Annotated[Worker, Depends(_worker)]
Number = Annotated[int, Path(ge=1, le=LARGEST, description="Number of the round, which is its version's too.")]
