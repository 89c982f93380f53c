"""The walk: makes the next version's file of the last one's and the round's updates, table by table, block by block.

A pure function of these files in the order of client ids: running it again gives the same bytes, whatever the blocks.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from protocol.tensor_files import TensorFile, TensorWriter
from protocol.trainings import DENSE_PREFIX, AggregationSettings
from services.coordinator.aggregation.blocks import Block, Floats
from services.coordinator.aggregation.optimizers import initial_state
from services.coordinator.aggregation.reports import Holder, read_reports
from services.coordinator.aggregation.strategies import STRATEGIES, Strategy

SUMS_BYTES = 4 << 20
"""Of a block's sums, of which a strategy makes a few: in a cache, and large enough that files are opened seldom."""
STACK_BYTES = 64 << 20
"""Of a block's values of all clients, for the strategies that need them at once."""
STATE_PREFIX = "server."


@dataclass(frozen=True)
class Table:
    """What is averaged: rows that clients hold some of, or a dense tensor that all of them hold.

    Attributes:
        name: Of its tensor.
        rows: How many the next version has; no fewer than the last one. Of a dense tensor, its numbers.
        columns: Numbers a row; 1 of a dense tensor.
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
            _write_table(writer, previous, table, counted, strategy, settings)


def _write_table(
    writer: TensorWriter,
    previous: TensorFile,
    table: Table,
    holders: Sequence[Holder],
    strategy: Strategy,
    settings: AggregationSettings,
) -> None:
    reports = read_reports(table.name, table.rows, table.columns, table.dense, strategy, holders, previous)
    for start, stop in _blocks(table, strategy, len(holders)):
        rows = _rows(previous, table, table.name, start, stop, table.initial)
        state = {slot: _state_rows(previous, table, slot, start, stop, settings) for slot in strategy.state}
        block = Block(rows, state, len(holders), partial(reports.of_block, rows, start))
        for slot, values in strategy.combine(block, settings).items():
            writer.write(_state(slot, table.name) if slot else table.name, start * table.columns, values)


def _state(slot: str, name: str) -> str:
    return f"{STATE_PREFIX}{slot}.{name}"


def _shape(previous: TensorFile, table: Table) -> tuple[int, ...]:
    return previous.places[table.name].shape if table.dense else (table.rows, table.columns)


def _blocks(table: Table, strategy: Strategy, clients: int) -> Iterator[tuple[int, int]]:
    row = 4 * max(1, clients) * table.columns if strategy.stacked else 8 * table.columns
    size = max(1, (STACK_BYTES if strategy.stacked else SUMS_BYTES) // row)
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
