"""What leaves the coordinator: a client's share of a version, and a training's whole model, piece by piece."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from protocol.federation import TrainingSettings, model_tensors
from protocol.problems import NotFound
from protocol.tensor_files import TensorFile
from protocol.tensors import Array, Place, TensorSpec, layout, pack_header, to_wire
from services.coordinator.rounds.versions import columns, kinds, open_version, rows_at_start
from services.coordinator.store import queries
from services.coordinator.store.queries import Kind
from services.coordinator.store.schema import Client, Round, Training
from services.coordinator.store.store import Store

PIECE_BYTES = 1 << 20
"""Of what is read and sent at once: each piece costs a change of threads."""


@dataclass(frozen=True)
class Share:
    """A safetensors body that is made while it is sent. `pieces` or `close` releases the version's file.

    Attributes:
        etag: The same for the same bytes, known without making them.
        length: Bytes.
    """

    etag: str
    length: int
    _header: bytes
    _parts: Sequence[Iterator[Array]]
    _held: ExitStack

    def pieces(self) -> Iterator[memoryview]:
        """The body."""
        with self._held:
            yield memoryview(self._header)
            for part in self._parts:
                for array in part:
                    if array.size:
                        yield memoryview(array).cast("B")

    def close(self) -> None:
        """Send nothing."""
        self._held.close()


def client_share(store: Store, client: str, version: int) -> Share:
    """A client's share of a version: its own rows in its own order, and the dense tensors, in the wire's dtype.

    Raises:
        NotFound: There is no such version, or it is no longer kept.
    """
    with store.database.read() as session:
        opened = session.get(Round, version)
        refusal = NotFound(
            f"version {version} is not kept; only the current version and the best of a training are",
            current_round=queries.last_number(session),
        )
        training = opened and queries.training_by_id(session, opened.training)
        if training is None:
            raise refusal
        settings, member = training.fixed(), session.get_one(Client, client)
        rows = {kind: queries.client_rows(session, client, kind) for kind in kinds(settings)}
        specs = model_tensors(settings, member.entities, member.relations)
        digest, training_id = member.keys_digest, training.id
    held = ExitStack()
    try:
        file = held.enter_context(open_version(store, settings, version))
    except FileNotFoundError:
        raise refusal from None
    parts = {}
    for name, spec in specs.items():
        if name in ("entities", "relations"):
            gathered = _gathered(store, settings, file, name, rows[name])  # type: ignore[index, arg-type]
        else:
            gathered = file.pieces(name)
        parts[name] = map(partial(to_wire, name, dtype=spec.dtype), gathered)
    return _share(specs, parts, {"training": training_id, "round": version}, held, digest, settings.wire_dtype)


def whole_model(store: Store, training: str | None) -> Share:
    """A training's best version: its rows with their opaque keys, and the dense tensors.

    Args:
        store: Where.
        training: Its id; None for the latest.

    Raises:
        NotFound: There is no such training, or it has no version to keep yet.
    """
    with store.database.read() as session:
        found = queries.latest_training(session) if training is None else queries.training_by_id(session, training)
        if found is None:
            raise NotFound("there is no such training; GET /rounds lists them")
        version, settings, message = found.best_version, found.fixed(), _message(found)
    if version is None:
        raise NotFound(f"training {found.id} has no evaluated version yet; try again after its first evaluation")
    held = ExitStack()
    file = held.enter_context(open_version(store, settings, version))
    specs, parts = {}, {}
    for kind in kinds(settings):
        count = file.places[kind].shape[0]
        specs[kind] = TensorSpec("F32", (count, columns(settings, kind)))
        specs[f"{_SINGULAR[kind]}_keys"] = TensorSpec("U8", (count, 32))
        parts[kind] = file.pieces(kind)
        parts[f"{_SINGULAR[kind]}_keys"] = _keys(store, kind, count)
    for name in file.places:
        if name.startswith("dense."):
            specs[name], parts[name] = TensorSpec("F32", file.places[name].shape), file.pieces(name)
    return _share(specs, parts, message, held)


_SINGULAR: dict[Kind, str] = {"entities": "entity", "relations": "relation"}


def _message(training: Training) -> dict[str, Any]:
    settings = training.fixed().model_dump(mode="json")
    return {"training": training.id, "version": training.best_version, "settings": settings}


def _share(
    specs: dict[str, TensorSpec],
    parts: dict[str, Iterator[Array]],
    message: dict[str, Any],
    held: ExitStack,
    *more: str,
) -> Share:
    places: dict[str, Place] = layout({name: (spec.dtype, spec.shape) for name, spec in specs.items()})  # type: ignore[misc]
    header = pack_header(places, message)
    etag = hashlib.sha256(header + "\n".join(more).encode()).hexdigest()[:32]
    length = len(header) + max((place.stop for place in places.values()), default=0)
    return Share(f'"{etag}"', length, header, [parts[name] for name in places], held)


def _gathered(
    store: Store, settings: TrainingSettings, file: TensorFile, kind: Kind, rows: NDArray[np.int64]
) -> Iterator[Array]:
    """A client's rows of a version, in pieces; initial ones where the version lacks them."""
    known = file.places[kind].shape[0]
    size = max(1, PIECE_BYTES // (4 * columns(settings, kind)))
    for first in range(0, len(rows), size):
        part = rows[first : first + size]
        if (part < known).all():
            yield _taken(file, kind, part)
            continue
        with store.database.read() as session:

            def one(row: int, session: Session = session) -> Array:
                if row < known:
                    return file.rows(kind, row, row + 1)
                return rows_at_start(session, settings, kind, row, row + 1)

            yield np.concatenate([one(int(row)) for row in part])


def _taken(file: TensorFile, kind: Kind, rows: NDArray[np.int64]) -> Array:
    if rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return file.rows(kind, int(rows[0]), int(rows[-1]) + 1)
    return file.take(kind, rows)


def _keys(store: Store, kind: Kind, count: int) -> Iterator[Array]:
    """The opaque keys of the global rows, uint8, in pieces."""
    size = PIECE_BYTES // 32
    for start in range(0, count, size):
        with store.database.read() as session:
            keys = queries.row_keys(session, kind, start, min(start + size, count))
        yield np.frombuffer(b"".join(keys), np.uint8)
