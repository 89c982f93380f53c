"""The server's optimisers: the mean change of a round is a gradient that momentum, Adam or Yogi follow.

Momentum: Hsu et al., "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification",
2019 (FedAvgM). Adam and Yogi: Reddi et al., "Adaptive Federated Optimization", ICLR 2021, algorithm 2. Their state is
kept for every number of a table, and rows that nobody reported keep theirs.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from protocol.trainings import AggregationSettings
from services.coordinator.aggregation.blocks import Block, Floats, replaced, weighted_mean

FIRST, SECOND = "m", "v"
LEARNING_RATES = {"momentum": 1.0, "adam": 0.01, "yogi": 0.01}

Doubles = NDArray[np.float64]


def initial_state(name: str, settings: AggregationSettings) -> float:
    """What a state of this name starts from: no momentum, and tau squared for the squares (algorithm 2)."""
    return settings.tau**2 if name == SECOND else 0.0


def momentum(block: Block, settings: AggregationSettings) -> dict[str, Floats]:
    """M = beta1 m + change; row += rate m."""
    change, reported = _change(block)
    first = settings.beta1 * block.state[FIRST].astype(np.float64) + change
    return _step(block, settings, reported, first, {FIRST: first})


def adam(block: Block, settings: AggregationSettings) -> dict[str, Floats]:
    """V = beta2 v + (1 - beta2) change^2; row += rate m / (sqrt(v) + tau)."""
    change, reported = _change(block)
    second = settings.beta2 * block.state[SECOND].astype(np.float64) + (1 - settings.beta2) * change**2
    return _adaptive(block, settings, reported, change, second)


def yogi(block: Block, settings: AggregationSettings) -> dict[str, Floats]:
    """V = v - (1 - beta2) change^2 sign(v - change^2); row += rate m / (sqrt(v) + tau)."""
    change, reported = _change(block)
    before = block.state[SECOND].astype(np.float64)
    second = before - (1 - settings.beta2) * change**2 * np.sign(before - change**2)
    return _adaptive(block, settings, reported, change, second)


def _change(block: Block) -> tuple[Doubles, NDArray[np.bool_]]:
    means, reported = weighted_mean(block)
    return means - block.previous, reported


def _adaptive(
    block: Block, settings: AggregationSettings, reported: NDArray[np.bool_], change: Doubles, second: Doubles
) -> dict[str, Floats]:
    first = settings.beta1 * block.state[FIRST].astype(np.float64) + (1 - settings.beta1) * change
    direction = first / (np.sqrt(second) + settings.tau)
    return _step(block, settings, reported, direction, {FIRST: first, SECOND: second})


def _step(
    block: Block,
    settings: AggregationSettings,
    reported: NDArray[np.bool_],
    direction: Doubles,
    state: Mapping[str, Doubles],
) -> dict[str, Floats]:
    rate = LEARNING_RATES[settings.strategy] if settings.learning_rate is None else settings.learning_rate
    kept = {name: replaced(block.state[name], values, reported) for name, values in state.items()}
    return {"": replaced(block.previous, block.previous + rate * direction, reported)} | kept
