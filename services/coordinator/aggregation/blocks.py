"""Blocks: a part of a table's rows, with what each client reported of them.

Strategies work on one block after the other and read what was reported in pieces, so that memory depends neither on the
size of the table nor on the number of clients.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Places = slice | Integers
"""Distinct rows: a slice where they stand one behind the other, which numpy adds four times as fast."""


@dataclass(frozen=True)
class Contribution:
    """What one client reported of some rows of a block.

    Attributes:
        client: Its number among those that count, in the order of their ids.
        rows: Of the block.
        values: float32 or float64 [k, columns].
        weight: Of all of them, or float64 [k, 1] of each.
        norm: L2 norm of the client's whole change, where the table is one row that is cut into several; else None.
    """

    client: int
    rows: Places
    values: Floats | Doubles
    weight: float | Doubles = 1.0
    norm: float | None = None


@dataclass(frozen=True)
class Block:
    """Rows of a table before a round, and what was reported of them.

    Attributes:
        previous: float32 [rows, columns].
        state: The server's optimiser by name, float32 [rows, columns] each; empty for strategies without.
        clients: How many count in this round.
        contributions: Gives them anew at each call, in the order of client ids.
    """

    previous: Floats
    state: Mapping[str, Floats]
    clients: int
    contributions: Callable[[], Iterator[Contribution]]


def weighted_mean(block: Block) -> tuple[Doubles, NDArray[np.bool_]]:
    """The mean of what was reported, float64 [rows, columns], and whether anybody reported a row, bool [rows].

    Rows that nobody reported, or with no weight, are 0 in the mean.
    """
    sums = np.zeros(block.previous.shape)
    weights = np.zeros((len(sums), 1))
    for part in block.contributions():
        if isinstance(part.weight, float) and part.weight == 1.0:
            sums[part.rows] += part.values
        else:
            sums[part.rows] += np.multiply(part.values, part.weight, dtype=np.float64)
        weights[part.rows] += part.weight
    np.divide(sums, weights, out=sums, where=weights > 0)
    return sums, weights[:, 0] > 0


def replaced(previous: Floats, values: Doubles, where: NDArray[np.bool_]) -> Floats:
    """The previous rows, those of `where` replaced; the others stay as they are, bit for bit."""
    rows = previous.copy()
    np.copyto(rows, values, where=where[:, None], casting="same_kind")
    return rows


def as_run(rows: Integers) -> range | None:
    """The rows as a range, where they ascend one behind the other; those of who joined first do."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return range(int(rows[0]), int(rows[-1]) + 1)
    return None
