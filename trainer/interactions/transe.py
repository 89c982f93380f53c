"""TransE (Bordes et al., 2013): a relation is a translation, score = -||h + r - t||_1."""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainer.comparisons import Comparison
from trainer.interactions.base import RowwiseInteraction


class TransE(RowwiseInteraction):
    """-||h + r - t||_1. A query for the head translates back: ||h + r - t|| = ||h - (t - r)||."""

    comparison = Comparison.L1

    def combine(self, given: Tensor, relation: Tensor, backwards: Tensor, dense: Mapping[str, Tensor]) -> Tensor:
        """Given + r, or given - r backwards."""
        return torch.where(backwards[:, None], given - relation, given + relation)
