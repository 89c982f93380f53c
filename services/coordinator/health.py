"""Whether the service lives (`/health`) and whether it can work (`/ready`). Both are open to everybody."""

from fastapi import APIRouter, Request
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from protocol.problems import NotReady
from services.coordinator.store import Store
from services.coordinator.views import current_event
from services.coordinator.worker import Worker
from services.web import problems

router = APIRouter(tags=["service"], responses=problems(NotReady))


class Status(BaseModel):
    """All is well; everything else is a problem document."""

    status: str = "ok"


@router.get("/health")
async def health(request: Request) -> Status:
    """The process lives, and so does the worker that advances rounds."""
    if request.app.state.working.done():
        raise NotReady("the worker that advances rounds is dead; restart the service")
    return Status()


@router.get("/ready")
def ready(request: Request) -> Status:
    """The database answers, the data folder takes a file, and rounds advance."""
    store: Store = request.app.state.store
    worker: Worker = request.app.state.worker
    try:
        current_event(store)
        store.blobs.probe()
    except SQLAlchemyError as error:
        raise NotReady("the database does not answer; the log has the reason") from error
    except OSError as error:
        raise NotReady(f"the data folder takes no file: {error.strerror}") from error
    if worker.fault is not None or request.app.state.working.done():
        raise NotReady("rounds do not advance; the log has the reason")
    return Status()
