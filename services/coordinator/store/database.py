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
CONNECT_SECONDS = 10
POOL = {"pool_size": 8, "max_overflow": 40, "hide_parameters": True}
"""More connections than the server has worker threads (40), so that none waits for one while it holds another. What
statements were given, as keys and names, is nobody's to read in a log."""

WRITER, LEADER = 0x74726970, 0x6C656164
"""PostgreSQL's advisory locks are numbers, the same for all that use one database."""

KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""A machine that is gone is noticed within a minute, on both sides: until then its locks are held."""


class Database:
    """Sessions on one database, whose tables `migrations` has made.

    Attributes:
        engine: For migrations and checks.
        sqlite: The file, where the database is one.
    """

    def __init__(self, url: str, lock_seconds: float = LOCK_SECONDS) -> None:
        """Nothing is connected to yet.

        Args:
            url: `sqlite:///FILE` or `postgresql://…`, as SQLAlchemy reads them.
            lock_seconds: How long to wait for another writer; also how long a writer on PostgreSQL may stand still.

        Raises:
            ValueError: Another kind of database, or one whose driver is not installed.
            ArgumentError: It is no URL.
        """
        parsed = make_url(url)
        self._stand_still = f"{max(1, round(lock_seconds * 1000))}ms"
        if parsed.get_backend_name() == "sqlite" and parsed.database:
            self.sqlite: Path | None = Path(parsed.database)
            self.engine = create_engine(parsed, connect_args={"timeout": lock_seconds}, **POOL)
            event.listen(self.engine, "connect", _on_connect)
            event.listen(self.engine, "begin", _on_begin)
            self._writer = self.engine.execution_options(begin="IMMEDIATE")
            self._reader = self.engine
        else:
            self.sqlite = None
            self.engine = _postgres(parsed, self._stand_still)
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
            self._wait_for_others(session.connection())
            yield session

    @contextmanager
    def alone(self) -> Iterator[Connection]:
        """A connection in a transaction that is alone in writing, for changes of the tables themselves."""
        with self._writer.begin() as connection:
            self._wait_for_others(connection)
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

    def _wait_for_others(self, connection: Connection) -> None:
        """SQLite waits at BEGIN. On PostgreSQL, a writer that stands still is cut off, and its lock goes with it."""
        if self.sqlite is None:
            query = (
                "SELECT set_config('idle_in_transaction_session_timeout', :still, true), pg_advisory_xact_lock(:lock)"
            )
            connection.execute(text(query), {"still": self._stand_still, "lock": WRITER})


def _postgres(url: URL, lock_timeout: str) -> Engine:
    if url.get_backend_name() not in ("postgres", "postgresql"):
        raise ValueError(f"{url.drivername} is no database that the coordinator knows; give postgresql://…")
    kept = " ".join(f"-c tcp_{name}={number}" for name, number in KEEPALIVE.items())
    arguments: dict[str, Any] = {"options": f"-c lock_timeout={lock_timeout} {kept}"} | KEEPALIVE
    if "connect_timeout" not in url.query:
        arguments["connect_timeout"] = CONNECT_SECONDS
    try:
        # A connection that the server has closed meanwhile is found out before it is used.
        return create_engine(
            url.set(drivername="postgresql+psycopg"), connect_args=arguments, pool_pre_ping=True, **POOL
        )
    except ImportError as error:
        raise ValueError(f"{error}; the extra is needed: pip install '.[postgres]'") from error


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
