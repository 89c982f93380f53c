"""What a failing disk or database becomes for who called: 507 where there is no room, 503 for all else."""

import errno

import structlog
from fastapi import FastAPI, Request, Response
from sqlalchemy.exc import SQLAlchemyError

from protocol.problems import NotReady, ProblemError, StorageFull
from services.web import respond

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)

FULL = {errno.ENOSPC, errno.EDQUOT}
SQL_FULL = ("disk is full", "No space left", "could not extend file")
"""How SQLite and PostgreSQL say it; neither has a type for it that both drivers raise."""


def install_faults(app: FastAPI) -> None:
    """Answer what the disk and the database raise with problem documents."""
    app.add_exception_handler(SQLAlchemyError, _on_fault)
    app.add_exception_handler(OSError, _on_fault)


def storage_problem(error: SQLAlchemyError | OSError) -> ProblemError:
    """The refusal that a fault of the disk or the database stands for. It tells no path and no statement."""
    if isinstance(error, OSError):
        if error.errno in FULL:
            return StorageFull("the coordinator's disk is full; nothing was kept; try again once there is room")
        return NotReady(f"the coordinator cannot write or read its blobs ({error.strerror or 'see its log'})")
    if any(words in str(getattr(error, "orig", error)) for words in SQL_FULL):
        return StorageFull("the coordinator's database has no room; nothing was kept; try again once there is room")
    return NotReady("the coordinator's database does not answer; its log has the reason; try again")


async def _on_fault(request: Request, error: Exception) -> Response:
    assert isinstance(error, SQLAlchemyError | OSError)
    log.error("the disk or the database failed", route=request.url.path, exc_info=error)
    return respond(storage_problem(error))
