"""Prompts as lists of row numbers into one bank of input vectors.

The bank holds the embeddings of the token ids that occur in a call, then the entities' vectors, then the relations'.
A prompt is a list of its rows, so that a batch is one gather, its gradient one sum for each row, and neither knows
what is text and what is a trained vector.

Shapes: R rows of the bank, B prompts, T positions of the longest.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.scorer.requests import Ints, Slots
from services.scorer.words import Words


@dataclass(frozen=True)
class Rows:
    """Lists of bank rows, one a slot: list i is `flat[starts[i] : starts[i] + lengths[i]]`. All int64."""

    flat: Ints
    starts: Ints
    lengths: Ints


@dataclass(frozen=True)
class Bank:
    """Where the rows of a call lie.

    Attributes:
        tokens: The token ids whose embeddings are the first rows, sorted.
        entities: The rows that stand for each entity.
        relations: The rows that stand for each relation.
        first_entity: The row of the first entity vector.
        first_relation: The row of the first relation vector.
    """

    tokens: Ints
    entities: Rows
    relations: Rows
    first_entity: int
    first_relation: int


def lay_out(entities: Slots, relations: Slots, words: Words, constants: Sequence[Ints]) -> Bank:
    """The bank of a call; `constants` are the ids of the templates' own words. Each slot's text is cut once."""
    texts = [{row: words.slot(text) for row, text in slots.texts.items()} for slots in (entities, relations)]
    ids = [*constants, *texts[0].values(), *texts[1].values()]
    tokens = np.unique(np.concatenate(ids)) if ids else np.array([], dtype=np.int64)
    first_relation = len(tokens) + len(entities.vectors)
    return Bank(
        tokens,
        _slot_rows(entities, texts[0], tokens, len(tokens)),
        _slot_rows(relations, texts[1], tokens, first_relation),
        len(tokens),
        first_relation,
    )


def _slot_rows(slots: Slots, texts: Mapping[int, Ints], tokens: Ints, first_vector: int) -> Rows:
    """Text first, then vectors, for every slot."""
    words = np.zeros(len(slots), dtype=np.int64)
    for row, ids in texts.items():
        words[row] = len(ids)
    lengths = words + slots.counts
    starts = np.cumsum(lengths) - lengths
    flat = np.empty(lengths.sum(), dtype=np.int64)
    for row, ids in texts.items():
        flat[starts[row] : starts[row] + len(ids)] = np.searchsorted(tokens, ids)
    flat[spans(starts + words, slots.counts)] = first_vector + spans(slots.starts, slots.counts)
    return Rows(flat, starts, lengths)


def constant_rows(bank: Bank, ids: Ints) -> Rows:
    """The rows of a template's own words, as one list."""
    return Rows(np.searchsorted(bank.tokens, ids), np.zeros(1, np.int64), np.array([len(ids)]))


def spans(starts: Ints, lengths: Ints) -> Ints:
    """The numbers starts[i] to starts[i] + lengths[i] - 1, for one i after the other, int64 [sum of lengths]."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - ends + lengths, lengths)


@dataclass(frozen=True)
class Piece:
    """Some prompts, as they go through the model at once, over the distinct (bank row, position) pairs in them.

    Attributes:
        numbers: int64 [B], which prompts these are.
        rows: int64 [r], the bank row of each pair.
        positions: int64 [r], the position of each pair.
        index: int64 [B, T], the pair at each position, padded at the right with the first.
        ends: int64 [B], the last position that is not padding.
    """

    numbers: Ints
    rows: Ints
    positions: Ints
    index: Ints
    ends: Ints


class Prompts:
    """The prompts of one template, still without the words before its first slot.

    Attributes:
        lengths: int64 [B], positions of each prompt.
    """

    def __init__(self, parts: Sequence[tuple[Rows, Ints]], count: int) -> None:
        """Each part is lists of rows and, int64 [count], which of them stands in each prompt."""
        self._parts = parts
        self.lengths: Ints = np.zeros(count, dtype=np.int64)
        for rows, which in parts:
            self.lengths += rows.lengths[which]

    def pieces(self, tokens: int) -> Iterator[Piece]:
        """All prompts, by length, in pieces of at most so many positions, padding included (or of one prompt)."""
        order = np.argsort(self.lengths, kind="stable")
        lengths = self.lengths[order]
        start = 0
        while start < len(order):
            sizes = lengths[start:] * np.arange(1, len(order) - start + 1)  # ascending: cut where they pass the bound
            stop = start + max(1, int(np.searchsorted(sizes, tokens, side="right")))
            yield self._piece(order[start:stop])
            start = stop

    def _piece(self, numbers: Ints) -> Piece:
        lengths = self.lengths[numbers]
        count, longest = len(numbers), int(lengths.max())
        taken, prompts, positions = [], [], []
        at = np.zeros(count, dtype=np.int64)
        for rows, which in self._parts:
            chosen = which[numbers]
            each = rows.lengths[chosen]
            taken.append(rows.flat[spans(rows.starts[chosen], each)])
            prompts.append(np.repeat(np.arange(count), each))
            positions.append(spans(at, each))
            at += each
        place = np.concatenate(positions)
        pairs, inverse = np.unique(np.concatenate(taken) * longest + place, return_inverse=True)
        index = np.zeros((count, longest), dtype=np.int64)
        index[np.concatenate(prompts), place] = inverse
        return Piece(numbers, pairs // longest, pairs % longest, index, lengths - 1)
