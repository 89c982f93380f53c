"""The coordinator's application: `uvicorn services.coordinator.app:create_app --factory`.

Settings come from `COORDINATOR_…` environment variables; see `settings`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from sqlalchemy.exc import SQLAlchemyError

from services.coordinator import health, openapi, routes
from services.coordinator.auth import Gate
from services.coordinator.rounds import prune
from services.coordinator.settings import CoordinatorSettings
from services.coordinator.shutdown import release_on_signal
from services.coordinator.store import Store, open_store
from services.coordinator.worker import Worker
from services.settings import read_settings
from services.web import install, install_openapi

_DESCRIPTION = """
Federated knowledge graph embeddings (FedE): clients train entity embeddings on graphs that stay with them, and the
coordinator averages what they report. It sees opaque entity keys, rows and metrics: no triples, no names, no relations.

An operator starts a training; clients join with the invitation token, then wait on `GET /round`. In phase `training`
a selected client fetches its share of the global model, trains, and sends its update; in phase `evaluating` it sends
metrics. Every refusal is a problem document (RFC 9457).
"""
_TAGS = [
    {"name": "members", "description": "Joining."},
    {"name": "rounds", "description": "Trainings, rounds, embeddings, updates, evaluations."},
    {"name": "service", "description": "Whether the service lives and can work."},
]


def create_app() -> FastAPI:
    """The application as the environment sets it; the process ends with one line where a setting is wrong."""
    settings = read_settings(CoordinatorSettings, "coordinator")
    try:
        store = open_store(settings.data_dir)
        prune(store)
    except (OSError, SQLAlchemyError) as error:
        raise SystemExit(f"The coordinator cannot start: data folder {settings.data_dir}: {error}") from None
    return build_app(settings, store)


def build_app(settings: CoordinatorSettings, store: Store) -> FastAPI:
    """The application on an open store, which it closes at its end."""
    app = FastAPIOffline(
        redoc_url=None,
        title="Tripleherd coordinator",
        version="0.1.0",
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        lifespan=_lifespan,
    )
    app.state.settings = settings
    app.state.store = store
    app.state.gate = Gate(settings, store)
    app.include_router(routes.router)
    app.include_router(health.router)
    install(app)
    install_openapi(app, openapi.MODELS)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    worker = Worker(app.state.store)
    app.state.worker = worker
    app.state.working = asyncio.create_task(worker.run())
    with release_on_signal(worker.release):
        yield
    app.state.working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await app.state.working
    app.state.store.database.close()
