"""Prompts as lists of row numbers into one bank of input vectors.

The bank holds the embeddings of the token ids that occur in a call, then the entities' vectors, then the relations'.
A prompt is a list of its rows, so that a batch is one gather, its gradient one sum for each row, and neither knows
what is text and what is a trained vector.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from protocol.problems import InvalidRequest
from services.scorer.engine.words import Words
from services.scorer.requests import Ints, Slots


@dataclass(frozen=True)
class Rows:
    """Lists of bank rows: list i is `flat[starts[i] : starts[i] + lengths[i]]`. All int64."""

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

    def constant(self, ids: Ints) -> Rows:
        """The rows of token ids that are in the bank, as one list."""
        return Rows(np.searchsorted(self.tokens, ids), np.zeros(1, np.int64), np.array([len(ids)]))

    def lists(self, ids: Sequence[Ints]) -> Rows:
        """The rows of several lists of token ids that are in the bank."""
        lengths = np.array([len(part) for part in ids], dtype=np.int64)
        flat = np.concatenate(ids) if len(ids) else np.array([], dtype=np.int64)
        return Rows(np.searchsorted(self.tokens, flat), np.cumsum(lengths) - lengths, lengths)


def lay_out(entities: Slots, relations: Slots, words: Words, others: Sequence[Ints]) -> Bank:
    """The bank of a call; `others` are token ids besides those of the slots' texts. Each text is cut once.

    Raises:
        InvalidRequest: A text has no tokens where nothing else fills its slot.
    """
    texts = [_cut(name, slots, words) for name, slots in (("entities", entities), ("relations", relations))]
    ids = [*others, *texts[0].values(), *texts[1].values()]
    tokens = np.unique(np.concatenate(ids)) if ids else np.array([], dtype=np.int64)
    first_relation = len(tokens) + len(entities.vectors)
    return Bank(
        tokens,
        _slot_rows(entities, texts[0], tokens, len(tokens)),
        _slot_rows(relations, texts[1], tokens, first_relation),
        len(tokens),
        first_relation,
    )


def _cut(name: str, slots: Slots, words: Words) -> dict[int, Ints]:
    cut = dict(zip(slots.texts, words.slots(list(slots.texts.values())), strict=True))
    for row, ids in cut.items():
        if not len(ids) and not slots.counts[row]:
            raise InvalidRequest.of(f"{name}.{row}", "its text has no tokens; give text that is not blank, or vectors")
    return cut


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


def spans(starts: Ints, lengths: Ints) -> Ints:
    """The numbers starts[i] to starts[i] + lengths[i] - 1, for one i after the other, int64 [sum of lengths]."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - ends + lengths, lengths)
