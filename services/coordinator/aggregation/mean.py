"""Means of what clients reported: FedE's aggregation, and its two neighbours.

Chen et al., "FedE: Embedding Knowledge Graphs in Federated Setting", IJCKG 2021, eq. 4, with two corrections to the
published code: only clients that reported count, and an entity that nobody reported keeps its row instead of becoming
0/0. `mean_over_all` and `frequency` are the same mean: over other contributions, and with other weights.
"""

import numpy as np

from protocol.trainings import AggregationSettings
from services.coordinator.aggregation.blocks import Block, Contribution, Floats, replaced, weighted_mean


def mean(block: Block, settings: AggregationSettings) -> dict[str, Floats]:
    """Rows become the mean over those who reported them, weighted as the contributions are."""
    means, reported = weighted_mean(block)
    return {"": replaced(block.previous, means, reported)}


def clipped_mean(block: Block, settings: AggregationSettings) -> dict[str, Floats]:
    """The mean of changes, each cut to an L2 norm of `clip` a row; a dense tensor is one row.

    Sun et al., "Can You Really Backdoor Federated Learning?", 2019, norm thresholding, by row instead of by model: a
    client holds some entities only, and a scaled row is what an attacker of embeddings sends.
    """

    def clipped(part: Contribution) -> Contribution:
        # In float64 still: a mean of what was rounded before would not be that of the changes.
        before = block.previous[part.rows].astype(np.float64)
        change = part.values - before
        norm = np.sqrt(np.square(change).sum(1, keepdims=True)) if part.norm is None else part.norm
        change *= np.minimum(1.0, settings.clip / np.maximum(norm, np.finfo(np.float64).tiny))
        change += before
        return Contribution(part.client, part.rows, change, part.weight)

    cut = Block(block.previous, block.state, block.clients, lambda: map(clipped, block.contributions()))
    return mean(cut, settings)
