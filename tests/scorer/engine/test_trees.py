from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scorer.engine.prompts import Rows
from services.scorer.engine.trees import FAMILY, WORTH, Lists, Part, Prompts, Root, Tree


def parts(lists: Lists) -> list[list[int]]:
    ends = np.cumsum(lists.lengths)
    return [lists.flat[end - n : end].tolist() for end, n in zip(ends, lists.lengths, strict=True)]


def rows_of(lists: Sequence[Sequence[int]]) -> Rows:
    lengths = np.array([len(part) for part in lists], dtype=np.int64)
    flat = np.array([row for part in lists for row in part], dtype=np.int64)
    return Rows(flat, np.cumsum(lengths) - lengths, lengths)


class Call:
    """Prompts, each chunk of which is a list that it chooses and a constant, and what they should come to."""

    def __init__(
        self,
        root: Root,
        chunks: list[tuple[list[list[int]], list[int]]],
        choices: list[tuple[int, ...]],
        reads: list[int],
    ) -> None:
        self.root, self.choices, self.reads = root, choices, reads
        self.texts = [[[*lists[n], *after] for (lists, after), n in zip(chunks, c, strict=True)] for c in choices]
        zeros = np.zeros(len(choices), dtype=np.int64)
        self.chunks = [
            [Part(rows_of(lists), np.array([c[i] for c in choices])), Part(rows_of([after]), zeros)]
            for i, (lists, after) in enumerate(chunks)
        ]

    def __repr__(self) -> str:
        return f"{self.root} {self.texts} reads {self.reads}"

    def prompts(self, share: bool = True, units: list[int] | None = None) -> Prompts:
        reads = np.array(self.reads, dtype=np.int64)
        return Prompts(self.root, self.chunks, reads, share=share, units=None if units is None else np.array(units))

    def rows(self, number: int) -> list[int]:
        return [row for chunk in self.texts[number] for row in chunk]

    def distinct(self, numbers: Sequence[int], ends: Sequence[int]) -> int:
        """Positions that differ between prompts, which may share up to the end of each level, or a part of one."""
        found = {}
        for number in numbers:
            for start, stop in zip([0, *ends], ends, strict=False):
                parts = self.texts[number][start:stop]
                found[self.choices[number][:stop]] = sum(map(len, parts))
        return sum(found.values())

    def levels(self) -> list[int]:
        """Where levels end: a chunk has one of its own if less than so many of the segments below begin with it."""
        ends = [len(self.chunks)]
        for chunk in range(len(self.chunks) - 1, 0, -1):
            here, below = ({c[:end] for c in self.choices} for end in (chunk, ends[0]))
            if len(here) <= WORTH * len(below):
                ends.insert(0, chunk)
        return ends


@st.composite
def calls(draw: st.DrawFn, most: int = 14) -> Call:
    some = st.lists(st.integers(0, 9), min_size=1, max_size=5)
    chunks = [
        (draw(st.lists(some, min_size=1, max_size=4)), draw(st.lists(st.integers(0, 9), max_size=3)))
        for _ in range(draw(st.integers(1, 3)))
    ]
    if draw(st.booleans()):  # as `likelihood` has it: the last chunk may be empty, and several positions are read
        chunks.append((draw(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=4)), []))
    choice = st.tuples(*(st.integers(0, len(lists) - 1) for lists, _ in chunks))
    choices = draw(st.lists(choice, min_size=1, max_size=most))
    root = Root(draw(st.integers(0, 3)), draw(st.integers(0, 4)))
    call = Call(root, chunks, choices, [])
    call.reads = [draw(st.integers(1, len(call.rows(number)))) for number in range(len(choices))]
    return call


ROOTS = 7
"""Positions of all templates' roots."""


def seen(tree: Tree) -> dict[int, list[int]]:
    """What each node of a tree sees, itself last, by its families, as indices into the table."""
    found = {}
    for families in tree.families:
        contexts = parts(families.contexts)
        segments = iter(zip(families.starts.tolist(), families.lengths.tolist(), strict=True))
        for context, size in zip(contexts, families.sizes.tolist(), strict=True):
            assert 0 < size <= FAMILY
            for _ in range(size):
                start, length = next(segments)
                for step in range(length):
                    assert start + step not in found
                    own = range(ROOTS + start, ROOTS + start + step + 1)
                    found[start + step] = [*context, *own]
        assert next(segments, None) is None
    return found


def walks(tree: Tree) -> Iterator[tuple[int, list[int]]]:
    """Each read's prompt and path."""
    yield from zip(tree.readers.tolist(), parts(tree.paths), strict=True)


def check(call: Call, prompts: Prompts, budget: int, share: bool = True) -> list[list[int]]:
    """Walk every read of every piece; the prompts of each piece."""
    pieces = prompts.pieces(budget)
    for piece in pieces:
        tree = prompts.tree(piece.at, ROOTS)
        assert len(tree.rows) == len(tree.positions) == piece.tokens
        contexts = seen(tree)
        assert set(contexts) == (set(range(len(tree.rows))) if share else set())
        reads: dict[int, list[int]] = {}
        for reader, path in walks(tree):
            number = int(piece.numbers[reader])
            rows, length = call.rows(number), call.root.length
            assert path[:length] == list(range(call.root.start, call.root.start + length))
            nodes = [place - ROOTS for place in path[length:]]
            assert tree.rows[nodes].tolist() == rows[: len(nodes)]
            assert tree.positions[nodes].tolist() == list(range(length, length + len(nodes)))
            assert not share or all(contexts[node] == path[: length + n + 1] for n, node in enumerate(nodes))
            reads.setdefault(number, []).append(len(nodes))
        assert reads == {
            n: list(range(len(call.rows(n)) - call.reads[n] + 1, len(call.rows(n)) + 1)) for n in piece.numbers.tolist()
        }
    found = [piece.numbers.tolist() for piece in pieces]
    assert sorted(number for numbers in found for number in numbers) == list(range(len(call.choices)))
    return found


@given(call=calls(), budget=st.integers(1, 80), share=st.booleans())
@settings(deadline=None)
def test_every_read_sees_its_prompt_in_order_whatever_is_shared_and_cut(call: Call, budget: int, share: bool) -> None:
    prompts = call.prompts(share)
    for numbers, piece in zip(check(call, prompts, budget, share), prompts.pieces(budget), strict=True):
        assert piece.tokens <= budget or len(numbers) == 1
    assert prompts.longest == call.root.length + max(len(call.rows(n)) for n in range(len(call.choices)))
    assert prompts.tokens == sum(call.root.length + len(call.rows(n)) for n in range(len(call.choices)))


@given(call=calls(), budget=st.integers(1, 80))
@settings(deadline=None)
def test_a_piece_has_as_many_nodes_as_are_distinct(call: Call, budget: int) -> None:
    levels = call.levels()
    prompts = call.prompts()
    for piece in prompts.pieces(budget):
        assert piece.tokens == call.distinct(piece.numbers.tolist(), levels)
        each = [call.root.length + len(call.rows(number)) for number in piece.numbers.tolist()]
        assert prompts.tokens_of(piece) == sum(each)


@given(call=calls(), budget=st.integers(1, 80))
@settings(deadline=None)
def test_pieces_are_filled(call: Call, budget: int) -> None:
    prompts = call.prompts()
    pieces = [piece.numbers.tolist() for piece in prompts.pieces(budget)]
    for numbers, following in pairwise(pieces):
        assert call.distinct([*numbers, following[0]], call.levels()) > budget


@given(call=calls(), budget=st.integers(1, 80), data=st.data())
@settings(deadline=None)
def test_units_stay_together(call: Call, budget: int, data: st.DataObject) -> None:
    count = len(call.choices)
    units = data.draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    prompts = call.prompts(units=units)
    pieces = check(call, prompts, budget)
    inside = [{units[number] for number in numbers} for numbers in pieces]
    for unit in set(units):
        unshared = sum(len(call.rows(number)) for number in range(count) if units[number] == unit)
        assert unshared > budget or sum(unit in held for held in inside) == 1
    # A unit that does not fit is cut.
    assert all(piece.tokens <= budget or len(piece.numbers) == 1 for piece in prompts.pieces(budget))


def test_candidates_share_all_before_the_tail() -> None:
    head, relation, tails = [1, 2, 3], [4, 5], [[6], [7, 8], [9]]
    chunks = [([head], [0]), ([relation], [0]), (tails, [0, 0])]
    call = Call(Root(0, 4), chunks, [(0, 0, 0), (0, 0, 1), (0, 0, 2)], [1, 1, 1])
    [piece] = call.prompts().pieces(100)
    assert piece.tokens == (3 + 1) + (2 + 1) + (1 + 2) + (2 + 2) + (1 + 2)
    alone = call.prompts(share=False).pieces(100)
    assert [piece.tokens for piece in alone] == [3 * (3 + 1 + 2 + 1 + 2) + 1 + 2 + 1]


def test_equal_prompts_are_one() -> None:
    call = Call(Root(0, 1), [([[1, 2]], []), ([[3], [4]], [5])], [(0, 0), (0, 1), (0, 0), (0, 0)], [1, 1, 1, 1])
    [piece] = call.prompts().pieces(100)
    tree = call.prompts().tree(piece.at, ROOTS)
    assert len(tree.rows) == 2 + 2 + 2
    assert len(tree.readers) == 4


def test_a_large_family_is_split_so_that_one_does_not_pad_all() -> None:
    tails = [[n, n] for n in range(FAMILY + 6)]
    call = Call(Root(0, 2), [([[1, 2, 3]], []), (tails, [])], [(0, n) for n in range(len(tails))], [1] * len(tails))
    [piece] = call.prompts().pieces(10_000)
    tree = call.prompts().tree(piece.at, ROOTS)
    assert [families.sizes.tolist() for families in tree.families] == [[1], [FAMILY, 6]]
    check(call, call.prompts(), 10_000)


def test_the_longest_prompts_run_first() -> None:
    tails = [[1], [1, 2, 3], [1, 2], [1, 2, 3, 4]]
    call = Call(Root(0, 0), [(tails, [])], [(0,), (1,), (2,), (3,)], [1] * 4)
    assert [piece.numbers.tolist() for piece in call.prompts().pieces(4)] == [[3], [1], [2, 0]]
