"""What the database of every store does; `blobs_suite` goes on, and its subclasses say where a store is."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError

from services.coordinator.store import queries
from services.coordinator.store.blobs import update_name
from services.coordinator.store.database import Database
from services.coordinator.store.schema import Base, Counter, EvaluationRow, Update
from services.coordinator.store.store import Store, StoreUnusable

from .places import (
    CLIENT,
    DIGEST,
    Place,
    accept,
    add_update,
    begin,
    ended,
    update,
)

WAIT_SECONDS = 30
SERVER_THREADS = 40


def events(database: Database) -> int:
    with database.read() as session:
        return queries.event(session)


def count(database: Database) -> int:
    """Count an event in steps that another writer in between would undo."""
    with database.write() as session:
        counter = session.get_one(Counter, 1)
        found = counter.event
        time.sleep(0.002)
        counter.event = found + 1
    return found + 1


class DatabaseSuite:
    """The database of a store."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        """Where the store is: each kind of store has its own."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, place: Place) -> Iterator[Store]:
        store = place.open()
        yield store
        store.database.close()

    @pytest.fixture
    def other(self, place: Place, store: Store) -> Iterator[Store]:
        """The same store, opened a second time."""
        other = place.open("other")
        yield other
        other.database.close()

    def test_what_is_committed_is_there_after_a_restart(self, place: Place, store: Store) -> None:
        begin(store)
        accept(store)
        store.database.close()
        again = place.open()
        with again.database.read() as session:
            kept = session.get_one(Update, (1, CLIENT))
            assert (kept.digest, kept.loss, kept.received) == (DIGEST, 0.5, 2.5)
        assert update(again.blobs, update_name(1, CLIENT, DIGEST)) == DIGEST.encode()
        again.database.close()

    def test_an_exception_undoes_the_whole_transaction(self, store: Store) -> None:
        def fail() -> None:
            with store.database.write() as session:
                queries.tell(session)
                session.flush()
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert events(store.database) == 0

    def test_of_two_updates_for_one_place_the_first_stands(self, store: Store) -> None:
        begin(store)
        add_update(store)
        with pytest.raises(IntegrityError):
            add_update(store, digest="e" * 64)
        with store.database.read() as session:
            assert session.scalars(select(Update.digest)).all() == [DIGEST]

    def test_of_ten_equal_updates_at_once_one_is_stored(self, store: Store, other: Store) -> None:
        begin(store)

        def add(number: int) -> bool:
            try:
                add_update((store, other)[number % 2])
            except IntegrityError:
                return False
            return True

        with ThreadPoolExecutor(10) as threads:
            assert sorted(threads.map(add, range(10))) == [False] * 9 + [True]

    def test_a_row_needs_the_rows_that_it_names(self, store: Store) -> None:
        with pytest.raises(IntegrityError):
            add_update(store)

    def test_what_a_writer_has_read_does_not_change_before_it_commits(self, store: Store, other: Store) -> None:
        with ThreadPoolExecutor(8) as threads:
            databases = [(store, other)[number % 2].database for number in range(48)]
            counted = list(threads.map(count, databases))
        assert sorted(counted) == list(range(1, 49))

    def test_a_reader_sees_one_state_and_keeps_nobody_waiting(self, store: Store, other: Store) -> None:
        with store.database.read() as session:
            before = queries.event(session)
            count(other.database)
            session.expire_all()
            assert queries.event(session) == before
        assert events(store.database) == before + 1

    def test_a_writer_keeps_no_reader_waiting(self, store: Store, other: Store) -> None:
        with store.database.write() as session:
            queries.tell(session)
            session.flush()
            assert events(other.database) == 0

    def test_every_thread_of_the_server_has_a_connection_while_all_others_have(self, store: Store) -> None:
        together = threading.Barrier(SERVER_THREADS)

        def hold(_: int) -> int:
            with store.database.read() as session:
                found = queries.event(session)
                together.wait(WAIT_SECONDS)
            return found

        with ThreadPoolExecutor(SERVER_THREADS) as threads:
            assert list(threads.map(hold, range(SERVER_THREADS))) == [0] * SERVER_THREADS

    def test_one_leads_at_a_time(self, store: Store, other: Store) -> None:
        with store.database.leading() as first, other.database.leading() as second:
            assert (first, second) == (True, False)
        with other.database.leading() as second, store.database.leading() as first:
            assert (first, second) == (False, True)

    def test_another_thread_does_not_lead_too(self, store: Store) -> None:
        def leads() -> bool:
            with store.database.leading() as leading:
                return leading

        with store.database.leading(), ThreadPoolExecutor(1) as threads:
            assert threads.submit(leads).result() is False
        assert leads()

    def test_an_exception_ends_the_lead(self, store: Store, other: Store) -> None:
        with pytest.raises(RuntimeError), store.database.leading():
            raise RuntimeError
        with other.database.leading() as leading:
            assert leading

    def test_the_lead_of_a_killed_process_is_free(self, place: Place, store: Store) -> None:
        child = place.child(
            "with store.database.leading() as leading:\n  print(leading, flush=True)\n  time.sleep(600)"
        )
        assert child.stdout.readline() == "True\n"
        with store.database.leading() as leading:
            assert not leading
        child.kill()
        child.communicate()
        assert self.comes_to_lead(store)

    def test_the_write_lock_of_a_killed_process_is_free(self, place: Place, store: Store) -> None:
        child = place.child(
            "with store.database.write() as session:\n"
            "  queries.tell(session)\n  session.flush()\n  print('writing', flush=True)\n  time.sleep(600)"
        )
        assert child.stdout.readline() == "writing\n"
        child.kill()
        child.communicate()
        assert count(store.database) == 1

    def comes_to_lead(self, store: Store) -> bool:
        until = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < until:
            with store.database.leading() as leading:
                if leading:
                    return True
            time.sleep(0.05)
        return False

    def test_the_migrations_make_the_tables_of_the_schema(self, store: Store) -> None:
        with store.database.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, Base.metadata) == []

    def test_metrics_of_before_more_were_reported_are_dropped(self, place: Place, store: Store) -> None:
        begin(store)
        old = '{"mode":"fusion","split":"test","triples":1,"sides":{"both":{"mrr":1.0}}}'
        with store.database.write() as session:
            session.add(EvaluationRow(round=1, client=CLIENT, mode="fusion", split="test", content=old))
        with store.database.alone() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        store.database.close()
        again = place.open()
        with again.database.read() as session:
            assert session.execute(select(func.count()).select_from(EvaluationRow)).scalar_one() == 0
        again.database.close()

    def test_a_database_of_a_later_version_is_refused_as_it_is(self, place: Place, store: Store) -> None:
        with store.database.alone() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        store.database.close()
        with pytest.raises(StoreUnusable, match=r"a later version of the coordinator made it \(its tables are at 9999"):
            place.open()
        with store.database.alone() as connection:
            assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "9999"

    def test_tables_without_a_version_are_refused(self, place: Place, store: Store) -> None:
        with store.database.alone() as connection:
            connection.execute(text("DROP TABLE alembic_version"))
        store.database.close()
        with pytest.raises(StoreUnusable, match="it holds tables and no version of them"):
            place.open()

    def test_processes_that_start_together_make_one_store(self, place: Place) -> None:
        children = [place.child("print(store.blobs.mark())", coordinator=f"c{number}") for number in range(3)]
        marks = [ended(child) for child in children]
        store = place.open()
        assert marks == [(0, f"{store.blobs.mark()}\n")] * 3
        with store.database.read() as session:
            assert session.execute(select(func.count()).select_from(Counter)).scalar_one() == 1
        store.database.close()
