"""The commands that docs/coordinator.md gives for a backup and for restoring it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select

from services.coordinator.store.blobs import update_name
from services.coordinator.store.schema import Base
from services.coordinator.store.store import Store
from tests.postgres import Postgres

from .places import CLIENT, DIGEST, ROOT, Place, accept, begin, keep_model, model, update

DOCUMENT = ROOT / "docs" / "coordinator.md"


def commands(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n```bash\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert found, name
    return found[1]


def run(name: str, path: str = "", **variables: str) -> None:
    """Run the commands of a block, with the programs in a folder."""
    search = os.pathsep.join([str(Path(sys.executable).parent), path, os.environ["PATH"]])
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands(name)], env=os.environ | variables | {"PATH": search}, check=True
    )


def rows(store: Store) -> dict[str, list[object]]:
    """Everything in the database."""
    with store.database.read() as session:
        tables = Base.metadata.sorted_tables
        return {table.name: sorted(map(repr, session.execute(select(table)))) for table in tables}


def used(store: Store) -> dict[str, list[object]]:
    begin(store, round=3)
    keep_model(store.blobs, 4, b"model 4")
    accept(store, round=3)
    return rows(store)


def is_the_same(store: Store, before: dict[str, list[object]]) -> None:
    assert rows(store) == before
    assert all(before[name] for name in ("clients", "counter", "rounds", "trainings", "updates"))
    assert (model(store.blobs, 3), model(store.blobs, 4)) == (b"model" * 100, b"model 4")
    assert store.blobs.updates() == {update_name(3, CLIENT, DIGEST)}
    assert update(store.blobs, update_name(3, CLIENT, DIGEST)) == DIGEST.encode()


def test_a_backup_of_sqlite_and_a_folder_while_the_coordinator_runs_restores_all_of_it(tmp_path: Path) -> None:
    place, backup = Place(str(tmp_path / "data")), str(tmp_path / "backup")
    store = place.open()
    before = used(store)
    run("backup: folder", BACKUP=backup, COORDINATOR_DATA_DIR=place.folder)
    with store.database.write() as session:
        session.connection().exec_driver_sql("DELETE FROM updates")
    store.database.close()
    shutil.rmtree(place.folder)
    Path(place.folder).mkdir()
    run("restore: folder", BACKUP=backup, COORDINATOR_DATA_DIR=place.folder)
    restored = place.open()
    is_the_same(restored, before)
    keep_model(restored.blobs, 5, b"model 5")
    restored.database.close()


def test_a_backup_of_postgres_and_a_bucket_restores_all_of_it_elsewhere(
    tmp_path: Path, postgres: Postgres, s3: Callable[[], str]
) -> None:
    places = [Place(str(tmp_path / name), postgres(), s3()) for name in ("data", "restored")]
    store = places[0].open()
    before = used(store)
    for block, place in zip(("backup: url", "restore: url"), places, strict=True):
        assert place.database_url is not None
        assert place.blobs_url is not None
        run(
            block,
            str(postgres.programs),
            BACKUP=str(tmp_path / "backup"),
            COORDINATOR_DATABASE_URL=place.database_url,
            COORDINATOR_BLOBS=place.blobs_url,
        )
    restored = places[1].open()
    is_the_same(restored, before)
    keep_model(restored.blobs, 5, b"model 5")
    for place, opened in zip(places, (store, restored), strict=True):
        opened.database.close()
        assert place.database_url is not None
        postgres.drop(place.database_url)
