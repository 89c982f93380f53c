"""SQLite through SQLAlchemy: one file in WAL mode, readers beside one writer, every commit on the disk.

A write transaction begins IMMEDIATE, so that what it reads cannot change before it writes.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.orm import Session

from services.coordinator.schema import Base, Counter

LOCK_SECONDS = 30.0  # a write transaction here lasts milliseconds; who waits longer meets a fault
CONNECTIONS = 64  # more than the server has worker threads, so that none waits for a connection


class Database:
    """Sessions on the database file at `path`, which is made with its tables where it is absent."""

    def __init__(self, path: Path) -> None:
        self._engine = create_engine(
            f"sqlite:///{path}", connect_args={"timeout": LOCK_SECONDS}, max_overflow=CONNECTIONS
        )
        event.listen(self._engine, "connect", _on_connect)
        event.listen(self._engine, "begin", _on_begin)
        self._writer = self._engine.execution_options(begin="IMMEDIATE")
        with self._writer.begin() as connection:
            Base.metadata.create_all(connection)
        with self.write() as session:
            if session.get(Counter, 1) is None:
                session.add(Counter(id=1))

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database."""
        with Session(self._engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that is alone in writing; committed at the end, undone on an exception."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def _on_connect(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's BEGIN below, not the driver's own
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _on_begin(connection: Connection) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")
