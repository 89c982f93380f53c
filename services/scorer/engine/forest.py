"""Trees of several calls as one batch of tensors: nodes in one list, families of like shapes in blocks.

Only attention needs to know which node belongs to which tree. All else of a layer runs over the list of nodes, without
padding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from services.scorer.engine.trees import Families, Lists, Tree
from services.scorer.requests import Ints

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Block:
    """F families of up to C segments of up to T nodes, after contexts of up to L positions.

    Attributes:
        context: int64 [F, L], indices into the table of positions.
        hidden: bool [F, L], where a context is padding; None where none is.
        index: int64 [F, C, T], nodes; padded with nodes of the same family.
        first: The first of them, where they are consecutive and none is padding; else None.
    """

    context: Tensor
    hidden: Tensor | None
    index: Tensor
    first: int | None

    def take(self, rows: Tensor, before: int = 0) -> Tensor:
        """The rows of the block's nodes, [F * C * T, ...], of a table that has so many others before all nodes."""
        if self.first is None:
            return F.embedding(self.index.flatten() + before, rows)
        return rows[before + self.first : before + self.first + self.index.numel()]

    def to(self, device: torch.device) -> "Block":
        """The same block there."""
        hidden = None if self.hidden is None else self.hidden.to(device)
        return Block(self.context.to(device), hidden, self.index.to(device), self.first)


@dataclass(frozen=True)
class Forest:
    """Several trees.

    Attributes:
        pairs: For each tree, the bank rows of its distinct (row, position) pairs, int64; R of all trees.
        length: Positions of the longest prompt.
        pair_positions: int64 [R].
        nodes: int64 [N], the pair of each node.
        positions: int64 [N].
        blocks: All families.
        places: int64 [N], where each node is in the blocks' indices, one block after the other; None where that is the
            nodes' own order.
        paths: int64 [E, L], what each read sees, itself last, as indices into the table; padded at the right.
        ends: int64 [E], the last place of each path that is not padding.
    """

    pairs: list[Tensor]
    length: int
    pair_positions: Tensor
    nodes: Tensor
    positions: Tensor
    blocks: list[Block]
    places: Tensor | None
    paths: Tensor
    ends: Tensor

    def to(self, device: torch.device) -> "Forest":
        """The same forest there."""
        if self.nodes.device == device:
            return self
        at, nodes, positions = (x.to(device) for x in (self.pair_positions, self.nodes, self.positions))
        places = None if self.places is None else self.places.to(device)
        blocks = [block.to(device) for block in self.blocks]
        return Forest(
            self.pairs, self.length, at, nodes, positions, blocks, places, self.paths.to(device), self.ends.to(device)
        )

    def pair_paths(self, roots: int) -> Tensor:
        """The paths as indices into a table of the roots, then the pairs."""
        return torch.cat([torch.arange(roots, device=self.nodes.device), roots + self.nodes])[self.paths]


def plant(trees: Sequence[Tree], roots: int, device: torch.device) -> Forest:
    """One forest of all trees.

    Args:
        trees: Of one or several calls.
        roots: Positions in the table before the nodes.
        device: Where it goes.
    """
    before = [int(at) for at in np.cumsum([0, *(len(tree.rows) for tree in trees)])]
    pairs, pair_positions, nodes = _pairs(trees)
    families = [(f, at) for tree, at in zip(trees, before, strict=False) for f in tree.families]
    blocks, places = _blocks(families, roots, before[-1])
    paths = _joined([(tree.paths, at) for tree, at in zip(trees, before, strict=False)], roots)

    def tensor(numbers: NDArray[Any]) -> Tensor:
        return torch.from_numpy(numbers).to(device)

    return Forest(
        [tensor(rows) for rows in pairs],
        int(pair_positions.max()) + 1,
        tensor(pair_positions),
        tensor(nodes),
        tensor(np.concatenate([tree.positions for tree in trees])),
        [Block(tensor(c), None if h is None else tensor(h), tensor(i), first) for c, h, i, first in blocks],
        None if places is None else tensor(places),
        tensor(_padded(paths, np.arange(len(paths.lengths)))[0]),
        tensor(paths.lengths - 1),
    )


def _pairs(trees: Sequence[Tree]) -> tuple[list[Ints], Ints, Ints]:
    """Each tree's distinct (row, position) pairs: rows, positions, and the pair of each node.

    The first layer's work before attention depends on nothing else, so that it runs once for each.
    """
    rows, positions, nodes, count = [], [], [], 0
    for tree in trees:
        width = int(tree.positions.max()) + 1
        pairs, inverse = np.unique(tree.rows * width + tree.positions, return_inverse=True)
        rows.append(pairs // width)
        positions.append(pairs % width)
        nodes.append(inverse + count)
        count += len(pairs)
    return rows, np.concatenate(positions), np.concatenate(nodes)


def _joined(lists: Sequence[tuple[Lists, int]], roots: int) -> Lists:
    """Indices into a tree's table, as indices into the table of all trees."""
    flat = [part.flat + at * (part.flat >= roots) for part, at in lists]
    return Lists(np.concatenate(flat), np.concatenate([part.lengths for part, _ in lists]))


def _blocks(
    families: Sequence[tuple[Families, int]], roots: int, nodes: int
) -> tuple[list[tuple[Ints, Mask | None, Ints, int | None]], Ints | None]:
    """What each block is made of, and each node's place in the blocks' indices; None where that is their own order."""
    if not families:
        return [], None
    places = np.empty(nodes, dtype=np.int64)
    contexts = _joined([(family.contexts, at) for family, at in families], roots)
    sizes = np.concatenate([family.sizes for family, _ in families])
    starts = np.concatenate([family.starts + at for family, at in families])
    lengths = np.concatenate([family.lengths for family, _ in families])
    blocks, base = [], 0
    for chosen in _alike(sizes, lengths, contexts.lengths):
        index, held = _index(chosen, sizes, starts, lengths)
        places[index[held]] = base + np.flatnonzero(held)
        base += index.size
        first = int(index.flat[0])
        whole = np.array_equal(index.ravel(), np.arange(first, first + index.size))
        blocks.append((*_padded(contexts, chosen), index, first if whole else None))
    in_order = base == nodes and np.array_equal(places, np.arange(nodes))
    return blocks, None if in_order else places


def _alike(sizes: Ints, lengths: Ints, contexts: Ints) -> Iterator[Ints]:
    """Families of similar shape: padding them to one adds less than half to each dimension."""
    longest = np.maximum.reduceat(lengths, np.cumsum(sizes) - sizes)
    shape = np.stack([_rounded(sizes), _rounded(longest), _rounded(contexts)])
    _, which = np.unique(shape, axis=1, return_inverse=True)
    order = np.argsort(which, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(which[order])) + 1)
    # In the order of the nodes, so that where nothing is padded nothing has to be put back in order.
    yield from sorted(groups, key=lambda group: int(group[0]))


def _rounded(numbers: Ints) -> Ints:
    """Up to the next of 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, ..."""
    step = 1 << np.maximum(0, np.log2(np.maximum(numbers, 1)).astype(np.int64) - 1)
    rounded: Ints = -(-numbers // step) * step
    return rounded


def _index(chosen: Ints, sizes: Ints, starts: Ints, lengths: Ints) -> tuple[Ints, Mask]:
    """int64 [F, C, T], the nodes of some families; bool [F, C, T], where they are not padding."""
    first = (np.cumsum(sizes) - sizes)[chosen][:, None]
    own = sizes[chosen][:, None]
    nth = np.arange(own.max())
    segments = first + np.minimum(nth, own - 1)
    each = lengths[segments][:, :, None]
    steps = np.arange(each.max())
    return starts[segments][:, :, None] + np.minimum(steps, each - 1), (nth < own)[:, :, None] & (steps < each)


def _padded(lists: Lists, chosen: Ints) -> tuple[Ints, Mask | None]:
    """Some of the lists as int64 [F, L], padded at the right; bool [F, L], where, or None."""
    lengths = lists.lengths[chosen][:, None]
    steps = np.arange(lengths.max())
    padding = steps >= lengths
    places = lists.starts[chosen][:, None] + np.where(padding, 0, steps)
    return lists.flat[places] if steps.size else places, padding if padding.any() else None
