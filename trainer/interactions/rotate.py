"""RotatE (Sun et al., 2019): a relation is a rotation of complex numbers, score = -sum(|h * e^(i r) - t|)."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from trainer.interactions.base import RowwiseInteraction
from trainer.interactions.complex import complex_product

QUERIES_AT_ONCE = 64
"""Bounds the [queries, candidates, dim / 2] differences, which have no form as a matrix product."""


class RotatE(RowwiseInteraction):
    """-sum(|h * e^(i r) - t|) over complex numbers. A query for the head rotates back, since |e^(i r)| = 1."""

    distance = True

    def relation_width(self, dim: int) -> int:
        """One angle for each complex number."""
        return dim // 2

    def relation_bound(self, init: float) -> float:
        """Angles start uniform in [-pi, pi], as in the paper."""
        return math.pi

    def combine(self, given: Tensor, relation: Tensor, asks_head: Tensor, dense: Mapping[str, Tensor]) -> Tensor:
        """Given * e^(i r), or e^(-i r) where the head is asked."""
        angle = torch.where(asks_head[:, None], -relation, relation)
        return complex_product(given, torch.cos(angle), torch.sin(angle))

    def compare(self, query: Tensor, candidates: Tensor) -> Tensor:
        """[q, n] negative sums of complex moduli."""
        # Checkpointed: autograd would keep every part's differences until the backward pass.
        parts = [checkpoint(_distances, part, candidates, use_reentrant=False) for part in query.split(QUERIES_AT_ONCE)]
        return -torch.cat(parts) if parts else query.new_empty(0, len(candidates))


def _distances(query: Tensor, candidates: Tensor) -> Tensor:
    real, imaginary = (query[:, None] - candidates).chunk(2, dim=2)
    # The square root's gradient is infinite at 0, which an exact match would reach.
    return (real.square() + imaginary.square() + 1e-12).sqrt().sum(dim=2)
