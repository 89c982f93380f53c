"""What the coordinator's functions work on: the database, the blobs, and a clock that tests can set."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from services.coordinator.blobs import Blobs
from services.coordinator.database import Database

Clock = Callable[[], float]

DATABASE_FILE = "coordinator.sqlite3"


@dataclass(frozen=True)
class Store:
    """The coordinator's state.

    Attributes:
        closing: Held while rounds are opened and closed, so that one thread does it at a time.
        clock: Unix seconds.
    """

    database: Database
    blobs: Blobs
    clock: Clock
    closing: threading.Lock = field(default_factory=threading.Lock)


def open_store(data_dir: Path, clock: Clock = time.time) -> Store:
    """The store in a folder, which is made where it is absent.

    Raises:
        OSError: The folder cannot be written.
        sqlalchemy.exc.SQLAlchemyError: The database cannot be opened.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    return Store(Database(data_dir / DATABASE_FILE), Blobs(data_dir), clock)
