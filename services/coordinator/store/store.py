"""What the coordinator's functions work on: the database, the blobs, and a clock that tests can set.

A store is opened only if it is whole: a database whose blobs are gone, or blobs whose database is gone, would have the
coordinator start anew where it should go on.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select, text
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from services.coordinator.store.blobs import Blobs
from services.coordinator.store.database import LOCK_SECONDS, Database
from services.coordinator.store.folder import FolderBlobs
from services.coordinator.store.migrations import Unknown, upgrade
from services.coordinator.store.remote import RemoteBlobs
from services.coordinator.store.schema import Client, Counter, Training

Clock = Callable[[], float]

DATABASE_FILE = "coordinator.sqlite3"
RESTORE = "restore it from a backup (docs/coordinator.md, Backup and restore)"


class StoreUnusable(Exception):
    """The store cannot be opened as it is; the message says why, and how to mend it."""


@dataclass(frozen=True)
class Store:
    """The coordinator's state; `clock` gives Unix seconds."""

    database: Database
    blobs: Blobs
    clock: Clock


def open_store(
    data_dir: Path,
    *,
    database_url: str | None = None,
    blobs_url: str | None = None,
    clock: Clock = time.time,
    lock_seconds: float = LOCK_SECONDS,
) -> Store:
    """Open a store, or make one where there is none; its tables are brought to the present version.

    Args:
        data_dir: Of the SQLite file and the blobs, unless these are elsewhere, and of what is on its way to them.
        database_url: A PostgreSQL database.
        blobs_url: Of a place that fsspec knows.
        clock: Unix seconds.
        lock_seconds: How long to wait for a locked database.

    Raises:
        StoreUnusable: The database or the blobs cannot be reached, are damaged, or do not belong together.
    """
    blobs = _open_blobs(data_dir, blobs_url)
    file = data_dir / DATABASE_FILE
    if database_url is None and not file.exists() and not blobs.empty():
        raise StoreUnusable(f"{file} is missing, and the blobs beside it are a coordinator's; {RESTORE}")
    database = Database(database_url or f"sqlite:///{file}", lock_seconds)
    try:
        _check_file(database)
        with database.alone() as connection:
            upgrade(connection)
        _belong_together(database, blobs)
    except Unknown as error:
        raise StoreUnusable(f"the database cannot be used: {error}") from error
    except SQLAlchemyError as error:
        raise StoreUnusable(_reason(database, error)) from error
    return Store(database, blobs, clock)


def _open_blobs(data_dir: Path, url: str | None) -> Blobs:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        return FolderBlobs(data_dir) if url is None else RemoteBlobs(url, data_dir)
    except (OSError, ValueError) as error:
        raise StoreUnusable(f"the blobs at {url or data_dir} cannot be used: {error}") from error


def _check_file(database: Database) -> None:
    """Look through an SQLite file once: what is damaged is better known now than in the middle of a training."""
    if database.sqlite is None:
        return
    with database.read() as session:
        found = session.execute(text("PRAGMA quick_check(1)")).scalar_one()
    if found != "ok":
        raise StoreUnusable(f"{database.sqlite} is damaged ({found}); {RESTORE}")


def _belong_together(database: Database, blobs: Blobs) -> None:
    """The same mark stands in both; where neither has one, they are new, and are given one."""
    mark = blobs.mark()
    with database.write() as session:
        counter = session.get(Counter, 1)
        if counter is None:
            if mark is not None or not blobs.empty():
                raise StoreUnusable(f"the database is empty, and the blobs are those of a coordinator; {RESTORE}")
            counter = Counter(id=1, event=0, store=secrets.token_hex(16))
            session.add(counter)
            session.flush()
        used = session.execute(select(func.count()).select_from(Training)).scalar_one()
        used += session.execute(select(func.count()).select_from(Client)).scalar_one()
        store = counter.store
    if mark is None and not used:
        # Killed between the two at the very first start, it comes here again.
        blobs.set_mark(store)
    elif mark is None:
        raise StoreUnusable(f"the blobs of this database are missing; {RESTORE}")
    elif mark != store:
        raise StoreUnusable("the database and the blobs are those of two coordinators; check where both are")


def _reason(database: Database, error: SQLAlchemyError) -> str:
    if database.sqlite is None:
        return f"the database does not answer: {getattr(error, 'orig', error)}"
    said = str(getattr(error, "orig", error))
    if "locked" in said:
        return f"{database.sqlite} is locked; another program has it open"
    if isinstance(error, DatabaseError) and ("not a database" in said or "malformed" in said):
        return f"{database.sqlite} is damaged ({said}); {RESTORE}"
    return f"{database.sqlite} cannot be used: {said}"
