"""The forward pass of a LLaMA over prompts that are given as row numbers, read only where a readout looks.

It calls the layers' own modules, in their order, and leaves out what no readout sees:

- What the first layer does to a position before attention (norm, projections, rotation) depends only on the input
  row and on its position. It is computed once for each distinct pair and gathered, not once for each prompt.
- The last layer's queries, attention, output projection and MLP are computed at the prompts' ends only.
- The keys and values of the words that all prompts begin with are given as a `Prefix`, computed once.

With one layer, what is left per position is a gather and one row of attention. Gradients are exact: it is the same
sum in another order. Padding stands at the right, where causal attention never looks.

Shapes: R rows, B prompts, T positions, P prefix positions, H hidden, N key-value heads * D, D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Prefix = Sequence[tuple[Tensor, Tensor]]
"""For each layer, keys (rotated) and values of the shared positions, [P, N]."""


@dataclass(frozen=True)
class Batch:
    """Prompts over distinct (input row, position) pairs.

    Attributes:
        positions: int64 [R], the position of each row, not counting the prefix.
        index: int64 [B, T], the row at each position, padded at the right with any valid row.
        ends: int64 [B], the last position of each prompt that is not padding.
    """

    positions: Tensor
    index: Tensor
    ends: Tensor


class Forward:
    """Reads hidden states out of a `LlamaForCausalLM`, whose weights it shares."""

    def __init__(self, model: Any) -> None:
        self._decoder = model.model
        self._layers = list(model.model.layers)
        self._head_dim = self._layers[0].self_attn.head_dim

    def prefix(self, rows: Tensor) -> Prefix:
        """The keys and values of positions that every prompt begins with, given their input vectors, [P, H]."""
        if not len(rows):
            return self._no_prefix()
        numbers = torch.arange(len(rows), device=rows.device)
        batch = Batch(numbers, numbers[None], numbers[-1:])
        kept = []
        for layer, past in zip(self._layers, self._no_prefix(), strict=True):
            rows, keys_values = self._whole(layer, rows, batch, past)
            kept.append(keys_values)
        return kept

    def states(self, rows: Tensor, batch: Batch, prefix: Prefix) -> Tensor:
        """The hidden states after the final norm at the prompts' ends, [B, H].

        Args:
            rows: Input vectors, [R, H].
            batch: Where they stand.
            prefix: What stands before all prompts.
        """
        B, T = batch.index.shape
        numbers = torch.arange(T, device=rows.device)
        for layer, past in zip(self._layers[:-1], prefix[:-1], strict=True):
            rows, _ = self._whole(layer, rows, batch, past)
            # From the second layer on every position is a row of its own.
            batch = Batch(numbers.repeat(B), torch.arange(B * T, device=rows.device).view(B, T), batch.ends)
        return self._at_ends(rows, batch, prefix[-1])

    def _no_prefix(self) -> Prefix:
        nothing = [layer.self_attn.k_proj.weight[:, 0].new_empty(0, len(layer.self_attn.k_proj.weight))
                   for layer in self._layers]  # fmt: skip
        return [(empty, empty) for empty in nothing]

    def _whole(
        self, layer: Any, rows: Tensor, batch: Batch, past: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One layer at every position: its output as rows [B * T, H], and its keys and values [R, N]."""
        shared, length = len(past[0]), batch.index.shape[1]
        normed = layer.input_layernorm(rows)
        at = shared + batch.positions
        own = self._rotate(layer.self_attn.k_proj(normed), at), layer.self_attn.v_proj(normed)
        keys, values = self._seen(own, past, batch.index)
        queries = self._heads(F.embedding(batch.index, self._rotate(layer.self_attn.q_proj(normed), at)))
        numbers = torch.arange(shared + length, device=rows.device)
        mixed = F.scaled_dot_product_attention(
            queries.transpose(1, 2),
            keys.transpose(1, 2),
            values.transpose(1, 2),
            attn_mask=numbers[None] <= numbers[shared:, None],
            enable_gqa=True,
        )
        mixed = mixed.transpose(1, 2).flatten(2).flatten(0, 1)
        return _rest(layer, F.embedding(batch.index, rows).flatten(0, 1), mixed), own

    def _at_ends(self, rows: Tensor, batch: Batch, past: tuple[Tensor, Tensor]) -> Tensor:
        """The last layer and the final norm at the prompts' ends, [B, H]."""
        layer, shared = self._layers[-1], len(past[0])
        normed = layer.input_layernorm(rows)
        own = self._rotate(layer.self_attn.k_proj(normed), shared + batch.positions), layer.self_attn.v_proj(normed)
        places = _places(batch.index, shared)
        keys, values = (self._heads(torch.cat([before, rows])) for before, rows in zip(past, own, strict=True))
        at_ends = batch.index.gather(1, batch.ends[:, None])[:, 0]
        queries = self._heads(self._rotate(layer.self_attn.q_proj(normed[at_ends]), shared + batch.ends))
        same = bool((at_ends == at_ends[0]).all())
        mixed = _attend_once(queries[:1] if same else queries, keys, values, places, shared + batch.ends)
        states: Tensor = self._decoder.norm(_rest(layer, rows[at_ends], mixed))
        return states

    def _seen(self, own: tuple[Tensor, Tensor], past: tuple[Tensor, Tensor], index: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values that each prompt sees, the prefix first, [B, P + T, key-value heads, D] each."""
        places = _places(index, len(past[0]))
        # F.embedding is a gather whose backward is one sum for each row.
        keys, values = (F.embedding(places, torch.cat([before, rows])) for before, rows in zip(past, own, strict=True))
        return self._heads(keys), self._heads(values)

    def _heads(self, projected: Tensor) -> Tensor:
        """[..., heads * D] as [..., heads, D]."""
        return projected.view(*projected.shape[:-1], -1, self._head_dim)

    def _rotate(self, projected: Tensor, positions: Tensor) -> Tensor:
        """Rotary position embedding (RoFormer, Su et al. 2021) of rows [R, heads * D] at positions int64 [R].

        In LLaMA's layout the two halves of a head are the pairs that turn together.
        """
        cos, sin = self._decoder.rotary_emb(projected, positions[None])
        x = self._heads(projected)
        first, second = x.chunk(2, dim=-1)
        turned: Tensor = x * cos[0, :, None] + torch.cat([-second, first], dim=-1) * sin[0, :, None]
        return turned.flatten(1)


def _places(index: Tensor, shared: int) -> Tensor:
    """The prefix's rows, then a prompt's own, in a table that holds the prefix first, int64 [B, P + T]."""
    before = torch.arange(shared, device=index.device).expand(len(index), -1)
    return torch.cat([before, index + shared], dim=1)


def _attend_once(queries: Tensor, keys: Tensor, values: Tensor, places: Tensor, ends: Tensor) -> Tensor:
    """Attention of one query a prompt, which sees the positions up to its end.

    Written as products and sums: for a single query they run faster, forward and backward, than fused attention.

    Args:
        queries: [B, heads, D]; or [1, heads, D] where all prompts ask the same, as a one-layer model's do if they
            end in the same word: then each row of the table is compared once, not once for each prompt.
        keys: The table, [P + R, key-value heads, D], as the values.
        values: Each key-value head serves heads / key-value heads queries.
        places: The row of the table at each position, int64 [B, L].
        ends: int64 [B].

    Returns:
        [B, heads * D].
    """
    _, kv_heads, D = keys.shape
    grouped = queries.view(len(queries), kv_heads, -1, D)
    if len(queries) == 1:
        compared = (grouped * keys[:, :, None]).sum(-1)  # [P + R, key-value heads, group]
        weights = F.embedding(places, compared.flatten(1)).view(*places.shape, *compared.shape[1:])
    else:
        seen = F.embedding(places, keys.flatten(1)).view(*places.shape, kv_heads, 1, D)
        weights = (grouped[:, None] * seen).sum(-1)
    weights = weights * D**-0.5  # [B, L, key-value heads, group]
    if bool((ends < places.shape[1] - 1).any()):
        padding = torch.arange(places.shape[1], device=ends.device) > ends[:, None]
        weights = weights.masked_fill(padding[:, :, None, None], -torch.inf)
    weights = weights.softmax(1, dtype=torch.promote_types(weights.dtype, torch.float32)).to(weights.dtype)
    given = F.embedding(places, values.flatten(1)).view(*places.shape, kv_heads, 1, D)
    mixed: Tensor = (weights[..., None] * given).sum(1)
    return mixed.flatten(1)


def _rest(layer: Any, residual: Tensor, mixed: Tensor) -> Tensor:
    """The layer from its attention's output on, for rows [R, H] and [R, heads * D]."""
    hidden: Tensor = residual + layer.self_attn.o_proj(mixed)
    output: Tensor = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return output
