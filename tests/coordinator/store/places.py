"""Where a store of the tests is, what stands in it, and processes that work on it."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from services.coordinator.store.blobs import Blobs, update_name
from services.coordinator.store.schema import Client, Round, Training, Update
from services.coordinator.store.store import Store, open_store

ROOT = Path(__file__).parents[3]
CLIENT = "c" * 64
DIGEST = "d" * 64
CHILD_SECONDS = 60


@dataclass
class Place:
    """A store's whereabouts. The coordinators that share a PostgreSQL database have a folder each."""

    folder: str
    database_url: str | None = None
    blobs_url: str | None = None

    def data_dir(self, coordinator: str = "first") -> Path:
        return Path(self.folder) / coordinator if self.database_url else Path(self.folder)

    def open(self, coordinator: str = "first", lock_seconds: float = 30.0) -> Store:
        return open_store(
            self.data_dir(coordinator),
            database_url=self.database_url,
            blobs_url=self.blobs_url,
            lock_seconds=lock_seconds,
        )

    def child(self, code: str, coordinator: str = "second", **environment: str) -> "subprocess.Popen[str]":
        """A process that runs code which may use `store`."""
        head = (
            "import json, time\n"
            "from services.coordinator.store import queries\n"
            "from tests.coordinator.store.places import *\n"
            f"store = Place(**json.loads({json.dumps(asdict(self))!r})).open({coordinator!r})\n"
        )
        return subprocess.Popen(
            [sys.executable, "-c", head + code],
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit status and output of a process, which must end by itself."""
    output, errors = process.communicate(timeout=CHILD_SECONDS)
    return process.returncode, output + errors


def keep_model(blobs: Blobs, version: int, content: bytes) -> None:
    file = blobs.temporary()
    file.write_bytes(content)
    blobs.keep_model(version, file)
    assert not file.exists()


def keep_update(blobs: Blobs, name: str, content: bytes) -> None:
    file = blobs.temporary()
    file.write_bytes(content)
    blobs.keep_update(name, file)
    assert not file.exists()


def model(blobs: Blobs, version: int) -> bytes:
    with blobs.model(version) as path:
        return path.read_bytes()


def update(blobs: Blobs, name: str) -> bytes:
    with blobs.update(name) as path:
        return path.read_bytes()


def begin(store: Store, round: int = 1) -> None:
    """A training in a round, with a client."""
    keep_model(store.blobs, round, b"model" * 100)
    with store.database.write() as session:
        session.add(Training(ordinal=1, id="t" * 32, settings="{}", started=1.5))
        counts = {"entities": 1, "relations": 0, "train": 1, "valid": 0, "test": 0}
        rows = {"entity_rows": bytes(8), "relation_rows": b""}
        session.add(Client(id=CLIENT, name="lab", keys_digest=DIGEST, joined=1.5, seen=1.5, **counts, **rows))
        session.flush()
        session.add(Round(number=round, training="t" * 32, phase="training", opened=1.5, deadline=60.5))


def accept(store: Store, round: int = 1, digest: str = DIGEST) -> None:
    """An update of the client, first its blob."""
    keep_update(store.blobs, update_name(round, CLIENT, digest), digest.encode())
    add_update(store, round, digest)


def add_update(store: Store, round: int = 1, digest: str = DIGEST) -> None:
    with store.database.write() as session:
        session.add(Update(round=round, client=CLIENT, digest=digest, triples=1, loss=0.5, size=64, received=2.5))
