"""What only one of the two databases can meet; what both do is in `suite`."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from services.coordinator.store import queries
from services.coordinator.store.database import WRITER, Database
from services.coordinator.store.store import StoreUnusable, open_store
from tests.postgres import Postgres

from .places import Place


def test_a_restart_of_the_server_is_survived(tmp_path: Path, postgres: Postgres, postgres_url: str) -> None:
    store = Place(str(tmp_path), postgres_url).open()

    def count() -> None:
        with store.database.leading() as leading, store.database.write() as session:
            queries.tell(session)
            assert leading

    count()
    postgres.stop()
    postgres.start()
    count()  # nobody called while it was away
    postgres.stop()
    with pytest.raises(OperationalError):
        count()
    postgres.start()
    count()
    with store.database.read() as session:
        assert queries.event(session) == 3
    store.database.close()


def test_a_writer_that_stands_still_does_not_stop_the_others(tmp_path: Path, postgres_url: str) -> None:
    store = Place(str(tmp_path), postgres_url).open()
    still = Database(postgres_url, lock_seconds=0.2)

    def stand_still() -> None:
        with still.write() as session:
            queries.tell(session)
            session.flush()
            with store.database.write() as other:
                queries.tell(other)

    with pytest.raises(DBAPIError, match="idle-in-transaction"):
        stand_still()
    with store.database.read() as session:
        assert queries.event(session) == 1
    still.close()
    store.database.close()


def test_a_locked_database_is_not_waited_for_without_end(tmp_path: Path, postgres_url: str) -> None:
    place = Place(str(tmp_path), postgres_url)
    place.open().database.close()
    holder = create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"))
    with holder.begin() as connection:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({WRITER})"))
        with pytest.raises(StoreUnusable, match=r"the database does not answer: .*lock timeout"):
            place.open(lock_seconds=0.1)
    holder.dispose()


def test_a_lead_that_the_server_ended_is_not_given_back(tmp_path: Path, postgres: Postgres, postgres_url: str) -> None:
    """The lock went with the connection; the next one to ask has it."""
    store = Place(str(tmp_path), postgres_url).open()

    def lead() -> None:
        with store.database.leading():
            ending = "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE locktype = 'advisory'"
            postgres.psql(postgres_url, "-c", ending)

    with pytest.raises(OperationalError):
        lead()
    with store.database.leading() as leading:
        assert leading
    store.database.close()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://lab:hunter2hunter2@127.0.0.1:9/none", "the database does not answer: .*127.0.0.1"),
        ("mysql://lab:hunter2hunter2@127.0.0.1:9/none", "the database cannot be used: mysql"),
        ("lab:hunter2hunter2", "the database cannot be used: "),
    ],
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(tmp_path: Path, url: str, reason: str) -> None:
    with pytest.raises(StoreUnusable, match=reason) as raised:
        open_store(tmp_path, database_url=url)
    assert "hunter2" not in str(raised.value)


def test_every_commit_to_sqlite_is_on_the_disk(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store.database.read() as session:
        pragmas = [session.execute(text(f"PRAGMA {name}")).scalar_one() for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 2]
    store.database.close()
