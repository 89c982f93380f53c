"""Prompts of one template as a tree: what several of them begin with stands in it once.

A prompt is cut into chunks, each beginning with a slot. Prompts that agree on a chunk and on all before it share its
*nodes*, one for each position: the candidates of one (head, relation) share everything before the tail. A *segment* is
a run of nodes that belongs together; segments that follow the same node are a *family*, and what they all see before
themselves is its *context*. The words that every prompt of a template begins with are its *root*: they are computed
once, at the start, and lie in the table of positions before all nodes.

Shapes: B prompts, N nodes, S segments, F families, E reads. All arrays are int64.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from services.scorer.engine.prompts import Rows, spans
from services.scorer.requests import Ints

FAMILY = 64
"""Segments that attend together; larger families are split, so that one of them does not set the padding of all."""
WORTH = 0.7
"""A level of its own costs another pass of attention: fewer than this part of the segments below must begin there."""


@dataclass(frozen=True)
class Part:
    """A list of bank rows in each prompt: list `which[i]` of `rows` stands in prompt i."""

    rows: Rows
    which: Ints

    @property
    def lengths(self) -> Ints:
        """[B]."""
        return self.rows.lengths[self.which]


@dataclass(frozen=True)
class Root:
    """Where the words that a template begins with lie in the table of positions."""

    start: int
    length: int


@dataclass(frozen=True)
class Lists:
    """Lists one after the other: `flat` holds the first `lengths[0]` numbers of list 0, and so on."""

    flat: Ints
    lengths: Ints

    @property
    def starts(self) -> Ints:
        """Where each list begins."""
        return np.cumsum(self.lengths) - self.lengths


@dataclass(frozen=True)
class Tree:
    """Some prompts, as they go through the model together.

    The table of positions holds the roots of all templates, then the nodes; indices into it count on that.

    Attributes:
        rows: [N], the bank row of each node.
        positions: [N], where it stands in its prompts, the root's words counted.
        families: Those of each level, where several layers run; one layer reads by `paths` alone.
        paths: For each read, all positions that it sees, itself last, as indices into the table.
        readers: [E], the prompt of each read, counted from the first of these prompts.
    """

    rows: Ints
    positions: Ints
    families: "list[Families]"
    paths: Lists
    readers: Ints


@dataclass(frozen=True)
class Families:
    """Segments by what they follow.

    Attributes:
        contexts: What each family sees before itself, as indices into the table.
        sizes: [F], segments of each family.
        starts: [S], the first node of each segment, family by family.
        lengths: [S], nodes of each segment; none is empty.
    """

    contexts: Lists
    sizes: Ints
    starts: Ints
    lengths: Ints


@dataclass(frozen=True)
class Piece:
    """Prompts that run together: `at` of the sorted ones, `numbers` of the call, with so many nodes."""

    at: slice
    numbers: Ints
    tokens: int


class Prompts:
    """The prompts of one template, sorted so that those that share much are neighbours.

    Attributes:
        longest: Positions of the longest prompt, the root counted.
        tokens: Positions of all prompts, the roots counted.
    """

    def __init__(
        self,
        root: Root,
        chunks: Sequence[Sequence[Part]],
        reads: Ints,
        *,
        share: bool = True,
        units: Ints | None = None,
    ) -> None:
        """Sort the prompts and find what they share.

        Args:
            root: What they all begin with.
            chunks: The parts of each prompt, in their order; a chunk's first part tells prompts apart.
            reads: [B], how many of its last positions are read.
            share: Whether sharing saves anything; else each prompt is one segment of its own.
            units: [B], prompts of equal numbers stay in one piece where they fit.
        """
        keys = [chunk[0].which for chunk in chunks]
        if not share:
            chunks, keys = [[part for chunk in chunks for part in chunk]], [np.arange(len(reads))]
        lengths = [np.sum([part.lengths for part in chunk], axis=0) for chunk in chunks]
        total: Ints = np.sum(lengths, axis=0)
        # Longest first: neighbours are padded to one length, and the largest need of memory comes first.
        by = [*keys[:-1], -lengths[-1], keys[-1]]
        order = np.lexsort([*reversed(by), *([] if units is None else [units])])
        self._root, self._share, self._order = root, share, order
        self._units = None if units is None else units[order]
        self._reads = reads[order]
        new = _changes([key[order] for key in keys])
        joined = _levels([int(flags.sum()) for flags in new])
        self._new = [new[level[-1]] for level in joined]
        self._parts = [[Part(p.rows, p.which[order]) for c in level for p in chunks[c]] for level in joined]
        self._lengths = [np.sum([lengths[c][order] for c in level], axis=0) for level in joined]
        self.longest = int(total.max()) + root.length
        self.tokens = int(total.sum()) + root.length * len(total)

    def __len__(self) -> int:
        return len(self._order)

    def pieces(self, budget: int) -> list[Piece]:
        """All prompts in pieces of at most so many nodes, or of one prompt. A unit that is larger is cut."""
        whole = np.sum(self._lengths, axis=0)
        costs = np.sum([np.where(new, size, 0) for new, size in zip(self._new, self._lengths, strict=True)], axis=0)
        upto = np.concatenate([[0], np.cumsum(costs)])
        ends = self._unit_ends()
        pieces, start = [], 0
        while start < len(self):
            # A piece begins with a whole prompt, also where an earlier piece holds a part of it.
            extra = int(whole[start] - costs[start])
            fits = int(np.searchsorted(upto, upto[start] + budget - extra, side="right")) - 1
            nth = int(np.searchsorted(ends, max(fits, start + 1), side="right"))
            whole_units = int(ends[nth - 1]) if nth else 0
            stop = whole_units if whole_units > start else max(fits, start + 1)
            at = slice(start, stop)
            pieces.append(Piece(at, self._order[at], int(upto[stop] - upto[start]) + extra))
            start = stop
        return pieces

    def tokens_of(self, piece: Piece) -> int:
        """Positions of a piece's prompts, the roots counted."""
        return int(np.sum(self._lengths, axis=0)[piece.at].sum()) + self._root.length * len(piece.numbers)

    def _unit_ends(self) -> Ints:
        """[units], ascending: the places after which the sorted prompts may be cut."""
        if self._units is None:
            return np.arange(1, len(self) + 1)
        return np.append(np.flatnonzero(np.diff(self._units)) + 1, len(self))

    def tree(self, at: slice, first_node: int) -> Tree:
        """The tree of some of the sorted prompts; `first_node` is the number of root positions in the table."""
        levels = list(self._segments(at))
        reads = self._reads[at]
        readers = np.repeat(np.arange(len(reads)), reads)
        return Tree(
            np.concatenate([level.rows for level in levels]),
            np.concatenate([level.positions for level in levels]),
            [self._families(levels[:n], level, first_node) for n, level in enumerate(levels)] if self._share else [],
            self._paths(levels, reads, readers, first_node),
            readers,
        )

    def _segments(self, at: slice) -> Iterator["_Level"]:
        first_node = 0
        before = np.full(at.stop - at.start, self._root.length)
        for parts, flags, sizes in zip(self._parts, self._new, self._lengths, strict=True):
            new = flags[at].copy()
            new[0] = True
            firsts = np.flatnonzero(new)
            lengths = sizes[at][firsts]
            starts = first_node + np.cumsum(lengths) - lengths
            chosen = [(part.rows, part.which[at][firsts]) for part in parts]
            flats = [(rows.flat, rows.starts[which], rows.lengths[which]) for rows, which in chosen]
            yield _Level(
                np.cumsum(new) - 1, firsts, starts, lengths, _join(flats), spans(before[firsts], lengths), before
            )
            before = before + sizes[at]
            first_node += int(lengths.sum())

    def _families(self, above: "Sequence[_Level]", level: "_Level", first_node: int) -> Families:
        held = np.flatnonzero(level.lengths)
        prompts = level.firsts[held]
        parents = above[-1].of[prompts] if above else np.zeros(len(held), dtype=np.int64)
        runs = np.bincount(parents)
        first = np.flatnonzero(spans(np.zeros_like(runs), runs) % FAMILY == 0)
        heads = prompts[first]
        contexts = self._before(above, heads, [ancestor.lengths[ancestor.of[heads]] for ancestor in above], first_node)
        sizes = np.diff(np.append(first, len(held)))
        return Families(contexts, sizes, level.starts[held], level.lengths[held])

    def _paths(self, levels: Sequence["_Level"], reads: Ints, readers: Ints, first_node: int) -> Lists:
        total = levels[-1].before + levels[-1].lengths[levels[-1].of]
        position = spans(total - reads, reads)
        taken = [np.clip(position + 1 - level.before[readers], 0, level.lengths[level.of[readers]]) for level in levels]
        return self._before(levels, readers, taken, first_node)

    def _before(self, levels: Sequence["_Level"], prompts: Ints, taken: Sequence[Ints], first_node: int) -> Lists:
        """For each prompt, the root and the first nodes of its segment at each level, as indices into the table."""
        root = np.full(len(prompts), self._root.start), np.full(len(prompts), self._root.length)
        parts = [root, *((first_node + level.starts[level.of[prompts]], n)
                         for level, n in zip(levels, taken, strict=True))]  # fmt: skip
        lengths: Ints = np.sum([n for _, n in parts], axis=0)
        return Lists(_join([(None, start, n) for start, n in parts]), lengths)


@dataclass(frozen=True)
class _Level:
    """The segments that begin with the same chunk. `of` [B]: each prompt's; `before` [B]: positions before it."""

    of: Ints
    firsts: Ints
    starts: Ints
    lengths: Ints
    rows: Ints
    positions: Ints
    before: Ints


def _changes(keys: Sequence[Ints]) -> list[Ints]:
    """[B] for each key: whether it, or one before it, differs from the prompt before."""
    differs = np.zeros(len(keys[0]), dtype=bool)
    differs[0] = True
    found = []
    for key in keys:
        differs = differs.copy()
        differs[1:] |= key[1:] != key[:-1]
        found.append(differs)
    return found


def _levels(segments: Sequence[int]) -> list[list[int]]:
    """Chunks joined into levels, given how many segments each chunk would have."""
    levels = [[len(segments) - 1]]
    for chunk in range(len(segments) - 2, -1, -1):
        if segments[chunk] <= WORTH * segments[levels[0][-1]]:
            levels.insert(0, [chunk])
        else:
            levels[0].insert(0, chunk)
    return levels


def _join(parts: Sequence[tuple[Ints | None, Ints, Ints]]) -> Ints:
    """List i is the spans (start[i], length[i]) of all parts in turn, looked up in a part's numbers where it has some.

    The lists stand one after the other.
    """
    lengths = np.sum([length for _, _, length in parts], axis=0)
    at = np.cumsum(lengths) - lengths
    flat = np.empty(int(lengths.sum()), dtype=np.int64)
    for numbers, start, length in parts:
        span = spans(start, length)
        flat[spans(at, length)] = span if numbers is None else numbers[span]
        at = at + length
    return flat
