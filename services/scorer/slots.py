"""Slots out of bodies: what entities and relations say and which vectors they hold, in both forms."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from protocol import tensors
from protocol.messages import Slot, SlotsHeader, Text
from protocol.problems import InvalidRequest
from services.scorer.requests import EncodeCall, Ints, ScoreCall, Slots, SlotText, check_size, finite

Call = TypeVar("Call", ScoreCall, EncodeCall)


def json_slots(field: str, slots: Sequence[Slot], hidden: int | None) -> Slots:
    """Rows as JSON lists them; `hidden` is None where vectors are only written out.

    Raises:
        InvalidRequest: A vector is of the wrong size, or not finite.
    """
    each = [slot.vectors or [] for slot in slots]
    fields = [f"{field}.{row}.vectors" for row, vectors in enumerate(each) for _ in vectors]
    counts = np.array([len(vectors) for vectors in each], dtype=np.int64)
    texts = {row: text for row, slot in enumerate(slots) if (text := _text(slot)) is not None}
    vectors = finite([vector for vectors in each for vector in vectors], fields, hidden)
    return Slots(vectors, np.cumsum(counts) - counts, counts, texts)


def tensor_slots(field: str, found: Mapping[str, tensors.Array], header: SlotsHeader, hidden: int | None) -> Slots:
    """Rows of vectors and texts; without a tensor, the texts are numbered from 0 on without a gap.

    Raises:
        InvalidRequest: Vectors are of the wrong size, or a text belongs to no row.
    """
    texts = header.entity_texts if field == "entities" else header.relation_texts
    blocks = found.get(field)
    if blocks is None:
        blocks = np.zeros((len(texts), 0, hidden or 0), dtype=np.float32)
    if hidden is not None:
        check_size(field, blocks, hidden)
    rows, each, size = blocks.shape
    counts = np.full(rows, each, dtype=np.int64)
    said = {}
    for row, words in texts.items():
        if row >= rows:
            place = f"message.{'entity' if field == 'entities' else 'relation'}_texts.{row}"
            raise InvalidRequest.of(place, f"there is no such row; {field} has {rows}")
        if words.text_only:
            counts[row] = 0
        if (text := _text(words)) is not None:
            said[row] = text
    return Slots(blocks.reshape(rows * each, size), np.arange(rows) * each, counts, said)


def spelled(call: Call, vectors_as: str) -> Call:
    """The same call; with its vectors written into the texts where they are to be read as `numbers`."""
    if vectors_as == "input":
        return call
    return replace(call, entities=call.entities.spelled(), relations=call.relations.spelled())


def by_itself(specs: Mapping[str, tensors.TensorSpec]) -> dict[str, tensors.TensorSpec]:
    """The layouts with a hidden size for each tensor: a wrong one is refused later, in words that help more."""
    return {
        name: replace(spec, shape=tuple(f"hidden of {name}" if size == "hidden" else size for size in spec.shape))
        for name, spec in specs.items()
    }


def integers(field: str, rows: Sequence[object], width: int, count: int | None = None) -> Ints:
    """Whole numbers as int64 [rows, width].

    Raises:
        InvalidRequest: One is too large, or there are not `count` rows.
    """
    if count is not None and len(rows) != count:
        raise InvalidRequest.of(field, f"holds {len(rows)} numbers for {count} triples")
    try:
        return np.array(rows, dtype=np.int64).reshape(len(rows), width)
    except OverflowError as error:
        raise InvalidRequest.of(field, "holds an index that is out of range") from error


def _text(words: Text) -> SlotText | None:
    return SlotText(words.name, words.description) if words.name or words.description else None
