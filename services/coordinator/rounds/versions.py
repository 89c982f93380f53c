"""Versions of the global model: version n is what round n starts from, and never changes once round n is open.

An entity or relation that joined after a version was made has its initial row in that version. `shares` sends them out.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from protocol.tensor_files import TensorFile, TensorWriter, open_tensors
from protocol.tensor_headers import TensorSpec
from protocol.trainings import DENSE_PREFIX, TrainingSettings, update_tensors
from services.coordinator.aggregation.blocks import Floats
from services.coordinator.aggregation.reports import Holder
from services.coordinator.aggregation.strategies import STRATEGIES
from services.coordinator.aggregation.walk import STATE_PREFIX, Table, aggregate
from services.coordinator.rounds.initial import dense_tensors, initial_rows
from services.coordinator.store import queries
from services.coordinator.store.blobs import update_name
from services.coordinator.store.queries import Kind
from services.coordinator.store.schema import Client, Round, Training
from services.coordinator.store.store import Store

PIECE_BYTES = 4 << 20
"""Of initial rows that are in memory at once."""


def kinds(settings: TrainingSettings) -> list[Kind]:
    """What a training shares rows of."""
    both: tuple[Kind, ...] = ("entities", "relations")
    return [kind for kind in both if settings.share in (kind, "both")]


def columns(settings: TrainingSettings, kind: Kind) -> int:
    """Numbers of a row."""
    return settings.dim if kind == "entities" else settings.relation_dim or 0


def write_initial(session: Session, settings: TrainingSettings, out: Path) -> None:
    """Write the model that a training starts from: rows of what is known, and the dense tensors."""
    dense = dense_tensors(settings)
    counts = {kind: queries.row_count(session, kind) for kind in kinds(settings)}
    shapes: dict[str, tuple[int, ...]] = {kind: (count, columns(settings, kind)) for kind, count in counts.items()}
    shapes |= {name: tensor.shape for name, tensor in dense.items()}
    with TensorWriter(out, {name: ("F32", shape) for name, shape in shapes.items()}) as writer:
        for kind, count in counts.items():
            width = columns(settings, kind)
            size = max(1, PIECE_BYTES // (4 * width))
            for start in range(0, count, size):
                keys = queries.row_keys(session, kind, start, min(start + size, count))
                writer.write(kind, start * width, initial_rows(settings, kind, keys))
        for name, tensor in dense.items():
            writer.write(name, 0, tensor)


def write_next(store: Store, session: Session, training: Training, frozen: Round, out: Path) -> None:
    """Write the model that the updates of a frozen round make of the round's own version.

    The session's transaction ends before the tensors are read: those may take minutes.
    """
    settings, number = training.fixed(), frozen.number
    sizes: dict[Kind, int | None] = {"entities": frozen.frozen_entities, "relations": frozen.frozen_relations}
    tables = [
        Table(kind, sizes[kind] or 0, columns(settings, kind), partial(rows_at_start, store, settings, kind))
        for kind in kinds(settings)
    ]
    dense = ((DENSE_PREFIX + name, spec) for name, spec in settings.dense.items())
    tables += [Table(name, math.prod(spec.shape), 1, _never) for name, spec in dense]
    holders = _holders(store, session, settings, number)
    session.close()
    with open_version(store, settings, number) as previous:
        aggregate(previous, tables, holders, settings.aggregation, out)


@contextmanager
def open_version(store: Store, settings: TrainingSettings, version: int) -> Iterator[TensorFile]:
    """A version's file; the context closes it.

    Raises:
        FileNotFoundError: It is not kept (any more).
    """
    specs = {str(kind): TensorSpec("F32", (f"known {kind}", columns(settings, kind))) for kind in kinds(settings)}
    specs |= {DENSE_PREFIX + name: TensorSpec("F32", tuple(dense.shape)) for name, dense in settings.dense.items()}
    state = STRATEGIES[settings.aggregation.strategy].state
    kept = {
        f"{STATE_PREFIX}{slot}.{name}": TensorSpec("F32", spec.shape, optional=True)
        for slot in state
        for name, spec in specs.items()
    }
    with store.blobs.model(version) as path, open_tensors(path, specs | kept) as file:
        yield file


def rows_at_start(store: Store, settings: TrainingSettings, kind: Kind, start: int, stop: int) -> Floats:
    """The initial rows of the global rows from `start` to before `stop`."""
    with store.database.read() as session:
        keys = queries.row_keys(session, kind, start, stop)
    return initial_rows(settings, kind, keys)


def _holders(store: Store, session: Session, settings: TrainingSettings, number: int) -> list[Holder]:
    """Who reported in a round, and where the strategy counts them, who could have: in the order of client ids."""
    updates = {update.client: update for update in queries.updates(session, number)}
    clients = set(updates)
    if STRATEGIES[settings.aggregation.strategy].silent_count:
        clients |= set(queries.silent(session, number))
    holders = []
    for client in sorted(clients):
        member, update = session.get_one(Client, client), updates.get(client)
        rows = partial(_rows_of, store, client)
        if update is None:
            holders.append(Holder(member.train, rows, None))
        else:
            specs = update_tensors(settings, member.entities, member.relations)
            name = update_name(update.round, update.client, update.digest)
            holders.append(Holder(update.triples, rows, partial(_open_update, store, name, specs)))
    return holders


@contextmanager
def _open_update(store: Store, name: str, specs: dict[str, TensorSpec]) -> Iterator[TensorFile]:
    with store.blobs.update(name) as path, open_tensors(path, specs) as file:
        yield file


def _rows_of(store: Store, client: str, kind: str) -> NDArray[np.int64]:
    with store.database.read() as session:
        return queries.client_rows(session, client, "entities" if kind == "entities" else "relations")


def _never(start: int, stop: int) -> Floats:
    raise AssertionError("every version holds every dense tensor whole")
