"""What clients reported, read for one block at a time: in pieces, in the order of client ids."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from protocol.tensor_files import TensorFile
from services.coordinator.aggregation.blocks import Contribution, Doubles, Floats, Integers, Places, as_run
from services.coordinator.aggregation.strategies import Strategy

PIECE_BYTES = 1 << 18
"""Of what is read of a client at once: with its float64 copy it stays in a core's cache."""
FREQUENCIES = "frequencies"


@dataclass(frozen=True)
class Holder:
    """A client that holds rows.

    Attributes:
        triples: Its training triples.
        rows: Its global rows of a table by name, int64 [n], in its own order.
        update: Opens what it reported in the round; None where it reported nothing.
    """

    triples: int
    rows: Callable[[str], Integers]
    update: Callable[[], AbstractContextManager[TensorFile]] | None


@dataclass(frozen=True)
class Reports:
    """All that was reported of one table.

    Attributes:
        name: The table's.
        columns: Numbers a row.
        dense: Whether all clients hold it whole.
        strategy: What the weights are for.
        holders: Those that count, in the order of client ids.
        runs: Of each holder, its rows where they are one range. The others' are asked for at each block anew: in memory
            they would grow with the clients.
        norms: Of each holder, the L2 norm of its change to a dense tensor that is one row; else empty.
    """

    name: str
    columns: int
    dense: bool
    strategy: Strategy
    holders: Sequence[Holder]
    runs: Sequence[range | None]
    norms: Sequence[float]

    def of_block(self, previous: Floats, start: int) -> Iterator[Contribution]:
        """What each holder contributes to the rows from `start` on, which were `previous`, in pieces."""
        for client, holder in enumerate(self.holders):
            weight = float(holder.triples) if self.dense and self.strategy.weighted_dense else 1.0
            norm = self.norms[client] if self.norms else None
            pieces = self._pieces(client, start, start + len(previous))
            if holder.update is None:
                for _, rows in pieces:
                    yield Contribution(client, rows, previous[rows], weight, norm)
                continue
            with holder.update() as update:
                for places, rows in pieces:
                    values = _values(update, self.name, places, self.columns)
                    own = weight if self.dense or not self.strategy.by_frequency else _frequencies(update, places)
                    yield Contribution(client, rows, values, own, norm)

    def _pieces(self, client: int, start: int, stop: int) -> Iterator[tuple[Places, Places]]:
        """The places of a client's rows that fall into a block, and the block's rows, in pieces."""
        size = max(1, PIECE_BYTES // (4 * self.columns))
        if run := self.runs[client]:
            for low in range(max(start, run.start), min(stop, run.stop), size):
                high = min(low + size, stop, run.stop)
                yield slice(low - run.start, high - run.start), slice(low - start, high - start)
            return
        rows = self.holders[client].rows(self.name)
        places = np.flatnonzero((rows >= start) & (rows < stop))
        places = places[np.argsort(rows[places])]  # ascending rows are often one behind the other
        for first in range(0, len(places), size):
            part = places[first : first + size]
            own = rows[part] - start
            yield part, slice(int(own[0]), int(own[-1]) + 1) if as_run(own) else own


def read_reports(
    name: str, rows: int, columns: int, dense: bool, strategy: Strategy, holders: Sequence[Holder], last: TensorFile
) -> Reports:
    """The reports of a table with so many rows; `last` is the last version."""
    runs = [range(rows) if dense else as_run(holder.rows(name)) for holder in holders]
    whole = dense and strategy.whole_dense
    norms = [_norm(last, holder, name) for holder in holders] if whole else []
    return Reports(name, columns, dense, strategy, holders, runs, norms)


def _norm(last: TensorFile, holder: Holder, name: str) -> float:
    """L2 norm of the client's change of a whole tensor."""
    if holder.update is None:
        return 0.0
    with holder.update() as update:
        pairs = zip(last.pieces(name), update.pieces(name), strict=True)
        return math.sqrt(sum(float(np.square(np.subtract(new, old, dtype=np.float64)).sum()) for old, new in pairs))


def _values(update: TensorFile, name: str, places: Places, columns: int) -> Floats:
    if isinstance(places, slice):
        return update.read(name, places.start * columns, places.stop * columns).reshape(-1, columns)
    return update.take(name, places)


def _frequencies(update: TensorFile, places: Places) -> Doubles:
    """float64 [k, 1]."""
    if isinstance(places, slice):
        counts = update.read(FREQUENCIES, places.start, places.stop)
    else:
        counts = update.take(FREQUENCIES, places)
    return counts.astype(np.float64)[:, None]
