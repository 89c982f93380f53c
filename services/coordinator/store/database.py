"""The database through SQLAlchemy: SQLite in a file, or PostgreSQL, where several coordinators may share it.

On both there is one writer at a time, so that what a write transaction reads cannot change before it commits, and a
reader sees one state. On SQLite that is WAL mode, with every commit on the disk, and BEGIN IMMEDIATE; on PostgreSQL an
advisory lock and REPEATABLE READ.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.orm import Session

LOCK_SECONDS = 30.0  # a write transaction here lasts milliseconds; who waits longer meets a fault
CONNECTIONS = 64  # more than the server has worker threads, so that none waits for a connection
WRITER, LEADER = 0x74726970, 0x6C656164
"""PostgreSQL's advisory locks are numbers, the same for all that use one database."""


class Database:
    """Sessions on one database, whose tables `migrations` has made.

    Attributes:
        engine: For migrations and checks.
        sqlite: The file, where the database is one.
    """

    def __init__(self, url: str, lock_seconds: float = LOCK_SECONDS) -> None:
        """`url` as SQLAlchemy reads it. Nothing is connected to yet."""
        parsed = _with_driver(make_url(url))
        self.sqlite = Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None
        if self.sqlite is not None:
            self.engine = create_engine(parsed, connect_args={"timeout": lock_seconds}, max_overflow=CONNECTIONS)
            event.listen(self.engine, "connect", _on_connect)
            event.listen(self.engine, "begin", _on_begin)
            self._writer = self.engine.execution_options(begin="IMMEDIATE")
            self._reader = self.engine
        else:
            # A connection that the server has closed meanwhile is found out before it is used.
            self.engine = create_engine(parsed, pool_pre_ping=True, max_overflow=CONNECTIONS)
            self._writer = self.engine.execution_options(isolation_level="READ COMMITTED")
            self._reader = self.engine.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database."""
        with Session(self._reader) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that is alone in writing; committed at the end, undone on an exception."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            if self.sqlite is None:
                session.execute(text(f"SELECT pg_advisory_xact_lock({WRITER})"))
            yield session

    @contextmanager
    def alone(self) -> Iterator[Connection]:
        """A connection in a transaction that is alone in writing, for changes of the tables themselves."""
        with self._writer.begin() as connection:
            if self.sqlite is None:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({WRITER})"))
            yield connection

    @contextmanager
    def leading(self) -> Iterator[bool]:
        """Whether this thread of this process may advance the rounds; at any time, one in all processes may.

        The lock goes with the process that has it, however that ends.
        """
        if self.sqlite is not None:
            with _locked_file(self.sqlite.with_suffix(".leader")) as leading:
                yield leading
        else:
            with _locked_session(self.engine) as leading:
                yield leading

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _with_driver(url: URL) -> URL:
    """PostgreSQL by psycopg 3, however its URL is written."""
    if url.get_backend_name() in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg")
    return url


@contextmanager
def _locked_file(path: Path) -> Iterator[bool]:
    # Not a singleton, and not shared by threads: another thread of this process is another one that wants to lead.
    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def _locked_session(engine: Engine) -> Iterator[bool]:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        leading = bool(connection.execute(text(f"SELECT pg_try_advisory_lock({LEADER})")).scalar_one())
        try:
            yield leading
        finally:
            if leading:
                connection.execute(text(f"SELECT pg_advisory_unlock({LEADER})"))


def _on_connect(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's BEGIN below, not the driver's own
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _on_begin(connection: Connection) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")
