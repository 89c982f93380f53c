"""Blocks: a part of a table's rows, with what each client reported of them.

Strategies work on one block after the other, and read what was reported in pieces, so that memory depends neither on
the size of the table nor on the number of clients.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = slice | NDArray[np.int64]


@dataclass(frozen=True)
class Contribution:
    """What one client reported of some rows of a block.

    Attributes:
        client: Its number among those who reported, in the order of their ids.
        rows: Distinct rows of the block.
        values: float32 [k, columns].
        weight: Of all of them, or float64 [k, 1] of each.
    """

    client: int
    rows: Rows
    values: Floats
    weight: float | NDArray[np.float64] = 1.0


@dataclass(frozen=True)
class Block:
    """Rows of a table before a round, and what was reported of them.

    Attributes:
        previous: float32 [rows, columns].
        state: The server's optimiser by name, float32 [rows, columns] each; empty for strategies without.
        clients: How many reported in this round.
        contributions: Gives them anew at each call, in the order of client ids.
    """

    previous: Floats
    state: Mapping[str, Floats]
    clients: int
    contributions: Callable[[], Iterator[Contribution]]


def weighted_mean(block: Block) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The mean of what was reported, float64 [rows, columns], and whether anybody reported a row, bool [rows].

    Rows that nobody reported, or with no weight, are 0 in the mean.
    """
    sums = np.zeros(block.previous.shape)
    weights = np.zeros((len(sums), 1))
    for part in block.contributions():
        weighted = isinstance(part.weight, np.ndarray) or part.weight != 1.0
        sums[part.rows] += part.values.astype(np.float64) * part.weight if weighted else part.values
        weights[part.rows] += part.weight
    reported = weights[:, 0] > 0
    np.divide(sums, weights, out=sums, where=weights > 0)
    return sums, reported


def replaced(previous: Floats, values: NDArray[np.float64] | Floats, where: NDArray[np.bool_]) -> Floats:
    """The previous rows, those of `where` replaced; the others stay as they are, bit for bit."""
    rows = previous.copy()
    rows[where] = values[where]
    return rows
