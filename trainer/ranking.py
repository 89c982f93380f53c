"""Filtered ranks over all candidates: a model's scores become places, of which `metrics` makes numbers.

A triple is ranked twice: its tail among all entities of the client's training graph, and its head. Known answers other
than the one asked for are left out (filtered; Bordes et al., 2013).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from protocol.messages import HEAD, TAIL
from trainer.answers import Answers, Ints, Queries
from trainer.counting import count
from trainer.graph import Graph, Triples
from trainer.metrics import Places, Ranks

Floats = NDArray[np.floating]
Scorer = Callable[[Queries], Floats]
"""Scores of all candidates, float32 or float64 [q, entities], of unique queries; higher is more plausible."""

QUERIES_A_CHUNK = 1024
SCORES_A_CHUNK = 1 << 24
"""64 MiB in float32: what is held at once does not grow with the graph."""


class ScoresNotFinite(Exception):
    """A model scored NaN or infinity; a rank made of it would mean nothing."""


@lru_cache(maxsize=2)  # both filters of the graph at hand, each used many times in a training
def known_answers(graph: Graph, split: str) -> Answers:
    """The filter for ranking a split. Test triples are in no filter but that of the test split itself."""
    splits = ("train", "valid", "test") if split == "test" else ("train", "valid")
    return Answers.of(np.concatenate([graph.triples[s] for s in splits]))


def rank(triples: Triples, known: Answers, scorer: Scorer, tolerance: float = 0.0) -> Ranks:
    """Where the triples' tails and heads stand.

    Args:
        triples: int64 [t, 3].
        known: The filter; one that `known_answers` made.
        scorer: The model.
        tolerance: Two candidates of a query are level where their scores differ by no more than this part of the
            largest absolute score of any entity for the query, filtered or not.

    Raises:
        ScoresNotFinite: The scorer returned NaN or infinity.
    """
    asked = Asked.of(triples, known)
    counts = np.empty((len(asked.answers.entities), 3), dtype=np.int64)
    for rows in asked.chunks():
        counts[asked.pairs(rows)] = asked.count(rows, scorer(asked.answers.queries[rows]), tolerance)
    return asked.ranks(counts)


@dataclass(frozen=True)
class Asked:
    """Triples as the unique queries that ask for their tails and heads, with what is known of each.

    Attributes:
        triples: int64 [t, 3].
        answers: The queries, q of them, with the answers that the triples give, p (query, answer) pairs.
        known: The filter.
        known_rows: int64 [q], where the filter has each query, -1 where it does not.
        highest: The highest entity among all answers; every entity of a training graph is one.
    """

    triples: Triples
    answers: Answers
    known: Answers
    known_rows: Ints
    highest: int

    @classmethod
    def of(cls, triples: Triples, known: Answers) -> "Asked":
        """Triples under a filter."""
        answers = Answers.of(triples)
        highest = max(int(each.entities.max(initial=0)) for each in (answers, known))
        return cls(triples, answers, known, known.find(answers.queries), highest)

    def chunks(self) -> Iterator[slice]:
        """Rows of queries that are scored at once."""
        size = max(1, min(QUERIES_A_CHUNK, SCORES_A_CHUNK // (1 + self.highest)))
        for start in range(0, len(self.answers), size):
            yield slice(start, min(start + size, len(self.answers)))

    def pairs(self, rows: slice) -> slice:
        """The (query, answer) pairs of rows of queries."""
        return slice(self.answers.offsets[rows.start], self.answers.offsets[rows.stop])

    def count(self, rows: slice, scores: Floats, tolerance: float) -> Ints:
        """Counts of these rows' pairs as of `counting.count`, from scores [rows, entities].

        Raises:
            ScoresNotFinite: A score is NaN or infinite.
        """
        # Compiled code would read past the end.
        assert len(scores) == rows.stop - rows.start
        assert scores.shape[1] > self.highest
        largest = np.maximum(scores.max(axis=1), -scores.min(axis=1))
        if not np.isfinite(largest).all():
            raise ScoresNotFinite("the model scored NaN or infinity; lower the learning rate")
        offsets = self.answers.offsets[rows.start : rows.stop + 1]
        found = self.known_rows[rows]
        starts = self.known.offsets[found]
        ends = np.where(found < 0, starts, self.known.offsets[found + 1])
        counts: Ints = count(
            np.ascontiguousarray(scores),
            (tolerance * largest).astype(scores.dtype),
            offsets - offsets[0],
            self.answers.entities[self.pairs(rows)],
            starts,
            ends,
            self.known.entities,
        )
        return counts

    def ranks(self, counts: Ints) -> Ranks:
        """Counts [p, 3] of all pairs, put into the order of the triples."""
        head, relation, tail = self.triples.T
        width = 1 + int(self.answers.entities.max(initial=0))
        row = np.repeat(np.arange(len(self.answers)), np.diff(self.answers.offsets))
        places = []
        for side, given, answer in ((TAIL, head, tail), (HEAD, tail, head)):
            rows = self.answers.find(Queries(given, relation, np.full_like(given, side)))
            at = np.searchsorted(row * width + self.answers.entities, rows * width + answer)
            places.append(Places(*counts[at].T))
        return Ranks(tail=places[0], head=places[1])
