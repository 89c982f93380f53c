"""The forward pass of a LLaMA over a forest of prompts, read only where a readout looks.

It calls the layers' own linear maps and MLPs, in their order, with norms and rotations that go over the rows once, and
leaves out what no readout sees:

- What several prompts begin with runs once (`trees`), and the words that all prompts of a template begin with, the
  roots, ran once at the start: their keys and values lie before the nodes in the table of positions.
- What the first layer does to a position before attention (norm, projections, rotation) depends only on the input
  row and on its position. It runs once for each distinct pair.
- The last layer's queries, attention, output projection and MLP run at the reads only, and layers after the one that
  is read do not run.

Gradients are exact: it is the same sum in another order.

Shapes: R (row, position) pairs, N nodes, E reads, P root positions, H hidden, h heads, D head size.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from services.scorer.engine.attention import attend, attend_once
from services.scorer.engine.forest import Forest
from services.scorer.engine.rotation import Turn, rotate


class Forward:
    """Reads hidden states out of a `LlamaForCausalLM`, whose weights it shares.

    Attributes:
        depth: How many layers there are.
        roots: How many root positions the table begins with.
    """

    def __init__(self, model: Any) -> None:
        self._decoder = model.model
        self._layers = list(model.model.layers)
        self._head_dim: int = self._layers[0].self_attn.head_dim
        self._devices = [layer.input_layernorm.weight.device for layer in self._layers]
        width = model.config.num_key_value_heads * self._head_dim
        empty = model.get_input_embeddings().weight.new_empty(0, width)
        self._roots = [(empty.to(device), empty.to(device)) for device in self._devices]
        self.depth = len(self._layers)
        self.roots = 0

    def add_root(self, rows: Tensor, forest: Forest) -> int:
        """Compute and keep the words that a template begins with; returns where they lie in the table.

        Args:
            rows: Their input vectors, [P, H].
            forest: One segment of them all, after nothing, planted while there are `roots` positions.
        """
        start = self.roots
        kept = []
        place = self._place(rows, forest)
        for number in range(self.depth):
            rows, place = self._move(number, rows, place)
            rows, keys, values = self._whole(number, rows, place)
            kept.append((keys, values))
        self._roots = kept
        self.roots = len(kept[0][0])
        return start

    def states(self, rows: Tensor, forest: Forest, depth: int) -> Tensor:
        """The hidden states at the reads after `depth` layers, [E, H]; after the final norm if these are all.

        Args:
            rows: The input vector of each pair, [R, H].
            forest: Where they stand.
            depth: From 1 to all layers.
        """
        place = self._place(rows, forest)
        for number in range(depth - 1):
            rows, place = self._move(number, rows, place)
            rows, _, _ = self._whole(number, rows, place)
        states = self._at_reads(depth - 1, *self._move(depth - 1, rows, place))
        if depth == self.depth:
            states = _normed(self._decoder.norm, states.to(self._decoder.norm.weight.device))
        return states

    def _whole(self, number: int, rows: Tensor, place: "_Place") -> tuple[Tensor, Tensor, Tensor]:
        """One layer at every node: its output, [N, H], and the keys and values of the whole table."""
        layer, forest, turn = self._layers[number], place.forest, place.turn(number)
        normed = _normed(layer.input_layernorm, rows)
        queries = self._rotate(layer.self_attn.q_proj(normed), turn)
        own = self._rotate(layer.self_attn.k_proj(normed), turn), layer.self_attn.v_proj(normed)
        if number == 0:
            rows, queries = F.embedding(forest.nodes, rows), F.embedding(forest.nodes, queries)
            own = F.embedding(forest.nodes, own[0]), F.embedding(forest.nodes, own[1])
        keys, values = (torch.cat(pair) for pair in zip(self._roots[number], own, strict=True))
        parts = [attend(queries, keys, values, self.roots, block, self._head_dim) for block in forest.blocks]
        mixed = parts[0] if len(parts) == 1 else torch.cat(parts)
        if forest.places is not None:
            mixed = F.embedding(forest.places, mixed)
        return _rest(layer, rows, mixed), keys, values

    def _at_reads(self, number: int, rows: Tensor, place: "_Place") -> Tensor:
        """One layer at the reads, [E, H]."""
        layer, forest, turn = self._layers[number], place.forest, place.turn(number)
        normed = _normed(layer.input_layernorm, rows)
        own = self._rotate(layer.self_attn.k_proj(normed), turn), layer.self_attn.v_proj(normed)
        keys, values = (self._heads(torch.cat(pair)) for pair in zip(self._roots[number], own, strict=True))
        paths = forest.paths if number else forest.pair_paths(self.roots)
        reads = paths.gather(1, forest.ends[:, None])[:, 0] - self.roots
        # Of one layer, prompts that end in the same word at the same position ask the same.
        asked, which = torch.unique(reads, return_inverse=True)
        queries = self._rotate(layer.self_attn.q_proj(normed[asked]), (turn[0][asked], turn[1][asked]))
        mixed = attend_once(self._heads(queries), which, keys, values, paths, forest.ends)
        return _rest(layer, rows[reads], mixed)

    def _move(self, number: int, rows: Tensor, place: "_Place") -> tuple[Tensor, "_Place"]:
        """What a layer works on, on its device."""
        return rows.to(self._devices[number]), place.to(self._devices[number])

    def _place(self, rows: Tensor, forest: Forest) -> "_Place":
        # Prompts are short and positions many: each angle is computed once, and looked up.
        cos, sin = self._decoder.rotary_emb(rows, torch.arange(forest.length, device=rows.device)[None])
        table = cos[0], sin[0].chunk(2, dim=-1)[0]
        pairs, nodes = (
            (F.embedding(at, table[0])[:, None], F.embedding(at, table[1])[:, None])
            for at in (forest.pair_positions, forest.positions)
        )
        return _Place(forest, pairs, nodes)

    def _heads(self, projected: Tensor) -> Tensor:
        """[..., heads * D] as [..., heads, D]."""
        return projected.view(*projected.shape[:-1], -1, self._head_dim)

    def _rotate(self, projected: Tensor, turn: Turn) -> Tensor:
        """Rows [R, heads * D], turned to their positions."""
        return rotate(self._heads(projected), turn).flatten(1)


@dataclass(frozen=True)
class _Place:
    """Where rows stand: in which trees, and how far their queries and keys turn."""

    forest: Forest
    pairs: Turn
    nodes: Turn

    def turn(self, number: int) -> Turn:
        """Of the first layer's pairs, or of the nodes."""
        return self.nodes if number else self.pairs

    def to(self, device: torch.device) -> "_Place":
        """The same there."""
        if self.forest.nodes.device == device:
            return self
        pairs, nodes = ((cos.to(device), sin.to(device)) for cos, sin in (self.pairs, self.nodes))
        return _Place(self.forest.to(device), pairs, nodes)


def _normed(norm: Any, rows: Tensor) -> Tensor:
    """RMSNorm in torch's own operation: the module's would go over the rows, in float32, six times on a GPU."""
    return F.rms_norm(rows, (rows.shape[-1],), norm.weight, norm.variance_epsilon)


def _rest(layer: Any, residual: Tensor, mixed: Tensor) -> Tensor:
    """The layer from its attention's output on, for rows [R, H] and [R, heads * D]."""
    hidden: Tensor = residual + layer.self_attn.o_proj(mixed)
    output: Tensor = hidden + layer.mlp(_normed(layer.post_attention_layernorm, hidden))
    return output
