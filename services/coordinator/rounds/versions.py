"""Versions of the global model: version n is what round n starts from, and never changes once round n is open.

An entity or relation that joined after a version was made has its initial row in that version. `shares` sends them out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from protocol.federation import DENSE_PREFIX, TrainingSettings, update_tensors
from protocol.tensor_files import TensorFile, TensorWriter, open_tensors
from protocol.tensors import TensorSpec
from services.coordinator.aggregation.blocks import Floats
from services.coordinator.aggregation.strategies import STRATEGIES
from services.coordinator.aggregation.walk import STATE_PREFIX, Holder, Table, aggregate
from services.coordinator.rounds.initial import dense_tensors, initial_rows
from services.coordinator.store import queries
from services.coordinator.store.blobs import update_name
from services.coordinator.store.queries import Kind
from services.coordinator.store.schema import Client, Round, Training
from services.coordinator.store.store import Store

ROWS_AT_ONCE = 4096


def kinds(settings: TrainingSettings) -> list[Kind]:
    """What a training shares rows of."""
    return [kind for kind in ("entities", "relations") if settings.share in (kind, "both")]


def columns(settings: TrainingSettings, kind: Kind) -> int:
    """Numbers of a row."""
    return settings.dim if kind == "entities" else settings.relation_dim or 0


def write_initial(session: Session, settings: TrainingSettings, out: Path) -> None:
    """Write the model that a training starts from: rows of what is known, and the dense tensors."""
    dense = dense_tensors(settings)
    counts = {kind: queries.row_count(session, kind) for kind in kinds(settings)}
    shapes: dict[str, tuple[int, ...]] = {kind: (counts[kind], columns(settings, kind)) for kind in counts}
    shapes |= {name: tensor.shape for name, tensor in dense.items()}
    with TensorWriter(out, {name: ("F32", shape) for name, shape in shapes.items()}) as writer:
        for kind, count in counts.items():
            for start in range(0, count, ROWS_AT_ONCE):
                rows = rows_at_start(session, settings, kind, start, min(start + ROWS_AT_ONCE, count))
                writer.write(kind, start * columns(settings, kind), rows)
        for name, tensor in dense.items():
            writer.write(name, 0, tensor)


def write_next(store: Store, session: Session, training: Training, frozen: Round, out: Path) -> None:
    """Write the model that the updates of a frozen round make of the round's own version."""
    settings = training.fixed()
    sizes: dict[Kind, int | None] = {"entities": frozen.frozen_entities, "relations": frozen.frozen_relations}
    tables = [
        Table(kind, sizes[kind] or 0, columns(settings, kind), partial(rows_at_start, session, settings, kind))
        for kind in kinds(settings)
    ]
    tables += [Table(name, 1, tensor.size, _never) for name, tensor in dense_tensors(settings).items()]
    with open_version(store, settings, frozen.number) as previous:
        aggregate(previous, tables, _holders(store, session, settings, frozen), settings.aggregation, out)


@contextmanager
def open_version(store: Store, settings: TrainingSettings, version: int) -> Iterator[TensorFile]:
    """A version's file; the context closes it.

    Raises:
        FileNotFoundError: It is not kept (any more).
    """
    specs = {kind: TensorSpec("F32", ("n " + kind, columns(settings, kind))) for kind in kinds(settings)}
    specs |= {DENSE_PREFIX + name: TensorSpec("F32", tuple(dense.shape)) for name, dense in settings.dense.items()}
    for slot in STRATEGIES[settings.aggregation.strategy].state:
        for name, spec in list(specs.items()):
            if not name.startswith(STATE_PREFIX):
                specs[f"{STATE_PREFIX}{slot}.{name}"] = TensorSpec("F32", spec.shape, optional=True)
    with store.blobs.model(version) as path, open_tensors(path, specs) as file:
        yield file


def rows_at_start(session: Session, settings: TrainingSettings, kind: Kind, start: int, stop: int) -> Floats:
    """The initial rows of the global rows from `start` to before `stop`."""
    return initial_rows(settings, kind, queries.row_keys(session, kind, start, stop))


def _holders(store: Store, session: Session, settings: TrainingSettings, frozen: Round) -> list[Holder]:
    """Who reported, and the members that could have, in the order of client ids."""
    updates = {update.client: update for update in queries.updates(session, frozen.number)}
    holders = []
    for client in sorted({*updates, *queries.able_clients(session, settings)}):
        member = session.get_one(Client, client)
        specs = update_tensors(settings, member.entities, member.relations)
        update = updates.get(client)

        @contextmanager
        def opened(name: str, specs: dict[str, TensorSpec] = specs) -> Iterator[TensorFile]:
            with store.blobs.update(name) as path, open_tensors(path, specs) as file:
                yield file

        holders.append(
            Holder(
                update.triples if update else member.train,
                partial(_rows_of, session, client),
                update and partial(opened, update_name(update.round, update.client, update.digest)),
            )
        )
    return holders


def _rows_of(session: Session, client: str, kind: str) -> NDArray[np.int64]:
    return queries.client_rows(session, client, "entities" if kind == "entities" else "relations")


def _never(start: int, stop: int) -> Floats:
    raise AssertionError("every version holds every dense tensor whole")
