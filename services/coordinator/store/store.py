"""What the coordinator's functions work on: the database, the blobs, and a clock that tests can set.

A store is opened only if it is whole: a database whose blobs are gone, or blobs whose database is gone, would have the
coordinator start anew where it should go on.
"""

import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from services.coordinator.store import queries
from services.coordinator.store.blobs import MARK, Blobs, update_name
from services.coordinator.store.database import LOCK_SECONDS, Database
from services.coordinator.store.folder import FolderBlobs
from services.coordinator.store.migrations import Unknown, upgrade
from services.coordinator.store.overlap import Overlap
from services.coordinator.store.remote import RemoteBlobs
from services.coordinator.store.schema import Client, Counter, Training, Update

Clock = Callable[[], float]

DATABASE_FILE = "coordinator.sqlite3"
RESTORE = "restore database and blobs from a backup (docs/coordinator.md, Backup and restore)"


class StoreUnusable(Exception):
    """The store cannot be opened as it is; the message says why, and how to mend it."""


@dataclass(frozen=True)
class Store:
    """The coordinator's state; `clock` gives Unix seconds."""

    database: Database
    blobs: Blobs
    clock: Clock
    overlap: Overlap = field(default_factory=Overlap)


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
    file = None if database_url else data_dir / DATABASE_FILE
    with _explained(file, _without_secret(blobs_url) or str(data_dir)):
        data_dir.mkdir(parents=True, exist_ok=True)
        blobs = FolderBlobs(data_dir) if blobs_url is None else RemoteBlobs(blobs_url, data_dir)
        # The file comes before the blobs, so it is looked for after them: another process may be making both.
        if not _fresh(blobs) and file is not None and not file.exists():
            raise StoreUnusable(f"{file} is missing, and there are a coordinator's blobs; {RESTORE}")
        database = _database(database_url or f"sqlite:///{file}", lock_seconds)
        try:
            _check_file(database)
            with database.alone() as connection:
                upgrade(connection)
            store = _identify(database, blobs)
            if blobs.mark() is None:
                # Killed before this at the very first start, it comes here again.
                blobs.set_mark(store)
            _check_blobs(database, blobs)
        except BaseException:
            database.close()
            raise
    return Store(database, blobs, clock)


@contextmanager
def _explained(file: Path | None, place: str) -> Iterator[None]:
    """What goes wrong with a database (in `file`, if it is SQLite's) or with blobs, as a reason not to start."""
    try:
        yield
    except Unknown as error:
        raise StoreUnusable(f"the database cannot be used: {error}") from error
    except SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or error).replace("\n", " ")
        if file is None:
            raise StoreUnusable(f"the database does not answer: {said}") from error
        if "locked" in said:
            raise StoreUnusable(f"{file} is locked; another program has it open") from error
        if "not a database" in said or "malformed" in said:
            raise StoreUnusable(f"{file} is damaged ({said}); {RESTORE}") from error
        raise StoreUnusable(f"{file} cannot be used: {said}") from error
    except (OSError, ValueError) as error:
        raise StoreUnusable(f"the blobs at {place} cannot be used: {error}") from error


def _without_secret(url: str | None) -> str | None:
    """A URL without user and password."""
    return url and re.sub(r"//[^/]*@", "//", url)


def _database(url: str, lock_seconds: float) -> Database:
    try:
        return Database(url, lock_seconds)
    except (ValueError, SQLAlchemyError) as error:
        raise StoreUnusable(f"the database cannot be used: {error}") from error


def _check_file(database: Database) -> None:
    """Look through an SQLite file once: what is damaged is better known now than in the middle of a training."""
    if database.sqlite is None:
        return
    with database.read() as session:
        found = session.execute(text("PRAGMA quick_check(1)")).scalar_one()
    if found != "ok":
        raise StoreUnusable(f"{database.sqlite} is damaged ({' '.join(found.split())}); {RESTORE}")


def _fresh(blobs: Blobs) -> bool:
    """Whether there are neither blobs nor a mark."""
    return blobs.mark() is None and not blobs.models() and not blobs.updates()


def _identify(database: Database, blobs: Blobs) -> str:
    """The mark of the database, which must be that of the blobs; where both are new, a new one."""
    with database.write() as session:
        counter = session.get(Counter, 1)
        fresh = _fresh(blobs)
        mark = blobs.mark()  # later: a process that starts beside this one may be writing it
        if counter is None and not fresh:
            raise StoreUnusable(f"the database is empty, and there are a coordinator's blobs; {RESTORE}")
        if counter is None:
            counter = Counter(id=1, event=0, store=secrets.token_hex(16))
            session.add(counter)
            session.flush()
        if mark is None and (_used(session) or not fresh):
            raise StoreUnusable(f"the blobs of this database are missing, or their {MARK}; {RESTORE}")
        if mark not in (None, counter.store):
            raise StoreUnusable("the database and the blobs are those of two coordinators; check where both are")
        return counter.store


def _used(session: Session) -> bool:
    """Whether anybody has joined, or a training was started."""
    return any(session.execute(select(func.count()).select_from(table)).scalar_one() for table in (Client, Training))


def _check_blobs(database: Database, blobs: Blobs) -> None:
    """Look for the blobs that the database speaks of; without one of them the round could never be closed."""
    with database.read() as session:
        last = queries.last_round(session)
        if last is None:
            return
        best = session.scalars(select(Training.best_version)).all()
        versions = {last.number} | {version for version in best if version is not None}
        accepted = session.scalars(select(Update).where(Update.round == last.number)).all()
        names = {update_name(row.round, row.client, row.digest) for row in accepted if last.closed is None}
    missing = [f"the model of version {version}" for version in sorted(versions - blobs.models())]
    missing += [f"the update {name}" for name in sorted(names - blobs.updates())]
    if missing:
        raise StoreUnusable(f"{len(missing)} blobs are missing, first {missing[0]}; {RESTORE}")
