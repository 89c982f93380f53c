from collections.abc import Iterator
from pathlib import Path

import pytest

from services.coordinator.store.store import open_store

from .support import Clock, Local, Server


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    clock = Clock()
    store = open_store(tmp_path, clock=clock)
    yield Local(store, clock)
    store.database.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path / "data")
    yield running
    running.close()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For tests that change nothing that another test looks at."""
    running = Server(tmp_path_factory.mktemp("data"))
    yield running
    running.close()
