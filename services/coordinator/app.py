"""The coordinator's application: `uvicorn services.coordinator.app:create_app --factory`.

Settings come from `COORDINATOR_…` environment variables; see `settings`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from sqlalchemy.exc import SQLAlchemyError

from services import logs, problem_pages
from services.coordinator import health, openapi
from services.coordinator.faults import install_faults
from services.coordinator.identity.gate import Gate
from services.coordinator.metrics import Metrics
from services.coordinator.page.scorer import ScorerWatch
from services.coordinator.page.shown import Shown
from services.coordinator.rounds.advance import prune
from services.coordinator.rounds.worker import Worker
from services.coordinator.routes import members, operators, page, rounds, sessions
from services.coordinator.settings import CoordinatorSettings
from services.coordinator.shutdown import release_on_signal
from services.coordinator.store.store import Store, StoreUnusable, open_store
from services.openapi import install_openapi, operation_id
from services.settings import read_settings
from services.web import install

_DESCRIPTION = """
Federated knowledge graph embeddings (FedE): clients train entity embeddings on graphs that stay with them, and the
coordinator averages what they report. It sees opaque entity keys, rows and metrics: no triples and no names.

An operator starts a training; clients join, each with an Ed25519 key of its own, then wait on `GET /round`. In phase
`training` a selected client fetches its share of the global model, trains, and sends its update; in phase `evaluating`
it sends metrics. Clients sign every request (RFC 9421) with a digest of its body (RFC 9530); operators send a bearer
token. Every refusal is a problem document (RFC 9457).
"""
_TAGS = [
    {"name": "members", "description": "Joining, leaving, and keys."},
    {"name": "rounds", "description": "What clients see and send: rounds, embeddings, updates, evaluations, history."},
    {"name": "operators", "description": "Trainings from start to stop, the model, the audit log."},
    {"name": "page", "description": "The page at `/` for people, its sessions, and what keeps it live."},
    {"name": "service", "description": "Whether the service lives and can work."},
]


def create_app() -> FastAPI:
    """The application as the environment sets it; the process ends with one line where a setting is wrong."""
    settings = read_settings(CoordinatorSettings, "coordinator")
    logs.configure()
    url = settings.database_url.get_secret_value() if settings.database_url else None
    try:
        store = open_store(settings.data_dir, database_url=url, blobs_url=settings.blobs)
        prune(store)
    except (StoreUnusable, OSError, SQLAlchemyError) as error:
        raise SystemExit(f"The coordinator cannot start: {error}") from None
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
        generate_unique_id_function=operation_id,
    )
    app.state.settings = settings
    app.state.store = store
    app.state.gate = Gate(settings, store)
    app.state.metrics = Metrics(store)
    app.state.probe = health.Probe()
    app.state.shown = Shown(store)
    app.state.scorer = ScorerWatch(settings.scorer, settings.scorer_key()) if settings.scorer else None
    for part in (members, rounds, operators, page, sessions, health):
        app.include_router(part.router)
    app.include_router(problem_pages.router, tags=["service"])
    app.mount("/page", page.STATIC)
    install(app)
    install_faults(app)
    install_openapi(app, openapi.MODELS)
    app.add_middleware(logs.RequestLog, ended=app.state.metrics.answered)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    worker = Worker(app.state.store, app.state.metrics.seen)
    app.state.worker = worker
    app.state.working = asyncio.create_task(worker.run())
    with release_on_signal(worker.release):
        yield
    app.state.working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await app.state.working
    app.state.store.database.close()
