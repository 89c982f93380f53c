"""Attention where many positions see one context: families of segments, and single reads.

Written as products and softmax: the context's keys and values are gathered once for a whole family, no mask keeps the
segments of a family apart, and gradients are autograd's own. Keys and values are never repeated for the query heads
that share them (grouped-query attention, Ainslie et al. 2023).

Shapes: F families, C segments, T nodes, L positions of context, h query heads, v key-value heads, D head size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from services.scorer.engine.forest import Block

READ_NUMBERS = 1 << 24
"""Reads attend in parts of about so many numbers: each gathers what it sees."""


def attend(queries: Tensor, keys: Tensor, values: Tensor, roots: int, block: Block, head_dim: int) -> Tensor:
    """Attention of a block's nodes to their contexts and, causally, to their own segments.

    Args:
        queries: Of all nodes, [N, h * D].
        keys: Of the table of positions, [roots + N, v * D], as the values.
        values: As the keys.
        roots: Positions in the table before the nodes.
        block: Whose nodes.
        head_dim: D.

    Returns:
        [F * C * T, h * D].
    """
    Fs, C, T = block.index.shape
    L = block.context.shape[1]
    D = head_dim
    h, v = queries.shape[1] // D, keys.shape[1] // D
    q = block.take(queries).view(Fs, C, T, v, h // v, D).permute(0, 3, 1, 2, 4, 5).reshape(Fs, v, -1, D)
    seen_keys, seen_values = (F.embedding(block.context, x).view(Fs, L, v, D).transpose(1, 2) for x in (keys, values))
    own_keys, own_values = (block.take(x, roots).view(Fs, C, T, v, D).permute(0, 3, 1, 2, 4) for x in (keys, values))
    seen = q @ seen_keys.transpose(2, 3)  # [F, v, C * T * h/v, L]
    if block.hidden is not None:
        seen = seen.masked_fill(block.hidden[:, None, None], -torch.inf)
    own = q.view(Fs, v, C, -1, D) @ own_keys.transpose(3, 4)  # [F, v, C, T * h/v, T]
    steps = torch.arange(T, device=own.device)
    later = (steps > steps[:, None]).repeat_interleave(h // v, dim=0)
    own = own.masked_fill(later, -torch.inf).flatten(2, 3)
    weights = _softmax(torch.cat([seen, own], dim=-1).mul_(D**-0.5), -1)
    mixed = weights[..., :L] @ seen_values
    mixed = mixed + (weights[..., L:].view(Fs, v, C, -1, T) @ own_values).flatten(2, 3)
    return mixed.view(Fs, v, C, T, h // v, D).permute(0, 2, 3, 1, 4, 5).reshape(Fs * C * T, h * D)


def attend_once(queries: Tensor, which: Tensor, keys: Tensor, values: Tensor, paths: Tensor, ends: Tensor) -> Tensor:
    """Attention of single positions, each of which sees its path.

    For a single query, products and sums run faster, forward and backward, than matrix products.

    Args:
        queries: The distinct ones, [U, h, D].
        which: int64 [E], the query of each read.
        keys: The table, [P, v, D], as the values.
        values: As the keys.
        paths: int64 [E, L], rows of the table.
        ends: int64 [E], the last place of each path that is not padding.

    Returns:
        [E, h * D].
    """
    # Few queries are compared with each row of the table once, and not for each read that sees it.
    if len(queries) * len(keys) < paths.numel():
        compared = (queries.view(len(queries), 1, keys.shape[1], -1, keys.shape[2]) * keys[:, :, None]).sum(-1)
    else:
        compared = None
    part = max(1, READ_NUMBERS // (paths.shape[1] * queries[0].numel()))
    parts = zip(which.split(part), paths.split(part), ends.split(part), strict=True)
    found = [_once(queries, compared, keys, values, *some) for some in parts]
    return found[0] if len(found) == 1 else torch.cat(found)


def _once(
    queries: Tensor, compared: Tensor | None, keys: Tensor, values: Tensor, which: Tensor, paths: Tensor, ends: Tensor
) -> Tensor:
    _, v, D = keys.shape
    if compared is not None:  # [U, P, v, h/v]
        weights = F.embedding(which[:, None] * len(keys) + paths, compared.flatten(0, 1).flatten(1))
        weights = weights.view(*paths.shape, v, -1)
    else:
        asked = F.embedding(which, queries.flatten(1)).view(len(which), 1, v, -1, D)
        weights = (asked * F.embedding(paths, keys.flatten(1)).view(*paths.shape, v, 1, D)).sum(-1)
    weights = weights * D**-0.5  # [E, L, v, h/v]
    if bool((ends < paths.shape[1] - 1).any()):
        padding = torch.arange(paths.shape[1], device=ends.device) > ends[:, None]
        weights = weights.masked_fill(padding[:, :, None, None], -torch.inf)
    weights = _softmax(weights, 1)
    given = F.embedding(paths, values.flatten(1)).view(*paths.shape, v, 1, D)
    mixed: Tensor = (weights[..., None] * given).sum(1)
    return mixed.flatten(1)


def _softmax(scores: Tensor, dim: int) -> Tensor:
    """In float32 at least, as transformers does."""
    return scores.softmax(dim, dtype=torch.promote_types(scores.dtype, torch.float32)).to(scores.dtype)
