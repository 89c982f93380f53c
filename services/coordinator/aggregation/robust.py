"""Order statistics: what a minority reports, however far off, moves a coordinate only among the others' values.

Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018: coordinate-wise
median (definition 1) and coordinate-wise trimmed mean (definition 2). A row counts those who reported it, unweighted.
"""

import math

import numpy as np
from numpy.typing import NDArray

from protocol.trainings import AggregationSettings
from services.coordinator.aggregation.blocks import Block, Floats, replaced


def median(block: Block, settings: AggregationSettings) -> dict[str, Floats]:
    """Coordinate-wise median; of an even number, the mean of the middle two."""
    values, counts = _sorted(block)
    middle = [np.take_along_axis(values, at[None, :, None], 0)[0] for at in ((counts - 1) // 2, counts // 2)]
    halves = (middle[0].astype(np.float64) + middle[1]) / 2
    return {"": replaced(block.previous, halves, counts > 0)}


def trimmed_mean(block: Block, settings: AggregationSettings) -> dict[str, Floats]:
    """Coordinate-wise mean without the `trim` lowest and highest part, at least one value left."""
    values, counts = _sorted(block)
    cut = np.array([_cut(settings.trim, n) for n in range(block.clients + 1)])[counts]
    sums = np.zeros(block.previous.shape)
    for place, layer in enumerate(values):
        kept = (place >= cut) & (place < counts - cut)
        sums[kept] += layer[kept]
    left = counts - 2 * cut
    return {"": replaced(block.previous, sums / np.maximum(left, 1)[:, None], counts > 0)}


def _cut(trim: float, n: int) -> int:
    """How many of n values go at either end. Rounded first, so that 0.29 of 100 is 29 in binary too."""
    return max(0, min(math.floor(round(trim * n, 9)), (n - 1) // 2))


def _sorted(block: Block) -> tuple[Floats, NDArray[np.int64]]:
    """Values by coordinate in ascending order, float32 [clients, rows, columns], and how many each row has."""
    values = np.full((block.clients, *block.previous.shape), np.inf, np.float32)
    counts = np.zeros(len(block.previous), np.int64)
    for part in block.contributions():
        values[part.client, part.rows] = part.values
        counts[part.rows] += 1
    values.sort(axis=0)
    return values, counts
