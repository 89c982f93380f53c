"""Queries and their answers: what is trained on, what is ranked, and what a filter removes are all of this form.

A query is a given entity, a relation and a side: `TAIL` asks (given, relation, ?), `HEAD` asks (?, relation, given).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.messages import HEAD, TAIL
from protocol.trainings import Sides
from trainer.graph import DataError, Triples

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Queries:
    """Columns of queries, int64 [q] each."""

    given: Ints
    relation: Ints
    side: Ints

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, rows: Ints | slice) -> "Queries":
        return Queries(self.given[rows], self.relation[rows], self.side[rows])


@dataclass(frozen=True)
class Answers:
    """Unique queries in ascending order, each with the entities that answer it (compressed rows).

    Attributes:
        queries: The unique queries, q of them.
        entities: int64 [a], the answers, those of query i at `entities[offsets[i]:offsets[i + 1]]`, ascending.
        offsets: int64 [q + 1].
    """

    queries: Queries
    entities: Ints
    offsets: Ints

    @classmethod
    def of(cls, triples: Triples, sides: Sides = "both") -> "Answers":
        """Both sides of every triple, or the queries for tails alone.

        Raises:
            DataError: There are more queries times entities than 63 bits can number.
        """
        head, relation, tail = triples.T
        entities = 1 + int(triples[:, ::2].max(initial=0))
        relations = 1 + int(relation.max(initial=0))
        if 2 * relations * entities**2 >= 1 << 63:
            raise DataError(f"{entities} entities and {relations} relations are too many; divide the graph")
        # A side is a number as well: one sort of one column orders queries and answers.
        packed = ((TAIL * relations + relation) * entities + head) * entities + tail
        if sides == "both":
            heads = ((HEAD * relations + relation) * entities + tail) * entities + head
            packed = np.concatenate([packed, heads])
        asked, answer = np.divmod(_ascending(packed), entities)
        starts = np.flatnonzero(np.diff(asked, prepend=-1))
        rest, given = np.divmod(asked[starts], entities)
        side, relation = np.divmod(rest, relations)
        return cls(Queries(given, relation, side), answer, np.append(starts, len(answer)))

    def __len__(self) -> int:
        return len(self.queries)

    def rows(self, wanted: Ints) -> tuple[Ints, Ints]:
        """The (position in `wanted`, answer) pairs of the queries at the given row numbers; -1 stands for no query."""
        starts, ends = self.offsets[wanted], self.offsets[wanted + 1]
        counts = np.where(wanted < 0, 0, ends - starts)
        position = np.repeat(np.arange(len(wanted)), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return position, self.entities[np.repeat(starts, counts) + within]

    def find(self, queries: Queries) -> Ints:
        """Row numbers of the given queries, -1 where there is none."""
        if not len(self):
            return np.full(len(queries), -1, dtype=np.int64)
        entities = 1 + max(self.queries.given.max(), queries.given.max(initial=0))
        relations = 1 + max(self.queries.relation.max(), queries.relation.max(initial=0))

        def key(q: Queries) -> Ints:
            keys: Ints = (q.side * relations + q.relation) * entities + q.given
            return keys

        keys, wanted = key(self.queries), key(queries)
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[at] == wanted, at, -1)


def _ascending(numbers: Ints) -> Ints:
    """The numbers in order, each once. `numpy.unique` makes a table of hashes first, which takes ten times as long."""
    numbers.sort()
    return numbers[np.diff(numbers, prepend=-1) > 0]
