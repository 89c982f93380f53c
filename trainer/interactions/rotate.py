"""RotatE (Sun et al., 2019): a relation is a rotation of complex numbers, score = -sum(|h * e^(i r) - t|)."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from trainer.comparisons import Comparison
from trainer.interactions.base import RowwiseInteraction
from trainer.interactions.complex import complex_product

RADIANS = math.pi * 128 / 12
"""A relation's numbers are angles in units of so many radians: the range of entity rows in FedE's settings then spans
[-pi, pi], and Adam, whose steps are as long for every number, turns a relation as fast as it moves an entity.
"""


class RotatE(RowwiseInteraction):
    """-sum(|h * e^(i r) - t|) over complex numbers. A query for the head rotates back, since |e^(i r)| = 1."""

    comparison = Comparison.MODULUS

    def relation_width(self, dim: int) -> int:
        """One angle for each complex number."""
        return dim // 2

    def relation_bound(self, init: float) -> float:
        """Angles start uniform in [-pi, pi], as in the paper."""
        return math.pi / RADIANS

    def combine(self, given: Tensor, relation: Tensor, backwards: Tensor, dense: Mapping[str, Tensor]) -> Tensor:
        """Given * e^(i r), or given * e^(-i r) backwards."""
        angle = torch.where(backwards[:, None], -relation, relation) * RADIANS
        return complex_product(given, torch.cos(angle), torch.sin(angle))
