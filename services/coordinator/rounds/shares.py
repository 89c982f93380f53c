"""What leaves the coordinator: a client's share of a version, and a training's whole model, piece by piece."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from protocol.problems import NotFound
from protocol.tensor_files import TensorFile, as_bytes
from protocol.tensor_headers import TensorSpec, layout, pack_header
from protocol.tensors import Array, to_wire
from protocol.trainings import TrainingSettings, model_tensors
from services.coordinator.aggregation.blocks import as_run
from services.coordinator.aggregation.walk import STATE_PREFIX
from services.coordinator.rounds.versions import columns, kinds, open_version, rows_at_start
from services.coordinator.store import queries
from services.coordinator.store.queries import Kind
from services.coordinator.store.schema import Client, Round, Training
from services.coordinator.store.store import Store

PIECE_BYTES = 1 << 20
"""Of what is read and sent at once: each piece costs a change of threads."""
FLOAT16_MAX = 65504.0


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
                yield from map(as_bytes, part)

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
        if opened is None:
            raise refusal
        training = session.scalars(select(Training).where(Training.id == opened.training)).one()
        settings, member = training.fixed(), session.get_one(Client, client)
        rows = {str(kind): queries.client_rows(session, client, kind) for kind in kinds(settings)}
        specs = model_tensors(settings, member.entities, member.relations)
        message, digest = {"training": training.id, "round": version}, member.keys_digest
    held = ExitStack()
    try:
        file = held.enter_context(open_version(store, settings, version))
    except FileNotFoundError:
        raise refusal from None
    parts = {name: file.pieces(name) for name in specs if name not in rows}
    parts |= {kind: _gathered(store, settings, file, kind, rows[kind]) for kind in kinds(settings)}
    wired = {name: _wired(name, spec.dtype, parts[name]) for name, spec in specs.items()}
    return _share(specs, wired, message, held, digest)


def whole_model(store: Store, training: str | None) -> Share:
    """A training's best version: its rows with their opaque keys, and the dense tensors.

    Tensors `entities`, `relations` and `dense.<name>` as the training has them, float32, and uint8 `entity_keys` and
    `relation_keys` [n, 32]. The message names training and version and holds the settings.

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
        version, settings, identity = found.best_version, found.fixed(), found.id
    if version is None:
        raise NotFound(f"training {identity} has no evaluated version yet; try again after its first evaluation")
    held = ExitStack()
    try:
        file = held.enter_context(open_version(store, settings, version))
    except FileNotFoundError:
        raise NotFound(f"version {version} is the best no longer, and deleted; try again") from None
    message = {"training": identity, "version": version, "settings": settings.model_dump(mode="json")}
    return _whole(store, settings, file, message, held)


def _whole(
    store: Store, settings: TrainingSettings, file: TensorFile, message: Mapping[str, Any], held: ExitStack
) -> Share:
    names = [name for name in file.places if not name.startswith(STATE_PREFIX)]
    specs = {name: TensorSpec("F32", file.places[name].shape) for name in names}
    parts = {name: file.pieces(name) for name in names}
    for kind in kinds(settings):
        count, keys = file.places[kind].shape[0], _KEYS[kind]
        specs[keys], parts[keys] = TensorSpec("U8", (count, 32)), _keys(store, kind, count)
    return _share(specs, parts, message, held)


_KEYS: dict[Kind, str] = {"entities": "entity_keys", "relations": "relation_keys"}


def _share(
    specs: Mapping[str, TensorSpec],
    parts: Mapping[str, Iterator[Array]],
    message: Mapping[str, Any],
    held: ExitStack,
    rows: str = "",
) -> Share:
    """`rows` tells whose rows they are: with what the header says, all that the body depends on."""
    places = layout({name: (spec.dtype, spec.sizes) for name, spec in specs.items()})
    header = pack_header(places, message)
    etag = hashlib.sha256(header + rows.encode()).hexdigest()
    length = len(header) + max((place.stop for place in places.values()), default=0)
    return Share(f'"{etag}"', length, header, [parts[name] for name in places], held)


def _wired(name: str, dtype: str, part: Iterator[Array]) -> Iterator[Array]:
    """Numbers as they travel. What a server's optimiser has driven beyond float16 travels as the largest there is."""
    for array in part:
        yield to_wire(name, np.clip(array, -FLOAT16_MAX, FLOAT16_MAX) if dtype == "F16" else array, dtype)


def _gathered(
    store: Store, settings: TrainingSettings, file: TensorFile, kind: Kind, rows: NDArray[np.int64]
) -> Iterator[Array]:
    """A client's rows of a version, in pieces; initial ones where the version lacks them."""
    known = file.places[kind].shape[0]
    size = max(1, PIECE_BYTES // (4 * columns(settings, kind)))
    for first in range(0, len(rows), size):
        part = rows[first : first + size]
        missing = part >= known
        if not missing.any():
            run = as_run(part)
            yield file.take(kind, part) if run is None else file.rows(kind, run.start, run.stop)
            continue
        gathered = np.empty((len(part), columns(settings, kind)), np.float32)
        gathered[~missing] = file.take(kind, part[~missing])
        order = np.flatnonzero(missing)[np.argsort(part[missing])]
        for run_places in np.split(order, np.flatnonzero(np.diff(part[order]) != 1) + 1):
            start = int(part[run_places[0]])
            gathered[run_places] = rows_at_start(store, settings, kind, start, start + len(run_places))
        yield gathered


def _keys(store: Store, kind: Kind, count: int) -> Iterator[Array]:
    """The opaque keys of the global rows, uint8, in pieces."""
    size = PIECE_BYTES // 32
    for start in range(0, count, size):
        with store.database.read() as session:
            keys = queries.row_keys(session, kind, start, min(start + size, count))
        yield np.frombuffer(b"".join(keys), np.uint8)
