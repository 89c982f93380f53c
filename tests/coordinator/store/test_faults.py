"""Disks that are full or read-only, and SQLite files that are locked, damaged or gone."""

import errno
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from services.coordinator.store import queries
from services.coordinator.store.blobs import update_name
from services.coordinator.store.database import Database
from services.coordinator.store.store import DATABASE_FILE, StoreUnusable, open_store
from tests.disks import fill, small_disk

from .places import CLIENT, DIGEST, Place, accept, begin, keep_model, keep_update, model, update

SMALL = 4 << 20


@pytest.fixture(name="small_disk")
def disk_of_four_mebibytes(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path, SMALL) as disk:
        yield disk


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """A second view of the file system before the first one, which a process has open."""
    for options in (["--bind"], ["-o", "remount,ro,bind"]):
        subprocess.run(["mount", *options, disk, disk], check=True)
    yield
    subprocess.run(["umount", "--lazy", disk], check=True)


def events(database: Database) -> int:
    with database.read() as session:
        return queries.event(session)


def temporaries(folder: Path) -> list[Path]:
    return list(folder.rglob("*.tmp"))


def test_a_full_disk_keeps_nothing_by_halves_and_goes_on_once_there_is_room(small_disk: Path) -> None:
    store = open_store(small_disk)
    begin(store)
    filler = fill(small_disk)
    for failing in (
        lambda: store.blobs.probe(),
        lambda: keep_update(store.blobs, "1.c.d", b"u" * 10_000),
        lambda: keep_model(store.blobs, 2, b"m" * 10_000),
        lambda: store.blobs.set_mark("another"),
    ):
        with pytest.raises(OSError, match="No space left") as raised:
            failing()
        assert raised.value.errno == errno.ENOSPC
    assert (store.blobs.updates(), store.blobs.models(), model(store.blobs, 1)) == (set(), {1}, b"model" * 100)
    filler.unlink()
    keep_update(store.blobs, "1.c.d", b"u" * 10_000)
    store.blobs.probe()
    assert update(store.blobs, "1.c.d") == b"u" * 10_000
    store.database.close()
    open_store(small_disk).database.close()


def test_a_commit_on_a_full_disk_is_none_and_succeeds_once_there_is_room(small_disk: Path) -> None:
    store = open_store(small_disk)

    def write() -> None:
        with store.database.write() as session:
            queries.tell(session)
            queries.record(session, 1.5, "operator", "x" * 100_000)

    filler = fill(small_disk)
    with pytest.raises(OperationalError, match="full"):
        write()
    assert events(store.database) == 0
    filler.unlink()
    write()
    assert events(store.database) == 1
    store.database.close()


def test_a_full_disk_elsewhere_keeps_nothing_by_halves(tmp_path: Path, small_disk: Path) -> None:
    store = open_store(tmp_path / "here", blobs_url=f"file://{small_disk}")
    filler = fill(small_disk)
    with filler.open("r+b") as file:
        file.truncate(filler.stat().st_size - 8192)
    with pytest.raises(OSError, match="No space left") as raised:
        keep_update(store.blobs, "1.c.d", b"u" * 100_000)
    assert raised.value.errno == errno.ENOSPC
    assert (store.blobs.updates(), temporaries(small_disk)) == (set(), [])
    filler.unlink()
    keep_update(store.blobs, "1.c.d", b"u" * 100_000)
    assert update(store.blobs, "1.c.d") == b"u" * 100_000
    store.database.close()


def test_a_disk_that_becomes_read_only_loses_nothing_and_is_not_started_on(small_disk: Path) -> None:
    store = open_store(small_disk)
    begin(store)
    accept(store)
    store.database.close()
    with read_only(small_disk):
        with pytest.raises(OSError, match="Read-only"):
            store.blobs.probe()
        with pytest.raises(OperationalError, match=r"readonly|unable to open"), store.database.write() as session:
            queries.tell(session)
        with pytest.raises(StoreUnusable, match=r"the blobs at .* cannot be used: .*Read-only"):
            open_store(small_disk)
    store.blobs.probe()
    assert update(store.blobs, update_name(1, CLIENT, DIGEST)) == DIGEST.encode()
    store.database.close()


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnusable, match=f"the blobs at {tmp_path}/file/data cannot be used"):
        open_store(tmp_path / "file" / "data")


def used(folder: Path) -> Path:
    """The database of a coordinator that has stopped in mid-training."""
    store = open_store(folder)
    begin(store)
    accept(store)
    for number in range(50):
        with store.database.write() as session:
            queries.record(session, 1.5, "operator", f"{number}" * 500)
    store.database.close()
    return folder / DATABASE_FILE


def test_a_database_that_another_program_has_locked_is_not_waited_for_without_end(tmp_path: Path) -> None:
    database = used(tmp_path)
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnusable, match=f"{database} is locked; another program has it open"):
        Place(str(tmp_path)).open(lock_seconds=0.1)
    holder.execute("ROLLBACK")
    holder.close()
    Place(str(tmp_path)).open(lock_seconds=0.1).database.close()


def cut(file: Path, share: float) -> None:
    os.truncate(file, int(file.stat().st_size * share))


def overwrite(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(8192)
        opened.write(b"\xff" * 8192)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda file: cut(file, 0.5), "is damaged"),
        (lambda file: cut(file, 0.001), "is damaged"),
        (lambda file: cut(file, 0), "the database is empty, and there are a coordinator's blobs"),
        (overwrite, "is damaged"),
        (lambda file: file.write_bytes(b"no database" * 1000), "is damaged"),
        (lambda file: file.unlink(), "is missing, and there are a coordinator's blobs"),
    ],
)
def test_a_database_that_is_damaged_or_gone_is_refused_each_time(
    tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    database = used(tmp_path)
    damage(database)
    left = database.read_bytes() if database.exists() else None
    for _ in range(2):
        with pytest.raises(StoreUnusable, match=reason + ".*restore database and blobs from a backup"):
            open_store(tmp_path)
    assert database.exists() == (left is not None)
    if left:
        assert database.read_bytes() == left
