"""DistMult (Yang et al., 2015): score = sum(h * r * t)."""

from collections.abc import Mapping

from torch import Tensor

from trainer.interactions.base import RowwiseInteraction


class DistMult(RowwiseInteraction):
    """sum(h * r * t), with a second relation vector for head queries: alone it cannot tell h from t."""

    reciprocal = True

    def combine(self, given: Tensor, relation: Tensor, backwards: Tensor, dense: Mapping[str, Tensor]) -> Tensor:
        """Given * r."""
        return given * relation
