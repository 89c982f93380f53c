"""What a call asks for, whichever form its body had, and every check that needs no tokenizer.

Shapes: n entities or relations, v vectors of all of them together, t triples, q queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.problems import BodyTooLarge, InvalidRequest
from protocol.scoring import Limits

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Slots:
    """The entities or the relations of a call: rows of text, of vectors, or of both.

    Attributes:
        vectors: [v, hidden], all rows' vectors one after the other.
        starts: int64 [n], where each row's vectors begin.
        counts: int64 [n], how many of them stand in the prompt.
        texts: Text by row.
    """

    vectors: Floats
    starts: Ints
    counts: Ints
    texts: dict[int, str]

    def __len__(self) -> int:
        return len(self.counts)


@dataclass(frozen=True)
class ScoreCall:
    """Triples to score; `triples` is int64 [t, 3] of entity, relation and entity rows."""

    entities: Slots
    relations: Slots
    triples: Ints
    template: str


@dataclass(frozen=True)
class EncodeCall:
    """Queries to encode; `queries` is int64 [q, 2] of entity and relation rows, `sides` int64 [q] of 0 and 1."""

    entities: Slots
    relations: Slots
    queries: Ints
    sides: Ints


def check_call(call: ScoreCall | EncodeCall, limits: Limits, hidden: int) -> None:
    """Refuse what the model must never see.

    Raises:
        BodyTooLarge: The batch is over one of the limits, which is named.
        InvalidRequest: A vector is of the wrong size or not finite, a row is empty, or an index is out of range.
    """
    rows = call.triples if isinstance(call, ScoreCall) else call.queries
    field = "triples" if isinstance(call, ScoreCall) else "queries"
    check_limit(f"{field} in one call", len(rows), "max_prompts", limits.max_prompts)
    if not len(rows):
        raise InvalidRequest.of(field, "is empty; send at least one")
    for name, slots in (("entities", call.entities), ("relations", call.relations)):
        check_limit(name, len(slots), "max_slots", limits.max_slots)
        check_limit(f"vectors in one of the {name}", int(slots.counts.max(initial=0)), "max_vectors_per_slot",
                    limits.max_vectors_per_slot)  # fmt: skip
        check_size(name, slots.vectors, hidden)
        _check_filled(name, slots)
    for column, kind, slots in (
        (0, "entity", call.entities),
        (1, "relation", call.relations),
        (2, "entity", call.entities),
    ):
        if column < rows.shape[1]:
            _check_indices(field, rows[:, column], kind, len(slots))
    if isinstance(call, EncodeCall) and (wrong := np.flatnonzero(call.sides > 1)).size:
        raise InvalidRequest.of(f"sides.{wrong[0]}", "is neither 0 (asks for the tail) nor 1 (asks for the head)")


def check_limit(what: str, value: int, name: str, limit: int) -> None:
    """Raise `BodyTooLarge` where the value is over the limit of that name."""
    if value > limit:
        raise BodyTooLarge(f"{value} {what}; the limit {name} is {limit} (GET /info)", limit=limit, name=name)


def check_size(field: str, vectors: Floats, hidden: int) -> None:
    """Raise `InvalidRequest` where the last dimension is not the model's hidden size."""
    if vectors.shape[-1] != hidden:
        raise wrong_size(field, vectors.shape[-1], hidden)


def wrong_size(field: str, given: int, hidden: int) -> InvalidRequest:
    """The refusal of vectors that do not fit the model."""
    return InvalidRequest.of(
        field, f"vectors of {given} numbers; this model's hidden size is {hidden} (`hidden` in GET /info)"
    )


def finite(numbers: Sequence[Any], fields: Sequence[str], hidden: int) -> Floats:
    """Lists of numbers as float32 [i, hidden]; `fields` names each for the refusal.

    Raises:
        InvalidRequest: A list is not `hidden` long, or holds NaN, infinity or a number that float32 cannot hold.
    """
    for field, vector in zip(fields, numbers, strict=True):
        if len(vector) != hidden:
            raise wrong_size(field, len(vector), hidden)
    with np.errstate(over="ignore"):  # what overflows becomes infinity, and is refused as such
        array = np.array(numbers, dtype=np.float64).reshape(len(numbers), hidden).astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if wrong.size:
        raise InvalidRequest.of(fields[wrong[0]], "holds NaN or infinity; every value must be finite in float32")
    return array


def _check_filled(name: str, slots: Slots) -> None:
    empty = [row for row in np.flatnonzero(slots.counts == 0) if int(row) not in slots.texts]
    if empty:
        raise InvalidRequest.of(f"{name}.{empty[0]}", "has neither text nor vectors; give at least one")


def _check_indices(field: str, indices: Ints, kind: str, rows: int) -> None:
    wrong = np.flatnonzero((indices < 0) | (indices >= rows))
    if wrong.size:
        first = int(wrong[0])
        raise InvalidRequest.of(
            f"{field}.{first}", f"{kind} index {indices[first]} is out of range; the call holds {rows} of that kind"
        )
