"""Rotary position embedding (RoFormer, Su et al. 2021) in LLaMA's layout, where the halves of a head are pairs.

Autograd would go over the rows twice as often, and elementwise work on a GPU takes as long as it reads and writes.
"""

from typing import Any

import torch
from torch import Tensor

Turn = tuple[Tensor, Tensor]
"""Cosines of positions, [N, 1, D], and sines, [N, 1, D / 2]: both halves of a head turn by the same angles."""


def rotate(x: Tensor, turn: Turn) -> Tensor:
    """Heads [N, heads, D], each row turned to its position."""
    turned: Tensor = _Rotated.apply(x, *turn)
    return turned


class _Rotated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # The other way round: a rotation's transpose is its inverse.
        cos, sin = ctx.saved_tensors
        return _turned(grads[0], cos, sin, -1), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    turned = x * cos
    (first, second), (to_first, to_second) = x.chunk(2, dim=-1), turned.chunk(2, dim=-1)
    to_first.addcmul_(second, sin, value=-direction)
    to_second.addcmul_(first, sin, value=direction)
    return turned
