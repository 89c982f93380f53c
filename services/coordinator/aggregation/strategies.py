"""The strategies by their names in `protocol.trainings.AggregationSettings`."""

from collections.abc import Callable
from dataclasses import dataclass

from protocol.trainings import AggregationSettings, StrategyName
from services.coordinator.aggregation import mean, optimizers, robust
from services.coordinator.aggregation.blocks import Block, Floats

Combine = Callable[[Block, AggregationSettings], dict[str, Floats]]
"""Makes a block's next rows, under the name `""`, and its next state, under its names."""


@dataclass(frozen=True)
class Strategy:
    """How a block's next rows are made, and what the walk over blocks must know of it.

    Attributes:
        combine: A pure function: the same block gives the same bytes.
        state: Names of what the server keeps for every number.
        stacked: Whether all clients' values of a block are in memory at once.
        silent_count: Whether a client that holds a row and did not report it counts with the row as it was.
        by_frequency: Whether rows are weighted by the frequencies that clients report with them.
        whole_dense: Whether a dense tensor's change is one row's, whose norm is needed before its numbers are.
        weighted_dense: Whether dense tensors are weighted by training triples.
    """

    combine: Combine
    state: tuple[str, ...] = ()
    stacked: bool = False
    silent_count: bool = False
    by_frequency: bool = False
    whole_dense: bool = False
    weighted_dense: bool = True


_FIRST, _BOTH = (optimizers.FIRST,), (optimizers.FIRST, optimizers.SECOND)

STRATEGIES: dict[StrategyName, Strategy] = {
    "mean": Strategy(mean.mean),
    "mean_over_all": Strategy(mean.mean, silent_count=True),
    "frequency": Strategy(mean.mean, by_frequency=True),
    "median": Strategy(robust.median, stacked=True, weighted_dense=False),
    "trimmed_mean": Strategy(robust.trimmed_mean, stacked=True, weighted_dense=False),
    "clipped_mean": Strategy(mean.clipped_mean, whole_dense=True),
    "momentum": Strategy(optimizers.momentum, state=_FIRST),
    "adam": Strategy(optimizers.adam, state=_BOTH),
    "yogi": Strategy(optimizers.yogi, state=_BOTH),
}
