"""How a query vector meets candidates: as a dot product, an L1 distance, or a sum of complex moduli.

Each comes in two forms: every query against every candidate, and every query against candidates of its own. Neither
makes a [queries, candidates, dim] tensor on a CPU; on a GPU all but plain products do, in parts.
"""

from enum import Enum
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from trainer import kernels
from trainer.loops import in_parts, parts_of

NUMBERS_AT_ONCE = 1 << 26
"""Bounds the differences that are held at once where kernels cannot run, as on a GPU."""


class Comparison(Enum):
    """The kinds; distances are negative, so that higher is more plausible in all of them."""

    DOT = kernels.DOT
    L1 = kernels.L1
    MODULUS = kernels.MODULUS

    @property
    def distance(self) -> bool:
        """Whether it is the negative of a distance."""
        return self is not Comparison.DOT

    def pairs(self, query: Tensor, candidates: Tensor) -> Tensor:
        """Scores [q, n] of query vectors [q, dim] against candidate rows [n, dim]."""
        if self is Comparison.DOT:
            return query @ candidates.T
        if query.device.type == "cpu":
            return -_compared(query, candidates, self.value)
        index = torch.arange(len(candidates), device=query.device).expand(len(query), -1)
        return self._in_parts(query, candidates, index)

    def chosen(self, query: Tensor, rows: Tensor, index: Tensor) -> Tensor:
        """Scores [q, m] of query vectors [q, dim] against the rows of [n, dim] that int64 index [q, m] names."""
        if query.device.type != "cpu":
            return self._in_parts(query, rows, index)
        found = _compared(query, rows, self.value, index)
        return -found if self.distance else found

    def _in_parts(self, query: Tensor, rows: Tensor, index: Tensor) -> Tensor:
        """`chosen` in torch's own operations; checkpointed, so that differences do not wait for the backward pass."""
        most = max(1, NUMBERS_AT_ONCE // max(1, index.shape[1] * query.shape[1]))
        parts = zip(query.split(most), index.split(most), strict=True)
        # Nothing here is random, and a GPU's generator is slow to ask for its state.
        scores = [
            checkpoint(self._gathered, q, rows, i, use_reentrant=False, preserve_rng_state=False) for q, i in parts
        ]
        return torch.cat(scores) if scores else query.new_empty(index.shape)

    def _gathered(self, query: Tensor, rows: Tensor, index: Tensor) -> Tensor:
        if self is Comparison.DOT:
            return torch.einsum("qd,qmd->qm", query, F.embedding(index, rows))
        difference = query[:, None] - F.embedding(index, rows)
        if self is Comparison.L1:
            return -difference.abs().sum(dim=2)
        real, imaginary = difference.chunk(2, dim=2)
        return -(real.square() + imaginary.square() + float(kernels.TINY)).sqrt().sum(dim=2)


class _Compared(torch.autograd.Function):
    """The kernels as one function of query [q, dim] and rows [n, dim]; without an index, every query meets all rows."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, rows: Tensor, kind: int, index: Tensor | None) -> Tensor:
        query, rows = query.contiguous(), rows.contiguous()
        out = torch.empty((len(query), len(rows)) if index is None else index.shape, dtype=query.dtype)
        ctx.save_for_backward(query, rows)
        ctx.kind, ctx.order = kind, [] if index is None else kernels.by_row(index.contiguous().numpy(), len(rows))
        loop = (kernels.pairs if index is None else kernels.chosen)(kind)
        arrays = _arrays(query, rows), _arrays(out)
        in_parts(lambda _, start, end: loop(*arrays[0], *ctx.order, *arrays[1], start, end), len(rows))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, rows = ctx.saved_tensors
        grad_query, grad_rows = query.new_zeros(parts_of(len(rows)), *query.shape), torch.zeros_like(rows)
        loop = (kernels.chosen_gradient if ctx.order else kernels.pairs_gradient)(ctx.kind)
        given, grad = _arrays(query, rows), _arrays(grads[0].contiguous())
        found = _arrays(grad_query, grad_rows)

        def part(number: int, start: int, end: int) -> None:
            loop(*given, *ctx.order, *grad, found[0][number], found[1], start, end)

        in_parts(part, len(rows))
        return grad_query.sum(dim=0), grad_rows, None, None


def _compared(query: Tensor, rows: Tensor, kind: int, index: Tensor | None = None) -> Tensor:
    found: Tensor = _Compared.apply(query, rows, kind, index)
    return found


def _arrays(*tensors: Tensor) -> list[NDArray[Any]]:
    return [tensor.detach().numpy() for tensor in tensors]
