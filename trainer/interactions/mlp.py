"""A small network on (given entity, relation), compared with candidates as dot products (after Dong et al., 2014)."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from protocol.trainings import Dense, LocalSettings
from trainer.interactions.base import RowwiseInteraction

WIDTH = 512
"""Hidden units."""


class MLP(RowwiseInteraction):
    """q = W2 relu(W1 [given; r] + b1) + b2, score = q . candidate. The network is shared by all clients."""

    reciprocal = True

    def dense(self, dim: int, settings: LocalSettings) -> dict[str, Dense]:
        """The two layers, at the scale of their fan-in."""
        return {
            "mlp.hidden.weight": Dense(shape=[WIDTH, 2 * dim], init=(3 / dim) ** 0.5),
            "mlp.hidden.bias": Dense(shape=[WIDTH]),
            "mlp.output.weight": Dense(shape=[dim, WIDTH], init=(3 / WIDTH) ** 0.5),
            "mlp.output.bias": Dense(shape=[dim]),
        }

    def combine(self, given: Tensor, relation: Tensor, backwards: Tensor, dense: Mapping[str, Tensor]) -> Tensor:
        """The network's output."""
        x = torch.cat([given, relation], dim=1)
        x = F.relu(F.linear(x, dense["mlp.hidden.weight"], dense["mlp.hidden.bias"]))
        return F.linear(x, dense["mlp.output.weight"], dense["mlp.output.bias"])
