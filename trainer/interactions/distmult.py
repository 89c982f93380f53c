"""DistMult (Yang et al., 2015): score = sum(h * r * t)."""

from collections.abc import Mapping

from torch import Tensor

from trainer.interactions.base import DotProduct


class DistMult(DotProduct):
    """sum(h * r * t), with a second relation vector for head queries: alone it cannot tell h from t."""

    def combine(self, given: Tensor, relation: Tensor, asks_head: Tensor, dense: Mapping[str, Tensor]) -> Tensor:
        """Given * r."""
        return given * relation
