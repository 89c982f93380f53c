"""The walk: makes the next version's file of the last one's and the round's updates, table by table, block by block.

A pure function of these files in the order of client ids: running it again gives the same bytes, whatever the blocks.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protocol.federation import DENSE_PREFIX, AggregationSettings
from protocol.tensor_files import TensorFile, TensorWriter
from services.coordinator.aggregation.blocks import Block, Contribution, Floats, Rows
from services.coordinator.aggregation.optimizers import initial_state
from services.coordinator.aggregation.strategies import STRATEGIES, Strategy

SUMS_BYTES = 16 << 20
"""Of a block's sums: large enough that a client's file is opened a few times only."""
STACK_BYTES = 64 << 20
"""Of a block's values of all clients, for the strategies that need them at once."""
PIECE_BYTES = 1 << 20
"""Of what is read of a client at once."""
STATE_PREFIX = "server."


@dataclass(frozen=True)
class Table:
    """What is averaged: rows that clients hold some of, or a dense tensor that all of them hold.

    Attributes:
        name: Of its tensor.
        rows: How many the next version has; no fewer than the last one.
        columns: Numbers a row.
        initial: Rows from one number to before another, float32, for those that the last version lacks.
    """

    name: str
    rows: int
    columns: int
    initial: Callable[[int, int], Floats]

    @property
    def dense(self) -> bool:
        """Whether all clients hold it whole."""
        return self.name.startswith(DENSE_PREFIX)


@dataclass(frozen=True)
class Holder:
    """A client that holds rows.

    Attributes:
        triples: Its training triples.
        rows: Its global rows of a table by name, int64 [n], in its own order.
        update: Opens what it reported in the round; None where it reported nothing.
    """

    triples: int
    rows: Callable[[str], NDArray[np.int64]]
    update: Callable[[], AbstractContextManager[TensorFile]] | None


def aggregate(
    previous: TensorFile, tables: Sequence[Table], holders: Sequence[Holder], settings: AggregationSettings, out: Path
) -> None:
    """Write the next version.

    Args:
        previous: The last version.
        tables: All that the next one has.
        holders: In the order of client ids. Those without an update count only where the strategy says so.
        settings: The strategy and what it needs.
        out: A file that is not there yet.
    """
    strategy = STRATEGIES[settings.strategy]
    counted = [holder for holder in holders if holder.update is not None or strategy.silent_count]
    shapes = {table.name: ("F32", _shape(previous, table)) for table in tables}
    kept = {_state(slot, name): shape for name, shape in shapes.items() for slot in strategy.state}
    with TensorWriter(out, shapes | kept) as writer:
        for table in tables:
            shaped = _as_rows(table, strategy)
            for start, stop in _blocks(shaped, strategy, len(counted)):
                block = Block(
                    _rows(previous, shaped, shaped.name, start, stop, shaped.initial),
                    {slot: _state_rows(previous, shaped, slot, start, stop, settings) for slot in strategy.state},
                    len(counted),
                    partial(_contributions, previous, shaped, counted, settings, start, stop),
                )
                for name, values in strategy.combine(block, settings).items():
                    writer.write(_state(name, table.name) if name else table.name, start * shaped.columns, values)


def _state(slot: str, name: str) -> str:
    return f"{STATE_PREFIX}{slot}.{name}"


def _shape(previous: TensorFile, table: Table) -> tuple[int, ...]:
    return previous.places[table.name].shape if table.dense else (table.rows, table.columns)


def _as_rows(table: Table, strategy: Strategy) -> Table:
    """A dense tensor in the rows that the strategy wants of it."""
    if not table.dense or strategy.whole_dense:
        return table
    return Table(table.name, table.rows * table.columns, 1, table.initial)


def _blocks(table: Table, strategy: Strategy, clients: int) -> Iterator[tuple[int, int]]:
    if strategy.stacked:
        size = STACK_BYTES // (4 * max(1, clients) * max(1, table.columns))
    else:
        size = SUMS_BYTES // (8 * max(1, table.columns))
    size = max(1, size)
    for start in range(0, table.rows, size):
        yield start, min(start + size, table.rows)


def _rows(
    file: TensorFile, table: Table, name: str, start: int, stop: int, missing: Callable[[int, int], Floats]
) -> Floats:
    """Rows of a tensor, with others for those that it lacks."""
    place = file.places.get(name)
    known = 0 if place is None else place.count // table.columns
    middle = min(max(start, known), stop)
    parts = []
    if middle > start:
        parts.append(file.read(name, start * table.columns, middle * table.columns).reshape(-1, table.columns))
    if stop > middle:
        parts.append(missing(middle, stop))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _state_rows(
    file: TensorFile, table: Table, slot: str, start: int, stop: int, settings: AggregationSettings
) -> Floats:
    def missing(first: int, last: int) -> Floats:
        return np.full((last - first, table.columns), initial_state(slot, settings), np.float32)

    return _rows(file, table, _state(slot, table.name), start, stop, missing)


def _contributions(
    previous: TensorFile,
    table: Table,
    holders: Sequence[Holder],
    settings: AggregationSettings,
    start: int,
    stop: int,
) -> Iterator[Contribution]:
    """What each holder contributes to a block, in pieces."""
    for client, holder in enumerate(holders):
        rows = np.arange(table.rows) if table.dense else holder.rows(table.name)
        weighted = table.dense and STRATEGIES[settings.strategy].weighted_dense
        weight = float(holder.triples) if weighted else 1.0
        if holder.update is None:
            for _, _, own, _ in _pieces(rows, table.columns, start, stop):
                before = _rows(previous, table, table.name, start, stop, table.initial)
                yield Contribution(client, own, before[own], weight)
            continue
        with holder.update() as update:
            for first, last, own, inside in _pieces(rows, table.columns, start, stop):
                values = update.read(table.name, first * table.columns, last * table.columns)
                values = values.reshape(-1, table.columns)
                part: float | NDArray[np.float64] = weight
                if settings.strategy == "frequency" and not table.dense:
                    part = update.read("frequencies", first, last).astype(np.float64)[:, None][inside]
                yield Contribution(client, own, values[inside], part)


def _pieces(rows: NDArray[np.int64], columns: int, start: int, stop: int) -> Iterator[tuple[int, int, Rows, Rows]]:
    """The places of a client's rows that fall into a block, in pieces.

    Yields the client's first and last place, the block's rows, and which of the places they are.
    """
    size = max(1, PIECE_BYTES // (4 * max(1, columns)))
    if not len(rows):
        return
    offset = int(rows[0])
    if int(rows[-1]) - offset == len(rows) - 1 and (np.diff(rows) == 1).all():
        # Rows one behind the other, as those of who joined first: slices, which numpy adds four times as fast.
        low, high = max(start - offset, 0), min(stop - offset, len(rows))
        for first in range(low, high, size):
            last = min(first + size, high)
            yield first, last, slice(first + offset - start, last + offset - start), slice(None)
        return
    for first in range(0, len(rows), size):
        part = rows[first : first + size]
        inside = (part >= start) & (part < stop)
        if inside.any():
            yield first, first + len(part), part[inside] - start, np.flatnonzero(inside)
