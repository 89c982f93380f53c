"""ComplEx (Trouillon et al., 2016): score = Re(sum(h * r * conj(t))) over complex rows.

A row of `dim` columns holds dim / 2 complex numbers: real parts first, imaginary parts after.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainer.interactions.base import RowwiseInteraction


class ComplEx(RowwiseInteraction):
    """Re(<h, r, conj(t)>), with a second relation vector for head queries (Lacroix et al., 2018).

    Re(sum(q * conj(t))) is the dot product of the real columns of q and t, so `compare` stays one matrix product.
    """

    reciprocal = True

    def combine(self, given: Tensor, relation: Tensor, backwards: Tensor, dense: Mapping[str, Tensor]) -> Tensor:
        """Given * r as complex numbers."""
        return complex_product(given, *relation.chunk(2, dim=1))


def complex_product(x: Tensor, real: Tensor, imaginary: Tensor) -> Tensor:
    """The product of complex rows [q, dim] with complex numbers given by their parts [q, dim / 2]."""
    x_real, x_imaginary = x.chunk(2, dim=1)
    product = (x_real * real - x_imaginary * imaginary, x_real * imaginary + x_imaginary * real)
    return torch.cat(product, dim=1)
