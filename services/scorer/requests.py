"""What a call asks for, whichever form its body had, and every check that needs no tokenizer.

Shapes: n entities or relations, v vectors of all of them together, t triples, q queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocol.info import Limits
from protocol.messages import ScoreReadout
from protocol.problems import BodyTooLarge, InvalidRequest
from protocol.scoring import Loss

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


class SlotText(NamedTuple):
    """What a slot says in words; `numbers` are vectors written out."""

    name: str | None = None
    description: str | None = None
    numbers: str | None = None


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
    texts: dict[int, SlotText]

    def __len__(self) -> int:
        return len(self.counts)

    def spelled(self) -> "Slots":
        """The same rows with their vectors written into the text, rounded, as `[0.12, -1.30]`."""
        texts = dict(self.texts)
        for row in np.flatnonzero(self.counts).tolist():
            vectors = self.vectors[self.starts[row] : self.starts[row] + self.counts[row]]
            numbers = " ".join("[" + ", ".join(f"{x:.2f}" for x in vector) + "]" for vector in vectors.tolist())
            texts[row] = texts.get(row, SlotText())._replace(numbers=numbers)
        none = np.zeros_like(self.counts)
        return Slots(self.vectors[:0], none, none, texts)


@dataclass(frozen=True)
class ScoreCall:
    """Triples to score.

    Attributes:
        triples: int64 [t, 3] of entity, relation and entity rows.
        template: Its name, or None for the readout's own.
        keep: Whether a gradient call for the same is to come.
    """

    entities: Slots
    relations: Slots
    triples: Ints
    readout: ScoreReadout = "verdict"
    template: str | None = None
    keep: bool = False


@dataclass(frozen=True)
class EncodeCall:
    """Queries to encode.

    Attributes:
        queries: int64 [q, 2] of entity and relation rows.
        sides: int64 [q] of 0 and 1.
        layer: As `protocol.encoding.Layer`.
        templates: Names of those that ask for the tail and for the head, or None for the readout's own.
        keep: Whether a gradient call for the same is to come.
    """

    entities: Slots
    relations: Slots
    queries: Ints
    sides: Ints
    layer: str | int = "last"
    templates: tuple[str, str] | None = None
    keep: bool = False


@dataclass(frozen=True)
class RankCall:
    """One query's candidates, as triples to score, and how many of the best to return.

    Attributes:
        side: 0 where the tails differ, 1 where the heads do.
        query: What the query is called in the request.
    """

    scored: ScoreCall
    side: int
    top_k: int | None
    query: str

    @property
    def columns(self) -> list[str]:
        """What each column of the triples is called in the request; `#` stands for the triple's place."""
        names = [self.query, self.query, "candidates.#"]
        return names if self.side == 0 else names[::-1]


@dataclass(frozen=True)
class ScoreGradient:
    """d(loss)/d(scores), or the loss itself; arrays are [t], and None where they were not sent."""

    grad_scores: Floats | None = None
    loss: Loss | None = None
    groups: Ints | None = None
    labels: Floats | None = None


def check_call(
    call: ScoreCall | EncodeCall,
    limits: Limits,
    hidden: int | None,
    field: str | None = None,
    columns: Sequence[str] | None = None,
) -> None:
    """Refuse what the model must never see.

    Args:
        call: As it was read.
        limits: Of a call.
        hidden: Of the model; None where vectors are only written out.
        field: What the prompts are called in the request, where that is not `triples` or `queries`.
        columns: What each column of the indices is called there, `#` for the prompt's place.

    Raises:
        BodyTooLarge: The batch is over one of the limits, which is named.
        InvalidRequest: A vector is of the wrong size or not finite, a row is empty, an index is out of range, or a
            gradient is to come of what has none.
    """
    rows = call.triples if isinstance(call, ScoreCall) else call.queries
    field = field or ("triples" if isinstance(call, ScoreCall) else "queries")
    check_limit(f"{field} in one call", len(rows), "max_prompts", limits.max_prompts)
    if not len(rows):
        raise InvalidRequest.of(field, "is empty; send at least one")
    for name, slots in (("entities", call.entities), ("relations", call.relations)):
        check_limit(name, len(slots), "max_slots", limits.max_slots)
        check_limit(f"vectors in one of the {name}", int(slots.counts.max(initial=0)), "max_vectors_per_slot",
                    limits.max_vectors_per_slot)  # fmt: skip
        if hidden is not None:
            check_size(name, slots.vectors, hidden)
        _check_filled(name, slots)
    kinds = [("entity", call.entities), ("relation", call.relations), ("entity", call.entities)]
    for name, column, (kind, slots) in zip(columns or [f"{field}.#"] * 3, rows.T, kinds, strict=False):
        _check_indices(name, column, kind, len(slots))
    if isinstance(call, ScoreCall) and call.keep and call.readout == "likelihood":
        raise InvalidRequest.of("keep", "the readout likelihood has no gradient to keep anything for; leave it out")
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


def finite(numbers: Sequence[Any], fields: Sequence[str], hidden: int | None) -> Floats:
    """Lists of numbers as float32 [i, hidden]; `fields` names each for the refusal.

    Where `hidden` is None, lists need only be of one length.

    Raises:
        InvalidRequest: A list is not `hidden` long, or holds NaN, infinity or a number that float32 cannot hold.
    """
    size = len(numbers[0]) if hidden is None and len(numbers) else hidden or 0
    for field, vector in zip(fields, numbers, strict=True):
        if len(vector) != size:
            raise wrong_size(field, len(vector), size)
    return as_float32(np.array(numbers, dtype=np.float64).reshape(len(numbers), size), fields)


def as_float32(numbers: NDArray[np.float64], fields: Sequence[str]) -> Floats:
    """Rows of numbers as float32; `fields` names each for the refusal.

    Raises:
        InvalidRequest: A row holds NaN, infinity or a number that float32 cannot hold.
    """
    with np.errstate(over="ignore"):  # what overflows becomes infinity, and is refused as such
        array = numbers.astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(array).all(axis=tuple(range(1, array.ndim))))
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
            field.replace("#", str(first)),
            f"{kind} index {indices[first]} is out of range; the call holds {rows} of that kind",
        )
