"""TransE (Bordes et al., 2013): a relation is a translation, score = -||h + r - t||_1."""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainer.interactions.base import RowwiseInteraction


class TransE(RowwiseInteraction):
    """-||h + r - t||_1. A query for the head translates back: ||h + r - t|| = ||h - (t - r)||."""

    distance = True

    def combine(self, given: Tensor, relation: Tensor, asks_head: Tensor, dense: Mapping[str, Tensor]) -> Tensor:
        """Given + r where the tail is asked, given - r where the head is."""
        return torch.where(asks_head[:, None], given - relation, given + relation)

    def compare(self, query: Tensor, candidates: Tensor) -> Tensor:
        """[q, n] negative L1 distances."""
        return -torch.cdist(query, candidates, p=1)
